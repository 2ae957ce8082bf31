"""The guard of an update: on the devices, from numbers that all of them share.

It decides inside the compiled step, before the update is applied. What spikes
are measured by is part of the optimizer's state, and so of every checkpoint: a
resumed run decides as the undisturbed one does.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from robertax.config import OptimConfig

WINDOW = 128  # Updates that make the running mean and median.
LEAST = 32  # Of them that must be there before one is called a spike.


class Guard(NamedTuple):
  """What the last updates were like; those that were bad are left out.

  Attributes:
    count: int32[], updates noted.
    losses: float32[WINDOW], a ring.
    norms: float32[WINDOW], of their gradients.
    spiked: bool[], whether the newest update was a spike.
  """
  count: jax.Array
  losses: jax.Array
  norms: jax.Array
  spiked: jax.Array


class Guarded(NamedTuple):
  """An optimizer's state, with a guard before it."""
  guard: Guard
  inner: Any


def watches_spikes(config: OptimConfig) -> bool:
  """Whether there is a threshold, so that the state has a Guard."""
  return bool(config.spike_loss or config.spike_gradient_norm)


def finite(objective: jax.Array, gradient_norm: jax.Array) -> jax.Array:
  """bool[]: both are."""
  return jnp.isfinite(objective) & jnp.isfinite(gradient_norm)


def spikes(guard: Guard, config: OptimConfig, objective: jax.Array,
           gradient_norm: jax.Array) -> jax.Array:
  """bool[]: far above what the last updates were like."""
  known = jnp.minimum(guard.count, WINDOW)
  there = jnp.arange(WINDOW) < known
  mean = jnp.where(there, guard.losses, 0).sum() / jnp.maximum(known, 1)
  median = jnp.sort(jnp.where(there, guard.norms, jnp.inf))[
      jnp.maximum(known - 1, 0) // 2]
  spiked = jnp.zeros((), bool)
  if config.spike_loss:
    spiked |= objective > mean + config.spike_loss
  if config.spike_gradient_norm:
    spiked |= gradient_norm > config.spike_gradient_norm * median
  return spiked & (known >= LEAST)


def noted(guard: Guard, objective: jax.Array, gradient_norm: jax.Array,
          spiked: jax.Array) -> Guard:
  """The guard behind an update."""
  good = finite(objective, gradient_norm) & ~spiked
  place = guard.count % WINDOW

  def put(ring, value):
    return ring.at[place].set(jnp.where(good, value, ring[place]))

  return Guard(guard.count + good, put(guard.losses, objective),
               put(guard.norms, gradient_norm), spiked)


def guarded(tx: optax.GradientTransformationExtraArgs, config: OptimConfig
            ) -> optax.GradientTransformationExtraArgs:
  """The transform behind a guard; itself where there is nothing to guard.

  Its `update` takes `objective` and `gradient_norm`, the numbers of the whole
  batch. With on_divergence='skip' a bad update changes neither parameters nor
  what the optimizer keeps. Without thresholds nothing is added to the state:
  checkpoints of runs with and without 'skip' are the same.

  Args:
    tx: the optimizer.
    config: the `optim` section.
  """
  skips, watches = config.on_divergence == 'skip', watches_spikes(config)
  if not skips and not watches:
    return tx

  def init(params):
    ring = jnp.zeros(WINDOW, jnp.float32)
    guard = Guard(jnp.zeros((), jnp.int32), ring, ring, jnp.zeros((), bool))
    return Guarded(guard, tx.init(params)) if watches else tx.init(params)

  def update(grads, state, params=None, *, objective, gradient_norm, **extra):
    old = state.inner if watches else state
    bad = ~finite(objective, gradient_norm)
    if watches:
      spiked = spikes(state.guard, config, objective, gradient_norm)
      guard = noted(state.guard, objective, gradient_norm, spiked)
      bad |= spiked
    updates, new = tx.update(grads, old, params, **extra)
    if skips:
      updates = jax.tree.map(lambda u: jnp.where(bad, 0, u), updates)
      new = jax.tree.map(lambda a, b: jnp.where(bad, a, b), old, new)
    return updates, Guarded(guard, new) if watches else new

  return optax.GradientTransformationExtraArgs(init, update)


def spiked(opt_state: Any) -> jax.Array | None:
  """bool[]: whether the newest update was a spike; None: nobody watches."""
  return opt_state.guard.spiked if isinstance(opt_state, Guarded) else None
