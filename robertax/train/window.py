"""The numbers of a logged step, and the rate since the one before it."""

from collections.abc import Callable
import time

import jax
import numpy as np


class Window:
  """Steps since the last logged one: their tokens and their seconds."""

  def __init__(self, describe: Callable[[int, dict[str, float]],
                                        dict[str, float]], run_ahead: int):
    """Begins.

    Args:
      describe: the task's, from a step and its sums to its metrics.
      run_ahead: steps that may be under way behind the newest one. Without a
        bound, batches pile up on the devices where the host is faster.
    """
    self._describe, self._run_ahead = describe, run_ahead
    self.restart()

  def add(self, sums: dict[str, jax.Array]):
    """Notes a step; waits for the one `run_ahead` steps before it."""
    self._sums.append(sums)
    if len(self._sums) > self._run_ahead:
      jax.block_until_ready(self._sums[-1 - self._run_ahead])

  def restart(self):
    """Begins anew: seconds of evaluating and saving are no step's."""
    self._sums, self._begun = [], time.perf_counter()

  def close(self, step: int, learning_rate: float
            ) -> dict[str, float | None]:
    """Waits for the last step noted.

    Args:
      step: its number; the first is 1.
      learning_rate: of that step.

    Returns:
      `train/...`: what the task says of that step's sums, its learning rate and
      gradient norm; the window's tokens (without padding) a second; mfu, None.
    """
    sums = jax.device_get(self._sums)
    seconds = time.perf_counter() - self._begun
    tokens = float(np.sum([s['token_sum'] for s in sums], dtype=np.float64))
    last = {name: float(value) for name, value in sums[-1].items()}
    self.restart()
    metrics = self._describe(step, last) | {
        'learning_rate': learning_rate,
        'tokens_per_second': tokens / seconds,
        'gradient_norm': last['gradient_norm'], 'mfu': None}
    return {f'train/{name}': value for name, value in metrics.items()}
