"""One update: count the targets, differentiate, update."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from robertax import kernels, parallel
from robertax.train import guard
from robertax.train.gradient import (
    Batch,
    LossFn,
    Sums,
    batch_gradient,
    batch_outputs,
    batch_sums,
)
from robertax.train.state import TrainState

TotalsFn = Callable[[Batch], Sums]


def make_train_step(loss: LossFn, totals: TotalsFn,
                    tx: optax.GradientTransformationExtraArgs,
                    zero1: bool = False
                    ) -> Callable[..., tuple[TrainState, Sums]]:
  """Makes (state, batch, seed, learning_rate) -> (state, sums).

  Seed and learning rate are arguments: runs that differ in nothing else share
  one compiled step.

  Targets are counted first, over all devices and micro-batches (fairseq
  trainer.py:933-946 divides by that count): a mean of per-device means would
  weigh a target by its neighbours' number. The loss is given the counts, so an
  objective may be a sum of several means, each with a divisor of its own.

  The division is thus made at the loss, and not of the finished gradient. That
  costs no precision: a scaled cotangent has as many digits as before, and
  bfloat16 has float32's range of exponents (2^-126: float16, from 2^-14 on,
  would lose the small ones). It saves a pass over the gradient.

  Args:
    loss: (params, batch, dropout_keys, totals) -> (objective, sums); both are
      added over micro-batches. `objective` is divided by what it must be, so
      that these add up to the batch's; `sums` are scalars, to be divided by
      whoever reads them.
    totals: batch -> scalars, from the weights of the whole batch.
    tx: the optimizer, whose update takes `learning_rate`.
    zero1: each device along `data` updates the part of the parameters that it
      keeps the optimizer's numbers of; then they are gathered.

  Returns:
    A function of a TrainState, a batch whose arrays are
    [micro-batches, rows, ...], the seed of dropout
    (kernels.dropout.seed_words) and this update's learning rate, float32; not
    yet jitted. Its sums hold the `objective` too, the norms of the gradient,
    the update and the parameters behind it, `gradient_norms`, float32[leaves],
    the first of these array by array, and, with thresholds, `spiked`.
  """
  def step(state: TrainState, batch: Batch, seed: jax.Array,
           learning_rate: jax.Array) -> tuple[TrainState, Sums]:
    key = kernels.key_words(seed, state.step)
    grads, sums = batch_gradient(loss, state.params, batch, key,
                                 totals(batch), zero1)
    norms = _norms(grads)
    sums['gradient_norm'] = jnp.sqrt(jnp.square(norms).sum())
    updates, opt_state = tx.update(
        grads, state.opt_state, state.params, learning_rate=learning_rate,
        objective=sums['objective'], gradient_norm=sums['gradient_norm'])
    if zero1:
      # Else XLA may gather the gradient and do all of the update everywhere.
      updates = jax.lax.with_sharding_constraint(
          updates, parallel.state_shardings(
              jax.sharding.get_abstract_mesh(), updates, zero1))
    params = optax.apply_updates(state.params, updates)
    sums |= {'gradient_norms': norms, 'update_norm': optax.tree.norm(updates),
             'parameter_norm': optax.tree.norm(params)}
    if (spiked := guard.spiked(opt_state)) is not None:
      sums['spiked'] = spiked
    return TrainState(state.step + 1, params, opt_state), sums

  return step


def _norms(tree: Any) -> jax.Array:
  """float32[leaves]: the length of each array."""
  return jnp.stack([jnp.sqrt(jnp.square(x.astype(jnp.float32)).sum())
                    for x in jax.tree.leaves(tree)])


def make_eval_step(loss: LossFn, totals: TotalsFn) -> Callable[..., Sums]:
  """Makes (params, batch[1, rows, ...]) -> sums, without dropout."""
  def step(params: Any, batch: Batch) -> Sums:
    return batch_sums(loss, params, batch, totals(batch))
  return step


def make_output_step(outputs: Callable[[Any, Batch], Sums]
                     ) -> Callable[..., Sums]:
  """Makes (params, batch[1, rows, ...]) -> outputs [rows, ...]."""
  def step(params: Any, batch: Batch) -> Sums:
    return batch_outputs(outputs, params, batch)
  return step
