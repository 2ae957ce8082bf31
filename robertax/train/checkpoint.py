"""Checkpoints: the only file that knows orbax.

`W/checkpoints/<step>/` holds `params` and `opt_state` as plain nested dicts, so
that weights can be read without an optimizer, and `facts` (train.facts):
checksums of the arrays, and the data that the state belongs to. They appear
together, when orbax renames the folder. What is read is compared with the
checksums; a damaged step is set aside, and the one before it is used.
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

# So many failed saves in a row end a run: an error is better than days of steps
# that are saved nowhere.
MOST_FAILURES = 3
RETRY_SECONDS = 15.0
SLOW_SECONDS = 60.0  # A save is left out if the one before it takes longer.
LOOK_SECONDS = 2.0  # Between two looks at how far a save has come.
ITEMS = ('params', 'opt_state')
SCHEMES = ('gs',)  # The remote storage that orbax writes arrays to.
_LAST = 'commit_success.txt'  # The file that orbax writes last in a bucket.
# Prefixes of steps that another start has given up, and of those being removed.
ABANDONED, REMOVED = 'abandoned-', 'removed-'


def as_dict(tree: Any) -> dict[str, Any]:
  """Returns nested dicts: ({'w': 1}, 2) gives {'0': {'w': 1}, '1': 2}."""
  nested: dict[str, Any] = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    *parents, last = [_key_name(key) for key in path]
    node = nested
    for name in parents:
      node = node.setdefault(name, {})
    node[last] = leaf
  return nested


def _key_name(key: Any) -> str:
  return jax.tree_util.keystr((key,), simple=True)


def from_dict(nested: dict[str, Any], like: Any) -> Any:
  """Inverts `as_dict`, with the structure of `like`."""
  paths, treedef = jax.tree_util.tree_flatten_with_path(like)
  leaves = []
  for path, _ in paths:
    node = nested
    for key in path:
      node = node[_key_name(key)]
    leaves.append(node)
  return jax.tree_util.tree_unflatten(treedef, leaves)


# A save that fails is reported and tried again, but not for ever.


_hushing = threading.Lock()
_hushed = 0  # Bodies of `hushed` that are under way, in all threads.
_restore = contextlib.ExitStack()


@contextlib.contextmanager
def hushed() -> Iterator[None]:
  """Hides what orbax and asyncio print about errors that are raised anyway."""
  global _hushed
  with _hushing:
    _hushed += 1
    if _hushed == 1:
      _restore.enter_context(_hush())
  try:
    yield
  finally:
    with _hushing:
      _hushed -= 1
      if not _hushed:
        _restore.close()


@contextlib.contextmanager
def _hush() -> Iterator[None]:
  # Orbax also warns about read-only folders, which are expected here.
  def is_news(record: logging.LogRecord) -> bool:
    return 'orbax' not in record.pathname or not (
        record.exc_info or re.search('read.only', str(record.msg)))

  # tensorstore's threads complain of the event loop that ended with the save.
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
    if sys.unraisablehook is hook:  # Else the body has set its own.
      sys.unraisablehook = before


class Tolerance:
  """Counts the saves to a folder that failed in a row."""

  def __init__(self, folder: str, strict: bool, abandon: Callable[[int], None]):
    """If `strict`, each failure is an error; `abandon` frees its space."""
    self._folder, self._strict, self._abandon = folder, strict, abandon
    self._unsaved, self._failures = None, 0

  @contextlib.contextmanager
  def saving(self, step: int) -> Iterator[None]:
    """Wraps the saving of a step; raises InputError if the run must end."""
    try:
      with writing(self._folder):
        yield
    except Exception as e:
      # Device errors are not failures of storage.
      if self._strict or isinstance(e, (jax.errors.JaxRuntimeError, TakenOver)):
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
    """Notes that a save has succeeded."""
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
        'be there all the same.')
  if scheme == 'gs':
    _check_bucket(workdir, rest.partition('/')[0])


def _check_bucket(workdir: str, bucket: str):
  """Looks up the bucket, as orbax does before it lists or removes a step."""
  try:
    from google.api_core import exceptions
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage
  except ImportError as e:
    raise InputError(
        f'{workdir}: checkpoints in gs:// need the package google-cloud-storage'
        f': pip install google-cloud-storage. ({e})') from e
  try:
    storage.Client().get_bucket(bucket)
  except (exceptions.Unauthorized, exceptions.Forbidden, exceptions.NotFound,
          DefaultCredentialsError) as e:
    raise InputError(
        f'{workdir}: checkpoints cannot be written there, because '
        f'gs://{bucket} itself cannot be looked up, which takes the permission '
        f'storage.buckets.get ({first_line(e)}).') from e


def saved_steps(folder: str) -> list[int]:
  """Lists the finished steps, oldest first.

  An empty step is not finished, nor one in a bucket without orbax's last file.
  """
  if not files.isdir(folder):
    return []
  steps = sorted(int(name) for name in files.listdir(folder) if name.isdigit())
  if files.is_remote(folder):
    return [step for step in steps if files.exists(f'{folder}/{step}/{_LAST}')]
  return [step for step in steps if files.isdir(f'{folder}/{step}')
          and files.listdir(f'{folder}/{step}')]


def make_folder(folder: str):
  """Makes the folder and removes its empty steps; all processes call it."""
  # Orbax would take an empty one for the newest step and save no earlier one.
  files.makedirs(folder)
  if processes.first() and not files.is_remote(folder):
    for name in files.listdir(folder):
      if name.isdigit():
        with contextlib.suppress(OSError):  # It is not empty.
          os.rmdir(f'{folder}/{name}')
  processes.gather(None)  # No process looks before they are gone.


def nothing_left(folder: str, aside: list[str]) -> InputError:
  """Makes the error for a folder that has only damaged checkpoints."""
  return InputError(
      f'{folder}: no checkpoint is left to go on from; damaged ones were set '
      f'aside as {", ".join(aside)}. Put back a copy of one as '
      f'{folder}/<step>, begin anew with another --workdir, or, to begin anew '
      'here, move those folders away.')


def set_aside_names(folder: str) -> list[str]:
  """Names the folders of damaged steps."""
  return [name for name in files.listdir(folder)
          if name.startswith('damaged-')] if files.isdir(folder) else []


def abandon_step(folder: str, step: int):
  """Hides a step, which `keep_steps` then removes."""
  aside = f'{folder}/{ABANDONED}{step}'
  if files.exists(aside):  # An earlier start left it; the newer is as good.
    files.rmtree(aside)
  rename_step(f'{folder}/{step}', aside)


def keep_steps(folder: str, steps: Collection[int]):
  """Removes all other steps and abandoned ones; one process calls it."""
  # Renamed first, so that a kill leaves no half removed step that looks whole.
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
  """Counts the growth of a save's files, while it is awaited, as progress."""
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
  """Returns the bytes of each file below a folder."""
  if not files.isdir(path):
    return {path: files.stat(path).size}
  return {file: size for name in files.listdir(path)
          for file, size in _sizes(f'{path}/{name}').items()}


