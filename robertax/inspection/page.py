"""The parts of a report: tables, charts, pictures and the page around them.

A page is one self-contained HTML file without scripts. Whatever comes from a
corpus or a file is escaped everywhere, and never markup.
"""

from collections.abc import Iterator, Sequence
import dataclasses
from html import escape
import io
import math
import os
import re
from typing import Any, NamedTuple
import warnings
from xml.etree import ElementTree

import numpy as np

from robertax import files
from robertax.errors import InputError, writing
from robertax.inspection.batches import visible
from robertax.train.writer import read_metrics

_NUMBER = re.compile(r'[-+]?[\d,.]+(e[-+]?\d+)?( ?[%\w/]{1,6})?|none|')


@dataclasses.dataclass(frozen=True)
class Table:
  """A table that is shown as text, in a notebook, or in a page."""
  head: tuple[str, ...]  # Names of the columns.
  rows: list[Sequence[Any]]  # Floats are shortened, None is empty.
  note: str = ''  # A line below.

  @property
  def cells(self) -> list[list[str]]:
    """As text."""
    return [[_cell_text(value) for value in row] for row in self.rows]

  def __str__(self) -> str:
    lines = [list(self.head), *self.cells]
    widths = [max(map(len, column)) for column in zip(*lines)]
    right = self._right()
    return '\n'.join([*('  '.join(
        cell.rjust(width) if number else cell.ljust(width)
        for cell, width, number in zip(line, widths, right)).rstrip()
                        for line in lines), *filter(None, [self.note])])

  __repr__ = __str__

  def _repr_html_(self) -> str:
    return self.html

  @property
  def html(self) -> str:
    right = self._right()

    def line(tag: str, cells: Sequence[str]) -> str:
      return '<tr>' + ''.join(
          f'<{tag} style="text-align:{"right" if number else "left"};'
          'vertical-align:top;padding:4px 14px 4px 0" dir="auto">'
          f'{escape(cell)}</{tag}>'
          for cell, number in zip(cells, right)) + '</tr>'
    note = f'<p class="note">{escape(self.note)}</p>' if self.note else ''
    # Without these classes a notebook would typeset text between two $.
    return ('<div class="scroll" style="overflow-x:auto">'
            '<table class="tex2jax_ignore mathjax_ignore">'
            f'<thead>{line("th", self.head)}</thead><tbody>'
            f'{"".join(line("td", row) for row in self.cells)}'
            f'</tbody></table></div>{note}')

  def _right(self) -> list[bool]:
    """Which columns hold only numbers."""
    return [bool(self.rows) and all(map(_NUMBER.fullmatch, column))
            for column in zip(*self.cells)] or [False] * len(self.head)


def _cell_text(value: Any) -> str:
  if value is None:
    return ''
  if isinstance(value, float):
    return f'{value:,.0f}' if 1e4 <= abs(value) < LONG else f'{value:,.4g}'
  if isinstance(value, int) and not isinstance(value, bool):
    return f'{value:,}'
  return visible(str(value))


# Charts, drawn by matplotlib as SVG inside the page.

# The defaults of CSS variables, so that a page may change them in dark mode and
# a notebook need not define them. They are Okabe and Ito's colours, which
# people with any colour vision can tell apart.
LIGHT = ('#0072b2', '#d55e00', '#009e73', '#b8488c', '#b87d00', '#3a8fc9')
DARK = ('#5ab4ec', '#ff9a4d', '#34cfa0', '#ef9fcb', '#f0bd3a', '#9ed6fb')
WIDTH, HEIGHT = 480, 276  # Units of the viewBox: about a phone's pixels.
LEFT, RIGHT, TOP, BOTTOM = 58, 22, 12, 44
MOST_POINTS = 400
MANY_DOTS = 40  # More are smaller.
LARGEST = 1e100  # Larger values would overflow in axes and means.
LONG = 1e15  # Numbers from here on are written with an exponent.
_INK = '#010101'  # Becomes the colour of the text around the chart.
# Style of a line -> (matplotlib's linestyle, SVG attributes for the legend).
_DASHES = {'solid': ('-', ''), 'faint': ('-', ''),
           'dashed': ((0, (3, 2)), ' stroke-dasharray="6 4"'),
           'dotted': ((0, (1, 2)), ' stroke-dasharray="1.5 4" '
                                   'stroke-linecap="round"')}


