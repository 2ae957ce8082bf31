"""Runs beside each other: curves, last numbers, keys that differ."""

from collections.abc import Sequence

from robertax.inspection import curves, page
from robertax.inspection.run_log import RunLog, incomparable
from robertax.inspection.table import Table

# Last numbers that are compared, where any of the runs has them.
NUMBERS = ('eval/loss', 'eval/unigram_loss', 'eval/bits', 'eval/perplexity',
           'eval/accuracy', 'train/loss', 'train/epoch',
           'train/tokens_per_second', 'train/mfu', 'train/goodput')
ABSENT = '(absent)'


def html(runs: Sequence[RunLog]) -> str:
  """The first run beside the others."""
  return (page.charts(curves.over_each_other(runs))
          + '<h3>Last numbers</h3>' + numbers(runs)._repr_html_()
          + '<h3>Keys of the config that differ</h3>'
          + differing(runs)._repr_html_())


def numbers(runs: Sequence[RunLog]) -> Table:
  """A row a run; the last column says whose loss is of something else."""
  scored = any(run.results for run in runs)
  keys = [key for key in NUMBERS
          if any(run.last(key) is not None for run in runs)]
  rows = []
  for run, name in zip(runs, curves.distinct_names(runs)):
    why = '' if run is runs[0] else incomparable(runs[0], run)
    row = [name, run.step, run.config.train.steps]
    if scored:
      row += [_score(run)]
    rows.append([*row, *map(run.last, keys), why or 'yes'])
  return Table(
      ('run', 'step', 'of', *(['score'] if scored else []),
       *(key.replace('eval/', 'held-out ').replace('train/', '').replace(
           '_', ' ') for key in keys), 'losses comparable'), rows)


def differing(runs: Sequence[RunLog]) -> Table:
  """Keys that are not the same in all."""
  keys = [key for key in dict.fromkeys(k for run in runs for k in run.keys)
          if len({repr(run.keys.get(key, ABSENT)) for run in runs}) > 1]
  return Table(('key', *curves.distinct_names(runs)),
               [(key, *(_value(run.keys.get(key, ABSENT)) for run in runs))
                for key in keys],
               '' if keys else 'None: the same config.')


def _score(run: RunLog) -> str:
  found = run.results
  if not found:
    return ''
  value = found.get('value')
  said = (f'{found.get("metric")} {value:.2f}'
          if isinstance(value, int | float) else 'none')
  return said + (' DEGENERATE' if found.get('degenerate') else '')


def _value(value) -> str:
  return repr(value) if isinstance(value, str) else str(value)
