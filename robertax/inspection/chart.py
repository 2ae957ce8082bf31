"""Line charts as inline SVG: a figure of HTML, without scripts.

Colours are CSS variables with a value of their own, so that a page may have
others in the dark and a notebook needs none; ink is the text's colour. They are
Okabe and Ito's, which people of any colour vision tell apart.
"""

from collections.abc import Sequence
from html import escape
import math
from typing import NamedTuple

import numpy as np

LIGHT = ('#0072b2', '#d55e00', '#009e73', '#b8488c', '#b87d00', '#3a8fc9')
DARK = ('#5ab4ec', '#ff9a4d', '#34cfa0', '#ef9fcb', '#f0bd3a', '#9ed6fb')
WIDTH, HEIGHT = 480, 264  # Units of the viewBox: about a phone's pixels.
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 32
MOST_POINTS = 400
MANY_DOTS = 40  # More are smaller.
_DASHES = {'solid': '', 'faint': '', 'dashed': ' stroke-dasharray="6 4"',
           'dotted': ' stroke-dasharray="1.5 4" stroke-linecap="round"'}


class Line(NamedTuple):
  """A curve.

  Attributes:
    label: in the legend; '' has no place there.
    steps, values: float[n]; where a value is not finite, the curve has a gap.
    colour: which of the palette, counted around; None: the ink's grey.
    style: of _DASHES; 'faint' is for what a smoother curve stands over.
    dots: whether each point is marked, and says its value under a pointer.
  """
  label: str
  steps: Sequence[float]
  values: Sequence[float]
  colour: int | None = 0
  style: str = 'solid'
  dots: bool = False


def figure(title: str, unit: str, lines: Sequence[Line], *,
           zero: bool = False, note: str = '') -> str:
  """A chart by step.

  Args:
    title: what it shows.
    unit: of the values.
    lines: drawn in this order; those without a finite value are left out.
    zero: the axis begins at 0.
    note: a line below.

  Returns:
    A <figure> of HTML; '' where nothing is to be drawn.
  """
  lines = [Line(line.label, np.asarray(line.steps, np.float64),
                np.asarray(line.values, np.float64), *line[3:])
           for line in lines]
  lines = [line for line in lines if np.isfinite(line.values).any()]
  if not lines:
    return ''
  every = np.concatenate([line.values for line in lines])
  lost = int((~np.isfinite(every)).sum())
  every = every[np.isfinite(every)]
  low, high = float(every.min()), float(every.max())
  # Where some steps tower above the others, only their logarithms fit.
  log = not zero and low > 0 and high > 50 * float(np.median(every))
  scale = math.log10 if log else float
  bottom, top = _range(scale(low), scale(high), zero)
  first = min(float(line.steps[0]) for line in lines)
  last = max(float(line.steps[-1]) for line in lines)
  last = last if last > first else first + 1

  def x(step: float) -> float:
    return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)

  def y(value: float) -> float:
    return TOP + (top - scale(value)) / (top - bottom) * (
        HEIGHT - TOP - BOTTOM)

  drawn = [*_grid(first, last, bottom, top, log, x),
           *(part for line in lines for part in _curve(line, x, y))]
  if lost:
    note = f'{lost:,} values are not finite: gaps. {note}'
  said = '; '.join(f'{line.label} ends at {_short(_last(line))}'
                   for line in lines if line.label)
  return (
      f'<figure><figcaption>{escape(title)} <small>'
      f'{escape(", ".join(filter(None, [unit, "logarithmic" * log])))}</small>'
      '</figcaption>'
      f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
      f'aria-label="{escape(title)} by step. {escape(said)}" '
      'style="width:100%;height:auto;display:block">'
      f'<title>{escape(title)} by step</title><desc>{escape(said)}</desc>'
      f'{"".join(drawn)}</svg>{_legend(lines)}'
      + (f'<p class="note">{escape(note.strip())}</p>' if note else '')
      + '</figure>')


