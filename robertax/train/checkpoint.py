"""Checkpoints: the only file that knows orbax.

`W/checkpoints/<step>/` holds `params` and `opt_state`, as plain nested dicts,
so that weights can be read without an optimizer, and `facts` (train.facts): a
checksum of each array, and what the state belongs to. All three appear at once,
by renaming a folder. What is read is compared with the checksums: a damaged
step is set aside, and the one before it is used.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import contextlib
import itertools
import logging
import os
import re
import sys
import threading
import time
from typing import Any

import jax

from robertax import files
from robertax.errors import InputError, TakenOver, first_line, writing
from robertax.parallel import processes
from robertax.progress import advance, say
from robertax.train import facts
from robertax.train.facts import Damaged, tree_sums
from robertax.train.step import TrainState

# As many failed saves in a row end a run: days of steps that are saved nowhere
# are worse than an error.
MOST_FAILURES = 3
# How long a save waits for the one before it; then it is left out.
SLOW_SECONDS = 60.0
LOOK_SECONDS = 2.0  # Between two looks at how far a save has come.
ITEMS = ('params', 'opt_state')
SCHEMES = ('gs',)  # The remote storage that orbax writes arrays to.
_LAST = 'commit_success.txt'  # What orbax writes last, in a bucket.
# Steps that another start has given up, and such as are being removed.
ABANDONED, REMOVED = 'abandoned-', 'removed-'

def as_dict(tree: Any) -> dict[str, Any]:
  """Any pytree as nested dicts: tuples and named tuples become dicts too.

  >>> as_dict(({'w': 1}, 2))
  {'0': {'w': 1}, '1': 2}
  """
  nested: dict[str, Any] = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    *parents, last = [_key_name(key) for key in path]
    node = nested
    for name in parents:
      node = node.setdefault(name, {})
    node[last] = leaf
  return nested


def _key_name(key: Any) -> str:
  for attribute in ('key', 'name', 'idx'):
    if hasattr(key, attribute):
      return str(getattr(key, attribute))
  raise TypeError(f'unknown kind of tree path: {key!r}')


def from_dict(nested: dict[str, Any], like: Any) -> Any:
  """The inverse of `as_dict`, with the structure of `like`."""
  paths, treedef = jax.tree_util.tree_flatten_with_path(like)
  leaves = []
  for path, _ in paths:
    node = nested
    for key in path:
      node = node[_key_name(key)]
    leaves.append(node)
  return jax.tree_util.tree_unflatten(treedef, leaves)


# Saves that fail: reported, tried again, but not for ever.


@contextlib.contextmanager
def hushed() -> Iterator[None]:
  """Hides, inside, what orbax and asyncio print of errors that are raised."""
  # The first in a thread of orbax is raised where one waits for the thread: the
  # others need not be printed. Nor is it news that a folder is only read.
  def is_news(record: logging.LogRecord) -> bool:
    return 'orbax' not in record.pathname or not (
        record.exc_info or re.search('read.only', str(record.msg)))

  # It ends the save and its event loop too, which tensorstore's threads say.
  def hook(unraisable):
    if unraisable.exc_type is not RuntimeError or (
        str(unraisable.exc_value) != 'Event loop is closed'):
      before(unraisable)

  loop, absl, before = (logging.getLogger('asyncio'), logging.getLogger('absl'),
                        sys.unraisablehook)
  level = loop.level
  loop.setLevel(logging.CRITICAL)
  absl.addFilter(is_news)
  sys.unraisablehook = hook
  try:
    yield
  finally:
    loop.setLevel(level)
    absl.removeFilter(is_news)
    sys.unraisablehook = before


class Tolerance:
  """Counts saves to a folder that failed in a row."""

  def __init__(self, folder: str, strict: bool,
               abandon: Callable[[int], None]):
    """Each failure is an error if `strict`; `abandon` frees its space."""
    self._folder, self._strict, self._abandon = folder, strict, abandon
    self._unsaved, self._failures = None, 0

  @contextlib.contextmanager
  def saving(self, step: int) -> Iterator[None]:
    """Wraps all that saves a step; raises InputError if the run must end."""
    try:
      with writing(self._folder):
        yield
    except Exception as e:
      # An error of a device has nothing to do with the disk.
      if self._strict or isinstance(
          e, (jax.errors.JaxRuntimeError, TakenOver)):
        raise
      self._unsaved = step
      self._failures += 1
      self._abandon(step)
      why = (str(e) if isinstance(e, InputError) else
             f'cannot write {self._folder}: {first_line(e.__cause__ or e)}')
      say(f'step {step} is not saved: {why}. Older checkpoints stay as they '
          'are; the next save tries again.')
      if self._failures >= MOST_FAILURES:
        raise InputError(
            f'{why}: {self._failures} checkpoints in a row could not be '
            'written. The same command goes on from the newest one that '
            'was.') from e

  def reset(self):
    """A save has succeeded."""
    self._unsaved, self._failures = None, 0

  def conclude(self):
    """Raises InputError if the last state of a run is not saved."""
    if self._unsaved is not None:
      raise InputError(
          f'{self._folder}: step {self._unsaved}, with which the run ends, '
          'could not be saved. Free some space or mend the storage: the same '
          'command goes on from the newest checkpoint that was.')


# The folders of steps.


def check_storage(workdir: str):
  """Refuses a workdir that orbax cannot write to, before any work."""
  scheme, _, rest = workdir.partition('://')
  if not files.is_remote(workdir):
    return
  if scheme not in SCHEMES:
    known = ' and '.join(f'{name}://' for name in SCHEMES)
    raise InputError(
        f'{workdir}: checkpoints can be written to local folders and {known}, '
        f'not to {scheme}://: choose another --workdir. Text and records may '
        'lie there all the same.')
  if scheme == 'gs':
    _check_bucket(workdir, rest.partition('/')[0])


def _check_bucket(workdir: str, bucket: str):
  """Looks the bucket up, as orbax does before it lists or removes a step."""
  try:
    from google.api_core import exceptions
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage
  except ImportError as e:
    raise InputError(
        f'{workdir}: checkpoints in gs:// need the package '
        f'google-cloud-storage: pip install google-cloud-storage. ({e})'
        ) from e
  try:
    storage.Client().get_bucket(bucket)
  except (exceptions.Unauthorized, exceptions.Forbidden, exceptions.NotFound,
          DefaultCredentialsError) as e:
    raise InputError(
        f'{workdir}: checkpoints cannot be written there, for gs://{bucket} '
        'itself cannot be looked at, which takes the permission '
        f'storage.buckets.get ({first_line(e)}).') from e


def saved_steps(folder: str) -> list[int]:
  """Steps of a folder that are finished, oldest first.

  An empty one is not, nor, in a bucket, one without orbax's last file.
  """
  if not files.isdir(folder):
    return []
  steps = sorted(int(name) for name in files.listdir(folder) if name.isdigit())
  if files.is_remote(folder):
    return [step for step in steps
            if files.exists(f'{folder}/{step}/{_LAST}')]
  return [step for step in steps if files.isdir(f'{folder}/{step}')
          and files.listdir(f'{folder}/{step}')]


def make_folder(folder: str):
  """Makes the folder, and removes empty steps in it; all processes call it."""
  # Orbax takes an empty one for the newest step, and saves nothing up to it.
  files.makedirs(folder)
  if processes.first() and not files.is_remote(folder):
    for name in files.listdir(folder):
      if name.isdigit():
        with contextlib.suppress(OSError):  # It is not empty.
          os.rmdir(f'{folder}/{name}')
  processes.gather(None)  # No process looks before they are gone.


def nothing_left(folder: str, aside: list[str]) -> InputError:
  """The error where there are only damaged checkpoints."""
  return InputError(
      f'{folder}: no checkpoint is left to go on from; damaged ones were set '
      f'aside as {", ".join(aside)}. Put back a copy of one as '
      f'{folder}/<step>, begin anew with another --workdir, or, to begin anew '
      'here, move those folders away.')


def set_aside_names(folder: str) -> list[str]:
  """Damaged steps of the folder."""
  if not files.isdir(folder):
    return []
  return [name for name in files.listdir(folder) if name.startswith('damaged-')]


def abandon_step(folder: str, step: int):
  """Hides a step; `keep_steps` removes it."""
  aside = f'{folder}/{ABANDONED}{step}'
  if files.exists(aside):  # Of an earlier start: the newer one is as good.
    files.rmtree(aside)
  rename_step(f'{folder}/{step}', aside)


def keep_steps(folder: str, steps: Collection[int]):
  """Removes all other steps, and abandoned ones; one process calls it."""
  # Renamed first: a kill leaves no partly removed step that looks finished.
  _clear_removed(folder)
  for step in saved_steps(folder):
    if step in steps:
      continue
    if files.is_remote(folder):
      files.remove(f'{folder}/{step}/{_LAST}')
      files.rmtree(f'{folder}/{step}')
    else:
      files.replace(f'{folder}/{step}', f'{folder}/{REMOVED}{step}')
  _clear_removed(folder)


def _clear_removed(folder: str):
  for name in files.listdir(folder) if files.isdir(folder) else ():
    if name.startswith((ABANDONED, REMOVED)):
      files.rmtree(f'{folder}/{name}')


def rename_step(path: str, target: str):
  """Renames a folder, in a bucket too."""
  if files.is_remote(path):
    files.to_epath(path).rename(target)  # files.replace is for files.
  else:
    files.replace(path, target)


@contextlib.contextmanager
def growth_heard(folder: str) -> Iterator[None]:
  """While one waits for a save, that its files grow is a sign of life."""
  stop = threading.Event()

  def look():
    seen = None
    while not stop.wait(LOOK_SECONDS):
      with contextlib.suppress(OSError, ValueError):  # Renamed meanwhile.
        newest = max(files.listdir(folder), key=lambda name: int(
            name.partition('.')[0]) if name[0].isdigit() else -1)
        if (found := _sizes(f'{folder}/{newest}')) != seen:
          seen = found
          advance()

  threading.Thread(target=look, daemon=True, name='robertax-growth').start()
  try:
    yield
  finally:
    stop.set()  # Not joined: where the storage hangs, a look does too.


def _sizes(path: str) -> dict[str, int]:
  """Bytes of each file below a folder."""
  if not files.isdir(path):
    return {path: files.stat(path).size}
  return {file: size for name in files.listdir(path)
          for file, size in _sizes(f'{path}/{name}').items()}


def by_first(path: str, change: Callable[[], None]):
  """change(), which writes the path, by process 0; all processes call this."""
  def write():
    if processes.first():
      with writing(path):
        change()

  processes.together(write)


def finished_step(workdir: str, folder: str = 'checkpoints') -> int | None:
  """The newest finished checkpoint's step; None: there is none.

  Raises:
    InputError: all checkpoints are damaged.
  """
  path = f'{workdir}/{folder}'
  steps = saved_steps(path)
  if not steps and (aside := set_aside_names(path)):
    raise nothing_left(path, aside)
  return steps[-1] if steps else None


def _orbax() -> Any:
  """Imported when needed: that takes half a second."""
  import orbax.checkpoint
  return orbax.checkpoint


class Checkpoints:
  """The checkpoints of one workdir; saving goes on in the background."""

  def __init__(self, workdir: str, keep: int = 0, *, keep_every: int = 0,
               read_only: bool = False, alone: bool = False,
               folder: str = 'checkpoints', strict: bool = True,
               belongs: Mapping[str, str] | None = None,
               check: Callable[[], None] = lambda: None):
    """Makes the folder, unless it is read only.

    Args:
      workdir: W.
      keep: newest checkpoints that stay; 0: all.
      keep_every: those at multiples of so many steps stay too; 0: none.
      read_only: makes and removes nothing. A writer removes unfinished saves,
        so there is one at a time, and a reader is none: it could remove what a
        live run is saving.
      alone: this process reads by itself; else all processes do the same.
      folder: of W; `best` for weights alone.
      strict: any failure to write is an error. Else only MOST_FAILURES in a
        row, or the last of a run. Always so over several processes, which
        cannot agree on what only one of them has seen.
      belongs: of facts.identity; saved with each state.
      check: of workdir.Lock; is called before each save.
    """
    self.folder = f'{workdir}/{folder}'
    self._keep, self._keep_every = keep, keep_every
    self._alone, self._belongs = alone, dict(belongs or {})
    self._check = check
    self._manager, self._under_way = None, None
    self._tolerance = Tolerance(
        self.folder, strict or jax.process_count() > 1, self._abandon)
    if not read_only:
      with writing(self.folder):
        files.makedirs(self.folder)

  def restorable(self) -> list[int]:
    """The newest two finished steps, and the one that is being saved: a later
    start is likely to go on from one of them.
    """
    under_way = [] if self._under_way is None else [self._under_way]
    return [*saved_steps(self.folder)[-2:], *under_way]

  def save(self, step: int, state: TrainState, last: bool = False):
    """Starts to save; returns when the arrays may change again.

    Unless it is the `last`, a save is left out, with a message, if the one
    before it is still under way SLOW_SECONDS later.

    Raises:
      InputError: the folder cannot be written, and `strict`, or too often.
    """
    if not last and self._slow(step):
      return
    self._settle()
    with self._tolerance.saving(step):
      self.check_held()
      items = {'params': as_dict(state.params),
               'opt_state': as_dict(state.opt_state)}
      if not self._open().save(step, args=self._args(step, items)):
        raise InputError(f'{self.folder} has a folder of a newer step')
      self._under_way = step

  def check_held(self):
    """Raises TakenOver, in all processes, if another run has the workdir."""
    processes.together(self._check)

  def replace_params(self, step: int, params: Any):
    """Saves weights alone, in place of what that step has."""
    with writing(self.folder):
      manager = self._open()
      if step in manager.all_steps():
        manager.delete(step)
      manager.save(step, args=self._args(step, {'params': as_dict(params)}),
                   force=True)

  def shapes(self, step: int, item: str = 'params') -> Any:
    """Nested dict of ShapeDtypeStructs of a saved item; raises Damaged."""
    with hushed(), facts.reading_checkpoint(f'{self.folder}/{step}'):
      found = _orbax().StandardCheckpointHandler().metadata(
          self._epath() / str(step) / item)
      return jax.tree.map(
          lambda x: jax.ShapeDtypeStruct(tuple(x.shape), x.dtype),
          getattr(found, 'tree', found))

  def restore_newest(self, abstract: TrainState, allowed: str = ''
                     ) -> TrainState:
    """The newest state that is whole; damaged ones above it are set aside.

    Raises:
      InputError: none is left; it is of another shape, or belongs to other
        data, tokenizer or code than train.allow_changed (`allowed`) names.
    """
    for step in reversed(processes.gather(saved_steps(self.folder))[0]):
      try:
        self.check(step, allowed)
        return self.restore(step, abstract)
      except Damaged as e:
        self.set_aside(step, e)
    raise nothing_left(self.folder, set_aside_names(self.folder))

  def check(self, step: int, allowed: str = ''):
    """Refuses a step of other data, tokenizer or code (InputError, Damaged)."""
    def look():
      found = facts.read_facts(self.folder, step)
      facts.check_identity(f'{self.folder}/{step}', found and found['belongs'],
                           self._belongs, allowed)
    self._agreeing(look)

  def restore(self, step: int, abstract: TrainState) -> TrainState:
    """Reads a whole state onto the shardings of `abstract`.

    Raises:
      Damaged: its checksums differ, or it cannot be read.
      InputError: it is of another shape, or has no optimizer's state.
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
      found = facts.read_facts(self.folder, step)
      for name, tree in items.items():
        facts.check_shapes(
            where, name,
            facts.array_kinds(self.shapes(step, name))
            if found is None else
            {path: kind for path, (kind, *_) in
             found['sums'].get(name, {}).items()}, tree)
      with hushed(), facts.reading_checkpoint(where):
        # The handler itself does not wait for other processes: none hangs if
        # one of them cannot read its part.
        ocp = _orbax()
        handler, restored = ocp.StandardCheckpointHandler(), {}
        for name, tree in items.items():
          restored[name] = handler.restore(
              self._epath() / str(step) / name,
              args=ocp.args.StandardRestore(tree))
          advance()
        return found, restored

    found, restored = self._agreeing(read)
    if found is not None:
      # Checksums are of whole arrays: the same in each process.
      wrong = facts.unlike_arrays(found, restored)
      if wrong:
        raise processes.agreed(Damaged(
            where, f'other values than were saved, in {wrong}'))
    return restored

  def _agreeing(self, function: Callable[[], Any]) -> Any:
    """function(), whose errors all processes raise, unless `alone`."""
    return function() if self._alone else processes.together(
        function, Damaged)

  def set_aside(self, step: int, why: Damaged):
    """Renames a damaged step, with a message; all processes call it."""
    aside = next(name for name in (f'damaged-{step}-{n}'
                                   for n in itertools.count(1))
                 if not files.exists(f'{self.folder}/{name}'))
    processes.gather(aside)  # Renamed when each has seen which name is free.
    by_first(self.folder, lambda: rename_step(
        f'{self.folder}/{step}', f'{self.folder}/{aside}'))
    say(f'{why} It is set aside as {self.folder}/{aside}; looking for the '
        'one before it.')

  def _args(self, step: int, items: dict[str, Any]) -> Any:
    values = {'step': step, 'belongs': self._belongs,
              'sums': {name: tree_sums(tree) for name, tree in items.items()}}
    ocp = _orbax()
    return ocp.args.Composite(
        facts=ocp.args.JsonSave(facts.sealed_facts(values)),
        **{name: ocp.args.StandardSave(tree) for name, tree in items.items()})

  def _open(self) -> Any:
    """Orbax's manager: only for writing, and anew after a failure."""
    if self._manager is None:
      ocp = _orbax()
      from orbax.checkpoint import checkpoint_managers
      preserve = [checkpoint_managers.LatestN(self._keep or None)]
      if self._keep_every:
        preserve.append(checkpoint_managers.EveryNSteps(self._keep_every))
      make_folder(self.folder)
      self._manager = ocp.CheckpointManager(
          self._epath(), options=ocp.CheckpointManagerOptions(
              create=True, cleanup_tmp_directories=True,
              preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                  preserve),
              save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1)),
          item_names=(*ITEMS, 'facts'))
    return self._manager

  def _epath(self) -> Any:
    """The folder as orbax takes it."""
    return files.to_epath(self.folder)

  def _slow(self, step: int) -> bool:
    """Whether the save before it takes too long, in any process."""
    def busy():
      return (self._under_way is not None
              and self._manager.is_saving_in_progress())

    end = time.monotonic() + SLOW_SECONDS
    while busy() and time.monotonic() < end:
      time.sleep(0.01)
    slow = any(processes.gather(busy()))
    if slow:
      say(f'step {step} is not saved: the checkpoint of step '
          f'{self._under_way} is still being written to {self.folder}, '
          'whose storage is slow.')
    return slow

  def _settle(self):
    """Waits for the save under way, and counts it if it fails."""
    step, self._under_way = self._under_way, None
    if step is None:
      return
    with self._tolerance.saving(step), growth_heard(self.folder):
      self._manager.wait_until_finished()
    if self._manager is not None:
      self._tolerance.reset()

  def _abandon(self, step: int):
    """Frees what a failed save has filled."""
    manager, self._manager, self._under_way = self._manager, None, None
    with contextlib.suppress(Exception):
      if manager is not None:
        manager.close()
    try:
      self.check_held()  # Else it may be another run's.
      for name in files.listdir(self.folder):
        if name.startswith(f'{step}.orbax-checkpoint-tmp'):
          files.rmtree(f'{self.folder}/{name}')
    except TakenOver:
      raise
    except Exception:
      pass  # The failed save is reported.

  def wait(self):
    """Returns when everything is on disk; raises as `save`."""
    self._settle()
    if self._manager is not None:
      with writing(self.folder), growth_heard(self.folder):
        self._manager.wait_until_finished()

  def close(self):
    """Waits, and ends the background threads; raises as `save`."""
    self.wait()
    if self._manager is not None:
      self._manager.close()
      self._manager = None
    self._tolerance.conclude()
