"""Learning-rate schedules, each a row of a table.

A schedule is a function of the updates already done, so the first update uses
its value at 0.
"""

from collections.abc import Callable
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from robertax.config import OptimConfig


def linear(config: OptimConfig, steps: int) -> optax.Schedule:
  """Linear warm-up from 0 to the peak, then linear decay to the end rate.

  The first update uses rate 0, as in fairseq
  (optim/lr_scheduler/polynomial_decay_schedule.py:74-89, trainer.py:382).
  """
  return _warmed_up(config, optax.linear_schedule(
      config.learning_rate, config.end_learning_rate, _rest(config, steps)))


def bert(config: OptimConfig, steps: int) -> optax.Schedule:
  """BERT's (google-research/bert optimization.py:32-54): the decay runs from
  the first update on, so that the rate falls by a step where warm-up ends.
  """
  def schedule(count):
    decayed = optax.polynomial_schedule(
        config.learning_rate, config.end_learning_rate, 1.0, steps)(count)
    warm = config.learning_rate * count / max(config.warmup_steps, 1)
    return jnp.where(count < config.warmup_steps, warm, decayed)
  return schedule


def polynomial(config: OptimConfig, steps: int) -> optax.Schedule:
  """As `linear`, the rest of the way to the power `power`."""
  return _warmed_up(config, optax.polynomial_schedule(
      config.learning_rate, config.end_learning_rate, config.power,
      _rest(config, steps)))


def cosine(config: OptimConfig, steps: int) -> optax.Schedule:
  """Linear warm-up, then half a cosine to the end rate."""
  def half(count):
    done = jnp.clip(count / _rest(config, steps), 0, 1)
    return config.end_learning_rate + (
        config.learning_rate - config.end_learning_rate) * (
            1 + jnp.cos(math.pi * done)) / 2
  return _warmed_up(config, half)


def inverse_sqrt(config: OptimConfig, steps: int) -> optax.Schedule:
  """Linear warm-up, then peak x sqrt(warm-up / updates done)."""
  del steps
  warmup = max(config.warmup_steps, 1)
  return _warmed_up(config, lambda count: config.learning_rate * jnp.sqrt(
      # join_schedules asks for what stands before the boundary too.
      warmup / jnp.maximum(count + warmup, 1)))


def constant(config: OptimConfig, steps: int) -> optax.Schedule:
  """Linear warm-up from 0 to the peak, which then stays."""
  del steps
  return _warmed_up(config, optax.constant_schedule(config.learning_rate))


def _rest(config, steps):
  return max(1, steps - config.warmup_steps)


def _warmed_up(config, then):
  return optax.join_schedules(
      [optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps),
       then], [config.warmup_steps])


def rates(schedule: optax.Schedule, steps: int) -> np.ndarray:
  """float32[steps]: the learning rate of each update, on the host.

  All at once: asked on a device step by step, each would wait behind the
  updates under way.
  """
  found = jax.jit(schedule)(jnp.arange(steps))
  return np.asarray(jnp.broadcast_to(found, (steps,)), np.float32)


SCHEDULES: dict[str, Callable[[OptimConfig, int], optax.Schedule]] = {
    'bert': bert, 'constant': constant, 'cosine': cosine,
    'inverse_sqrt': inverse_sqrt, 'linear': linear, 'polynomial': polynomial}
