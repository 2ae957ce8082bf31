"""The numbers of a logged step."""

import types

import jax.numpy as jnp
import pytest

from robertax.train import window
from robertax.train.window import Window


def test_the_last_step_is_described_and_the_window_timed(monkeypatch):
  clock = iter([100.0, 104.0, 104.5, 110.0, 112.5, 113.0])
  # In the room's place only: others may read the clock meanwhile.
  monkeypatch.setattr(window, 'time', types.SimpleNamespace(
      perf_counter=lambda: next(clock)))

  def describe(step, sums):
    assert all(type(value) is float for value in sums.values())
    return {'loss': sums['loss_sum'] / 2, 'epoch/a': step / 10}

  steps = Window(describe, run_ahead=2)  # At 100.
  for number in range(1, 4):
    steps.add({'loss_sum': jnp.float32(number), 'token_sum': jnp.float32(20),
               'gradient_norm': jnp.float32(number / 4)})
  assert steps.close(3, 0.5) == {  # At 104; the next one begins at 104.5.
      'train/loss': 1.5, 'train/epoch/a': 0.3, 'train/learning_rate': 0.5,
      'train/tokens_per_second': 60 / 4, 'train/gradient_norm': 0.75,
      'train/mfu': None}
  steps.restart()  # At 110: what was between is no step's.
  steps.add({'loss_sum': jnp.float32(8), 'token_sum': jnp.float32(5),
             'gradient_norm': jnp.float32(0)})
  again = steps.close(4, 0.25)  # At 112.5.
  assert again['train/tokens_per_second'] == pytest.approx(5 / 2.5)
  assert again['train/loss'] == 4.0
