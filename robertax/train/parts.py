"""The numbers of a logged step, and where the seconds before it went."""

from collections.abc import Callable

import jax
import numpy as np

from robertax.train.clock import Clock
from robertax.train.divergence import Judge

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
