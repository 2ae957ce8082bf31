"""The numbers of a logged step, and where the seconds before it went."""

from collections import deque
from collections.abc import Callable
import os
import signal
import sys
import tempfile

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from robertax import files
from robertax.config import Config
from robertax.errors import InputError
from robertax.model.roberta import training_flops
from robertax.parallel import chips
from robertax.train.clock import Clock
from robertax.train.divergence import Judge

# train.profile_steps: an xprof trace of a few steps.
#
# `xprof W` or TensorBoard with its profile plugin finds it below
# W/plugins/profile.


def profiled_steps(text: str) -> tuple[int, int] | None:
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
    self._steps = profiled_steps(steps) if write else None
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


# Ctrl-C and SIGTERM: finish the step, save, say how to go on.


class Interruption:
  """Turns the first SIGINT or SIGTERM into a wish that the loop asks for.

  A second one of the same kind acts as it would without this class. Where
  several processes share the run, a signal to one of them is a wish of all.

  Attributes:
    requested: number of the signal that came; 0: none yet.
  """

  SIGNALS = (signal.SIGINT, signal.SIGTERM)

  def __init__(self, mesh: jax.sharding.Mesh | None = None,
               run_ahead: int = 0):
    """No signal yet.

    Args:
      mesh: of the run; None: of this process alone.
      run_ahead: as Window's: what is agreed on is known so many steps later,
        so that no step waits for it.
    """
    self.requested = 0
    self._before = {}
    self._mesh, self._run_ahead = mesh, run_ahead
    self._asked = deque()
    if mesh is not None and jax.process_count() > 1:
      self._flags = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
      self._largest = jax.jit(
          lambda flags: flags.max(),
          out_shardings=NamedSharding(mesh, PartitionSpec()))
    else:
      self._largest = None

  def __enter__(self) -> 'Interruption':
    try:
      for number in self.SIGNALS:
        self._before[number] = signal.signal(number, self._ask)
    except ValueError:
      # Python lets only the main thread set handlers; called from another
      # (a notebook's worker), the run goes without.
      self._before.clear()
    return self

  def __exit__(self, *unused):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def agreed(self) -> int:
    """The signal that all processes act on at this step; 0: none.

    Each calls it once a step, after that step is under way. Over several
    processes it is the largest of their `requested`, of `run_ahead` calls
    before: an all-reduce of one number, behind the step's own.
    """
    if self._largest is None:
      return self.requested
    wish = np.full(1, self.requested, np.int32)
    self._asked.append(self._largest(jax.make_array_from_callback(
        (self._mesh.size,), self._flags, lambda index: wish)))
    if len(self._asked) <= self._run_ahead:
      return 0
    return int(self._asked.popleft())

  def _ask(self, number: int, frame):
    del frame
    self.requested = number
    signal.signal(number, self._before[number])
    print(f'\n{signal.Signals(number).name}: finishing this step, then saving '
          '(once more: stop at once, unsaved).', file=sys.stderr, flush=True)


NORMS = ('gradient_norm', 'update_norm', 'parameter_norm')


class Window:
  """Steps since the last logged one: their tokens and their seconds."""

  def __init__(self, describe: Callable[[int, dict[str, float]],
                                        dict[str, float]], run_ahead: int,
               clock: Clock,
               utilization: Callable[[int, dict[str, float], float],
                                     float | None],
               judge: Judge):
    """Begins.

    Args:
      describe: the task's, from a step and its sums to its metrics.
      run_ahead: steps that may be under way behind the newest one. Without a
        bound, batches pile up on the devices where the host is faster.
      clock: of the run.
      utilization: from a step, sums of the window and its seconds to mfu.
      judge: looks at each step when it is done.
    """
    self._describe, self._run_ahead = describe, run_ahead
    self._clock, self._utilization = clock, utilization
    self._judge = judge
    self._sums = []

  def add(self, step: int, sums: dict[str, jax.Array]):
    """Notes a step; waits for the one `run_ahead` steps before it.

    Raises:
      Diverged: that one did.
    """
    self._judge.add(step, sums)
    self._sums.append(sums)
    self._judge.look(self._run_ahead)

  def settle(self):
    """Waits for the newest step: its seconds are of no evaluation or save.

    Raises:
      Diverged: nothing of it may be saved.
    """
    jax.block_until_ready(self._sums[-1:])
    self._judge.look()

  def close(self, step: int, learning_rate: float
            ) -> dict[str, float | None]:
    """Waits for the last step noted.

    Args:
      step: its number; the first is 1.
      learning_rate: of that step.

    Returns:
      `train/...`: what the task says of that step's sums, its learning rate and
      norms; of the window, the updates that were skipped, the tokens (without
      padding) a second of steps and of waiting for batches, mfu (of the same
      seconds; None: not known), and its seconds of each kind, which add up to
      those that have passed since the last window was closed.

    Raises:
      Diverged: one of the window's steps did.
    """
    self._judge.look()
    sums = jax.device_get(self._sums)
    self._sums = []
    lap = self._clock.lap()
    seconds = max(lap['step'] + lap['input_wait'], 1e-9)
    last = {name: float(value) for name, value in sums[-1].items()}
    total = {name: float(np.sum([s[name] for s in sums], dtype=np.float64))
             for name in last}
    metrics = self._describe(step, last) | {
        'learning_rate': learning_rate,
        'tokens_per_second': total['token_sum'] / seconds,
        **{name: last[name] for name in NORMS},
        'mfu': self._utilization(step, total, seconds)}
    metrics |= self._judge.metrics()
    metrics |= {f'{kind}_seconds': spent for kind, spent in lap.items()}
    return {f'train/{name}': value for name, value in metrics.items()}


# MFU: the model's own arithmetic over what the devices' data sheet allows.


class Utilization:
  """Model FLOP/s of a run over the peak of its devices.

  Only real tokens and real targets count, forward and backward; what is
  computed again to save memory does not.
  """

  def __init__(self, config: Config, devices: list[jax.Device]):
    """Looks the devices up.

    Args:
      config: of the run, the model's vocabulary filled in.
      devices: of the whole mesh.
    """
    self._config = config
    chip = chips.chip_of(devices[0].device_kind)
    self._peak = chip.flops * len(devices) if chip else None

  def __call__(self, step: int, sums: dict[str, float], seconds: float
               ) -> float | None:
    """From 0 to 1; None where no peak is known (a CPU).

    Args:
      step: whose length of rows is taken for all.
      sums: of some steps: token_sum, and weight_sum, the masked tokens.
      seconds: that those steps took.
    """
    if not self._peak:
      return None
    data = self._config.data
    length = (data.first_sequence_length if step <= data.first_sequence_steps
              else data.sequence_length)
    targets = (sums['weight_sum'] if self._config.task == 'pretrain' else 0)
    return (training_flops(self._config.model, sums['token_sum'], targets,
                           length) / seconds / self._peak)
