"""Locks a workdir, checks its config, and selects its valid weights.

One run at a time holds it: a second is refused, and told which is the first.
Where the operating system has locks, W/.lock is locked while the first process
lives, so a killed run locks nobody out. Elsewhere (gs://, some network disks) a
heartbeat in W/.lease takes its place.
"""

import contextlib
import dataclasses
import errno
import json
import math
import os
import threading
import time
from typing import Any

from robertax import errors, files
from robertax.config import (
    FREE_ON_RESUME,
    MASKED_LM,
    Config,
    differences,
    parse,
    to_dict,
)
from robertax.errors import InputError, first_line, writing
from robertax.parallel import processes
from robertax.progress import call_out
from robertax.tasks.task import ORIGIN, read_object
from robertax.text import Tokenizer
from robertax.train import optimizer
from robertax.train.checkpoint import finished_step, saved_steps
from robertax.train.writer import read_metrics

BEAT_SECONDS = 15.0  # Between two heartbeats of a lease.
LOST_SECONDS = 60.0  # Without one until another run may take it over.
BEST_FOLDER = 'best'
# Keys at their default that a task fills in: what follows from the tokenizer or
# the format (which are compared), its heads, the steps of its epochs.
FILLED_IN = {'data': ('corpora',),  # Older versions took the embedded text.
             'model': ('vocab_size', 'num_types', 'nsp_head', 'lm_head',
                       'num_classes', 'span_head', 'pair_layout'),
             'train': ('steps', 'eval_every', 'checkpoint_every'),
             'finetune': ('labels',)}


class Lock:
  """A `with` that holds W, in process 0, for as long as the run lasts."""

  def __init__(self, workdir: str):
    self._workdir, self._lock, self._lease = workdir, None, None
    self.held = False

  def __enter__(self) -> 'Lock':
    """Takes W if it exists, because then there is something to lose."""
    processes.together(lambda: self._take() if processes.first()
                       and files.isdir(self._workdir) else None)
    return self

  def make(self):
    """Makes and takes W, unless it is taken already; process 0 calls it."""
    if self.held:
      return
    with writing(self._workdir):
      files.makedirs(self._workdir)
    self._take()
    if files.exists(f'{self._workdir}/config.json'):
      raise InputError(f'another run has begun in {self._workdir} meanwhile: '
                       'give the same command again to go on with it, or '
                       'choose another --workdir.')

  def check(self):
    """Raises as `Lease.check`; a lock of the system cannot be lost."""
    if self._lease:
      self._lease.check()

  def __exit__(self, *unused):
    if self._lease:
      self._lease.give_back()
    if self._lock:
      # The file is removed while it is held: a process that opens it later
      # makes another, and one that has opened it sees that it is gone
      # (filelock). If it cannot be removed, it locks nobody out.
      with contextlib.suppress(OSError):
        os.remove(self._lock.lock_file)
      self._lock.release()
    self._lock, self._lease, self.held = None, None, False

  def _take(self):
    if files.is_remote(self._workdir):
      self._lease = Lease(self._workdir)
      self.held = True
      return
    path = f'{self._workdir}/.lock'
    with writing(path):
      # A holder that ends just now removes the file, so it is tried again.
      lock, ours = files.lock(path, wait=.1)
    if ours is False:
      holder = ''
      with contextlib.suppress(OSError), files.open(path) as f:
        holder = f.read()
      raise InputError(refusal(self._workdir, holder))
    if ours is None:  # This disk has no locks.
      self._lease = Lease(self._workdir)
    else:
      self._lock = lock
      with contextlib.suppress(OSError), open(path, 'wb', buffering=0) as f:
        f.write(json.dumps(files.this_process()).encode())  # Unless it is full.
    self.held = True


