"""W/report.html: a run on one page, beside others if any are given.

A report is made from files alone, in a second: guessing takes the weights and a
batch takes the records, so a run keeps what it said and saw last in
W/samples.json.
"""

from collections.abc import Sequence
import dataclasses
from datetime import UTC, datetime
from html import escape
import json
from typing import Any

import jax

from robertax import files
from robertax import model as modelling
from robertax.config import Config
from robertax.errors import InputError, writing
from robertax.inspection import batches, page, run_log
from robertax.inspection.batches import Marked, Piece, visible
from robertax.inspection.model import Filled
from robertax.inspection.page import Table
from robertax.inspection.run_log import RunLog, incomparable
from robertax.tasks.task import Task, describe_results, plain_values
from robertax.train.clock import KINDS

REPORT = 'report.html'
_KINDS = {'start': 'preparing, restoring, compiling',
          'input_wait': 'waiting for batches', 'step': 'steps',
          'checkpoint': 'saving', 'evaluation': 'evaluating'}


def write_report(workdir: str, others: Sequence[str] = (),
                 out: str = '') -> str:
  """Writes a report of files alone: no weights, no records.

  Args:
    workdir: W, of the run that it is about.
    others: workdirs to compare with.
    out: the file; empty: W/report.html.

  Returns:
    The file's path.

  Raises:
    InputError: one is no workdir with logged steps, a file of it is damaged, or
      the report cannot be written.
  """
  run = run_log.read_run(workdir)
  html = report_html(run, [run_log.read_run(path) for path in others])
  path = out or f'{workdir}/{REPORT}'
  with writing(path):
    files.write_text(path, html.encode(
        errors='backslashreplace').decode())
  return path


def report_html(run: RunLog, others: Sequence[RunLog] = ()) -> str:
  """The page as HTML."""
  kept = load_samples(run.path)
  guesses, batch = samples_html(kept) if kept else ('', '')
  return page.page_html(run.name, _head_html(run, kept), [
      ('Score', _score_html(run)),
      ('Curves', page.charts_html(run_log.run_figures(run))),
      ('Beside other runs', _comparison_html([run, *others]) if others else ''),
      ('Where the seconds went', _seconds_html(run)),
      ('Text', _corpora_html(run)),
      ('Words guessed in held-out text', guesses),
      ('A batch, before and after masking', batch),
      ('Final numbers', _final_numbers(run)),
      ('What ran', _config_html(run))])


def _head_html(run: RunLog, kept: 'Samples | None') -> str:
  model, steps = run.config.model, run.config.train.steps
  facts = [run.config.task, f'{model.num_layers} layers x {model.hidden_size}',
           _parameters(run)]
  if kept:
    facts.append(kept.machine)
  lines = [' · '.join(filter(None, facts))]
  if times := run.times():
    first, last, starts = times
    lines.append(
        f'begun {_date(first)}, last written {_date(last)}'
        + (f', started {starts} times' if starts > 1 else ''))
  if run.step < steps:
    lines.append(f'Not at its end: step {run.step:,} of {steps:,}.')
  tiles = []
  if run.results:
    value = run.results.get('value')
    tiles.append((f'{value:.2f}' if isinstance(value, int | float) else 'none',
                  f'{run.results.get("metric")} on {run.results.get("split")}'))
  loss, unigram = run.last('eval/loss'), run.last('eval/unigram_loss')
  if loss is not None:
    tiles.append((f'{loss:.3f}', 'held-out loss, nats'))
  if (perplexity := run.last('eval/perplexity')) is not None:
    tiles.append((f'{perplexity:,.2f}', 'held-out perplexity'))
  if loss is not None and unigram is not None:
    tiles.append((f'{unigram - loss:+.2f}', 'nats better than the unigram'))
  tiles.append((f'{run.step:,}', f'of {steps:,} steps'))
  for key, form, name in (
      ('train/epoch', '{:.2f}', 'epochs'),
      ('train/tokens_per_second', '{:,.0f}', 'tokens a second at the end'),
      ('train/mfu', '{:.1%}', 'MFU at the end'),
      ('train/goodput', '{:.1%}', 'goodput')):
    if (value := run.last(key)) is not None:
      tiles.append((form.format(value), name))
  return ''.join(f'<p class="note">{escape(x)}</p>' for x in lines) + (
      page.tiles_html(tiles))


def _score_html(run: RunLog) -> str:
  """The scores of a fine-tuning run."""
  found = run.results
  if not found:
    return ''
  html = ''
  if found.get('degenerate'):
    html = ('<p class="bad"><b>DEGENERATE</b> '
            f'{escape(str(found.get("degenerate_because", "")))}</p>')
  try:
    said = describe_results({**found, 'degenerate': False})
  except (LookupError, TypeError, ValueError, AttributeError):
    said = ''  # Of another version; the table below has all of it.
  return (html + (f'<p>{escape(said)}</p>' if said else '')
          + page.folded_html('results.json', Table(
              ('key', 'value'),
              [(key, str(value)) for key, value in found.items()]
          )._repr_html_()))


