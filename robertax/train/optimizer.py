"""Learning-rate schedules, the guard against bad updates, and optimizers.

Schedules and optimizers are rows of tables. The learning rate is an argument of
each update: `tx.update(grads, opt_state, params, learning_rate=rate)`; so are
`objective` and `gradient_norm` behind a guard.
"""

from collections.abc import Callable
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from robertax.config import Config, OptimConfig
from robertax.errors import unknown
from robertax.progress import say

GUARD_WINDOW = 128  # Updates of the running mean and median.
GUARD_LEAST = 32  # Updates among them before one may be called a spike.
STACKED = 'layers'  # Parameters whose leading dim is the layer.
BOTTOM = 'embeddings'

# A schedule is a function of the updates already done, so the first update uses
# its value at 0.


def linear(config: OptimConfig, steps: int) -> optax.Schedule:
  """Linear warm-up from 0 to the peak, then linear decay to the end rate.

  The first update uses rate 0, as in fairseq
  (optim/lr_scheduler/polynomial_decay_schedule.py:74-89, trainer.py:382).
  """
  return _warmed_up(config, optax.linear_schedule(
      config.learning_rate, config.end_learning_rate,
      _decay_steps(config, steps)))


def bert(config: OptimConfig, steps: int) -> optax.Schedule:
  """BERT's schedule (google-research/bert optimization.py:32-54): the decay
  begins with the first update, so the rate drops where warm-up ends.
  """
  def schedule(count):
    decayed = optax.polynomial_schedule(
        config.learning_rate, config.end_learning_rate, 1.0, steps)(count)
    warm = config.learning_rate * count / max(config.warmup_steps, 1)
    return jnp.where(count < config.warmup_steps, warm, decayed)
  return schedule


def polynomial(config: OptimConfig, steps: int) -> optax.Schedule:
  """Like `linear`, with the remaining share to the power `power`."""
  return _warmed_up(config, optax.polynomial_schedule(
      config.learning_rate, config.end_learning_rate, config.power,
      _decay_steps(config, steps)))


def cosine(config: OptimConfig, steps: int) -> optax.Schedule:
  """Linear warm-up, then half a cosine to the end rate."""
  def half(count):
    done = jnp.clip(count / _decay_steps(config, steps), 0, 1)
    return config.end_learning_rate + (
        config.learning_rate - config.end_learning_rate) * (
            1 + jnp.cos(math.pi * done)) / 2
  return _warmed_up(config, half)


def inverse_sqrt(config: OptimConfig, steps: int) -> optax.Schedule:
  """Linear warm-up, then peak x sqrt(warm-up / updates done)."""
  warmup = max(config.warmup_steps, 1)
  return _warmed_up(config, lambda count: config.learning_rate * jnp.sqrt(
      # join_schedules evaluates counts before the boundary too.
      warmup / jnp.maximum(count + warmup, 1)))


def constant(config: OptimConfig, steps: int) -> optax.Schedule:
  """Linear warm-up from 0 to the peak, then the peak."""
  return _warmed_up(config, optax.constant_schedule(config.learning_rate))


def _decay_steps(config: OptimConfig, steps: int) -> int:
  return max(1, steps - config.warmup_steps)


def _warmed_up(config: OptimConfig, then: optax.Schedule) -> optax.Schedule:
  return optax.join_schedules(
      [optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps),
       then], [config.warmup_steps])


def rates(schedule: optax.Schedule, steps: int) -> np.ndarray:
  """Returns float32[steps], all rates at once: one by one they would wait."""
  found = jax.jit(schedule)(jnp.arange(steps))
  return np.asarray(jnp.broadcast_to(found, (steps,)), np.float32)


def fitting_warmup(config: Config) -> OptimConfig:
  """Returns the `optim` section, a warm-up longer than the run being cut."""
  warmup, steps = config.optim.warmup_steps, config.train.steps
  if config.optim.warmup_rate:
    return dataclasses.replace(
        config.optim, warmup_steps=int(config.optim.warmup_rate * steps))
  if warmup < steps:
    return config.optim
  cut = int(0.06 * steps)
  say(f'optim.warmup_steps={warmup} is not shorter than the run of {steps} '
      f'steps: cut to {cut} (6 %).')
  return dataclasses.replace(config.optim, warmup_steps=cut)


