"""What is compiled for a run, and shared by runs that differ in no program.

Seeds, learning rates, schedules and lengths of runs are arguments: runs of one
process (a sweep) that have the same loss, optimizer and mesh have the same
program, and jit compiles it once for each shape of batch.
"""

import dataclasses
import functools
from typing import Any
import weakref

import jax

from robertax.config import OptimConfig
from robertax.train import optimizer, state, step

_MADE = weakref.WeakSet()


class Compiled:
  """The programs of one kind of run.

  Attributes:
    abstract: shapes and shardings of the TrainState.
    create: key -> the first TrainState.
    train: train.step.make_train_step's function; its state is donated.
  """

  def __init__(self, objective: Any, optim: OptimConfig,
               mesh: jax.sharding.Mesh, zero1: bool):
    """Traces nothing yet; see `compiled`."""
    tx, _ = optimizer.create(optim, 1)
    make = state.create(objective.init, tx)
    self.abstract = state.abstract(make, mesh, zero1)
    shardings = jax.tree.map(lambda x: x.sharding, self.abstract)
    _MADE.add(self)
    self.create = jax.jit(make, out_shardings=shardings)
    self.train = jax.jit(
        step.make_train_step(objective.loss, objective.totals, tx, zero1),
        out_shardings=(shardings, None), donate_argnums=0)

  @property
  def shapes(self) -> int:
    """Shapes of batches that the train step was compiled for so far."""
    return self.train._cache_size()


def num_shapes() -> int:
  """Shapes of batches that train steps of this process were compiled for."""
  return sum(programs.shapes for programs in _MADE)


def compiled(objective: Any, optim: OptimConfig, mesh: jax.sharding.Mesh,
             zero1: bool) -> Compiled:
  """The programs of a run: those of the last one that had the same.

  Args:
    objective: with init, loss and totals; equal ones have the same program.
    optim: its rates and schedule do not matter, nor what is done on the host.
    mesh: entered by jax.set_mesh.
    zero1: see train.step.

  Raises:
    InputError: an unknown optimizer or decay mask.
  """
  plain = OptimConfig()
  return _compiled(objective, dataclasses.replace(optim, **{
      name: getattr(plain, name) for name in (
          'learning_rate', 'schedule', 'warmup_steps', 'warmup_rate',
          'end_learning_rate', 'power', 'roll_back_batches')} | {
              'on_divergence': 'skip' if optim.on_divergence == 'skip'
                               else plain.on_divergence}), mesh, zero1)


@functools.lru_cache(maxsize=4)
def _compiled(objective, optim, mesh, zero1):
  return Compiled(objective, optim, mesh, zero1)


@functools.lru_cache(maxsize=4)
def eval_step(objective: Any) -> Any:
  """(params, batch[1, rows, ...]) -> sums, without dropout."""
  return jax.jit(step.make_eval_step(objective.loss, objective.totals))


@functools.lru_cache(maxsize=4)
def output_step(objective: Any, mesh: jax.sharding.Mesh) -> Any:
  """(params, batch[1, rows, ...]) -> outputs [rows, ...] on every device."""
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  return jax.jit(step.make_output_step(objective.outputs), out_shardings=whole)
