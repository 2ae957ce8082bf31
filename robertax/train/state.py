"""TrainState: what a checkpoint holds and a step changes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from robertax import model, parallel


class TrainState(NamedTuple):
  """Everything that an update changes.

  Attributes:
    step: int32[], updates done.
    params: nested dict of float32 arrays, the vocabulary padded
      (model.vocabulary).
    opt_state: optax's.
  """
  step: jax.Array
  params: Any
  opt_state: Any


def create(init: Callable[[jax.Array], Any], tx: optax.GradientTransformation
           ) -> Callable[[jax.Array], TrainState]:
  """A function of a jax.random.key that makes the first state.

  Args:
    init: key -> params, with the tokenizer's rows: padded ones are appended.
    tx: the optimizer.
  """
  def make(key: jax.Array) -> TrainState:
    params = model.pad_vocabulary(init(key))
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
  return make


def abstract(make: Callable[[jax.Array], TrainState], mesh: jax.sharding.Mesh,
             zero1: bool = False) -> TrainState:
  """Shapes and shardings of the state on a mesh, nothing computed.

  Args:
    make: from `create`.
    mesh: with axes data, fsdp, model.
    zero1: opt_state is shared out along `data` (parallel.state_shardings).
  """
  # The key is traced too: devices that only a compiler sees make none.
  shapes = jax.eval_shape(lambda: make(jax.random.key(0)))
  shardings = TrainState(
      parallel.state_shardings(mesh, shapes.step),
      parallel.param_shardings(mesh, shapes.params),
      parallel.state_shardings(mesh, shapes.opt_state, zero1))
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes, shardings)