def learning_rates(config: Config) -> np.ndarray:
  """Returns float32[steps], the learning rate of each update."""
  _, schedule = create(fitting_warmup(config), config.train.steps)
  return rates(schedule, config.train.steps)


def may_lengthen(before: Config, after: Config) -> bool:
  """Whether a run may take more steps: its first ones keep their rates."""
  steps = before.train.steps
  return 0 < steps < after.train.steps and np.array_equal(
      learning_rates(before), learning_rates(after)[:steps])


SCHEDULES: dict[str, Callable[[OptimConfig, int], optax.Schedule]] = {
    'bert': bert, 'constant': constant, 'cosine': cosine,
    'inverse_sqrt': inverse_sqrt, 'linear': linear, 'polynomial': polynomial}


# The guard decides inside the compiled step, before the update is applied, from
# numbers that all devices share. What it compares with is in the optimizer
# state, and so in every checkpoint: a resumed run decides alike.


class Guard(NamedTuple):
  """The last good updates: two ring buffers."""
  count: jax.Array  # int32[], updates noted.
  losses: jax.Array  # float32[GUARD_WINDOW].
  norms: jax.Array  # float32[GUARD_WINDOW], of their gradients.
  spiked: jax.Array  # bool[], whether the newest update was a spike.


class Guarded(NamedTuple):
  """An optimizer's state, with a guard before it."""
  guard: Guard
  inner: Any


def is_finite(objective: jax.Array, gradient_norm: jax.Array) -> jax.Array:
  return jnp.isfinite(objective) & jnp.isfinite(gradient_norm)


def is_spike(guard: Guard, config: OptimConfig, objective: jax.Array,
             gradient_norm: jax.Array) -> jax.Array:
  """Returns bool[], whether one is far above the last good updates."""
  known = jnp.minimum(guard.count, GUARD_WINDOW)
  filled = jnp.arange(GUARD_WINDOW) < known
  mean = jnp.where(filled, guard.losses, 0).sum() / jnp.maximum(known, 1)
  median = jnp.sort(jnp.where(filled, guard.norms, jnp.inf))[
      jnp.maximum(known - 1, 0) // 2]
  spiked = jnp.zeros((), bool)
  if config.spike_loss:
    spiked |= objective > mean + config.spike_loss
  if config.spike_gradient_norm:
    spiked |= gradient_norm > config.spike_gradient_norm * median
  return spiked & (known >= GUARD_LEAST)


def with_update(guard: Guard, objective: jax.Array, gradient_norm: jax.Array,
                spiked: jax.Array) -> Guard:
  """Returns the guard after an update."""
  good = is_finite(objective, gradient_norm) & ~spiked
  index = guard.count % GUARD_WINDOW
  def put(ring, value):
    return ring.at[index].set(jnp.where(good, value, ring[index]))
  return Guard(guard.count + good, put(guard.losses, objective),
               put(guard.norms, gradient_norm), spiked)


def guarded(tx: optax.GradientTransformationExtraArgs, config: OptimConfig
            ) -> optax.GradientTransformationExtraArgs:
  """Puts the transform behind a guard, if there is anything to guard.

  Its `update` takes `objective` and `gradient_norm`, float32[], of the whole
  batch. With on_divergence='skip' a bad update changes neither parameters nor
  optimizer state. Without thresholds for spikes nothing is added to that state,
  so checkpoints of runs with and without 'skip' are the same.
  """
  skips = config.on_divergence == 'skip'
  watches = bool(config.spike_loss or config.spike_gradient_norm)
  if not skips and not watches:
    return tx

  def init(params):
    ring = jnp.zeros(GUARD_WINDOW, jnp.float32)
    guard = Guard(jnp.zeros((), jnp.int32), ring, ring, jnp.zeros((), bool))
    return Guarded(guard, tx.init(params)) if watches else tx.init(params)

  def update(grads, state, params=None, *, objective, gradient_norm, **extra):
    old = state.inner if watches else state
    bad = ~is_finite(objective, gradient_norm)
    if watches:
      spiked = is_spike(state.guard, config, objective, gradient_norm)
      guard = with_update(state.guard, objective, gradient_norm, spiked)
      bad |= spiked
    updates, new = tx.update(grads, old, params, **extra)
    if skips:
      updates = jax.tree.map(lambda u: jnp.where(bad, 0, u), updates)
      new = jax.tree.map(lambda a, b: jnp.where(bad, a, b), old, new)
    return updates, Guarded(guard, new) if watches else new
  return optax.GradientTransformationExtraArgs(init, update)


def newest_is_spike(opt_state: Any) -> jax.Array | None:
  """Returns bool[], whether the newest update was a spike; None: no guard."""
  return opt_state.guard.spiked if isinstance(opt_state, Guarded) else None


# Optimizers.


def is_matrix(path: tuple[Any, ...]) -> bool:
  """Tells whether a parameter decays under weight_decay_on='matrices'."""
  names = [str(getattr(k, 'key', k)) for k in path]
  return names[-1] != 'bias' and not any('norm' in n for n in names)


DECAY_MASKS: dict[str, Callable[[Any], Any]] = {
    'all': lambda params: jax.tree.map(lambda _: True, params),
    'matrices': lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: is_matrix(path), params)}


