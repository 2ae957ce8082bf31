"""One update: count the targets, differentiate, update."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from robertax import kernels
from robertax.train.state import TrainState

Sums = dict[str, jax.Array]
Batch = dict[str, jax.Array]
LossFn = Callable[[Any, Batch, jax.Array | None, Sums],
                  tuple[jax.Array, Sums]]
TotalsFn = Callable[[Batch], Sums]


def make_train_step(loss: LossFn, totals: TotalsFn,
                    tx: optax.GradientTransformation,
                    seed: int) -> Callable[..., tuple[TrainState, Sums]]:
  """Makes (state, batch) -> (state, sums).

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
    tx: the optimizer.
    seed: of dropout.

  Returns:
    A function of a TrainState and a batch whose arrays are
    [micro-batches, rows, ...]; not yet jitted. Its sums hold `gradient_norm`
    too.
  """
  gradients = jax.grad(loss, has_aux=True)

  def step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
    divisors = totals(batch)
    num_micro, num_rows = next(iter(batch.values())).shape[:2]
    key = kernels.key_words(seed, state.step)

    def micro(number: jax.Array, part: Batch):
      # Rows count through the whole batch, so dropout does not know into how
      # many micro-batches it was cut.
      rows = (number.astype(jnp.uint32) * jnp.uint32(num_rows)
              + jnp.arange(num_rows, dtype=jnp.uint32))
      return gradients(state.params, part, kernels.row_keys(key, rows),
                       divisors)

    if num_micro == 1:
      grads, sums = micro(jnp.uint32(0), {k: v[0] for k, v in batch.items()})
    else:
      numbers = jnp.arange(num_micro, dtype=jnp.uint32)
      shapes = jax.eval_shape(
          micro, numbers[0], {k: v[0] for k, v in batch.items()})
      zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
      (grads, sums), _ = jax.lax.scan(
          lambda total, part: (jax.tree.map(jnp.add, total, micro(*part)),
                               None),
          zeros, (numbers, batch))

    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    sums['gradient_norm'] = optax.tree.norm(grads)
    return TrainState(state.step + 1, optax.apply_updates(
        state.params, updates), opt_state), sums

  return step


def make_eval_step(loss: LossFn, totals: TotalsFn) -> Callable[..., Sums]:
  """Makes (params, batch[1, rows, ...]) -> sums, without dropout."""
  def step(params: Any, batch: Batch) -> Sums:
    part = {k: v[0] for k, v in batch.items()}
    return loss(params, part, None, totals(batch))[1]
  return step
