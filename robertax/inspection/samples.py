"""W/samples.json: what a run said and saw last, kept for its report.

Guessing takes the weights, and a batch takes the records; a report is made from
files alone, in a second, also where neither is any more.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from html import escape
import json
from typing import Any

import jax

from robertax import paths
from robertax.errors import InputError, writing
from robertax.inspection import batch_view, batches
from robertax.inspection.fill_mask import Filled
from robertax.inspection.marked_text import Marked, Part, visible
from robertax.tasks.task import plain_values

SAMPLES = 'samples.json'
ROWS = 2  # Of a batch; a row has up to 512 tokens.


@dataclasses.dataclass(frozen=True)
class Samples:
  """What was kept.

  Attributes:
    step: updates that the weights have seen.
    machine: devices and versions.
    filled: (text with a mask, what stood there, guesses), held-out text.
    batch: some rows of the batch of the last step; None: a task without masks.
  """
  step: int
  machine: str
  filled: list[tuple[str, str, list[Filled]]]
  batch: batches.Batch | None


def gather(config: Any, task: Any, step: int,
           filled: Sequence[tuple[str, str, list[Filled]]]) -> Samples:
  """What is to be kept of a run that has ended.

  Args:
    config: of the run.
    task: the task object, its data open.
    step: updates done.
    filled: from heldout.fill_examples.
  """
  batch = (batches.batch_of(config, task, max(step - 1, 0), ROWS)
           if hasattr(task, 'pipeline') else None)
  device, hosts = jax.devices()[0], jax.process_count()
  return Samples(
      step, f'{jax.device_count()} x {device.device_kind} ({device.platform}'
      f'{f", {hosts} processes" if hosts > 1 else ""}), jax {jax.__version__}',
      list(filled), batch)


def save(workdir: str, samples: Samples) -> str:
  """Writes W/samples.json, whole or not at all.

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
    paths.write_text(path, json.dumps(plain_values(content)))
  return path


def load(workdir: str) -> Samples | None:
  """What W/samples.json holds; None where there is none.

  Raises:
    InputError: it is damaged.
  """
  path = f'{workdir}/{SAMPLES}'
  if not paths.exists(path):
    return None
  try:
    with paths.open(path) as f:
      content = json.load(f)
    batch = content['batch'] and batches.Batch(
        content['batch']['rows'], content['batch']['statistics'],
        [[_marked(*segment) for segment in row]
         for row in content['batch']['marked']],
        tuple(content['batch']['special_tokens']))
    samples = Samples(
        int(content['step']), str(content['machine']),
        [(str(text), str(word), [Filled(str(g[0]), float(g[1]), str(g[2]))
                                 for g in guesses])
         for text, word, guesses in content['filled']], batch)
    _ = html(samples)  # All that is wrong is seen here.
    return samples
  except (OSError, ValueError, TypeError, LookupError, AttributeError) as e:
    raise InputError(f'{path}: not what a run has kept for its report ({e!r}). '
                     'Delete it: the report does without.') from e


def html(samples: Samples) -> tuple[str, str]:
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
  shown = (f'<p>{escape(visible(batch_view.title(batch)))}. '
           f'{batch_view.legend()}.</p>')
  for row, marked in zip(batch.rows, batch.marked):
    shown += f'<h3>{escape(visible(batch_view.heading(row)))}</h3>'
    for segment in marked:
      for name, parts in (('before', segment.before), ('after', segment.after)):
        shown += (f'<div class="text" dir="auto"><small>{name}</small> '
                  f'{"".join(map(batch_view.tagged, parts))}</div>')
  return guesses, shown


def _marked(before, after, plain_before, plain_after) -> Marked:
  return Marked([Part(*part) for part in before],
                [Part(*part) for part in after], plain_before, plain_after)
