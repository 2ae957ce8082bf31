"""train.profile_steps: an xprof trace of a few steps.

`xprof W` or TensorBoard with its profile plugin finds it below
W/plugins/profile.
"""

import os
import sys
import tempfile

import jax

from robertax import files
from robertax.errors import InputError


def profiled(text: str) -> tuple[int, int] | None:
  """The first and the last step of a trace.

  >>> profiled('100-105'), profiled('7'), profiled('')
  ((100, 105), (7, 7), None)

  Raises:
    InputError: it is neither FIRST-LAST nor a step.
  """
  if not text:
    return None
  first, dash, last = text.partition('-')
  try:
    steps = int(first), int(last if dash else first)
    if not 1 <= steps[0] <= steps[1]:
      raise ValueError
  except ValueError as e:
    raise InputError(f'train.profile_steps={text!r}: FIRST-LAST, such as '
                     '100-105, or one step.') from e
  return steps


class Trace:
  """Traces the steps from the first to the last."""

  def __init__(self, workdir: str, steps: str, write: bool = True):
    """Nothing is traced yet.

    Args:
      workdir: W.
      steps: train.profile_steps.
      write: whether this process keeps a trace.
    """
    self._folder = workdir
    self._steps = profiled(steps) if write else None
    self._running, self._here = False, None

  def step(self, number: int) -> jax.profiler.StepTraceAnnotation:
    """A context around a step, under whose name it stands in the trace."""
    if self._steps and number == self._steps[0]:
      if files.is_remote(self._folder):
        # XLA's profiler knows few storages, and those by credentials of its
        # own: what it writes is brought there when it is whole.
        self._here = tempfile.TemporaryDirectory(prefix='robertax-trace-')
      jax.profiler.start_trace(self._here.name if self._here else self._folder)
      self._running = True
    return jax.profiler.StepTraceAnnotation('train', step_num=number)

  def done(self, number: int, result: jax.typing.ArrayLike):
    """Ends the trace behind its last step, when `result` is there."""
    if self._running and number == self._steps[1]:
      jax.block_until_ready(result)
      self.close()

  def close(self):
    """Writes what has been traced; what a storage does not take is said."""
    if not self._running:
      return
    self._running = False
    jax.profiler.stop_trace()
    traced = f'steps {self._steps[0]} to {self._steps[1]} are traced'
    try:
      if self._here:
        self._bring()
      print(f'{traced}: xprof {self._folder}', file=sys.stderr)
    except OSError as e:
      print(f'{traced}, but this cannot be written to {self._folder}: {e}',
            file=sys.stderr)

  def _bring(self):
    with self._here as here:
      for folder, _, names in os.walk(here):
        target = files.join(self._folder, os.path.relpath(folder, here))
        if names:
          files.makedirs(target)
        for name in names:
          files.copy(os.path.join(folder, name), files.join(target, name))
