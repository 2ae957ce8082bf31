"""The end of a run, and W/report.html: a run, and others, on one page.

A report is made in a second from files alone. Guesses would need the weights,
and a batch would need the records, so a run keeps its last ones in
W/samples.json.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
from datetime import UTC, datetime
from html import escape
import json
import signal
from typing import Any

import jax
import numpy as np

from robertax import files
from robertax import model as modelling
from robertax.config import Config
from robertax.errors import InputError, beside, reading, writing
from robertax.inspection import batches, opening, page, run_log
from robertax.inspection.batches import Marked, Piece, visible
from robertax.inspection.model import MASK, Filled, Model
from robertax.inspection.page import Table
from robertax.inspection.run_log import RunLog, incomparable
from robertax.tasks.task import RESULTS, Task, describe_results, plain_values
from robertax.train import workdir as workdirs
from robertax.train.clock import KINDS
from robertax.train.loop import Run

REPORT, COMPARED = 'report.html', 'compared.html'
NO_CURVES = '<p class="note">No number was logged at two steps yet.</p>'
_KINDS = {'start': 'preparing, restoring, compiling',
          'input_wait': 'waiting for batches', 'step': 'steps',
          'checkpoint': 'saving', 'evaluation': 'evaluating'}


def write_report(workdir: str, others: Sequence[str] = (),
                 out: str = '') -> str:
  """Writes `out`, or W/report.html, or with others W/compared.html; its path.
  """
  run = run_log.read_run(workdir)
  html = report_html(run, [run_log.read_run(path) for path in others])
  path = out or f'{workdir}/{COMPARED if others else REPORT}'
  with writing(path):
    files.write_text(path, html.encode(errors='backslashreplace').decode())
  return path


def report_html(run: RunLog, others: Sequence[RunLog] = ()) -> str:
  """The page as HTML."""
  kept = load_samples(run.path)
  guesses, batch = samples_html(kept) if kept else ('', '')
  beside, runs = '', [run, *others]
  if others:
    beside = (page.charts_html(run_log.compared_figures(runs))
              + f'<h3>Last numbers</h3>{_numbers_table(runs).html}'
              '<h3>Keys of the config that differ</h3>'
              f'{_differing_keys(runs).html}')
  numbers = Table(('metric', 'value'), [(x, run.last(x)) for x in run.metrics])
  return page.page_html(run.name, _head_html(run, kept), [
      ('Score', _score_html(run)),
      ('Curves', page.charts_html(run_log.run_figures(run)) or NO_CURVES),
      ('Beside other runs', beside),
      ('Where the seconds went', _seconds_html(run)),
      ('Text', _corpora_html(run)), ('Words guessed in held-out text', guesses),
      ('A batch, before and after masking', batch),
      ('Final numbers', page.folded_html(
          f'All {len(numbers.rows)} numbers, as logged last', numbers.html)),
      ('What ran', _config_html(run))])


def _head_html(run: RunLog, kept: 'Samples | None') -> str:
  model, steps = run.config.model, run.config.train.steps
  facts = [run.config.task, f'{model.num_layers} layers x {model.hidden_size}',
           _parameters(run), kept.machine if kept else '']
  lines = [' · '.join(filter(None, facts))]
  if times := run.times():
    first, last, starts = times
    lines.append(f'begun {_date(first)}, last written {_date(last)}'
                 + (f', started {starts} times' if starts > 1 else ''))
  if run.step < steps:
    lines.append(f'Not at its end: step {run.step:,} of {steps:,}.')
  tiles = []
  if run.results:
    value = run.results.get('value')
    tiles.append((f'{value:.2f}' if isinstance(value, int | float) else 'none',
                  f'{run.results.get("metric")} on {run.results.get("split")}'))
  loss, unigram = run.last('eval/loss'), run.last('eval/unigram_loss')
  better = None if loss is None or unigram is None else unigram - loss
  tiles += [(format(value, form if abs(value) < page.LONG else '.4g'), name)
            for value, form, name in (
                (loss, '.3f', 'held-out loss, nats'),
                (run.last('eval/perplexity'), ',.2f', 'held-out perplexity'),
                (better, '+.2f', 'nats better than the unigram'),
                (run.step, ',', f'of {steps:,} steps'),
                (run.last('train/epoch'), '.2f', 'epochs'),
                (run.last('train/tokens_per_second'), ',.0f',
                 'tokens a second at the end'),
                (run.last('train/mfu'), '.1%', 'MFU at the end'),
                (run.last('train/goodput'), '.1%', 'goodput'))
            if value is not None]
  return ''.join(f'<p class="note">{escape(x)}</p>' for x in lines) + (
      page.tiles_html(tiles))


def _score_html(run: RunLog) -> str:
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
    said = ''  # Another version wrote it; the table below has all of it.
  return (html + (f'<p>{escape(said)}</p>' if said else '')
          + page.folded_html('results.json', Table(('key', 'value'), [
              (key, str(value)) for key, value in found.items()]).html))


def _seconds_html(run: RunLog) -> str:
  seconds = [(_KINDS[kind], run.total(f'train/{kind}_seconds'))
             for kind in KINDS if f'train/{kind}_seconds' in run.metrics]
  if not seconds:
    return ''
  lines = ['Sums over the lines of metrics.jsonl: what a kill undid is not '
           'among them.']
  if (goodput := run.last('train/goodput')) is not None:
    lines.append(f'Goodput {goodput:.1%}: the share of all seconds since the '
                 'run first began, kills and pauses included, that went into '
                 'steps that count.')
  return (page.bar_figure('Seconds up to the last logged step', 's', seconds)
          + f'<p class="note">{" ".join(lines)}</p>')


def _corpora_html(run: RunLog) -> str:
  if run.config.task != 'pretrain' or not run.eval_sets:
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
      + 'The unigram knows only how frequent each token is.').html


def _config_html(run: RunLog) -> str:
  differing = Table(('key', 'value', 'default'), [
      (key, *map(_config_value, pair)) for key, pair in run.changed.items()])
  rest = Table(('key', 'value'), [
      (key, _config_value(value)) for key, value in run.keys.items()
      if key not in run.changed])
  return differing.html + page.folded_html(
      f'{len(rest.rows)} keys at their defaults', rest.html)


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


# Comparison of runs: curves, last numbers, keys that differ.

# Last numbers that are compared if any of the runs has them.
NUMBERS = ('eval/loss', 'eval/unigram_loss', 'eval/bits', 'eval/perplexity',
           'eval/accuracy', 'train/loss', 'train/epoch',
           'train/tokens_per_second', 'train/mfu', 'train/goodput')
ABSENT = '(absent)'


def _numbers_table(runs: Sequence[RunLog]) -> Table:
  """A row per run; the last column says which losses can be compared."""
  scored = any(run.results for run in runs)
  keys = [key for key in NUMBERS
          if any(run.last(key) is not None for run in runs)]
  rows = []
  for run, name in zip(runs, run_log.distinct_names(runs)):
    why = '' if run is runs[0] else incomparable(runs[0], run)
    rows.append([name, run.step, run.config.train.steps,
                 *([_run_score(run)] if scored else []),
                 *map(run.last, keys), why or 'yes'])
  return Table(
      ('run', 'step', 'of', *(['score'] if scored else []),
       *(key.replace('eval/', 'held-out ').replace('train/', '').replace(
           '_', ' ') for key in keys), 'losses comparable'), rows)


def _differing_keys(runs: Sequence[RunLog]) -> Table:
  keys = [key for key in dict.fromkeys(k for run in runs for k in run.keys)
          if len({repr(run.keys.get(key, ABSENT)) for run in runs}) > 1]
  return Table(('key', *run_log.distinct_names(runs)), [
      (key, *(_config_value(run.keys.get(key, ABSENT)) for run in runs))
      for key in keys], '' if keys else 'None: the same config.')


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
LONGEST_SHOWN = 32  # Tokens of a sentence that has no words to mask.


@dataclasses.dataclass(frozen=True)
class Samples:
  """The last guesses and the last batch of a run."""
  step: int  # How many updates the weights have had.
  machine: str  # Devices and versions.
  # (held-out text with a mask, the masked word, guesses).
  filled: list[tuple[str, str, list[Filled]]]
  # Some rows of the batch of the last step; None for tasks without masks.
  batch: batches.ShownBatch | None


def gather_samples(config: Config, task: Task, step: int,
                   filled: Sequence[tuple[str, str, list[Filled]]]) -> Samples:
  """Gathers the samples of a run that has ended, whose task is still open."""
  batch = (batches.batch_of(config, task, max(step - 1, 0), SAMPLE_ROWS)
           if hasattr(task, 'pipeline') else None)
  device, hosts = jax.devices()[0], jax.process_count()
  return Samples(
      step, f'{jax.device_count()} x {device.device_kind} ({device.platform}'
      f'{f", {hosts} processes" if hosts > 1 else ""}), jax {jax.__version__}',
      list(filled), batch)


def save_samples(workdir: str, samples: Samples) -> str:
  """Writes W/samples.json, whole or not at all, and returns its path."""
  batch = samples.batch
  content = {
      'step': samples.step, 'machine': samples.machine,
      'filled': samples.filled, 'batch': batch and {
          'rows': batch.rows, 'statistics': batch.statistics,
          'marked': batch.marked, 'special_tokens': batch.special_tokens}}
  path = f'{workdir}/{SAMPLES}'
  with writing(path):
    # JSON escapes to ASCII, since stray bytes are surrogates.
    files.write_text(path, json.dumps(plain_values(content)))
  return path


def load_samples(workdir: str) -> Samples | None:
  """Reads W/samples.json, if there is one; InputError if it is damaged."""
  path = f'{workdir}/{SAMPLES}'
  if not files.exists(path):
    return None
  with reading(path, 'not what a run has kept for its report',
               '. Rename it: the report does without.'):
    content = files.read_json(path)
    batch = content['batch'] and batches.ShownBatch(
        content['batch']['rows'], content['batch']['statistics'],
        [[Marked([Piece(*part) for part in before],
                 [Piece(*part) for part in after], *plain)
          for before, after, *plain in row]
         for row in content['batch']['marked']],
        tuple(content['batch']['special_tokens']))
    samples = Samples(
        int(content['step']), str(content['machine']),
        [(str(text), str(word), [Filled(str(g[0]), float(g[1]), str(g[2]))
                                 for g in guesses])
         for text, word, guesses in content['filled']], batch)
    samples_html(samples)  # This raises whatever is wrong with them.
    return samples


def samples_html(samples: Samples) -> tuple[str, str]:
  """(guesses, batch) as HTML; '' for what is missing."""
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


# The end of a run: guesses, a picture, a report, and what to do next.

def last_words(run: Run, command: str) -> str:
  """Writes an ended run's pictures and report; returns the text to print.

  If one of these cannot be made, a line on stderr says so: the run is saved.
  `command` is what the user typed and may type again.
  """
  folder = run.workdir
  if run.signal:
    return (f'Stopped by {signal.Signals(run.signal).name} at step {run.step}, '
            f'which is saved. To go on:\n  {command}')
  made = {
      SAMPLES: lambda: '\n'.join(_guesses(run)),
      'learning_curve.png': lambda: (
          f'Learning curve: {page.learning_curve(folder)}'),
      REPORT: lambda: f'Report: {write_report(folder)}'}
  following, lines = True, []
  if run.results:
    lines, following = [describe_results(run.results)], False
    made = {REPORT: made[REPORT]}
  elif files.exists(path := f'{folder}/{RESULTS}'):
    lines, following = [f'{folder} is done, nothing was changed.'], ''
    made = {f'what {path} says': lambda: describe_results(
        files.read_json(path))}
  elif not run.trained:
    lines, made = [f'{folder} is done: all {run.step} steps are there, nothing '
                   'was changed.'], {}
  for name, make in made.items():
    with beside(f'the run is done and saved, but without {name}'):
      lines.append(make())
  return '\n'.join(filter(None, [
      *lines, following and _next_words(folder)]))


def _next_words(folder: str) -> str:
  """Shows how to ask the model, about text of the run's own."""
  ask = 'model.encode([...])'
  with contextlib.suppress(InputError):
    if (kept := load_samples(folder)) and kept.filled:
      ask = f'model.fill_mask({" ".join(kept.filled[0][0].split())!r})'
  return (f'Next, from a Python prompt:\n  import robertax; model = '
          f'robertax.load({folder!r})\n  {ask}')


