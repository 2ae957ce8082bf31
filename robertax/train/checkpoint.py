"""Checkpoints: the only file that knows orbax.

`W/checkpoints/<step>/` holds `params` and `opt_state`, as plain nested dicts,
so that weights can be read without an optimizer, and `facts`: a checksum of
each array (train.sums), and what the state belongs to (train.identity). One
renaming puts all three there. What is read is held against the checksums: a
step that is damaged is set aside, and the one before it is used.
"""

from collections.abc import Mapping
import contextlib
import logging
import re
import sys
import time
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from robertax import files
from robertax.errors import InputError, writing
from robertax.parallel import processes
from robertax.train import facts, identity, step_folders
from robertax.train.facts import Damaged
from robertax.train.nested import as_dict, from_dict
from robertax.train.state import TrainState
from robertax.train.step_folders import saved_steps
from robertax.train.sums import tree_sums
from robertax.train.tolerance import Tolerance

# A save that takes longer than this beyond the time of the next is waited for;
# then that next one is left out.
SLOW_SECONDS = 60.0
ITEMS = ('params', 'opt_state')

# The first of what fails in orbax's threads is raised where one waits for them:
# they and asyncio need not print a traceback for each of the rest as well.
logging.getLogger('asyncio').setLevel(logging.CRITICAL)
logging.getLogger('absl').addFilter(
    lambda record: 'orbax' not in record.pathname or not (
        # Nor is it news that a folder opened to be read is only read.
        record.exc_info or re.search('read.only', str(record.msg))))


def finished_step(workdir: str, folder: str = 'checkpoints') -> int | None:
  """The newest finished checkpoint's step; looks only, makes no folder.

  Raises:
    InputError: there have been checkpoints, and all of them were damaged.
  """
  place = f'{workdir}/{folder}'
  steps = saved_steps(place)
  if not steps and (aside := step_folders.set_aside_names(place)):
    raise InputError(step_folders.nothing_left(place, aside))
  return steps[-1] if steps else None


