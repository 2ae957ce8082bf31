"""The numbers of a logged step."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from robertax.config import OptimConfig
from robertax.train import clock as clocks
from robertax.train.clock import Clock, LogWindow
from robertax.train.divergence import Judge


def sums_of(number, tokens, norm):
  return {'loss_sum': jnp.float32(number), 'token_sum': jnp.float32(tokens),
          'objective': jnp.float32(number), 'gradient_norm': jnp.float32(norm),
          'gradient_norms': np.float32([norm, 0]),
          'update_norm': jnp.float32(0.5), 'parameter_norm': jnp.float32(9)}


def test_the_last_step_is_described_and_the_window_timed(monkeypatch):
  now = types.SimpleNamespace(seconds=100.0)
  # In the room's place only: others may read the clock meanwhile.
  monkeypatch.setattr(clocks, 'time', types.SimpleNamespace(
      perf_counter=lambda: now.seconds, time=lambda: now.seconds))

  def describe(step, sums):
    assert all(type(value) is float for value in sums.values())
    return {'loss': sums['loss_sum'] / 2, 'epoch/a': step / 10}

  def utilization(step, sums, seconds):
    assert (step, sums['token_sum'], sums['loss_sum'], seconds) in (
        (3, 60, 6, 5), (4, 5, 8, 2.5))
    return 0.5 if step == 3 else None

  clock = Clock()
  steps = LogWindow(describe, 2, clock, utilization, Judge(
      OptimConfig(on_divergence='skip'), {'a': 0, 'b': 0}))
  clock.turn('step')
  for number in range(1, 4):
    steps.add(number, sums_of(number, 20, number / 4))
  now.seconds += 4
  with clock.at('input_wait'):
    now.seconds += 1
  with clock.at('checkpoint'):  # No step's: tokens a second leave it out.
    now.seconds += 10
  assert steps.close(3, 0.5) == {
      'train/loss': 1.5, 'train/epoch/a': 0.3, 'train/learning_rate': 0.5,
      'train/tokens_per_second': 60 / 5, 'train/gradient_norm': 0.75,
      'train/update_norm': 0.5, 'train/parameter_norm': 9.0,
      'train/skipped_steps': 0,
      'train/mfu': 0.5, 'train/start_seconds': 0, 'train/step_seconds': 4,
      'train/input_wait_seconds': 1, 'train/checkpoint_seconds': 10,
      'train/evaluation_seconds': 0}
  now.seconds += 2.5
  steps.add(4, sums_of(8, 5, 0))
  again = steps.close(4, 0.25)
  assert again['train/tokens_per_second'] == pytest.approx(5 / 2.5)
  assert again['train/loss'] == 4.0 and again['train/mfu'] is None
