"""W/report.html: a run on one page, beside others if any are given."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

import jax

from robertax import model as modelling
from robertax import paths
from robertax.errors import writing
from robertax.inspection import (
    chart,
    comparison,
    curves,
    page,
    run_log,
    samples,
)
from robertax.inspection.run_log import RunLog
from robertax.inspection.table import Table
from robertax.tasks.task import describe_results
from robertax.train.clock import KINDS

REPORT = 'report.html'
_KINDS = {'start': 'preparing, restoring, compiling',
          'input_wait': 'waiting for batches', 'step': 'steps',
          'checkpoint': 'saving', 'evaluation': 'evaluating'}


def write(workdir: str, others: Sequence[str] = (), out: str = '') -> str:
  """Writes a report; reads files alone, no weights and no records.

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
  run = run_log.read(workdir)
  html = report(run, [run_log.read(path) for path in others])
  path = out or f'{workdir}/{REPORT}'
  with writing(path):
    paths.write_text(path, html.encode(
        errors='backslashreplace').decode())
  return path


def report(run: RunLog, others: Sequence[RunLog] = ()) -> str:
  """The page as HTML."""
  kept = samples.load(run.path)
  guesses, batch = samples.html(kept) if kept else ('', '')
  runs = [run, *others]
  return page.page(run.name, _head(run, kept), [
      ('Score', _score(run)),
      ('Curves', page.charts(curves.of_run(run))),
      ('Beside other runs', comparison.html(runs) if others else ''),
      ('Where the seconds went', _seconds(run)),
      ('Text', _corpora(run)),
      ('Words guessed in held-out text', guesses),
      ('A batch, before and after masking', batch),
      ('Final numbers', _final(run)),
      ('What ran', _config(run))])


def _head(run: RunLog, kept: samples.Samples | None) -> str:
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
  facts = []
  if run.results:
    facts.append((_percent(run.results.get('value')),
                  f'{run.results.get("metric")} on {run.results.get("split")}'))
  loss, unigram = run.last('eval/loss'), run.last('eval/unigram_loss')
  if loss is not None:
    facts.append((f'{loss:.3f}', 'held-out loss, nats'))
  if (perplexity := run.last('eval/perplexity')) is not None:
    facts.append((f'{perplexity:,.2f}', 'held-out perplexity'))
  if loss is not None and unigram is not None:
    facts.append((f'{unigram - loss:+.2f}', 'nats better than the unigram'))
  facts.append((f'{run.step:,}', f'of {steps:,} steps'))
  for key, form, name in (
      ('train/epoch', '{:.2f}', 'epochs'),
      ('train/tokens_per_second', '{:,.0f}', 'tokens a second at the end'),
      ('train/mfu', '{:.1%}', 'MFU at the end'),
      ('train/goodput', '{:.1%}', 'goodput')):
    if (value := run.last(key)) is not None:
      facts.append((form.format(value), name))
  return ''.join(f'<p class="note">{escape(x)}</p>' for x in lines) + (
      page.tiles(facts))


def _score(run: RunLog) -> str:
  """Of a fine-tuning run."""
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
          + page.folded('results.json', Table(
              ('key', 'value'),
              [(key, str(value)) for key, value in found.items()]
          )._repr_html_()))


def _seconds(run: RunLog) -> str:
  seconds = [(_KINDS[kind], run.total(f'train/{kind}_seconds'))
             for kind in KINDS if f'train/{kind}_seconds' in run.metrics]
  if not seconds:
    return ''
  html = chart.bars('Seconds up to the last logged step', 's', seconds)
  lines = ['Of the lines that stand in metrics.jsonl: what a kill undid is not '
           'among them.']
  if (goodput := run.last('train/goodput')) is not None:
    lines.append(f'Goodput {goodput:.1%}: the share of all seconds since the '
                 'run first began, kills and pauses included, that went into '
                 'steps that count.')
  return html + f'<p class="note">{" ".join(lines)}</p>'


def _corpora(run: RunLog) -> str:
  if run.config.task != 'pretrain':
    return ''
  rows = []
  for name in run.eval_sets:
    values = [run.last(f'eval/{name}/{key}') for key in (
        'loss', 'unigram_loss', 'perplexity', 'accuracy')]
    passes = run.last(f'train/epoch/{name}')
    if passes is None and len(run.eval_sets) == 1:
      passes = run.last('train/epoch')
    rows.append((name, passes, *values))
  mixture = run.config.data.mixture
  return Table(
      ('corpus', 'epochs', 'held-out loss', 'unigram', 'perplexity',
       'guessed right'), rows,
      (f'Mixed by {mixture}. ' if mixture else '')
      + 'The unigram knows only how frequent each token is.')._repr_html_()


def _final(run: RunLog) -> str:
  rows = [(key, run.last(key)) for key in run.metrics]
  return page.folded(
      f'All {len(rows)} numbers, as logged last',
      Table(('metric', 'value'), rows)._repr_html_())


def _config(run: RunLog) -> str:
  differing = Table(
      ('key', 'value', 'default'),
      [(key, _value(value), _value(default))
       for key, (value, default) in run.changed.items()])
  rest = Table(('key', 'value'), [(key, _value(value))
                                  for key, value in run.keys.items()
                                  if key not in run.changed])
  return (differing._repr_html_() + page.folded(
      f'{len(rest.rows)} keys at their defaults', rest._repr_html_()))


def _parameters(run: RunLog) -> str:
  if not run.config.model.vocab_size:
    return ''
  shapes = jax.eval_shape(lambda: modelling.create(
      run.config.model, jax.random.key(0)))
  count = sum(x.size for x in jax.tree.leaves(shapes))
  return f'{count / 1e6:.2f}M parameters'


def _value(value) -> str:
  return repr(value) if isinstance(value, str) else str(value)


def _percent(value) -> str:
  return f'{value:.2f}' if isinstance(value, int | float) else 'none'


def _date(seconds: float) -> str:
  try:
    return datetime.fromtimestamp(seconds, UTC).strftime('%Y-%m-%d %H:%M UTC')
  except (ValueError, OverflowError, OSError):
    return 'at no known time'
