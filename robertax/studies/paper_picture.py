"""A table of the paper as a picture, by matplotlib, drawn without a screen."""

from collections.abc import Mapping
import io
import statistics
from typing import Any

from robertax.paper.tables import COLUMNS

OURS, PAPER = '#c0392b', '#34495e'


def draw(found: Mapping[str, Any]) -> bytes:
  """A panel a column: ours, a point a seed and a bar for the mean; below it the
  paper's, on an axis of its own, for sizes differ.

  Args:
    found: what results.json holds of a table.

  Returns:
    A PNG.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure
  columns = found['columns']
  rows = [row for row in found['rows'] if row['paper'] or 'values' in row]
  names = [row['name'] for row in rows]
  figure = Figure(figsize=(max(4, 2.6 * len(columns)), 5.2), dpi=110,
                  layout='constrained')
  FigureCanvasAgg(figure)
  figure.suptitle(f'{found["title"]}\nours at scale {found["scale"]}',
                  fontsize=10)
  axes = figure.subplots(2, len(columns), squeeze=False)
  for place, column in enumerate(columns):
    ours, paper = axes[0, place], axes[1, place]
    ours.set_title(COLUMNS[column].shown, fontsize=9)
    for at, row in enumerate(rows):
      if values := row.get('values', {}).get(column):
        ours.plot([at] * len(values), values, 'o', color=OURS, markersize=4,
                  alpha=0.6)
        ours.hlines(statistics.mean(values), at - 0.3, at + 0.3, color=OURS)
      if column in row['paper']:
        paper.plot([at], [row['paper'][column]], 's', color=PAPER, markersize=5)
    for axis, whose in ((ours, 'ours'), (paper, 'paper')):
      axis.set_xlim(-0.6, len(rows) - 0.4)
      axis.set_xticks(range(len(rows)), names if axis is paper else [],
                      rotation=60, ha='right', fontsize=8)
      axis.tick_params(labelsize=8)
      axis.grid(axis='y', alpha=0.25)
      axis.spines[['top', 'right']].set_visible(False)
      if not place:
        axis.set_ylabel(whose)
      if not axis.lines:
        axis.set_yticks([])
        axis.text(0.5, 0.5, 'none', transform=axis.transAxes, ha='center',
                  color='#888888')
  out = io.BytesIO()
  # Nothing of the day in it: the same table is the same picture.
  figure.savefig(out, format='png', metadata={'Software': None})
  return out.getvalue()
