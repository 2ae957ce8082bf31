"""One update: differentiate, divide once, update."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from robertax import kernels
from robertax.train.state import TrainState

Sums = dict[str, jax.Array]
LossFn = Callable[[Any, dict[str, jax.Array], jax.Array | None],
                  tuple[jax.Array, Sums]]


def make_train_step(loss: LossFn, tx: optax.GradientTransformation,
                    seed: int) -> Callable[..., tuple[TrainState, Sums]]:
  """Makes (state, batch) -> (state, sums).

  The gradient is that of the summed loss over all devices and micro-batches,
  divided once by the global number of targets (fairseq trainer.py:933-946):
  a mean of per-device means would weigh a target by its neighbours' number.

  Args:
    loss: (params, batch, dropout_keys) -> (loss_sum, sums); `sums` are scalars
      to add over micro-batches, `weight_sum` (the divisor) among them.
    tx: the optimizer.
    seed: of dropout.

  Returns:
    A function of a TrainState and a batch whose arrays are
    [micro-batches, rows, ...]; not yet jitted. Its sums hold `loss_sum` and
    `gradient_norm` (of the divided gradient) too.
  """
  gradients = jax.grad(loss, has_aux=True)

  def step(state: TrainState, batch: dict[str, jax.Array]
           ) -> tuple[TrainState, Sums]:
    num_micro, num_rows = next(iter(batch.values())).shape[:2]
    key = kernels.key_words(seed, state.step)

    def micro(number: jax.Array, part: dict[str, jax.Array]):
      # Rows count through the whole batch, so dropout does not know into how
      # many micro-batches it was cut.
      rows = (number.astype(jnp.uint32) * jnp.uint32(num_rows)
              + jnp.arange(num_rows, dtype=jnp.uint32))
      return gradients(state.params, part, kernels.row_keys(key, rows))

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

    # A batch without a target leaves the gradient zero instead of NaN.
    divisor = jnp.maximum(sums['weight_sum'], 1.0)
    grads = jax.tree.map(lambda g: g / divisor, grads)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    sums['gradient_norm'] = optax.tree.norm(grads)
    return TrainState(state.step + 1, optax.apply_updates(
        state.params, updates), opt_state), sums

  return step


def make_eval_step(loss: LossFn) -> Callable[..., Sums]:
  """Makes (params, batch[1, rows, ...]) -> sums, without dropout."""
  def step(params, batch: dict[str, jax.Array]) -> Sums:
    return loss(params, {k: v[0] for k, v in batch.items()}, None)[1]
  return step