class Lease:
  """W/.lease, which is written again and again while its holder lives.

  A holder that stood still may have been taken for dead. So each heartbeat only
  replaces the one before it, and `check` precedes all other writing in W.
  """

  def __init__(self, workdir: str, beat: float | None = None,
               lost: float | None = None):
    """Takes the lease; waits if a holder in another place may be dead."""
    self.path, self._workdir = f'{workdir}/.lease', workdir
    self._me = files.this_process()
    self._beat = beat or BEAT_SECONDS
    self._one, self._written = threading.Lock(), -math.inf
    self._other: bytes | None = None  # The file's content, once it is lost.
    with writing(self.path):
      self._seen = self._wait(lost or LOST_SECONDS)
      taken = self._write()
    if not taken:
      raise InputError(refusal(workdir, self._other))
    self._stop = threading.Event()
    self._thread = threading.Thread(target=self._go, name='lease', daemon=True)
    self._thread.start()

  def check(self):
    """Must precede what only the holder may write.

    Raises TakenOver if another run holds the lease or has held it, and
    InputError if that cannot be known.
    """
    try:
      held = (self._look() if time.monotonic() - self._written < self._beat
              else self._write())
    except OSError as e:
      raise InputError(f'cannot read and write {self.path}, by which this run '
                       f'holds its workdir: {first_line(e)}') from e
    if not held:
      raise errors.TakenOver(
          f'{self._workdir}: {_describe(self._other, "another run")} has '
          'taken it, because this process stood still, or could not reach it, '
          'and passed for dead. This one writes nothing more and ends; the '
          'other goes on from the newest checkpoint.')

  def give_back(self):
    """Stops the heartbeat, and removes the file if it is still ours."""
    self._stop.set()
    self._thread.join()
    with contextlib.suppress(OSError):
      if self._look():
        files.write_version(self.path, None, self._seen)

  def _wait(self, lost: float) -> files.Version:
    """Waits for the file to change, because clocks of machines differ."""
    seen = files.read_version(self.path)
    holder = _holder(seen)
    if not holder:
      return seen
    if (alive := files.is_alive(holder)) is not None:
      if not alive:
        return seen
      raise InputError(refusal(self._workdir, seen.data))
    call_out(f'{self.path} belongs to {_describe(seen.data, "another run")}: '
             f'waiting for up to {lost:.0f} s to see whether it lives.')
    end = time.monotonic() + lost
    while time.monotonic() < end:
      time.sleep(min(1.0, lost / 10))
      now = files.read_version(self.path)
      if not now.data:
        return now
      if now != seen:
        raise InputError(refusal(self._workdir, now.data))
    return seen

  def _write(self) -> bool:
    """Writes a heartbeat; returns False if the lease is not ours any more."""
    with self._one:
      begun = time.monotonic()
      beat = json.dumps(self._me | {'beat': time.time()}).encode()
      seen = (files.write_version(self.path, beat, self._seen)
              if self._other is None else None)
      if seen is not None:
        self._seen, self._written = seen, begun
        return True
    return self._look()  # It may have been written and the answer lost.

  def _look(self) -> bool:
    """Tells whether the lease is ours; once lost, it stays lost."""
    with self._one:
      if self._other is None:
        seen = files.read_version(self.path)
        if _holder(seen).get('id') == self._me['id']:
          self._seen = seen
        else:
          self._other = seen.data or b''
      return self._other is None

  def _go(self):
    failed = False
    while not self._stop.wait(self._beat):
      try:
        if not self._write():
          return  # The next `check` raises.
        failed = False
      except Exception as e:  # The next heartbeat may succeed.
        if not failed:
          call_out(f'{self.path} cannot be written ({e}): while that is so, '
                   'another run may treat this workdir as unused.')
        failed = True


def refusal(workdir: str, holder: str | bytes | None) -> str:
  """Words the error of a second run; `holder`: JSON of a process."""
  return (f'{workdir} is in use by {_describe(holder, "another process")}: two '
          'runs in one workdir would spoil it. Wait for that one, stop it, or '
          'choose another --workdir.')