def smooth(values: np.ndarray, width: int) -> np.ndarray:
  """The mean of the `width` values around each, fewer at the ends.

  What is not finite is left out of the means, and stays a gap itself.
  """
  finite = np.isfinite(values)
  sums = np.cumsum(np.concatenate([[0.], np.where(finite, values, 0)]))
  counts = np.cumsum(np.concatenate([[0], finite]))
  place = np.arange(len(values))
  reach = np.minimum(np.minimum(place, len(values) - 1 - place), width // 2)
  start, stop = place - reach, place + reach + 1
  with np.errstate(invalid='ignore'):
    return np.where(finite, (sums[stop] - sums[start])
                    / np.maximum(counts[stop] - counts[start], 1), np.nan)


def bars(title: str, unit: str, parts: Sequence[tuple[str, float]]) -> str:
  """Shares of a whole, as one bar with a legend of numbers.

  Args:
    title: what the whole is.
    unit: of the values.
    parts: (label, value, none negative).

  Returns:
    A <figure> of HTML; '' where the whole is nothing.
  """
  whole = sum(value for _, value in parts)
  if not whole > 0:
    return ''
  drawn, legend, start = [], [], 0.0
  for number, (label, value) in enumerate(parts):
    width = value / whole * WIDTH
    said = f'{label} {value:,.1f} {unit}, {value / whole:.1%}'
    drawn.append(f'<rect x="{start:.2f}" width="{max(width, .01):.2f}" '
                 f'height="26" style="fill:{ink(number)}">'
                 f'<title>{escape(said)}</title></rect>')
    legend.append(_key(number, 'block', said))
    start += width
  return (f'<figure class="wide"><figcaption>{escape(title)}</figcaption>'
          f'<svg viewBox="0 0 {WIDTH} 26" role="img" '
          f'preserveAspectRatio="none" aria-label="{escape(title)}" '
          'style="width:100%;height:26px;'
          f'display:block;border-radius:4px">{"".join(drawn)}</svg>'
          f'<div class="legend">{"".join(legend)}</div></figure>')


def ink(colour: int | None) -> str:
  """A CSS colour."""
  if colour is None:
    return 'currentColor'
  return f'var(--c{colour % len(LIGHT)},{LIGHT[colour % len(LIGHT)]})'


def _curve(line: Line, x, y):
  faint = line.style == 'faint' or line.colour is None
  width = 1 if line.style == 'faint' else 2
  points = _fewer(line.steps, line.values)
  runs, pen = [], 'M'
  for step, value in points:
    if math.isfinite(value):
      runs.append(f'{pen}{x(step):.1f} {y(value):.1f}')
      pen = 'L'
    else:
      pen = 'M'
  yield (f'<path d="{"".join(runs)}" fill="none" stroke-width="{width}" '
         f'stroke-linejoin="round"{_DASHES[line.style]} '
         f'style="stroke:{ink(line.colour)};opacity:{.45 if faint else 1}"/>')
  if line.dots or np.isfinite(line.values).sum() == 1:
    radius = 3 if len(points) <= MANY_DOTS else 1.5
    for step, value in points:
      if math.isfinite(value):
        said = f'{line.label}, step {step:,.0f}: {_short(value)}'
        yield (f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="{radius}" '
               f'style="fill:{ink(line.colour)}"><title>{escape(said)}'
               '</title></circle>')


def _fewer(steps, values):
  """Points that look the same: of many, each bin's least and greatest."""
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


def _grid(first, last, bottom, top, log, x):
  axis = 'stroke="currentColor" stroke-width="1" opacity=".15"'
  text = 'fill="currentColor" opacity=".75" font-size="14"'
  for tick in _ticks(bottom, top, 5):
    height = TOP + (top - tick) / (top - bottom) * (HEIGHT - TOP - BOTTOM)
    yield (f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" '
           f'y2="{height:.1f}" {axis}/><text x="{LEFT - 7}" '
           f'y="{height + 4:.1f}" text-anchor="end" {text}>'
           f'{_short(10 ** tick if log else tick)}</text>')
  for tick in _ticks(first, last, 5):
    anchor = 'end' if x(tick) > WIDTH - 34 else 'middle'
    yield (f'<text x="{x(tick):.1f}" y="{HEIGHT - 9}" text-anchor="{anchor}" '
           f'{text}>{_short(tick)}</text>')


def _range(low: float, high: float, zero: bool) -> tuple[float, float]:
  if zero:
    return min(low, 0.0), (high or 1.0) * 1.06
  room = (high - low) * .06 or abs(high) * .1 or 1.0
  return low - room, high + room


def _ticks(low: float, high: float, most: int) -> list[float]:
  """Round numbers from low to high, `most` of them or a few fewer."""
  rough = (high - low) / most
  power = 10 ** math.floor(math.log10(rough))
  step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough)
  first = math.ceil(low / step - 1e-9)
  return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _short(value: float) -> str:
  """A number for a person, of four digits at most.

  >>> [_short(x) for x in (0, 3.4567, 12000, 2500000, 0.0006)]
  ['0', '3.457', '12K', '2.5M', '6e-4']
  """
  size = abs(value)
  if size < 1e-12:
    return '0'
  for bound, unit in ((1e9, 'G'), (1e6, 'M'), (1e4, 'K')):
    if size >= bound:
      return f'{value / (1e3 if unit == "K" else bound):.4g}{unit}'
  if size < 1e-2:
    mantissa, exponent = f'{value:.2e}'.split('e')
    return f'{float(mantissa):g}e{int(exponent)}'
  return f'{value:.4g}'


def _last(line: Line) -> float:
  return float(line.values[np.isfinite(line.values)][-1])


def _legend(lines: list[Line]) -> str:
  keys = [_key(line.colour, line.style, f'{line.label}: {_short(_last(line))}')
          for line in lines if line.label]
  return f'<div class="legend">{"".join(keys)}</div>' if keys else ''


def _key(colour: int | None, style: str, said: str) -> str:
  if style == 'block':
    mark = f'<rect width="12" height="10" style="fill:{ink(colour)}"/>'
  else:
    faint = style == 'faint' or colour is None
    mark = (f'<path d="M0 5H20" stroke-width="{1 if style == "faint" else 2.5}"'
            f'{_DASHES[style]} style="stroke:{ink(colour)};'
            f'opacity:{.5 if faint else 1}"/>')
  return ('<span style="display:inline-block;margin-right:1em">'
          f'<svg width="{12 if style == "block" else 20}" height="10" '
          f'aria-hidden="true">{mark}</svg> '
          f'{escape(said)}</span> ')