def _guesses(run: Run) -> list[str]:
  filled = fill_examples(opening.load(run.workdir), run.task.heldout_ids(3))
  lines = ['Words guessed in text held out from training:'] * bool(filled)
  for text, word, guesses in filled:
    said = ', '.join(f'{g.token.strip()!r} {g.probability:.0%}'
                     for g in guesses)
    lines += [f'  {" ".join(text.split())}',
              f'    guessed {said}; it was {word!r}']
  save_samples(run.workdir, gather_samples(
      workdirs.read_config(run.workdir), run.task, run.step, filled))
  return lines


def fill_examples(model: Model, rows: Sequence[np.ndarray]
                  ) -> list[tuple[str, str, list[Filled]]]:
  """Masks one word in each row of held-out ids and guesses it.

  It takes the sentence whose length is nearest to 16 tokens, and the middle one
  of its tokens that are whole words; where no sentence has one, as in proteins
  or text without spaces, any token in the middle of one. The result is
  (sentence with <mask>, the masked word, guesses) for each row of a sentence.
  """
  tok, examples = model.tokenizer, []
  for row in rows:
    ends = np.flatnonzero(np.isin(row, (tok.bos_id, tok.eos_id)))
    sentences = sorted((s for s in np.split(row, ends + 1) if len(s) >= 8),
                       key=lambda s: abs(len(s) - 16))
    sentences = [s[~np.isin(s, tok.special_ids)][:model.config.max_positions
                                                 - 2] for s in sentences]
    for ids, maskable in [*((s, _is_word) for s in sentences),
                          *((s[:LONGEST_SHOWN], _is_text)
                            for s in sentences[:1])]:
      pieces = [tok.token_text(i) for i in ids]
      words = [i for i in range(1, len(ids) - 1) if maskable(pieces, i)]
      if words:
        place = words[len(words) // 2]
        tail = tok.decode(ids[place + 1:])
        if tok.follows_space(ids[place + 1]) and not tail.startswith(' '):
          tail = f' {tail}'
        space = ' ' * pieces[place].startswith(' ')
        sentence = f'{tok.decode(ids[:place])}{space}{MASK}{tail}'
        examples.append((sentence, pieces[place].strip(),
                         model.fill_mask(sentence, 3)))
        break
  return examples


def _is_word(pieces: Sequence[str], i: int) -> bool:
  return (pieces[i].startswith(' ') and pieces[i].strip().isalpha()
          and len(pieces[i]) > 3 and not pieces[i + 1][:1].isalpha())


def _is_text(pieces: Sequence[str], i: int) -> bool:
  """Whether neither this piece nor those beside it are bytes of a letter."""
  return bool(pieces[i].strip()) and not any(
      '\\x' in piece for piece in pieces[i - 1:i + 2])