class Checkpoints:
  """The checkpoints of one workdir; saving goes on in the background."""

  def __init__(self, workdir: str, keep: int = 0, *, keep_every: int = 0,
               read_only: bool = False, alone: bool = False,
               folder: str = 'checkpoints', strict: bool = True,
               belongs: Mapping[str, str] | None = None):
    """Looks at, and makes if needed, `workdir`/checkpoints.

    Args:
      workdir: W.
      keep: newest checkpoints that stay; 0: all.
      keep_every: those of multiples of so many steps stay too; 0: none.
      read_only: makes and removes nothing. Otherwise orbax removes, with the
        first save, what a killed run left half saved: so there may be one
        writer of a folder at a time, and a reader must never be one, lest it
        remove the save under way of a run that is alive.
      alone: this process reads by itself, whatever others share the run; else
        all of them open it, and do the same with it.
      folder: another one, for weights alone.
      strict: what cannot be written is an error. Else it is said, and only
        a few of them in a row are, or the last of a run. Over several
        processes always so: they cannot agree on what only one has seen.
      belongs: of train.identity; saved with each state.

    Raises:
      InputError: the folder cannot be written.
    """
    self.folder = f'{workdir}/{folder}'
    self._keep, self._keep_every = keep, keep_every
    self._alone, self._belongs = alone, dict(belongs or {})
    self._manager, self._under_way = None, None
    self._tolerance = Tolerance(
        self.folder, strict or jax.process_count() > 1, self._abandon)
    if not read_only:
      with writing(self.folder):
        files.makedirs(self.folder)

  def latest_step(self) -> int | None:
    """The newest finished checkpoint's step, None where there is none."""
    steps = saved_steps(self.folder)
    return steps[-1] if steps else None

  def restorable(self) -> list[int]:
    """Steps that a later start may well go on from, as far as is known now:
    the newest two that are finished, and the one that is being saved.
    """
    under_way = [] if self._under_way is None else [self._under_way]
    return [*saved_steps(self.folder)[-2:], *under_way]

  def save(self, step: int, state: TrainState, last: bool = False):
    """Starts to save; returns when the arrays may change again.

    Args:
      step: of the state.
      state: whose arrays are whole on their devices.
      last: no other comes behind it. Else, where the save before it is still
        under way SLOW_SECONDS later, this one is left out and that is said.

    Raises:
      InputError: the folder cannot be written (`strict`), or could not for too
        often.
    """
    if not last and self._slow(step):
      return
    self._settle()
    with self._tolerance.of(step):
      items = {'params': as_dict(state.params),
               'opt_state': as_dict(state.opt_state)}
      if not self._open().save(step, args=self._args(step, items)):
        raise InputError(f'{self.folder} has a folder of a newer step')
      self._under_way = step

  def replace_params(self, step: int, params: Any):
    """Saves weights alone, in place of what that step has.

    Raises:
      InputError: the folder cannot be written.
    """
    with writing(self.folder):
      manager = self._open()
      if step in manager.all_steps():
        manager.delete(step)
      manager.save(step, args=self._args(step, {'params': as_dict(params)}),
                   force=True)

  def shapes(self, step: int, item: str = 'params') -> Any:
    """Nested dict of ShapeDtypeStructs: what of an item is saved.

    Raises:
      Damaged: it cannot be read.
    """
    with facts.reading(f'{self.folder}/{step}'):
      found = ocp.StandardCheckpointHandler().metadata(
          self._place() / str(step) / item)
      return jax.tree.map(
          lambda x: jax.ShapeDtypeStruct(tuple(x.shape), x.dtype),
          getattr(found, 'tree', found))

  def restore_newest(self, abstract: TrainState, allowed: str = ''
                     ) -> TrainState:
    """The newest state that is whole; what is damaged above it is set aside.

    Args:
      abstract: shapes and shardings.
      allowed: train.allow_changed.

    Raises:
      InputError: none is left; it is of another shape, or belongs to other
        data, tokenizer or code.
    """
    for step in reversed(processes.gather(saved_steps(self.folder))[0]):
      try:
        self.check(step, allowed)
        return self.restore(step, abstract)
      except Damaged as e:
        self.set_aside(step, e)
    raise InputError(step_folders.nothing_left(
        self.folder, step_folders.set_aside_names(self.folder)))

  def check(self, step: int, allowed: str = ''):
    """Refuses a state that belongs to something else than this run.

    Raises:
      Damaged: what it belongs to cannot be read.
      InputError: other data, tokenizer or code.
    """
    def look():
      found = facts.read(self.folder, step)
      identity.check(f'{self.folder}/{step}', found and found['belongs'],
                     self._belongs, allowed)
    self._agreeing(look)

  def restore(self, step: int, abstract: TrainState) -> TrainState:
    """Reads a whole state onto the shardings of `abstract`.

    Raises:
      Damaged: it is, or cannot be read.
      InputError: of another shape, or weights without an optimizer.
    """
    if not files.isdir(f'{self.folder}/{step}/opt_state') and (
        files.isdir(f'{self.folder}/{step}/params')):
      raise InputError(
          f'{self.folder}/{step} holds weights alone, and no optimizer to go '
          'on with: begin another run from them, with another --workdir and '
          f'--config.init_from={self.folder.rpartition("/")[0]}.')
    restored = self._restore(step, params=as_dict(abstract.params),
                             opt_state=as_dict(abstract.opt_state))
    return TrainState(
        jax.device_put(jax.numpy.int32(step), abstract.step.sharding),
        from_dict(restored['params'], abstract.params),
        from_dict(restored['opt_state'], abstract.opt_state))

  def restore_params(self, step: int, abstract: Any) -> Any:
    """Reads weights alone, laid out as `abstract`; raises as `restore`."""
    return from_dict(self._restore(step, params=as_dict(abstract))['params'],
                     abstract)

  def _restore(self, step: int, **items: Any) -> Any:
    where = f'{self.folder}/{step}'
    if self._under_way is not None:
      self.wait()

    def read():
      found = facts.read(self.folder, step)
      for name, tree in items.items():
        facts.check_shapes(
            where, name, facts.kinds(self.shapes(step, name)) if found is None
            else facts.saved_kinds(found, name), tree)
      with facts.reading(where):
        # The handler itself waits for no other process: none hangs where one
        # cannot read its part.
        handler = ocp.StandardCheckpointHandler()
        return found, {
            name: handler.restore(self._place() / str(step) / name,
                                  args=ocp.args.StandardRestore(tree))
            for name, tree in items.items()}

    found, restored = self._agreeing(read)
    if found is not None:
      # Sums are of whole arrays: the same in each process.
      wrong = facts.unlike(found, restored)
      if wrong:
        raise facts.agreed(Damaged(
            where, f'other values than were saved, in {wrong}'))
    return restored

  def _agreeing(self, function):
    """As processes.together, for those who read by themselves too."""
    return function() if self._alone else facts.together(function)

  def set_aside(self, step: int, why: Damaged):
    """Renames a damaged step, and says so; all processes call it."""
    aside = step_folders.free_name(self.folder, step)

    def rename():
      if processes.first():
        with writing(self.folder):
          step_folders.rename(f'{self.folder}/{step}', f'{self.folder}/{aside}')

    # Named before it is renamed: each must have seen which name is free.
    processes.gather(aside)
    processes.together(rename)
    print(f'{why} It is set aside as {self.folder}/{aside}; looking for the '
          'one before it.', file=sys.stderr, flush=True)

  def _args(self, step, items):
    values = {'step': step, 'belongs': self._belongs,
              'sums': {name: tree_sums(tree) for name, tree in items.items()}}
    return ocp.args.Composite(
        facts=ocp.args.JsonSave(facts.sealed(values)),
        **{name: ocp.args.StandardSave(tree) for name, tree in items.items()})

  def _open(self) -> ocp.CheckpointManager:
    """Orbax's manager: only for writing, and anew after a failure."""
    if self._manager is None:
      preserve = [checkpoint_managers.LatestN(self._keep or None)]
      if self._keep_every:
        preserve.append(checkpoint_managers.EveryNSteps(self._keep_every))
      step_folders.make(self.folder)
      self._manager = ocp.CheckpointManager(
          self._place(), options=ocp.CheckpointManagerOptions(
              create=True, cleanup_tmp_directories=True,
              preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                  preserve),
              save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1)),
          item_names=(*ITEMS, 'facts'))
    return self._manager

  def _place(self) -> Any:
    """Where orbax and tensorstore find the arrays: they take what they get."""
    return files.to_epath(self.folder)

  def _slow(self, step) -> bool:
    """Whether the save before it is under way for too long; all agree."""
    def busy():
      return (self._under_way is not None
              and self._manager.is_saving_in_progress())

    end = time.monotonic() + SLOW_SECONDS
    while busy() and time.monotonic() < end:
      time.sleep(0.01)
    slow = any(processes.gather(busy()))
    if slow:
      print(f'step {step} is not saved: the checkpoint of step '
            f'{self._under_way} is still being written to {self.folder}, '
            'whose storage is slow.', file=sys.stderr, flush=True)
    return slow

  def _settle(self):
    """Waits for the save under way, and hears what became of it."""
    step, self._under_way = self._under_way, None
    if step is None:
      return
    with self._tolerance.of(step):
      self._manager.wait_until_finished()
    if self._manager is not None:
      self._tolerance.reset()

  def _abandon(self, step):
    """Frees what a save that failed has filled."""
    manager, self._manager, self._under_way = self._manager, None, None
    with contextlib.suppress(Exception):
      if manager is not None:
        manager.close()
    with contextlib.suppress(Exception):
      for name in files.listdir(self.folder):
        if name.startswith(f'{step}.orbax-checkpoint-tmp'):
          files.rmtree(f'{self.folder}/{name}')

  def wait(self):
    """Returns when everything is on disk; raises as `save`."""
    self._settle()
    if self._manager is not None:
      with writing(self.folder):
        self._manager.wait_until_finished()

  def close(self):
    """Waits, and ends the background threads.

    Raises:
      InputError: the last state could not be written.
    """
    self.wait()
    if self._manager is not None:
      self._manager.close()
      self._manager = None
    self._tolerance.conclude()
