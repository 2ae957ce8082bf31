"""The numbers of a logged step, and the rate since the one before it."""

import time

import jax
import numpy as np


class Window:
  """Steps since the last logged one: their tokens and their seconds."""

  def __init__(self, run_ahead: int):
    """Begins.

    Args:
      run_ahead: steps that may be under way behind the newest one. Without a
        bound, batches pile up on the devices where the host is faster.
    """
    self._run_ahead = run_ahead
    self.restart()

  def add(self, sums: dict[str, jax.Array]):
    """Notes a step; waits for the one `run_ahead` steps before it."""
    self._sums.append(sums)
    if len(self._sums) > self._run_ahead:
      jax.block_until_ready(self._sums[-1 - self._run_ahead])

  def restart(self):
    """Begins anew: seconds of evaluating and saving are no step's."""
    self._sums, self._begun = [], time.perf_counter()

  def close(self, learning_rate: float) -> dict[str, float | None]:
    """Waits for the last step noted.

    Args:
      learning_rate: of that step.

    Returns:
      That step's own loss in nats, accuracy, rate, masked tokens and gradient
      norm; the window's tokens (without padding) a second; train/mfu, None.
    """
    sums = jax.device_get(self._sums)
    seconds = time.perf_counter() - self._begun
    last = sums[-1]
    weight = max(float(last['weight_sum']), 1.0)
    tokens = float(np.sum([s['token_sum'] for s in sums], dtype=np.float64))
    self.restart()
    return {'train/loss': float(last['loss_sum']) / weight,
            'train/accuracy': float(last['correct_sum']) / weight,
            'train/learning_rate': learning_rate,
            'train/masked_tokens': int(last['weight_sum']),
            'train/tokens_per_second': tokens / seconds,
            'train/gradient_norm': float(last['gradient_norm']),
            'train/mfu': None}
