"""One self-contained page of HTML: no script, nothing from outside."""

from collections.abc import Sequence
from html import escape

from robertax.inspection.chart import DARK, LIGHT

# The browser itself refuses whatever is not in the page.
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


def _style() -> str:
  def palette(colours):
    return ';'.join(f'--c{n}:{c}' for n, c in enumerate(colours))

  return _STYLE.replace('LIGHT', palette(LIGHT)).replace('DARK', palette(DARK))


def page(title: str, below: str, parts: Sequence[tuple[str, str]]) -> str:
  """A whole document.

  Args:
    title: of the page, as text.
    below: what stands below it, as HTML.
    parts: (heading as text, HTML); a part that is empty is left out.
  """
  body = ''.join(
      f'<section><h2>{escape(heading)}</h2>{html}</section>\n'
      for heading, html in parts if html)
  return (
      '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width,initial-scale=1">'
      f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
      '<link rel="icon" href="data:,">'
      f'<title>{escape(title)}</title><style>{_style()}</style></head>\n<body>'
      f'<header><h1>{escape(title)}</h1>{below}</header>\n{body}'
      '</body></html>\n')


def tiles(facts: Sequence[tuple[str, str]]) -> str:
  """The few numbers that come first: (number, what it is), as text."""
  return '<div class="tiles">' + ''.join(
      f'<div><b>{escape(number)}</b><span>{escape(name)}</span></div>'
      for number, name in facts) + '</div>'


def charts(figures: Sequence[str]) -> str:
  """Figures beside each other, where there is room."""
  found = ''.join(figures)
  return f'<div class="charts">{found}</div>' if found else ''


def folded(summary: str, html: str) -> str:
  """What is seen when asked for."""
  return f'<details><summary>{escape(summary)}</summary>{html}</details>'
