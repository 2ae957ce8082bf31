"""Writes a table as markdown and as a picture, with the paper's figures.

Conclusions are computed: two rows differ if the confidence interval of their
difference over seeds excludes 0. `found` is the content of results.json.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import io
import math
import statistics
from typing import Any

from robertax.inspection.page import blank_figure
from robertax.paper.tables import COLUMNS, PaperTable

CONFIDENCE = 0.95
OURS, PAPER = '#c0392b', '#34495e'  # Colours of points.
Found = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Difference:
  """The difference of two means, with Welch's t interval at CONFIDENCE.

  The interval is None where a row has only one seed.
  """
  mean: float
  low: float | None
  high: float | None

  @property
  def apart(self) -> bool | None:
    """Whether the interval excludes 0; None: unknown."""
    if self.low is None or self.high is None or math.isnan(self.low):
      return None
    return not self.low <= 0 <= self.high


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
  """Compares two independent samples with unequal spreads (Welch 1947).

  >>> difference([1., 2., 3.], [11., 12., 13.])
  Difference(mean=10.0, low=7.73..., high=12.26...)
  """
  from scipy import stats
  mean = statistics.mean(second) - statistics.mean(first)
  if min(len(first), len(second)) < 2:
    return Difference(mean, None, None)
  if not math.isfinite(mean):  # A run diverged.
    return Difference(mean, math.nan, math.nan)
  errors = [statistics.variance(one) / len(one) for one in (first, second)]
  if not sum(errors):  # All seeds gave the same value.
    return Difference(mean, mean, mean)
  freedom = sum(errors)**2 / sum(
      error**2 / (len(one) - 1) for error, one in zip(errors, (first, second)))
  half = math.sqrt(sum(errors)) * float(
      stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
  return Difference(mean, mean - half, mean + half)


def comparisons(table: PaperTable, found: Found) -> list[dict[str, Any]]:
  """Compares each row with the baseline, column by column.

  Returns:
    {'row', 'than', 'column', 'mean', 'low', 'high', 'apart', 'paper'} for each;
    `paper` is the difference of the paper's figures, or None.
  """
  rows = {row['name']: row for row in found['rows']}
  base, compared = rows[table.baseline], []
  for column in found['columns']:
    for row in found['rows']:
      values, others = _values(row, column), _values(base, column)
      if row is base or not values or not others:
        continue
      paper = [side['paper'].get(column) for side in (row, base)]
      one = difference(others, values)
      compared.append({
          'row': row['name'], 'than': base['name'], 'column': column,
          **dataclasses.asdict(one), 'apart': one.apart,
          'paper': None if None in paper else round(paper[0] - paper[1], 4)})
  return compared


def _values(row: Found, column: str) -> list[float]:
  """The row's values in a column, one per seed, or none."""
  return row.get('values', {}).get(column, [])


def table_markdown(table: PaperTable, found: Found) -> str:
  """Writes the grid, the conclusions, and what was measured on which data."""
  lines = [f'## {found["title"]}', '', *_markdown_grid(found), '']
  if table.note:
    lines += [table.note, '']
  seeds = max(len(row.get('seeds', ())) for row in found['rows'])
  over = 'pretraining' if seeds > 1 else 'fine-tuning, of one pretraining'
  lines += [f'Scale `{found["scale"]}`. Ours: mean (lowest to highest) over '
            f'the seeds of {over}. Rows are called as in the paper; what ours '
            'are is said by width, steps, batch and tokens.', '']
  lines += [*_conclusions(found), *_measurements(found)]
  return '\n'.join(lines).rstrip('\n') + '\n'


def _markdown_grid(found: Found) -> list[str]:
  columns = found['columns']
  papers = [c for c in columns if any(c in r['paper'] for r in found['rows'])]
  heads = ['', 'layers x width', 'steps', 'batch', 'tokens seen', 'passes']
  for column in columns:
    heads.append(COLUMNS[column].shown)
    if column in papers:
      heads.append('paper')
  lines = ['| ' + ' | '.join(heads) + ' |', '|---' * len(heads) + '|']
  for row in found['rows']:
    cells = [row['shown'] + (' (not in the paper)' if row['beyond'] else '')]
    cells += ([row['shape']] + [
        f'{row[key]:,}' for key in ('steps', 'batch_size', 'tokens')]
              + [f'{row["passes"]:.1f}'] if 'steps' in row else [''] * 5)
    for column in columns:
      cells.append(_markdown_cell(row, column))
      if column in papers:
        cells.append(_number(row['paper'].get(column), column))
    lines.append('| ' + ' | '.join(cells) + ' |')
  return lines


