"""train.profile_steps: an xprof trace of a few steps.

`xprof W` or TensorBoard with its profile plugin finds it below
W/plugins/profile.
"""

import sys

import jax

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
    self._running = False

  def step(self, number: int) -> jax.profiler.StepTraceAnnotation:
    """A context around a step, under whose name it stands in the trace."""
    if self._steps and number == self._steps[0]:
      jax.profiler.start_trace(self._folder)
      self._running = True
    return jax.profiler.StepTraceAnnotation('train', step_num=number)

  def done(self, number: int, result: jax.typing.ArrayLike):
    """Ends the trace behind its last step, when `result` is there."""
    if self._running and number == self._steps[1]:
      jax.block_until_ready(result)
      self.close()

  def close(self):
    """Writes what has been traced."""
    if self._running:
      self._running = False
      jax.profiler.stop_trace()
      print(f'steps {self._steps[0]} to {self._steps[1]} are traced: xprof '
            f'{self._folder}', file=sys.stderr)
