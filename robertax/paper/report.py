"""A table of the paper in words: ours beside the paper's, with spreads.

What may be concluded is computed, not written: a row differs from another where
the interval of their difference over seeds leaves out 0.
"""

from collections.abc import Mapping
import dataclasses
import statistics
from typing import Any

from robertax.paper.tables import COLUMNS, Table
from robertax.studies.differences import CONFIDENCE, difference

Found = Mapping[str, Any]


def comparisons(table: Table, found: Found) -> list[dict[str, Any]]:
  """Each row with the baseline, column by column.

  Returns:
    {'row', 'than', 'column', 'mean', 'low', 'high', 'apart', 'paper'} each;
    `paper` is the paper's own difference, None where it has none.
  """
  rows = {row['name']: row for row in found['rows']}
  base, compared = rows[table.baseline], []
  for column in found['columns']:
    for row in found['rows']:
      values = row.get('values', {}).get(column)
      others = base.get('values', {}).get(column)
      if row is base or not values or not others:
        continue
      said = [side['paper'].get(column) for side in (row, base)]
      one = difference(others, values)
      compared.append({
          'row': row['name'], 'than': base['name'], 'column': column,
          **dataclasses.asdict(one), 'apart': one.apart,
          'paper': None if None in said else round(said[0] - said[1], 4)})
  return compared


def markdown(table: Table, found: Found) -> str:
  """The table, what it says, and what was asked, as markdown."""
  lines = [f'## {found["title"]}', '', *_grid(found), '']
  if table.note:
    lines += [table.note, '']
  seeds = max(len(row.get('seeds', ())) for row in found['rows'])
  over = 'pretraining' if seeds > 1 else 'fine-tuning, of one pretraining'
  lines += [f'Scale `{found["scale"]}`. Ours: mean (lowest to highest) over '
            f'the seeds of {over}. Rows are called as in the paper; what ours '
            'are is said by width, steps, batch and tokens.', '']
  lines += _sentences(found)
  lines += _asked(found)
  return '\n'.join(lines).rstrip('\n') + '\n'


def _grid(found: Found) -> list[str]:
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
      cells.append(_cell(row, column))
      if column in papers:
        cells.append(_number(row['paper'].get(column), column))
    lines.append('| ' + ' | '.join(cells) + ' |')
  return lines


def _cell(row: Found, column: str) -> str:
  values = row.get('values', {}).get(column)
  if not values:
    return ''
  text = _number(statistics.mean(values), column)
  if len(values) > 1:
    text += (f' ({_number(min(values), column)} to '
             f'{_number(max(values), column)})')
  chance = row['at_chance'].get(COLUMNS[column].task, 0)
  return text + (f', {chance} at chance' if chance else '')


def _digits(column: str) -> int:
  """Scores in percent have one, losses three."""
  if COLUMNS[column].task:
    return 1
  return 2 if column == 'perplexity' else 3


def _number(value: float | None, column: str, sign: str = '') -> str:
  return '' if value is None else f'{value:{sign}.{_digits(column)}f}'


def _sentences(found: Found) -> list[str]:
  shown = {row['name']: row['shown'] for row in found['rows']}
  lines = []
  for one in found['comparisons']:
    column = one['column']
    text = (f'- {COLUMNS[column].shown}: {shown[one["row"]]} less '
            f'{shown[one["than"]]} is {_number(one["mean"], column, "+")}')
    if one['apart'] is None:
      text += ' with one seed: nothing can be said.'
    else:
      better = (one['mean'] < 0) == COLUMNS[column].down
      text += (
          f' ({_number(one["low"], column, "+")} to '
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


def _asked(found: Found) -> list[str]:
  """What each task was trained on and scored on; what stood in; what was not.
  """
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
        row.get('values', {}).get(column) for row in found['rows']):
      lines.append(f'- {COLUMNS[column].shown}: what was scored has no such '
                   'part.')
  if found['not_asked']:
    lines.append('- Not asked at this scale: ' + ', '.join(
        COLUMNS[c].shown for c in found['not_asked']) + '.')
  return ['What was asked:', '', *lines, ''] if lines else []