class ChartLine(NamedTuple):
  """A curve, float[n] over float[n], with gaps where it is not finite."""
  label: str  # In the legend; '' is left out.
  steps: Sequence[float]
  values: Sequence[float]
  colour: int | None = 0  # Index in the palette, modulo; None: the text's grey.
  style: str = 'solid'  # A key of _DASHES.
  dots: bool = False  # Whether each point has a mark that says its value.


def chart_figure(title: str, unit: str, lines: Sequence[ChartLine], *,
                 zero: bool = False, note: str = '') -> str:
  """A chart by step as a <figure>; '' without a finite value or two steps."""
  lines = [ChartLine(line.label, np.asarray(line.steps, np.float64),
                     _drawable(line.values), *line[3:]) for line in lines]
  lines = [line for line in lines if np.isfinite(line.values).any()]
  if all(len(line.values) < 2 for line in lines):
    return ''  # There is no curve.
  every = np.concatenate([line.values for line in lines])
  lost, every = (~np.isfinite(every)).sum(), every[np.isfinite(every)]
  # The axis is logarithmic if some values are far above the others.
  log = bool(not zero and every.min() > 0
             and every.max() > 50 * np.median(every))
  if lost:
    note = (f'{lost:,} values are not finite, or too large to be drawn: gaps. '
            f'{note}')
  ends = [(line, _short_number(line.values[np.isfinite(line.values)][-1]))
          for line in lines if line.label]
  caption = '; '.join(f'{line.label} ends at {value}' for line, value in ends)
  legend = ''.join(
      _legend_key(line.colour, line.style, f'{line.label}: {value}')
      for line, value in ends)
  return (
      f'<figure><figcaption>{escape(title)} <small>'
      f'{escape(", ".join(filter(None, [unit, "logarithmic" * log])))}</small>'
      '</figcaption>'
      + _chart_svg(lines, log, zero, f'{title} by step', caption)
      + (f'<div class="legend">{legend}</div>' if legend else '')
      + (f'<p class="note">{escape(note.strip())}</p>' if note else '')
      + '</figure>')


def _drawable(values: Sequence[float]) -> np.ndarray:
  """The values as float64, NaN where they cannot be drawn."""
  values = np.asarray(values, np.float64)
  return np.where(np.abs(values) <= LARGEST, values, np.nan)


