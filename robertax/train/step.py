"""One update: the state, the step, and the programs that are compiled.

The functions here are traced: seeds, learning rates, schedules and lengths of
runs are arguments, so the runs of a sweep that share loss, optimizer and mesh
share a program, which is compiled once for each shape of batch.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple
import weakref

import jax
import jax.numpy as jnp
import optax

from robertax import kernels, model
from robertax.config import OptimConfig
from robertax.parallel.mesh import param_shardings, state_shardings
from robertax.train import gradient, optimizer
from robertax.train.gradient import DeviceBatch, LossFn, Sums

TotalsFn = Callable[[DeviceBatch], Sums]
_MADE = weakref.WeakSet()


class TrainState(NamedTuple):
  """Everything that an update changes and a checkpoint holds."""
  step: jax.Array  # int32[], updates done.
  params: Any  # Nested dict of float32 arrays (model.pad_vocabulary).
  opt_state: Any  # Optax's.


def state_maker(
    init: Callable[[jax.Array], Any],
    tx: optax.GradientTransformation) -> Callable[[jax.Array], TrainState]:
  """Makes key -> the first state; `init` does not pad the vocabulary."""
  def make(key: jax.Array) -> TrainState:
    params = model.pad_vocabulary(init(key))
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
  return make


def abstract_state(make: Callable[[jax.Array], TrainState],
                   mesh: jax.sharding.Mesh, zero1: bool = False) -> TrainState:
  """Returns the shapes and shardings on a mesh of what `make` would make."""
  # The key is traced too, because abstract devices cannot make one.
  shapes = jax.eval_shape(lambda: make(jax.random.key(0)))
  shardings = TrainState(state_shardings(mesh, shapes.step),
                         param_shardings(mesh, shapes.params),
                         state_shardings(mesh, shapes.opt_state, zero1))
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes, shardings)


def make_train_step(
    loss: LossFn, totals: TotalsFn, tx: optax.GradientTransformationExtraArgs,
    zero1: bool = False) -> Callable[..., tuple[TrainState, Sums]]:
  """Makes (state, batch, seed, learning_rate) -> (state, sums).

  Targets are counted first, over all devices and micro-batches (fairseq
  trainer.py:933-946 divides by that count): a mean of per-device means would
  weigh a target by its neighbours' number. The loss is given the counts, so an
  objective may be a sum of several means, each with a divisor of its own.

  So the loss is divided and not the finished gradient, which saves a pass over
  the gradient and costs no precision: bfloat16 has float32's range of exponents
  (2^-126; float16, from 2^-14 on, would lose small cotangents).

  Args:
    loss: (params, batch, dropout_keys, totals) -> (objective, sums): the
      objective, already divided, and sums that the reader divides; both are
      added over micro-batches.
    totals: batch -> scalars, from the weights of the whole batch.
    tx: the optimizer, whose update takes `learning_rate`.
    zero1: each device along `data` updates the parameters whose optimizer state
      it has; then they are gathered.

  Returns:
    A function, not yet jitted, of a TrainState, a batch of arrays
    [micro-batches, rows, ...], dropout's seed (kernels.dropout.seed_words) and
    a float32 learning rate. Its sums also have `objective`, the norms of the
    gradient, the update and the new parameters, `gradient_norms` (float32[
    leaves]) and, with thresholds for spikes, `spiked`.
  """
  def step(state: TrainState, batch: DeviceBatch, seed: jax.Array,
           learning_rate: jax.Array) -> tuple[TrainState, Sums]:
    key = kernels.key_words(seed, state.step)
    grads, sums = gradient.batch_gradient(loss, state.params, batch, key,
                                 totals(batch), zero1)
    norms = _leaf_norms(grads)
    sums['gradient_norm'] = jnp.sqrt(jnp.square(norms).sum())
    updates, opt_state = tx.update(
        grads, state.opt_state, state.params, learning_rate=learning_rate,
        objective=sums['objective'], gradient_norm=sums['gradient_norm'])
    if zero1:
      # Without it XLA may gather the gradient and update everything everywhere.
      updates = jax.lax.with_sharding_constraint(
          updates, state_shardings(
              jax.sharding.get_abstract_mesh(), updates, zero1))
    params = optax.apply_updates(state.params, updates)
    # Of every step, logged or not. They read two arrays of the parameters' size
    # once more, at most 1 % of a step on v5e, and a branch would change bits.
    sums |= {'gradient_norms': norms, 'update_norm': optax.tree.norm(updates),
             'parameter_norm': optax.tree.norm(params)}
    if (spiked := optimizer.newest_is_spike(opt_state)) is not None:
      sums['spiked'] = spiked
    return TrainState(state.step + 1, params, opt_state), sums
  return step


def _leaf_norms(tree: Any) -> jax.Array:
  """float32[leaves]: the norm of each array."""
  return jnp.stack([jnp.sqrt(jnp.square(x.astype(jnp.float32)).sum())
                    for x in jax.tree.leaves(tree)])


class Compiled:
  """The programs of one kind of run: `abstract` has the shapes and shardings of
  the state, `create` makes it from a key, `train` updates it in place.
  """

  def __init__(self, objective: Any, optim: OptimConfig,
               mesh: jax.sharding.Mesh, zero1: bool):
    tx, _ = optimizer.create(optim, 1)
    make = state_maker(objective.init, tx)
    self.abstract = abstract_state(make, mesh, zero1)
    shardings = jax.tree.map(lambda x: x.sharding, self.abstract)
    _MADE.add(self)
    self.create = jax.jit(make, out_shardings=shardings)
    self.train = jax.jit(
        make_train_step(objective.loss, objective.totals, tx, zero1),
        out_shardings=(shardings, None), donate_argnums=0)

  @property
  def shapes(self) -> int:
    """Counts the shapes of batches that `train` has been compiled for."""
    return self.train._cache_size()


def num_shapes() -> int:
  """Sums `Compiled.shapes` over all train steps of this process."""
  return sum(programs.shapes for programs in _MADE)


def compiled(objective: Any, optim: OptimConfig, mesh: jax.sharding.Mesh,
             zero1: bool) -> Compiled:
  """Returns the programs of a run; runs with equal objectives share them.

  Rates, schedule and what only the host uses are ignored. The mesh is entered.
  """
  plain = OptimConfig()
  ignored = ['learning_rate', 'schedule', 'warmup_steps', 'warmup_rate',
             'end_learning_rate', 'power', 'roll_back_batches']
  if optim.on_divergence != 'skip':
    ignored.append('on_divergence')
  return _compiled_programs(objective, dataclasses.replace(
      optim, **{name: getattr(plain, name) for name in ignored}), mesh, zero1)


@functools.lru_cache(maxsize=4)
def _compiled_programs(objective: Any, optim: OptimConfig,
                       mesh: jax.sharding.Mesh, zero1: bool) -> Compiled:
  return Compiled(objective, optim, mesh, zero1)


@functools.lru_cache(maxsize=4)
def eval_step(objective: Any) -> Any:
  """Compiles (params, batch[1, rows, ...]) -> sums, without dropout."""
  def step(params: Any, batch: DeviceBatch) -> Sums:
    return gradient.batch_sums(objective.loss, params, batch,
                               objective.totals(batch))
  return jax.jit(step)


@functools.lru_cache(maxsize=4)
def output_step(objective: Any, mesh: jax.sharding.Mesh) -> Any:
  """Compiles (params, batch[1, rows, ...]) -> [rows, ...] on every device."""
  def step(params: Any, batch: DeviceBatch) -> Sums:
    return gradient.batch_outputs(objective.outputs, params, batch)

  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  return jax.jit(step, out_shardings=whole)
