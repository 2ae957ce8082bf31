"""Optimizers and learning-rate schedules, each a row of a table."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from robertax.sections import unknown
from robertax.train.config import OptimConfig


def linear(config: OptimConfig, steps: int) -> optax.Schedule:
  """Linear warm-up from 0 to the peak, then linear decay to 0 at `steps`.

  The first update uses rate 0, as in fairseq
  (optim/lr_scheduler/polynomial_decay_schedule.py:74-89, trainer.py:382).
  """
  return optax.join_schedules(
      [optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps),
       optax.linear_schedule(config.learning_rate, 0.0,
                             max(1, steps - config.warmup_steps))],
      [config.warmup_steps])


def constant(config: OptimConfig, steps: int) -> optax.Schedule:
  """Linear warm-up from 0 to the peak, which then stays."""
  del steps
  return optax.join_schedules(
      [optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps),
       optax.constant_schedule(config.learning_rate)], [config.warmup_steps])


def is_matrix(path: tuple[Any, ...]) -> bool:
  """Whether a parameter decays under `weight_decay_on='matrices'`."""
  names = [str(getattr(k, 'key', k)) for k in path]
  return names[-1] != 'bias' and not any('norm' in n for n in names)


DECAY_MASKS: dict[str, Callable[[Any], Any]] = {
    'all': lambda params: jax.tree.map(lambda _: True, params),
    'matrices': lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: is_matrix(path), params),
}


def adamw(config: OptimConfig,
          schedule: optax.Schedule) -> optax.GradientTransformation:
  """AdamW (Loshchilov & Hutter 2019) with the paper's b2 .98 by default."""
  if config.weight_decay_on not in DECAY_MASKS:
    raise unknown('optim.weight_decay_on', config.weight_decay_on, DECAY_MASKS)
  return optax.adamw(
      schedule, b1=config.b1, b2=config.b2, eps=config.eps,
      weight_decay=config.weight_decay,
      mask=DECAY_MASKS[config.weight_decay_on])


SCHEDULES = {'linear': linear, 'constant': constant}
OPTIMIZERS = {'adamw': adamw}


def create(config: OptimConfig, steps: int
           ) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """The transform, and the schedule (a function of updates already done).

  Raises:
    InputError: an unknown optimizer, schedule or decay mask.
  """
  if config.name not in OPTIMIZERS:
    raise unknown('optim.name', config.name, OPTIMIZERS)
  if config.schedule not in SCHEDULES:
    raise unknown('optim.schedule', config.schedule, SCHEDULES)
  schedule = SCHEDULES[config.schedule](config, steps)
  tx = OPTIMIZERS[config.name](config, schedule)
  if config.clip_norm:
    tx = optax.chain(optax.clip_by_global_norm(config.clip_norm), tx)
  return tx, schedule
