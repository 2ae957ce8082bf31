"""Checkpoints: the only file that knows orbax.

`W/checkpoints/<step>/` holds two items, `params` and `opt_state`, as plain
nested dicts, so that weights can be read without an optimizer.
"""

import logging
import os
import re
from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from robertax.errors import InputError, writing
from robertax.train.state import TrainState

# The first of what fails in orbax's threads is raised where one waits for them:
# they and asyncio need not print a traceback for each of the rest as well.
logging.getLogger('asyncio').setLevel(logging.CRITICAL)
logging.getLogger('absl').addFilter(
    lambda record: 'orbax' not in record.pathname or not (
        # Nor is it news that a folder opened to be read is only read.
        record.exc_info or re.search('read.only', str(record.msg))))


def as_dict(tree: Any) -> dict[str, Any]:
  """Any pytree as nested dicts: tuples and named tuples become dicts too.

  >>> as_dict(({'w': 1}, 2))
  {'0': {'w': 1}, '1': 2}
  """
  nested: dict[str, Any] = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    *folders, last = [_name(key) for key in path]
    place = nested
    for folder in folders:
      place = place.setdefault(folder, {})
    place[last] = leaf
  return nested


def _name(key: Any) -> str:
  for attribute in ('key', 'name', 'idx'):
    if hasattr(key, attribute):
      return str(getattr(key, attribute))
  raise TypeError(f'unknown kind of tree path: {key!r}')


def from_dict(nested: dict[str, Any], like: Any) -> Any:
  """The inverse of `as_dict`, with the structure of `like`."""
  paths, treedef = jax.tree_util.tree_flatten_with_path(like)
  leaves = []
  for path, _ in paths:
    place = nested
    for key in path:
      place = place[_name(key)]
    leaves.append(place)
  return jax.tree_util.tree_unflatten(treedef, leaves)


def finished_step(workdir: str, folder: str = 'checkpoints') -> int | None:
  """The newest finished checkpoint's step; looks only, makes no folder."""
  if not os.path.isdir(f'{workdir}/{folder}'):
    return None
  checkpoints = Checkpoints(workdir, folder=folder, read_only=True, alone=True)
  try:
    return checkpoints.latest_step()
  finally:
    checkpoints.close()


class Checkpoints:
  """The checkpoints of one workdir; saving goes on in the background."""

  def __init__(self, workdir: str, keep: int = 0, *, read_only: bool = False,
               alone: bool = False, folder: str = 'checkpoints'):
    """Opens, and makes if needed, `workdir`/checkpoints.

    Args:
      workdir: W.
      keep: newest checkpoints that stay; 0: all.
      read_only: makes and removes nothing. Otherwise orbax removes, in the
        background, what a killed run left half saved: so there may be one
        writer of a folder at a time, and a reader must never be one, lest it
        remove the save under way of a run that is alive.
      alone: this process reads by itself, whatever others share the run; else
        all of them open it, and do the same with it.
      folder: another one, for weights alone.

    Raises:
      InputError: the folder cannot be written.
    """
    me = jax.process_index()
    processes = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me},
        barrier_sync_key_prefix=f'alone-{me}'
    ) if alone and jax.process_count() > 1 else (
        ocp.options.MultiprocessingOptions())
    self.folder = f'{workdir}/{folder}'
    preserve = checkpoint_managers.LatestN(keep or None)
    with writing(self.folder):
      if not read_only:
        os.makedirs(self.folder, exist_ok=True)
      self._manager = ocp.CheckpointManager(
          epath.Path(self.folder).absolute(),
          options=ocp.CheckpointManagerOptions(
              create=not read_only, read_only=read_only,
              multiprocessing_options=processes,
              cleanup_tmp_directories=not read_only,
              preservation_policy=None if read_only else preserve,
              save_decision_policy=(
                  None if read_only
                  else checkpoint_managers.FixedIntervalPolicy(1))),
          item_names=('params', 'opt_state'))

  def latest_step(self) -> int | None:
    """The newest finished checkpoint's step, None where there is none."""
    return self._manager.latest_step()

  def save(self, step: int, state: TrainState):
    """Starts to save; returns when the arrays may change again.

    Raises:
      InputError: the folder cannot be written.
    """
    with writing(self.folder):
      self._manager.save(step, args=ocp.args.Composite(
          params=ocp.args.StandardSave(as_dict(state.params)),
          opt_state=ocp.args.StandardSave(as_dict(state.opt_state))))

  def replace_params(self, step: int, params: Any):
    """Saves weights alone, in place of what that step has.

    Raises:
      InputError: the folder cannot be written.
    """
    with writing(self.folder):
      if step in self._manager.all_steps():
        self._manager.delete(step)
      self._manager.save(step, args=ocp.args.Composite(
          params=ocp.args.StandardSave(as_dict(params))), force=True)

  def keep_only(self, step: int):
    """Removes every other step.

    Raises:
      InputError: the folder cannot be written.
    """
    with writing(self.folder):
      for other in self._manager.all_steps():
        if other != step:
          self._manager.delete(other)

  def shapes(self, step: int) -> Any:
    """Nested dict of ShapeDtypeStructs: the weights that are saved.

    Raises:
      InputError: damaged.
    """
    try:
      found = ocp.StandardCheckpointHandler().metadata(
          epath.Path(self.folder).absolute() / str(step) / 'params')
      return jax.tree.map(
          lambda x: jax.ShapeDtypeStruct(tuple(x.shape), x.dtype),
          getattr(found, 'tree', found))
    except Exception as e:
      raise InputError(f'{self.folder}/{step}: this checkpoint cannot be read '
                       f'({e!r}).') from e

  def restore(self, step: int, abstract: TrainState) -> TrainState:
    """Reads a whole state onto the shardings of `abstract`.

    Raises:
      InputError: damaged, of another shape, or weights without an optimizer.
    """
    if not os.path.isdir(f'{self.folder}/{step}/opt_state'):
      raise InputError(
          f'{self.folder}/{step} holds weights alone, and no optimizer to go '
          'on with: begin another run from them, with another --workdir and '
          f'--config.init_from={os.path.dirname(self.folder)}.')
    restored = self._restore(step, params=as_dict(abstract.params),
                             opt_state=as_dict(abstract.opt_state))
    return TrainState(
        jax.device_put(jax.numpy.int32(step), abstract.step.sharding),
        from_dict(restored['params'], abstract.params),
        from_dict(restored['opt_state'], abstract.opt_state))

  def restore_params(self, step: int, abstract: Any) -> Any:
    """Reads the weights alone, with the shardings of `abstract` if it has any.

    Raises:
      InputError: damaged, or of another shape.
    """
    return from_dict(self._restore(step, params=as_dict(abstract))['params'],
                     abstract)

  def _restore(self, step: int, **items: Any) -> Any:
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**{
          name: ocp.args.StandardRestore(tree)
          for name, tree in items.items()}))
    except Exception as e:  # That bare class is among those orbax raises.
      why = e.__cause__ or e
      first = str(why).strip().splitlines()[0] if str(why).strip() else repr(e)
      raise InputError(
          f'{self.folder}/{step}: this checkpoint cannot be read ({first}). '
          f'Move that folder away to go on from the one before it.') from e

  def wait(self):
    """Returns when everything is on disk.

    Raises:
      InputError: it could not be written.
    """
    with writing(self.folder):
      self._manager.wait_until_finished()

  def close(self):
    """Waits, and ends the background threads."""
    self.wait()
    self._manager.close()