def corrected(m, v, count, config):
  """Adam's direction (Kingma & Ba 2015, algorithm 1), as in torch's AdamW."""
  m = m / (1 - config.b1**count)
  return m / (jnp.sqrt(v / (1 - config.b2**count)) + config.eps)


def fairseq(m, v, count, config):
  """fairseq's direction: eps is added before the second moment is corrected, so
  it is larger in the first hundred updates (optim/adam.py:223-234).
  """
  scale = jnp.sqrt(1 - config.b2**count) / (1 - config.b1**count)
  return scale * m / (jnp.sqrt(v) + config.eps)


def uncorrected(m, v, count, config):
  """BERT's direction: moments are too small at first (optimization.py:139)."""
  return m / (jnp.sqrt(v) + config.eps)


def scale_by_moments(config: OptimConfig, direction: Callable[..., Any]
                     ) -> optax.GradientTransformation:
  """Gives Adam's direction by one of the functions above, in float32.

  The first moment is kept in `config.first_moment_dtype`, rounded to nearest.
  """
  kept = jnp.dtype(config.first_moment_dtype)
  def init(params):
    return optax.ScaleByAdamState(
        jnp.zeros((), jnp.int32),
        jax.tree.map(lambda x: jnp.zeros(x.shape, kept), params),
        jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params))

  def update(grads, state, params=None):
    count = state.count + 1
    mu = jax.tree.map(
        lambda m, g: config.b1 * m.astype(jnp.float32) + (1 - config.b1) * g,
        state.mu, grads)
    nu = jax.tree.map(
        lambda v, g: config.b2 * v + (1 - config.b2) * jnp.square(g),
        state.nu, grads)
    steps = count.astype(jnp.float32)
    updates = jax.tree.map(lambda m, v: direction(m, v, steps, config), mu, nu)
    return updates, optax.ScaleByAdamState(
        count, jax.tree.map(lambda m: m.astype(kept), mu), nu)
  return optax.GradientTransformation(init, update)


def scale_by_trust_ratio(mask: Callable[[Any], Any]
                         ) -> optax.GradientTransformation:
  """Gives each update the norm of its parameters (You et al. 2020).

  LAMB's phi is the identity, and where one of the two norms is 0 nothing is
  changed (the authors' lamb_optimizer.py). The unit is one array of one layer,
  though layers are stacked. What the mask keeps from decaying is not scaled
  either, as in the authors' code (LayerNorm and biases) and NVIDIA's.
  """
  def ratio(path, update, param, scaled):
    if not scaled:
      return update
    stacked = str(getattr(path[0], 'key', path[0])) == STACKED
    dims = tuple(range(int(stacked), param.ndim))
    def length(x):
      return jnp.sqrt(jnp.square(x.astype(jnp.float32)).sum(
          dims, keepdims=True))
    x, u = length(param), length(update)
    safe = jnp.where(u > 0, u, 1)
    return update * jnp.where((x > 0) & (u > 0), x / safe, 1.0)
  return optax.stateless(
      lambda updates, params: jax.tree_util.tree_map_with_path(
          ratio, updates, params, mask(params)))


