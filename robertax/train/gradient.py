"""The loss and the gradient of a whole batch, over micro-batches and devices.

`jax.shard_map` shares out rows over `data` and `fsdp`; `model`, which shares
out the work on a row, is left to XLA. Each device adds up its own
gradient over the micro-batches, and only the total is communicated, once, in
float32: by itself, XLA would sum over the devices inside the backward pass,
again for each micro-batch.

Parameters that are sharded along `fsdp` are gathered once a step, and their
gradients scattered once: an encoder's parameters are small beside the
activations of its rows, so `fsdp` saves the memory of parameters, gradient and
optimizer between steps, and traffic does not grow with micro-batches.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from robertax import kernels
from robertax.data.feed import DeviceBatch
from robertax.model.heads import Sums
from robertax.parallel.mesh import BATCH_AXES, state_shardings

LossFn = Callable[[Any, DeviceBatch, jax.Array | None, Sums],
                  tuple[jax.Array, Sums]]


def batch_gradient(loss: LossFn, params: Any, batch: DeviceBatch,
                   key: jax.Array, totals: Sums, zero1: bool = False
                   ) -> tuple[Any, Sums]:
  """Differentiates the loss over all micro-batches and devices.

  Args:
    loss, totals: see train.step.make_train_step.
    params: nested dict.
    batch: arrays [micro-batches, rows, ...].
    key: uint32[2], for the step's dropout.
    zero1: the gradient is shared out along `data`, as the optimizer's state is.

  Returns:
    (gradient, sums) of the whole batch; sums has the `objective` too.
  """
  # Fields of row groups have fewer rows (data.finetuning).
  num_micro, num_rows = max(x.shape[:2] for x in batch.values())
  # Rows are numbered through the whole batch, so that dropout does not depend
  # on its micro-batches and devices.
  rows = jnp.arange(num_micro * num_rows, dtype=jnp.uint32).reshape(
      num_micro, num_rows)

  def local(params, batch, rows, key, totals):
    return _accumulate(loss, params, batch, rows, key, totals)

  return _over_rows(local, zero1, params, (batch, rows), (key, totals))


def batch_sums(loss: LossFn, params: Any, batch: DeviceBatch, totals: Sums
               ) -> Sums:
  """Returns the loss's sums over a batch [1, rows, ...], without dropout."""
  def local(params, batch, totals):
    part = {k: v[0] for k, v in batch.items()}
    return (), loss(params, part, None, totals)[1]

  return _over_rows(local, False, params, (batch,), (totals,))[1]


def batch_outputs(outputs: Callable[[Any, DeviceBatch], Sums], params: Any,
                  batch: DeviceBatch) -> Sums:
  """Returns arrays [rows, ...] for a batch [1, rows, ...]."""
  def local(params, batch):
    return outputs(params, {k: v[0] for k, v in batch.items()})

  return _over_rows(lambda *given: ((), local(*given)), False, params,
                    (batch,), (), summed=False)[1]


def _accumulate(loss, params, batch, rows, key, totals):
  gradients = jax.value_and_grad(loss, has_aux=True)

  def micro(part, numbers):
    (objective, sums), gradient = gradients(
        params, part, kernels.row_keys(key, numbers), totals)
    return gradient, sums | {'objective': objective}

  first = {k: v[0] for k, v in batch.items()}
  if len(rows) == 1:
    return micro(first, rows[0])
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype),
                       jax.eval_shape(micro, first, rows[0]))
  return lax.scan(
      lambda total, part: (jax.tree.map(jnp.add, total, micro(*part)), None),
      zeros, (batch, rows))[0]


def _over_rows(function, zero1, params, batched, copied, summed=True):
  """function(params, *batched, *copied) -> (gradient or (), sums).

  Each device calls it with all parameters and its own rows of `batched`, whose
  arrays are [micro-batches, rows, ...]; the results are summed, or, unless
  `summed`, concatenated.
  """
  mesh = jax.sharding.get_abstract_mesh()
  sizes = dict(zip(mesh.axis_names, mesh.axis_sizes))
  axes = [axis for axis in BATCH_AXES if sizes.get(axis, 1) > 1]
  if not axes:
    return function(params, *batched, *copied)

  def specs(zero1):
    return jax.tree.map(lambda sharding: _only(sharding.spec, axes),
                        state_shardings(mesh, params, zero1))

  lying = specs(False)

  def local(params, batched, copied):
    gradient, sums = function(
        jax.tree.map(_gather, params, lying), *batched, *copied)
    if gradient:
      gradient = jax.tree.map(lambda x, spec: _sum(x, spec, axes), gradient,
                              specs(zero1))
    return gradient, lax.psum(sums, axes) if summed else sums

  out, sums = jax.eval_shape(function, params, *batched, *copied)
  ends = jax.tree.map(lambda _: P() if summed else P(tuple(axes)), sums)
  return jax.shard_map(
      # Axes of one device too, because a Mosaic kernel allows no automatic one.
      local, axis_names={axis for axis, size in sizes.items()
                         if axis in axes or size == 1},
      in_specs=(lying, P(None, tuple(axes)), P()),
      out_specs=(specs(zero1) if out else (), ends),
      check_vma=False)(params, batched, copied)


def _only(spec, axes):
  """Drops all other axes from the spec; each entry is one axis."""
  names = [entry[0] if isinstance(entry, tuple) else entry for entry in spec]
  return P(*(name if name in axes else None for name in names))


def _gather(x, spec):
  for dim, axis in enumerate(spec):
    if axis:
      x = lax.all_gather(x, axis, axis=dim, tiled=True)
  return x


def _sum(x, spec, axes):
  for axis in axes:
    if axis in spec:
      x = lax.psum_scatter(x, axis, scatter_dimension=spec.index(axis),
                           tiled=True)
  whole = tuple(axis for axis in axes if axis not in spec)
  return lax.psum(x, whole) if whole else x