def _seconds_html(run: RunLog) -> str:
  seconds = [(_KINDS[kind], run.total(f'train/{kind}_seconds'))
             for kind in KINDS if f'train/{kind}_seconds' in run.metrics]
  if not seconds:
    return ''
  lines = ['Of the lines that stand in metrics.jsonl: what a kill undid is not '
           'among them.']
  if (goodput := run.last('train/goodput')) is not None:
    lines.append(f'Goodput {goodput:.1%}: the share of all seconds since the '
                 'run first began, kills and pauses included, that went into '
                 'steps that count.')
  return (page.bar_figure('Seconds up to the last logged step', 's', seconds)
          + f'<p class="note">{" ".join(lines)}</p>')


def _corpora_html(run: RunLog) -> str:
  if run.config.task != 'pretrain':
    return ''
  rows = []
  for name in run.eval_sets:
    passes = run.last(f'train/epoch/{name}')
    if passes is None and len(run.eval_sets) == 1:
      passes = run.last('train/epoch')
    rows.append((name, passes, *(run.last(f'eval/{name}/{key}') for key in (
        'loss', 'unigram_loss', 'perplexity', 'accuracy'))))
  mixture = run.config.data.mixture
  return Table(
      ('corpus', 'epochs', 'held-out loss', 'unigram', 'perplexity',
       'guessed right'), rows,
      (f'Mixed by {mixture}. ' if mixture else '')
      + 'The unigram knows only how frequent each token is.')._repr_html_()


def _final_numbers(run: RunLog) -> str:
  rows = [(key, run.last(key)) for key in run.metrics]
  return page.folded_html(
      f'All {len(rows)} numbers, as logged last',
      Table(('metric', 'value'), rows)._repr_html_())


def _config_html(run: RunLog) -> str:
  differing = Table(
      ('key', 'value', 'default'),
      [(key, _config_value(value), _config_value(default))
       for key, (value, default) in run.changed.items()])
  rest = Table(('key', 'value'), [(key, _config_value(value))
                                  for key, value in run.keys.items()
                                  if key not in run.changed])
  return (differing._repr_html_() + page.folded_html(
      f'{len(rest.rows)} keys at their defaults', rest._repr_html_()))


def _config_value(value: Any) -> str:
  return repr(value) if isinstance(value, str) else str(value)


def _parameters(run: RunLog) -> str:
  if not run.config.model.vocab_size:
    return ''
  shapes = jax.eval_shape(lambda: modelling.create(
      run.config.model, jax.random.key(0)))
  count = sum(x.size for x in jax.tree.leaves(shapes))
  return f'{count / 1e6:.2f}M parameters'


def _date(seconds: float) -> str:
  try:
    return datetime.fromtimestamp(seconds, UTC).strftime('%Y-%m-%d %H:%M UTC')
  except (ValueError, OverflowError, OSError):
    return 'at no known time'


# Runs beside each other: curves, last numbers, keys that differ.


# Last numbers that are compared, where any of the runs has them.
NUMBERS = ('eval/loss', 'eval/unigram_loss', 'eval/bits', 'eval/perplexity',
           'eval/accuracy', 'train/loss', 'train/epoch',
           'train/tokens_per_second', 'train/mfu', 'train/goodput')
ABSENT = '(absent)'


def _comparison_html(runs: Sequence[RunLog]) -> str:
  """The first run beside the others."""
  return (page.charts_html(run_log.compared_figures(runs))
          + '<h3>Last numbers</h3>' + _numbers_table(runs)._repr_html_()
          + '<h3>Keys of the config that differ</h3>'
          + _differing_keys(runs)._repr_html_())


def _numbers_table(runs: Sequence[RunLog]) -> Table:
  """A row a run; the last column says whose loss is of something else."""
  scored = any(run.results for run in runs)
  keys = [key for key in NUMBERS
          if any(run.last(key) is not None for run in runs)]
  rows = []
  for run, name in zip(runs, run_log.distinct_names(runs)):
    why = '' if run is runs[0] else incomparable(runs[0], run)
    row = [name, run.step, run.config.train.steps]
    if scored:
      row += [_run_score(run)]
    rows.append([*row, *map(run.last, keys), why or 'yes'])
  return Table(
      ('run', 'step', 'of', *(['score'] if scored else []),
       *(key.replace('eval/', 'held-out ').replace('train/', '').replace(
           '_', ' ') for key in keys), 'losses comparable'), rows)


