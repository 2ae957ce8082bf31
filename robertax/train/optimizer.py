"""Optimizers, each a row of a table.

The learning rate of an update is given with it: `tx.update(grads, opt_state,
params, learning_rate=rate)`, and where a guard stands before it
(train.guard), `objective` and `gradient_norm` too.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from robertax.config import OptimConfig
from robertax.errors import unknown
from robertax.train.guard import guarded
from robertax.train.schedules import SCHEDULES

STACKED = 'layers'  # whose parameters have a leading dim, the layer
BOTTOM = 'embeddings'


def is_matrix(path: tuple[Any, ...]) -> bool:
  """Whether a parameter decays under `weight_decay_on='matrices'`."""
  names = [str(getattr(k, 'key', k)) for k in path]
  return names[-1] != 'bias' and not any('norm' in n for n in names)


DECAY_MASKS: dict[str, Callable[[Any], Any]] = {
    'all': lambda params: jax.tree.map(lambda _: True, params),
    'matrices': lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: is_matrix(path), params),
}


def corrected(m, v, count, config):
  """Adam (Kingma & Ba 2015, algorithm 1), as torch.optim.AdamW has it."""
  m = m / (1 - config.b1**count)
  return m / (jnp.sqrt(v / (1 - config.b2**count)) + config.eps)


def fairseq(m, v, count, config):
  """eps is added before the second moment is corrected, so that it is larger
  in the first hundred updates (fairseq optim/adam.py:223-234).
  """
  scale = jnp.sqrt(1 - config.b2**count) / (1 - config.b1**count)
  return scale * m / (jnp.sqrt(v) + config.eps)


def uncorrected(m, v, count, config):
  """BERT's: moments as they are, too small at first (optimization.py:139)."""
  del count
  return m / (jnp.sqrt(v) + config.eps)


def scale_by_moments(config: OptimConfig, law: Callable[..., Any]
                     ) -> optax.GradientTransformation:
  """Adam's direction by one of the laws above.

  Moments and direction are computed in float32; the first moment is kept in
  `config.first_moment_dtype`, rounded to nearest.
  """
  kept = jnp.dtype(config.first_moment_dtype)

  def init(params):
    return optax.ScaleByAdamState(
        jnp.zeros((), jnp.int32),
        jax.tree.map(lambda x: jnp.zeros(x.shape, kept), params),
        jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params))

  def update(grads, state, params=None):
    del params
    count = state.count + 1
    mu = jax.tree.map(
        lambda m, g: config.b1 * m.astype(jnp.float32) + (1 - config.b1) * g,
        state.mu, grads)
    nu = jax.tree.map(
        lambda v, g: config.b2 * v + (1 - config.b2) * jnp.square(g),
        state.nu, grads)
    steps = count.astype(jnp.float32)
    direction = jax.tree.map(
        lambda m, v: law(m, v, steps, config), mu, nu)
    mu = jax.tree.map(lambda m: m.astype(kept), mu)
    return direction, optax.ScaleByAdamState(count, mu, nu)

  return optax.GradientTransformation(init, update)


def scale_by_trust_ratio(mask: Callable[[Any], Any]
                         ) -> optax.GradientTransformation:
  """Each layer's update gets the length of its parameters (You et al. 2020).

  LAMB's phi is the identity, and where one of the two lengths is 0 nothing is
  changed (the authors' lamb_optimizer.py). A layer is one parameter array of
  one block: query, key and value apart, block by block though they are stored
  as one array.

  Args:
    mask: params -> bools; what does not decay is not scaled either, which is
      what the authors' code does with LayerNorm and biases, and NVIDIA's.
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

  def update(updates, state, params=None):
    return jax.tree_util.tree_map_with_path(
        ratio, updates, params, mask(params)), state

  return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def scale_by_given_rate() -> optax.GradientTransformationExtraArgs:
  """-learning_rate x direction, the rate an argument of each update."""
  def update(updates, state, params=None, *, learning_rate, **unused):
    return jax.tree.map(lambda u: -learning_rate * u, updates), state

  return optax.GradientTransformationExtraArgs(
      lambda _: optax.EmptyState(), update)


def scale_by_depth(decay: float) -> optax.GradientTransformation:
  """Layer-wise rates: times decay for each layer below the heads.

  Of N layers, the last is scaled by decay, the first by decay^N, embeddings by
  decay^(N + 1), heads not at all (Clark et al. 2020, ELECTRA's
  finetune/modeling `_get_layer_lrs`).
  """
  def update(updates, state, params=None):
    del params
    layers = len(jax.tree.leaves(updates[STACKED])[0])

    def scale(path, u):
      part = str(getattr(path[0], 'key', path[0]))
      if part == STACKED:
        powers = layers - jnp.arange(layers, dtype=jnp.float32)
        return u * (decay ** powers).reshape(-1, *[1] * (u.ndim - 1))
      return u * decay**(layers + 1) if part == BOTTOM else u
    return jax.tree_util.tree_map_with_path(scale, updates), state

  return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def _decayed(config, *, law, then=()):
  mask = DECAY_MASKS[config.weight_decay_on]
  if config.layer_decay < 1:
    then = (*then, lambda _: scale_by_depth(config.layer_decay))
  return optax.chain(
      scale_by_moments(config, law),
      optax.add_decayed_weights(config.weight_decay, mask),
      *(make(mask) for make in then),
      scale_by_given_rate())


def adamw(config: OptimConfig) -> optax.GradientTransformationExtraArgs:
  """AdamW (Loshchilov & Hutter 2019), as torch and Hugging Face have it."""
  return _decayed(config, law=corrected)


def adamw_fairseq(config: OptimConfig
                  ) -> optax.GradientTransformationExtraArgs:
  """fairseq's Adam, whose decay is decoupled too (optim/adam.py:203-234)."""
  return _decayed(config, law=fairseq)


def adamw_bert(config: OptimConfig) -> optax.GradientTransformationExtraArgs:
  """BERT's AdamWeightDecayOptimizer (optimization.py:87-174)."""
  return _decayed(config, law=uncorrected)


def lamb(config: OptimConfig) -> optax.GradientTransformationExtraArgs:
  """LAMB (You et al. 2020, algorithm 2), for batches of 32K sequences."""
  return _decayed(config, law=corrected,
                  then=(scale_by_trust_ratio,))


OPTIMIZERS = {'adamw': adamw, 'adamw_bert': adamw_bert,
              'adamw_fairseq': adamw_fairseq, 'lamb': lamb}


def create(config: OptimConfig, steps: int
           ) -> tuple[optax.GradientTransformationExtraArgs, optax.Schedule]:
  """The transform, and the schedule (a function of updates already done).

  The transform is the same for every learning rate and schedule.

  Raises:
    InputError: an unknown optimizer, schedule or decay mask.
  """
  for key, value, table in (('name', config.name, OPTIMIZERS),
                            ('schedule', config.schedule, SCHEDULES),
                            ('weight_decay_on', config.weight_decay_on,
                             DECAY_MASKS)):
    if value not in table:
      raise unknown(f'optim.{key}', value, table)
  schedule = SCHEDULES[config.schedule](config, steps)
  tx = OPTIMIZERS[config.name](config)
  if config.clip_norm:
    tx = optax.chain(optax.clip_by_global_norm(config.clip_norm), tx)
  return guarded(tx, config), schedule