def smooth_values(values: np.ndarray, width: int) -> np.ndarray:
  """The mean of up to `width` finite values around each; gaps stay gaps."""
  values = _drawable(values)
  finite = np.isfinite(values)
  sums = np.cumsum(np.concatenate([[0.], np.where(finite, values, 0)]))
  counts = np.cumsum(np.concatenate([[0], finite]))
  place = np.arange(len(values))
  reach = np.minimum(np.minimum(place, len(values) - 1 - place), width // 2)
  start, stop = place - reach, place + reach + 1
  with np.errstate(invalid='ignore'):
    return np.where(finite, (sums[stop] - sums[start])
                    / np.maximum(counts[stop] - counts[start], 1), np.nan)


def bar_figure(title: str, unit: str, parts: Sequence[tuple[str, float]]
               ) -> str:
  """A bar of shares, (label, value), with a legend; '' if they sum to 0."""
  whole = sum(value for _, value in parts)
  if not 0 < whole <= LARGEST:
    return ''
  drawn, legend, start = [], [], 0.0
  for number, (label, value) in enumerate(parts):
    width = value / whole * WIDTH
    caption = f'{label} {value:,.1f} {unit}, {value / whole:.1%}'
    drawn.append(f'<rect x="{start:.2f}" width="{max(width, .01):.2f}" '
                 f'height="26" style="fill:{css_colour(number)}">'
                 f'<title>{escape(caption)}</title></rect>')
    legend.append(_legend_key(number, 'block', caption))
    start += width
  return (f'<figure class="wide"><figcaption>{escape(title)}</figcaption>'
          f'<svg viewBox="0 0 {WIDTH} 26" role="img" '
          f'preserveAspectRatio="none" aria-label="{escape(title)}" '
          'style="width:100%;height:26px;display:block;border-radius:4px">'
          f'{"".join(drawn)}</svg>'
          f'<div class="legend">{"".join(legend)}</div></figure>')


def css_colour(colour: int | None) -> str:
  if colour is None:
    return 'currentColor'
  return f'var(--c{colour % len(LIGHT)},{LIGHT[colour % len(LIGHT)]})'


def _chart_svg(lines: Sequence[ChartLine], log: bool, zero: bool, title: str,
               caption: str) -> str:
  """An <svg> in the page's colours, whose dots say their values."""
  import matplotlib
  from matplotlib.backends.backend_svg import FigureCanvasSVG
  from matplotlib.figure import Figure
  # Text stays text in the page's font, and each chart has its own ids.
  with matplotlib.rc_context({'svg.fonttype': 'none', 'font.size': 14,
                              'svg.hashsalt': repr(lines)}):
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
    FigureCanvasSVG(figure)
    axes = figure.add_axes((LEFT / WIDTH, BOTTOM / HEIGHT,
                            1 - (LEFT + RIGHT) / WIDTH,
                            1 - (TOP + BOTTOM) / HEIGHT))
    axes.set_xmargin(0)
    axes.set_xlabel('step', color=_INK)
    said = [words for line in lines for words in _draw_line(axes, line)]
    if log:
      axes.set_yscale('log')
    elif zero:
      axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    for axis in (axes.xaxis, axes.yaxis):
      if not (log and axis is axes.yaxis):
        axis.set_major_locator(matplotlib.ticker.MaxNLocator(
            5, steps=[1, 2, 2.5, 5, 10], integer=axis is axes.xaxis))
      axis.set_major_formatter(lambda value, _: _short_number(value))
      axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.tick_params(length=0, which='both', labelcolor=_INK, pad=6)
    axes.grid(axis='y', color=_INK, alpha=.15, linewidth=1)
    axes.spines[:].set_visible(False)
    out = io.StringIO()
    figure.savefig(out, format='svg', transparent=True)
  return _inline_svg(out.getvalue(), said, title, caption)


def _draw_line(axes: Any, line: ChartLine) -> Iterator[str]:
  """Draws a line, and yields the label of each of its dots."""
  points = _fewer_points(line.steps, line.values)
  look = {'color': _INK if line.colour is None else LIGHT[
      line.colour % len(LIGHT)],
          'alpha': .45 if line.style == 'faint' or line.colour is None else 1}
  axes.plot(*zip(*points), linestyle=_DASHES[line.style][0], **look,
            linewidth=1 if line.style == 'faint' else 2)
  if line.dots or np.isfinite(line.values).sum() == 1:
    dots = [(step, value) for step, value in points if math.isfinite(value)]
    axes.plot(*zip(*dots), 'o', gid='dots', clip_on=False, **look,
              markersize=6 if len(points) <= MANY_DOTS else 3)
    yield from (f'{line.label}, step {step:,.0f}: {_short_number(value)}'
                for step, value in dots)


def _inline_svg(text: str, said: Sequence[str], title: str, caption: str
                ) -> str:
  """Turns matplotlib's SVG into an element of a page; dots say `said`."""
  root = ElementTree.fromstring(text)
  colours = {_INK: 'currentColor'} | {
      colour: css_colour(n) for n, colour in enumerate(LIGHT)}
  for element in root.iter():  # In HTML, SVG's names have no namespace.
    element.tag = element.tag.rpartition('}')[2]
    for key in [key for key in element.attrib if '}' in key]:
      element.set(key.rpartition('}')[2], element.attrib.pop(key))
    if style := element.get('style'):
      style = re.sub('font-family: [^;]*;', '', style)
      element.set('style', re.sub(
          '#[0-9a-f]{6}', lambda found: colours.get(found[0], found[0]), style))
  for parent in [*root.iter()]:
    for child in [*parent]:
      if child.tag in ('metadata', 'style'):  # It would style the whole page.
        parent.remove(child)
  dots = root.findall('.//g[@id="dots"]//use')
  for use, words in zip(dots, said, strict=True):
    ElementTree.SubElement(use, 'title').text = words
  for group in root.iter('g'):
    group.attrib.pop('id', None)  # Nothing refers to a group.
  root.attrib |= {'role': 'img', 'aria-label': f'{title}. {caption}',
                  'style': 'width:100%;height:auto;display:block'}
  for size in ('width', 'height'):
    del root.attrib[size]
  for number, (tag, words) in enumerate((('title', title), ('desc', caption))):
    element = ElementTree.Element(tag)
    element.text = words
    root.insert(number, element)
  return ElementTree.tostring(root, 'unicode')


def _fewer_points(steps: np.ndarray, values: np.ndarray
                  ) -> list[tuple[float, float]]:
  """Points that look the same: the least and greatest of each bin of many."""
  if len(steps) <= MOST_POINTS:
    return list(zip(steps.tolist(), values.tolist()))
  kept = []
  for part in np.array_split(np.arange(len(steps)), MOST_POINTS // 2):
    here = values[part]
    if np.isfinite(here).any():
      kept += sorted({part[np.nanargmin(here)], part[np.nanargmax(here)]})
    if not np.isfinite(here).all():
      kept.append(part[np.flatnonzero(~np.isfinite(here))[0]])
  kept = sorted({0, *map(int, kept), len(steps) - 1})
  return [(float(steps[i]), float(values[i])) for i in kept]


def _short_number(value: float) -> str:
  """A number for a person, of four digits at most.

  >>> [_short_number(x) for x in (0, 3.4567, 12000, 2500000, 0.0006)]
  ['0', '3.457', '12K', '2.5M', '6e-4']
  """
  size = abs(value)
  if size < 1e-12:
    return '0'
  for bound, unit in ((1e9, 'G'), (1e6, 'M'), (1e4, 'K')):
    if bound <= size < 1e13:
      return f'{value / (1e3 if unit == "K" else bound):.4g}{unit}'
  if size < 1e-2 or 1e13 <= size < math.inf:
    mantissa, exponent = f'{value:.2e}'.split('e')
    return f'{float(mantissa):g}e{int(exponent)}'
  return f'{value:.4g}'


def _legend_key(colour: int | None, style: str, caption: str) -> str:
  if style == 'block':
    mark = f'<rect width="12" height="10" style="fill:{css_colour(colour)}"/>'
  else:
    faint = style == 'faint' or colour is None
    mark = (f'<path d="M0 5H20" stroke-width="{1 if style == "faint" else 2.5}"'
            f'{_DASHES[style][1]} style="stroke:{css_colour(colour)};'
            f'opacity:{.5 if faint else 1}"/>')
  return ('<span style="display:inline-block;margin-right:1em">'
          f'<svg width="{12 if style == "block" else 20}" height="10" '
          f'aria-hidden="true">{mark}</svg> {escape(caption)}</span> ')


# Pictures by matplotlib, which is imported when one is drawn.

class Picture:
  """A figure that can be saved, and that a notebook shows with any backend."""

  def __init__(self, figure):
    self.figure = figure

  def _repr_png_(self) -> bytes:
    from matplotlib.text import Text
    for text in self.figure.findobj(Text):
      text.set_parse_math(False)  # A dollar in a label is a dollar.
    out = io.BytesIO()
    with warnings.catch_warnings():
      # Characters that the font lacks become boxes, each with a warning.
      warnings.filterwarnings('ignore', message='Glyph .* missing')
      self.figure.savefig(out, format='png')
    return out.getvalue()

  def save(self, path: str) -> str:
    """Writes a PNG and returns its path; InputError if it cannot be written."""
    with writing(path):
      files.write_bytes(path, self._repr_png_())
    return path


def blank_figure(width: float, height: float) -> Any:
  """An empty matplotlib figure, in inches, that needs no screen."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure
  figure = Figure(figsize=(width, height), dpi=110, layout='constrained')
  FigureCanvasAgg(figure)
  return figure


def learning_curve(workdir: str) -> str:
  """Draws W/learning_curve.png, the losses by step, and returns its path."""
  path = f'{workdir}/metrics.jsonl'
  if not files.exists(path):
    raise InputError(f'{path} does not exist: nothing to draw.')
  import matplotlib
  lines = [metrics for _, metrics in read_metrics(path)]
  curves = [('train/loss', 'training batches', '#8fb3d9', 1.0),
            ('eval/loss', 'held-out text', '#c0392b', 2.2),
            ('eval/unigram_loss', 'unigram baseline', '#7f8c8d', 1.4)]
  with matplotlib.rc_context({'font.size': 11}):
    figure = blank_figure(8, 4.5)
    figure.set_dpi(130)
    axes = figure.subplots()
    for key, label, color, width in curves:
      points = [(m['step'], m[key]) for m in lines
                if m.get(key) is not None and abs(m[key]) <= LARGEST]
      if points:
        axes.plot(*zip(*points), label=f'{label} ({points[-1][1]:.2f})',
                  color=color, linewidth=width,
                  linestyle='--' if 'unigram' in key else '-')
    axes.set(xlabel='step', ylabel='loss, nats per masked token')
    axes.set_title(os.path.basename(os.path.normpath(workdir)))
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False)
    return Picture(figure).save(f'{workdir}/learning_curve.png')


# A whole page. By this policy browsers refuse whatever is not in it.

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = '''
:root{color-scheme:light dark;--ink:#1d2329;--soft:#56606b;--rule:#dce1e6;
--paper:#fff;--card:#f6f8fa;--bad:#b3261e;LIGHT}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#a0aab4;
--rule:#343c45;--paper:#14181d;--card:#1c2229;--bad:#ff8a80;DARK}
.text span{color:#66d0dc!important}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:20px 16px 60px;color:var(--ink);
background:var(--paper);font:15px/1.5 system-ui,-apple-system,"Segoe UI",
Roboto,"Liberation Sans",sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 4px}
h2{font-size:1.15rem;margin:34px 0 10px;padding-top:10px;
border-top:1px solid var(--rule)}
h3{font-size:.95rem;margin:14px 0 2px;color:var(--soft);font-weight:600}
p{margin:6px 0}.note,small{color:var(--soft);font-size:.86rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(132px,1fr));
gap:10px;margin:16px 0}
.tiles div{background:var(--card);border:1px solid var(--rule);
border-radius:8px;padding:9px 12px}
.tiles b{display:block;font-size:1.3rem;line-height:1.25;
font-variant-numeric:tabular-nums}
.tiles span{color:var(--soft);font-size:.82rem}
.charts{display:grid;gap:14px;
grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr))}
figure{margin:0;padding:12px 12px 8px;background:var(--card);
border:1px solid var(--rule);border-radius:8px;min-width:0}
figcaption{font-weight:600;margin-bottom:6px}figcaption small{font-weight:400}
.legend{font-size:.84rem;margin:6px 0 2px}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.89rem;
font-variant-numeric:tabular-nums}
th,td{border-bottom:1px solid var(--rule);
overflow-wrap:normal}
th{color:var(--soft);font-weight:600}td{min-width:3em;max-width:32em}
.text{white-space:pre-wrap;background:var(--card);border:1px solid var(--rule);
border-radius:8px;padding:8px 12px;margin:6px 0 10px}
.text b,.text u,.text i{border-radius:3px}
.text+p{margin-bottom:14px}
code{background:var(--card);border:1px solid var(--rule);
border-radius:4px;padding:0 4px}code.right{border-color:var(--c2);
font-weight:700}
.bad{border:2px solid var(--bad);border-radius:8px;padding:8px 12px}
.bad b{color:var(--bad)}
details summary{cursor:pointer;color:var(--soft);margin:10px 0}
@media print{.charts{display:block}figure{break-inside:avoid;margin:8px 0}}
'''


def page_html(title: str, below: str, parts: Sequence[tuple[str, str]]) -> str:
  """A document of a title, HTML below it, and (heading, HTML) if not empty."""
  style = _STYLE
  for name, colours in (('LIGHT', LIGHT), ('DARK', DARK)):
    style = style.replace(
        name, ';'.join(f'--c{n}:{c}' for n, c in enumerate(colours)))
  body = ''.join(f'<section><h2>{escape(heading)}</h2>{html}</section>\n'
                 for heading, html in parts if html)
  return (
      '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width,initial-scale=1">'
      f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
      '<link rel="icon" href="data:,">'
      f'<title>{escape(title)}</title><style>{style}</style></head>\n<body>'
      f'<header><h1>{escape(title)}</h1>{below}</header>\n{body}'
      '</body></html>\n')


def tiles_html(facts: Sequence[tuple[str, str]]) -> str:
  """The numbers at the top of a page: (number, what it is), as text."""
  return '<div class="tiles">' + ''.join(
      f'<div><b>{escape(number)}</b><span>{escape(name)}</span></div>'
      for number, name in facts) + '</div>'


def charts_html(figures: Sequence[str]) -> str:
  """Figures beside each other if there is room."""
  found = ''.join(figures)
  return found and f'<div class="charts">{found}</div>'


def folded_html(summary: str, html: str) -> str:
  """HTML that is hidden until its summary is clicked."""
  return f'<details><summary>{escape(summary)}</summary>{html}</details>'