def _describe(holder: str | bytes | None, otherwise: str) -> str:
  try:
    found = json.loads(holder or '')
    return (f'process {found["pid"]} on {found["host"]}, since '
            f'{found["since"]}')
  except (ValueError, KeyError, TypeError):
    return otherwise


def _holder(seen: files.Version) -> dict[str, Any]:
  try:
    return dict(json.loads(seen.data or b'{}'))
  except (ValueError, TypeError):
    return {}


# metrics.jsonl is the index of W/best: it is cut back to the checkpoint that a
# start goes on from. A step of W/best counts if it has a line with an
# evaluation; any other was given up, or the run was killed before its line was
# written. So train.evaluate hides such steps before the first line is written.


def logged_evaluations(workdir: str, metric: str, last: int
                       ) -> dict[int, float]:
  """Returns step -> value of `metric` in the evaluations up to step `last`."""
  path = f'{workdir}/metrics.jsonl'
  if not files.exists(path):
    return {}
  return {line['step']: line[metric] for _, line in read_metrics(path)
          if 0 < line['step'] <= last and is_value(line.get(metric))}


def is_value(value: Any) -> bool:
  """Tells whether a metric is a finite number."""
  return isinstance(value, (int, float)) and math.isfinite(value)


def best_or_newest(workdir: str) -> tuple[str, int | None]:
  """Returns folder and step (or None) of a run's best, else newest, weights.

  Raises InputError if a line of metrics.jsonl or every checkpoint is damaged.
  """
  if best := _best_step(workdir):
    return BEST_FOLDER, best
  return 'checkpoints', finished_step(workdir)


def _best_step(workdir: str) -> int:
  """Returns the newest step of W/best that counts, the best one; 0: none."""
  kept = saved_steps(f'{workdir}/{BEST_FOLDER}')
  path = f'{workdir}/metrics.jsonl'
  if not kept or not files.exists(path):  # Only weights were copied.
    return max(kept, default=0)
  lines = [line for _, line in read_metrics(path)]
  evaluated = {line['step'] for line in lines if any(
      name.startswith('eval/') and is_value(value)
      for name, value in line.items())}
  counts = [step for step in kept if step in evaluated]
  if not counts and not files.isdir(f'{workdir}/checkpoints'):
    # A sweep removes checkpoints at its end; if no evaluation of a run had a
    # value, the last weights were kept.
    counts = [step for step in kept if lines and step == lines[-1]['step']]
  return max(counts, default=0)


def saved_weights(workdir: str) -> tuple[str, int]:
  """Returns `best_or_newest`; raises InputError if there are no weights."""
  folder, step = best_or_newest(workdir)
  if step is None:
    raise InputError(f'{workdir!r} has saved no checkpoint yet.')
  return folder, step


def with_weights(path: str) -> str:
  """Returns the workdir of a sweep's best run; any other path as it is."""
  try:
    run = files.read_json(f'{path}/results.json')['best_run']
  except (OSError, InputError, ValueError, KeyError, TypeError):
    return path
  return f'{path}/{run}'


def weights_step(workdir: str) -> int | None:
  """Returns the step of `saved_weights`; None: none, or they are damaged."""
  try:
    return saved_weights(with_weights(workdir))[1]
  except (InputError, OSError):
    return None


def weights_config(workdir: str) -> Config:
  """Reads the config of a workdir that has weights; else raises InputError."""
  config = read_config(workdir)
  if config is None:
    raise InputError(f'{workdir!r} is not a workdir of robertax: it ' + (
        'has no config.json.' if files.exists(workdir) else 'does not exist.'))
  # A sweep keeps only the best weights of some runs.
  if not any(files.isdir(f'{workdir}/{folder}')
             for folder in ('checkpoints', BEST_FOLDER)):
    raise InputError(f'{workdir!r} has no checkpoints yet.')
  return config