def scale_by_given_rate() -> optax.GradientTransformationExtraArgs:
  """Returns -learning_rate x direction; each update is given the rate."""
  def update(updates, state, params=None, *, learning_rate, **unused):
    return jax.tree.map(lambda u: -learning_rate * u, updates), state
  return optax.GradientTransformationExtraArgs(
      lambda _: optax.EmptyState(), update)


def scale_by_depth(decay: float) -> optax.GradientTransformation:
  """Scales the last of N layers by decay, the first by decay^N, embeddings by
  decay^(N + 1), heads not at all (Clark et al. 2020; ELECTRA's
  finetune/modeling `_get_layer_lrs`).
  """
  def update(updates, params):
    layers = len(jax.tree.leaves(updates[STACKED])[0])
    def scale(path, u):
      part = str(getattr(path[0], 'key', path[0]))
      if part == STACKED:
        powers = layers - jnp.arange(layers, dtype=jnp.float32)
        return u * (decay ** powers).reshape(-1, *[1] * (u.ndim - 1))
      return u * decay**(layers + 1) if part == BOTTOM else u
    return jax.tree_util.tree_map_with_path(scale, updates)
  return optax.stateless(update)


def _adam(config: OptimConfig, direction: Callable[..., Any],
          trust_ratio: bool = False) -> optax.GradientTransformationExtraArgs:
  """Chains Adam's direction, decoupled weight decay, and what scales both."""
  mask = DECAY_MASKS[config.weight_decay_on]
  scaled = [scale_by_trust_ratio(mask)] if trust_ratio else []
  if config.layer_decay < 1:
    scaled.append(scale_by_depth(config.layer_decay))
  return optax.chain(scale_by_moments(config, direction),
                     optax.add_decayed_weights(config.weight_decay, mask),
                     *scaled, scale_by_given_rate())


OPTIMIZERS: dict[str, Callable[
    [OptimConfig], optax.GradientTransformationExtraArgs]] = {
        # AdamW (Loshchilov & Hutter 2019), as torch and Hugging Face have it.
        'adamw': functools.partial(_adam, direction=corrected),
        # BERT's AdamWeightDecayOptimizer (optimization.py:87-174).
        'adamw_bert': functools.partial(_adam, direction=uncorrected),
        # fairseq's Adam, whose decay is decoupled too (optim/adam.py:203-234).
        'adamw_fairseq': functools.partial(_adam, direction=fairseq),
        # LAMB (You et al. 2020, algorithm 2), for batches of 32K sequences.
        'lamb': functools.partial(_adam, direction=corrected, trust_ratio=True)}


def check_names(config: OptimConfig):
  """Raises InputError for an unknown optimizer, schedule or decay mask."""
  for key, table in (('name', OPTIMIZERS), ('schedule', SCHEDULES),
                     ('weight_decay_on', DECAY_MASKS)):
    if (value := getattr(config, key)) not in table:
      raise unknown(f'optim.{key}', value, table)


def create(config: OptimConfig, steps: int
           ) -> tuple[optax.GradientTransformationExtraArgs, optax.Schedule]:
  """Makes the transform, which fits every rate and schedule, and the schedule.

  Raises InputError as `check_names` does.
  """
  check_names(config)
  schedule = SCHEDULES[config.schedule](config, steps)
  tx = OPTIMIZERS[config.name](config)
  if config.clip_norm:
    tx = optax.chain(optax.clip_by_global_norm(config.clip_norm), tx)
  return guarded(tx, config), schedule