def _differing_keys(runs: Sequence[RunLog]) -> Table:
  keys = [key for key in dict.fromkeys(k for run in runs for k in run.keys)
          if len({repr(run.keys.get(key, ABSENT)) for run in runs}) > 1]
  return Table(
      ('key', *run_log.distinct_names(runs)),
      [(key, *(_config_value(run.keys.get(key, ABSENT)) for run in runs))
       for key in keys],
      '' if keys else 'None: the same config.')


def _run_score(run: RunLog) -> str:
  found = run.results
  if not found:
    return ''
  value = found.get('value')
  said = (f'{found.get("metric")} {value:.2f}'
          if isinstance(value, int | float) else 'none')
  return said + (' DEGENERATE' if found.get('degenerate') else '')


# What a run keeps for its report.


SAMPLES = 'samples.json'
SAMPLE_ROWS = 2  # Of a batch; a row has up to 512 tokens.


@dataclasses.dataclass(frozen=True)
class Samples:
  """What a run said and saw last."""
  step: int  # Updates that the weights have seen.
  machine: str  # Devices and versions.
  # Of held-out text: (text with a mask, what stood there, guesses).
  filled: list[tuple[str, str, list[Filled]]]
  # Some rows of the batch of the last step; None: a task without masks.
  batch: batches.Batch | None


def gather_samples(config: Config, task: Task, step: int,
                   filled: Sequence[tuple[str, str, list[Filled]]]) -> Samples:
  """What is to be kept of a run that has ended; its task's data is open."""
  batch = (batches.batch_of(config, task, max(step - 1, 0), SAMPLE_ROWS)
           if hasattr(task, 'pipeline') else None)
  device, hosts = jax.devices()[0], jax.process_count()
  return Samples(
      step, f'{jax.device_count()} x {device.device_kind} ({device.platform}'
      f'{f", {hosts} processes" if hosts > 1 else ""}), jax {jax.__version__}',
      list(filled), batch)


def save_samples(workdir: str, samples: Samples) -> str:
  """Writes W/samples.json, whole or not at all, and returns its path.

  Raises:
    InputError: it cannot be written.
  """
  batch = samples.batch
  content = {
      'step': samples.step, 'machine': samples.machine,
      'filled': samples.filled, 'batch': batch and {
          'rows': batch.rows, 'statistics': batch.statistics,
          'marked': batch.marked, 'special_tokens': batch.special_tokens}}
  path = f'{workdir}/{SAMPLES}'
  with writing(path):
    # ASCII: stray bytes are escaped surrogates.
    files.write_text(path, json.dumps(plain_values(content)))
  return path


def load_samples(workdir: str) -> Samples | None:
  """What W/samples.json holds; None where there is none.

  Raises:
    InputError: it is damaged.
  """
  path = f'{workdir}/{SAMPLES}'
  if not files.exists(path):
    return None
  try:
    with files.open(path) as f:
      content = json.load(f)
    batch = content['batch'] and batches.Batch(
        content['batch']['rows'], content['batch']['statistics'],
        [[_read_marked(*segment) for segment in row]
         for row in content['batch']['marked']],
        tuple(content['batch']['special_tokens']))
    samples = Samples(
        int(content['step']), str(content['machine']),
        [(str(text), str(word), [Filled(str(g[0]), float(g[1]), str(g[2]))
                                 for g in guesses])
         for text, word, guesses in content['filled']], batch)
    _ = samples_html(samples)  # All that is wrong is seen here.
    return samples
  except (OSError, ValueError, TypeError, LookupError, AttributeError) as e:
    raise InputError(f'{path}: not what a run has kept for its report ({e!r}). '
                     'Delete it: the report does without.') from e


def _read_marked(before, after, plain_before, plain_after) -> Marked:
  return Marked([Piece(*part) for part in before],
                [Piece(*part) for part in after], plain_before, plain_after)


def samples_html(samples: Samples) -> tuple[str, str]:
  """(guesses, batch), as HTML; '' where there is none."""
  guesses = ''
  for text, word, found in samples.filled:
    said = ', '.join(
        f'<code{" class=right" if g.token.strip() == word else ""}>'
        f'{escape(visible(g.token.strip()))}</code> {g.probability:.0%}'
        for g in found)
    guesses += (f'<div class="text" dir="auto">'
                f'{escape(visible(" ".join(text.split())))}</div>'
                f'<p>It was <code>{escape(visible(word))}</code>; guessed '
                f'{said}.</p>')
  if samples.batch is None:
    return guesses, ''
  batch = samples.batch
  shown = (f'<p>{escape(visible(batches.batch_title(batch)))}. '
           f'{batches.html_legend()}.</p>')
  for row, marked in zip(batch.rows, batch.marked):
    shown += f'<h3>{escape(visible(batches.example_heading(row)))}</h3>'
    for segment in marked:
      for name, parts in (('before', segment.before), ('after', segment.after)):
        shown += (f'<div class="text" dir="auto"><small>{name}</small> '
                  f'{"".join(map(batches.html_part, parts))}</div>')
  return guesses, shown