def read_config(workdir: str) -> Config | None:
  """Reads W/config.json; None if it is missing, InputError if it is damaged."""
  path = f'{workdir}/config.json'
  if not files.exists(path):
    return None
  try:
    values = files.read_json(path)
    # Older versions had no other layout, and their models were trained in it.
    values.get('model', {}).setdefault('pair_layout', 'types')
    return parse(values)
  except (OSError, ValueError, AttributeError, RecursionError) as e:
    errors.raise_unless_damage(e, path)
    raise InputError(f'{path}: not a config written by robertax ({e}). Put '
                     'its own back, or choose another folder.') from e


def class_names(workdir: str) -> tuple[tuple[str, ...], str]:
  """Returns the names of a model's classes, in order, and its problem type."""
  origin = read_object(f'{workdir}/{ORIGIN}')
  config = weights_config(workdir)
  labels = origin.get('labels') or [
      name for name in config.finetune.labels.split(',') if name]
  kind = origin.get('problem_type', '')
  if config.task == 'text_classification':
    kind = config.finetune.problem_type
  elif config.model.num_classes == 1 and not config.task.startswith(
      (MASKED_LM, 'race')):
    kind = 'regression'
  return tuple(labels), kind


def check_config(workdir: str, config: Config) -> Config:
  """Fills in what the workdir's task has filled in; refuses a workdir that
  belongs to another config, or has checkpoints and no config.
  """
  saved = read_config(workdir)
  if saved is None:
    folder = f'{workdir}/checkpoints'
    if files.isdir(folder) and files.listdir(folder):
      raise InputError(
          f'{workdir} has checkpoints, but no config.json that says of which '
          'model. Put it back, or choose another --workdir.')
    return config
  blank = {'lm_head': True, 'labels': '', 'corpora': '',
           'pair_layout': 'auto'}
  for section, keys in FILLED_IN.items():
    here, there = getattr(config, section), getattr(saved, section)
    config = dataclasses.replace(config, **{section: dataclasses.replace(
        here, **{key: getattr(there, key) for key in keys
                 if getattr(here, key) == blank.get(key, 0)})})
  lines = [line for line in differences(to_dict(saved), to_dict(config))
           if line.partition(':')[0] not in FREE_ON_RESUME]
  if [line.partition(':')[0] for line in lines] == ['train.steps'] and (
      optimizer.may_lengthen(saved, config)):
    lines = []
  if lines:
    raise InputError(
        f'{workdir} belongs to another config, with other values of '
        f'{"; ".join(lines)}. Choose another --workdir, or give the old '
        'values.')
  return config


def check_writable(workdir: str):
  """Refuses a local folder that cannot be made or written, before any work."""
  if files.is_remote(workdir):
    return
  folder = os.path.abspath(workdir)
  while not os.path.lexists(folder):
    folder = os.path.dirname(folder)
  if not os.path.exists(folder):
    raise InputError(f'{folder} is a link to {os.readlink(folder)}, which does '
                     'not exist: make that folder, or choose another place.')
  with writing(workdir):
    code = (errno.ENOTDIR if not os.path.isdir(folder) else
            errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else
            0 if os.access(folder, os.W_OK | os.X_OK) else errno.EACCES)
    if code:
      raise OSError(code, os.strerror(code), workdir)


def claim_workdir(workdir: str, config: Config, tokenizer: Tokenizer,
                  lock: Lock):
  """Takes W for this run and writes it, in process 0."""
  if processes.first():
    lock.make()
    if not files.is_remote(workdir):
      files.remove_partials(workdir)
    write_workdir(workdir, config, tokenizer)


def write_workdir(workdir: str, config: Config, tokenizer: Tokenizer):
  """Makes W, with config.json and tokenizer.json."""
  with writing(workdir):
    files.makedirs(workdir)
    files.write_text(f'{workdir}/config.json',
                     json.dumps(to_dict(config), indent=2) + '\n')
    tokenizer.save(f'{workdir}/tokenizer.json')
