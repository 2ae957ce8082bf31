"""Which steps of W/best are of the run, as its metrics.jsonl tells it.

metrics.jsonl is what is known of a run: it is cut back to the checkpoint that a
start goes on from, and a line is written once. So it is the index of W/best
too. A step of W/best counts where a line says how it was evaluated; any other
is of a future that was given up, or its line was not yet written when the run
was killed. This holds for as long as no line is written of a step of which
W/best has other weights: train.best takes those out of sight before the first.
"""

import math
from typing import Any

from robertax import files
from robertax.errors import InputError
from robertax.train.checkpoint import finished_step
from robertax.train.step_folders import saved_steps
from robertax.train.writer import read_lines

FOLDER = 'best'


def evaluations(workdir: str, metric: str, last: int) -> dict[int, float]:
  """Step -> value, of a run's evaluations up to a step; 0 is none.

  Args:
    workdir: W.
    metric: the key of metrics.jsonl.
    last: lines behind it do not count.

  Raises:
    InputError: a line is damaged.
  """
  path = f'{workdir}/metrics.jsonl'
  if not files.exists(path):
    return {}
  return {line['step']: line[metric] for _, line in read_lines(path)
          if 0 < line['step'] <= last and is_value(line.get(metric))}


def is_value(value: Any) -> bool:
  """Whether it says how good the weights are: NaN and null do not."""
  return isinstance(value, (int, float)) and math.isfinite(value)


def weights(workdir: str) -> tuple[str, int | None]:
  """The weights that others take of a run: its best, else its newest.

  Looks only, makes no folder.

  Args:
    workdir: W.

  Returns:
    The folder in W, and the step; None: there are none.

  Raises:
    InputError: a line of metrics.jsonl is damaged, or every checkpoint.
  """
  if best := _best(workdir):
    return FOLDER, best
  return 'checkpoints', finished_step(workdir)


def _best(workdir: str) -> int:
  """The newest of W/best that counts, which is the best of them; 0: none."""
  kept = saved_steps(f'{workdir}/{FOLDER}')
  path = f'{workdir}/metrics.jsonl'
  if not kept or not files.exists(path):  # Someone has copied weights alone.
    return max(kept, default=0)
  lines = [line for _, line in read_lines(path)]
  evaluated = {line['step'] for line in lines if any(
      name.startswith('eval/') and is_value(value)
      for name, value in line.items())}
  counts = [step for step in kept if step in evaluated]
  if not counts and not files.isdir(f'{workdir}/checkpoints'):
    # A sweep has removed them at the end of its run, none of whose evaluations
    # may have had a value: then the last weights are kept.
    counts = [step for step in kept if lines and step == lines[-1]['step']]
  return max(counts, default=0)


def step_taken(workdir: str) -> int | None:
  """The step of `weights`; None: there is none, or it cannot be told."""
  try:
    return weights(workdir)[1]
  except (InputError, OSError):
    return None