def by_first(path: str, change: Callable[[], None]):
  """Lets process 0 call `change`, which writes the path; all call this."""
  def write():
    if processes.first():
      with writing(path):
        change()

  processes.together(write)


def finished_step(workdir: str, folder: str = 'checkpoints') -> int | None:
  """Returns the newest finished step; raises InputError if all are damaged."""
  path = f'{workdir}/{folder}'
  steps = saved_steps(path)
  if not steps and (aside := set_aside_names(path)):
    raise nothing_left(path, aside)
  return steps[-1] if steps else None


def _orbax() -> Any:
  """Imports orbax when it is needed, because that takes half a second."""
  import orbax.checkpoint
  return orbax.checkpoint


class Checkpoints:
  """The checkpoints of one workdir; saving goes on in the background."""

  def __init__(self, workdir: str, keep: int = 0, *, keep_every: int = 0,
               read_only: bool = False, alone: bool = False,
               folder: str = 'checkpoints', strict: bool = True,
               belongs: Mapping[str, str] | None = None,
               check: Callable[[], None] = lambda: None):
    """Makes the folder, unless `read_only`.

    Args:
      keep: how many of the newest checkpoints stay; 0: all.
      keep_every: checkpoints at multiples of so many steps stay too; 0: none.
      read_only: nothing is made or removed. A writer removes unfinished saves,
        so a reader that was one could remove what a live run is saving.
      alone: this process reads by itself; else all processes do the same.
      folder: the folder in W; `best` has weights alone.
      strict: any failure to write is an error; else only MOST_FAILURES in a
        row, or the last of a run. Several processes are always strict, because
        they cannot agree on what only one of them has seen.
      belongs: facts.identity, which is saved with each state.
      check: workdir.Lock.check, which is called before each save.
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
    """Returns the steps from which a later start is likely to go on."""
    under_way = [] if self._under_way is None else [self._under_way]
    return [*saved_steps(self.folder)[-2:], *under_way]

  def save(self, step: int, state: TrainState, last: bool = False):
    """Starts to save; returns when the arrays may change again.

    Unless it is the `last`, a save is left out, with a message, if the one
    before it is under way SLOW_SECONDS later. Raises InputError where a failure
    is not tolerated.
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
    processes.together(self._check, TakenOver)

  def replace_params(self, step: int, params: Any):
    """Saves weights alone, in place of what the step has."""
    with writing(self.folder):
      manager = self._open()
      if step in manager.all_steps():
        manager.delete(step)
      manager.save(step, args=self._args(step, {'params': as_dict(params)}),
                   force=True)

  def shapes(self, step: int, item: str = 'params') -> Any:
    """Returns the nested ShapeDtypeStructs of an item; raises Damaged."""
    with hushed(), facts.reading_checkpoint(f'{self.folder}/{step}'):
      found = _orbax().StandardCheckpointHandler().metadata(
          self._epath() / str(step) / item)
      return jax.tree.map(
          lambda x: jax.ShapeDtypeStruct(tuple(x.shape), x.dtype),
          getattr(found, 'tree', found))

  def restore_newest(self, abstract: TrainState, allowed: str = ''
                     ) -> TrainState:
    """Restores the newest whole state; damaged ones above it are set aside.

    Raises InputError if none is left, or if it has another shape, or belongs to
    other data, tokenizer or code, which train.allow_changed does not allow.
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
    """Reads a state onto `abstract`'s shardings; raises Damaged, InputError."""
    params, opt_state = (files.isdir(f'{self.folder}/{step}/{item}')
                         for item in ITEMS)
    if params and not opt_state:
      raise InputError(
          f'{self.folder}/{step} holds weights alone, and no optimizer state: '
          'begin another run from them, with another --workdir and '
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
            facts.array_kinds(self.shapes(step, name)) if found is None else
            {path: sums[0] for path, sums in
             found['sums'].get(name, {}).items()}, tree)
      with hushed(), facts.reading_checkpoint(where):
        # The handler does not wait for other processes, so none hangs if one of
        # them cannot read its part.
        ocp = _orbax()
        handler, restored = ocp.StandardCheckpointHandler(), {}
        for name, tree in items.items():
          restored[name] = handler.restore(self._epath() / str(step) / name,
                                           args=ocp.args.StandardRestore(tree))
          advance()
        return found, restored

    found, restored = self._agreeing(read)
    # Checksums are those of whole arrays, hence the same in each process.
    if found is not None and (wrong := facts.unlike_arrays(found, restored)):
      raise processes.agreed(Damaged(
          where, f'other values than were saved, in {wrong}'))
    return restored

  def _agreeing(self, function: Callable[[], Any]) -> Any:
    """Calls the function; unless `alone`, all processes raise its errors."""
    return function() if self._alone else processes.together(function, Damaged)

  def set_aside(self, step: int, why: Damaged):
    """Renames a damaged step, with a message; all processes call it."""
    aside = next(name for name in (f'damaged-{step}-{n}'
                                   for n in itertools.count(1))
                 if not files.exists(f'{self.folder}/{name}'))
    processes.gather(aside)  # Each process has seen which name is free.
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
    """Opens orbax's manager, for writing alone; anew after a failure."""
    if self._manager is None:
      ocp = _orbax()
      from orbax.checkpoint import checkpoint_managers
      preserve = [checkpoint_managers.LatestN(self._keep or None)]
      if self._keep_every:
        preserve.append(checkpoint_managers.EveryNSteps(self._keep_every))
      make_folder(self.folder)
      options = ocp.CheckpointManagerOptions(
          create=True, cleanup_tmp_directories=True,
          preservation_policy=checkpoint_managers.AnyPreservationPolicy(
              preserve),
          save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1))
      self._manager = ocp.CheckpointManager(
          self._epath(), options=options, item_names=(*ITEMS, 'facts'))
    return self._manager

  def _epath(self) -> Any:
    return files.to_epath(self.folder)

  def _slow(self, step: int) -> bool:
    """Tells whether the save before it takes too long, in any process."""
    def busy():
      return (self._under_way is not None
              and self._manager.is_saving_in_progress())

    end = time.monotonic() + SLOW_SECONDS
    while busy() and time.monotonic() < end:
      time.sleep(0.01)
    slow = any(processes.gather(busy()))
    if slow:
      say(f'step {step} is not saved: the checkpoint of step {self._under_way} '
          f'is still being written to {self.folder}, whose storage is slow.')
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
      self.check_held()  # Else the files may be another run's.
      for name in files.listdir(self.folder):
        if name.startswith(f'{step}.orbax-checkpoint-tmp'):
          files.rmtree(f'{self.folder}/{name}')
    except TakenOver:
      raise
    except Exception as e:  # The failed save itself is reported besides.
      say(f'{self.folder}: what the failed save of step {step} wrote is left '
          f'there: {first_line(e)}')

  def wait(self):
    """Returns when everything is on disk; raises as `save`."""
    self._settle()
    if self._manager is not None:
      with writing(self.folder), growth_heard(self.folder):
        self._manager.wait_until_finished()

  def close(self, last: bool = True):
    """Waits and ends the background threads; raises as `save`.

    The `last` save of a run must have succeeded.
    """
    self.wait()
    if self._manager is not None:
      self._manager.close()
      self._manager = None
    if last:
      self._tolerance.conclude()

  def close_to_go_back(self):
    """Closes before a roll-back, to the save that may be under way.

    Going back writes in W. So it waits while it cannot be known who holds W, as
    long as saves may fail in a row.
    """
    self.close(last=False)
    for left in reversed(range(MOST_FAILURES)):
      try:
        return self.check_held()
      except InputError as e:
        if isinstance(e, TakenOver) or not left:
          raise
        say(f'{e}. The run waits with going back to a checkpoint.')
        advance()
        time.sleep(RETRY_SECONDS)