def _markdown_cell(row: Found, column: str) -> str:
  values = _values(row, column)
  if not values:
    return ''
  text = _number(statistics.mean(values), column)
  if len(values) > 1 and all(map(math.isfinite, values)):
    text += (f' ({_number(min(values), column)} to '
             f'{_number(max(values), column)})')
  chance = row['at_chance'].get(COLUMNS[column].task, 0)
  return text + (f', {chance} at chance' if chance else '')


def _number(value: float | None, column: str, sign: str = '') -> str:
  if value is None:
    return ''
  digits = 1 if COLUMNS[column].task else 2 if column == 'perplexity' else 3
  return f'{value:{sign}.{digits}f}'


def _conclusions(found: Found) -> list[str]:
  shown = {row['name']: row['shown'] for row in found['rows']}
  lines = []
  for one in found['comparisons']:
    column = one['column']
    text = (f'- {COLUMNS[column].shown}: {shown[one["row"]]} less '
            f'{shown[one["than"]]} is {_number(one["mean"], column, "+")}')
    if one['apart'] is None:
      text += (' with one seed: nothing can be said.' if one['low'] is None else
               ': a run has no finite value, so nothing can be said.')
    else:
      better = (one['mean'] < 0) == COLUMNS[column].down
      text += (f' ({_number(one["low"], column, "+")} to '
               f'{_number(one["high"], column, "+")}): ' + (
                   f'{"better" if better else "worse"}, by more than the seeds '
                   'differ.' if one['apart'] else
                   'they do not differ beyond the seeds.'))
    if one['paper'] is not None:
      text += f' In the paper {_number(one["paper"], column, "+")}.'
    lines.append(text)
  known = [one for one in found['comparisons'] if one['apart'] is not None]
  if known:
    chance = (1 - CONFIDENCE) * len(known)
    lines += ['', f'Each interval is Welch\'s at {CONFIDENCE:.0%} by itself: '
              f'of these {len(known)} comparisons {chance:.1f} would be apart '
              'by chance alone, were there no difference at all.']
  return [*lines, ''] if lines else []


def _measurements(found: Found) -> list[str]:
  """Lists the data on which each task was trained and scored."""
  lines, seen = [], set()
  if found['text']:
    lines.append(f'- text: {found["text"]}.')
  for column in found['columns']:
    task = COLUMNS[column].task
    asked = next((row['asked'][task] for row in found['rows']
                  if task in row.get('asked', {})), None)
    if not task or task in seen or not (
        asked or task in found['missing'] or task in found['stand_ins']):
      continue
    seen.add(task)
    text = f'- {COLUMNS[column].shown}: '
    if task in found['missing']:
      text += f'not run, {found["missing"][task]}.'
    elif asked:
      text += (f'trained on {asked["train_rows"]:,} rows, scored on '
               f'{asked["rows"]:,} of {asked["split"]}' + (
                   ', and test besides.'
                   if COLUMNS[column].value[0] == 'test_scores' else '.'))
    if task in found['stand_ins']:
      text += f' STAND-IN: {found["stand_ins"][task]}.'
    lines.append(text)
  for column in found['columns']:
    if COLUMNS[column].task in seen - set(found['missing']) and not any(
        _values(row, column) for row in found['rows']):
      lines.append(f'- {COLUMNS[column].shown}: what was scored has no such '
                   'part.')
  if found['not_asked']:
    lines.append('- Not asked at this scale: ' + ', '.join(
        COLUMNS[c].shown for c in found['not_asked']) + '.')
  return ['What was asked:', '', *lines, ''] if lines else []


def draw_table(found: Found) -> bytes:
  """Draws a PNG with two panels per column: our seeds with their mean, and the
  paper's figures on an axis of their own, because the model sizes differ.
  """
  columns = found['columns']
  rows = [row for row in found['rows'] if row['paper'] or 'values' in row]
  names = [row['name'] for row in rows]
  figure = blank_figure(max(4, 2.6 * len(columns)), 5.2)
  figure.suptitle(f'{found["title"]}\nours at scale {found["scale"]}',
                  fontsize=10)
  axes = figure.subplots(2, len(columns), squeeze=False)
  for index, column in enumerate(columns):
    ours, paper = axes[0, index], axes[1, index]
    ours.set_title(COLUMNS[column].shown, fontsize=9)
    for at, row in enumerate(rows):
      if values := _values(row, column):
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
      if not index:
        axis.set_ylabel(whose)
      if not axis.lines:
        axis.set_yticks([])
        axis.text(0.5, 0.5, 'none', transform=axis.transAxes, ha='center',
                  color='#888888')
  out = io.BytesIO()
  # Without version or date, equal tables give equal bytes.
  figure.savefig(out, format='png', metadata={'Software': None})
  return out.getvalue()
