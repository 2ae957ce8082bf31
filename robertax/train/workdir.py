"""A workdir: which config it belongs to, and its files beside checkpoints."""

import dataclasses
import errno
import fcntl
import json
import math
import os
import socket
import sys
import threading
import time
from typing import Any
import uuid

from robertax import files
from robertax.config import FREE_ON_RESUME, Config, differences, parse, to_dict
from robertax.errors import InputError, writing
from robertax.parallel import processes
from robertax.text import Tokenizer
from robertax.train.checkpoint import finished_step, saved_steps
from robertax.train.writer import read_metrics

# One run a workdir: the second is refused, and told who the first is.
#
# W/.lock is locked by the operating system for as long as the first process
# lives, so what a killed run leaves locks nobody out. Where the storage knows
# no locks (gs://, some network disks), a heartbeat in W/.lease takes its place.


# Between two heartbeats of a lease, and without one until it is taken over.
BEAT_SECONDS = 15.0
LOST_SECONDS = 60.0


class Lock:
  """Held from `take` until the `with` is left; process 0 holds it for all."""

  def __init__(self, folder: str):
    """Takes nothing yet.

    Args:
      folder: W.
    """
    self._folder, self._file, self._lease = folder, None, None
    self.held = False

  def __enter__(self) -> 'Lock':
    """Takes it if W is there, that is if there is something to lose.

    Raises:
      InputError: another run has it.
    """
    processes.together(lambda: self._take() if processes.first()
                       and files.isdir(self._folder) else None)
    return self

  def make(self):
    """Makes W, and takes it if that is not done; by process 0.

    Raises:
      InputError: another run has it, or has had it since this one looked; or W
        cannot be written.
    """
    if self.held:
      return
    with writing(self._folder):
      files.makedirs(self._folder)
    self._take()
    if files.exists(f'{self._folder}/config.json'):
      raise InputError(f'another run has begun in {self._folder} meanwhile: '
                       'give the same command again to go on with it, or '
                       'choose another --workdir.')

  def __exit__(self, *unused):
    if self._lease:
      self._lease.give_back()
    if self._file:
      # Removed while it is held: who opens it later makes another, and who has
      # opened it already sees that it is gone (`_take`).
      try:
        os.remove(self._file.name)
      except OSError:
        pass  # Read-only or vanished by now: an unlocked file locks nobody out.
      self._file.close()
    self._file = self._lease = None
    self.held = False

  def _take(self):
    if files.is_remote(self._folder):
      self._lease = Lease(self._folder)
      self.held = True
      return
    path = f'{self._folder}/.lock'
    while not self.held:
      with writing(path):
        file = open(path, 'a+')
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except OSError as e:
        file.seek(0)
        holder = file.read()
        file.close()
        if e.errno in (errno.EWOULDBLOCK, errno.EACCES):
          raise InputError(refusal(self._folder, holder)) from None
        self._lease = Lease(self._folder)  # No locks here.
      else:
        if not _is_same_file(file, path):
          file.close()  # Its holder removed it between our two calls.
          continue
        self._file = file
        try:
          file.truncate(0)
          # Past the file's buffer, for that would be tried again when the
          # file is closed.
          os.write(file.fileno(), json.dumps(_this_process()).encode())
        except OSError:
          pass  # A full disk: it is locked, only not known by whom.
      self.held = True


class Lease:
  """A file that is written again and again while its holder lives."""

  def __init__(self, folder: str, beat: float | None = None,
               lost: float | None = None):
    """Takes it, waiting if a holder of another machine may be dead.

    Args:
      folder: W.
      beat, lost: BEAT_SECONDS, LOST_SECONDS.

    Raises:
      InputError: it is held by a run that lives; W cannot be written.
    """
    self.path = f'{folder}/.lease'
    self._me = _this_process() | {'id': uuid.uuid4().hex}
    self._beat = beat or BEAT_SECONDS
    self._wait(folder, lost or LOST_SECONDS)
    with writing(self.path):
      self._write()
    self._stop = threading.Event()
    self._thread = threading.Thread(target=self._go, name='lease', daemon=True)
    self._thread.start()

  def give_back(self):
    """Stops, and removes it if it is still ours."""
    self._stop.set()
    self._thread.join()
    found = _read_lease(self.path)
    if found and found.get('id') == self._me['id']:
      try:
        files.remove(self.path)
      except OSError:
        pass

  def _wait(self, folder: str, lost: float):
    """Clocks of two machines differ: what counts is whether it still beats."""
    seen = _read_lease(self.path)
    if not seen:
      return
    if seen.get('host') == socket.gethostname():
      if not _is_alive(seen):
        return
      raise InputError(refusal(folder, json.dumps(seen)))
    print(f'{self.path} is of {_said_holder(seen)}: looking for up to '
          f'{lost:.0f} s whether it lives.', file=sys.stderr)
    end = time.monotonic() + lost
    while time.monotonic() < end:
      time.sleep(min(1.0, lost / 10))
      now = _read_lease(self.path)
      if not now:
        return
      if now != seen:
        raise InputError(refusal(folder, json.dumps(now)))

  def _write(self):
    with files.open(self.path, 'w') as f:
      f.write(json.dumps(self._me | {'beat': time.time()}))

  def _go(self):
    failed = False
    while not self._stop.wait(self._beat):
      try:
        self._write()
        failed = False
      except Exception as e:  # The next beat may do; the run need not end.
        if not failed:
          print(f'{self.path} cannot be written ({e}): while that is so, '
                'another run may take this workdir for free.',
                file=sys.stderr, flush=True)
        failed = True


def refusal(folder: str, holder: str) -> str:
  """What the second run is told.

  Args:
    folder: W.
    holder: JSON of the first's host, pid and since; or ''.
  """
  try:
    who = _said_holder(json.loads(holder))
  except (ValueError, KeyError, TypeError):
    who = 'another process'
  return (f'{folder} is in use by {who}: two runs in one workdir would spoil '
          'it. Wait for that one, stop it, or choose another --workdir.')


def _this_process() -> dict[str, Any]:
  return {'host': socket.gethostname(), 'pid': os.getpid(),
          'since': time.strftime('%Y-%m-%d %H:%M:%S %z'),
          'born': _process_birth(os.getpid())}


def _said_holder(holder: dict[str, Any]) -> str:
  return (f'process {holder["pid"]} on {holder["host"]}, since '
          f'{holder["since"]}')


def _process_birth(pid: int) -> str:
  """When a process of this machine began, so that a pid is no other's."""
  try:
    with open(f'/proc/{pid}/stat') as f:
      return f.read().rpartition(')')[2].split()[19]
  except (OSError, IndexError):
    return ''


def _is_alive(holder: dict[str, Any]) -> bool:
  try:
    os.kill(int(holder['pid']), 0)
  except ProcessLookupError:
    return False
  except (OSError, KeyError, ValueError):
    return True
  born = _process_birth(holder['pid'])
  return not born or not holder.get('born') or born == holder['born']


def _read_lease(path: str) -> dict[str, Any]:
  try:
    with files.open(path) as f:
      return dict(json.loads(f.read()))
  except (OSError, ValueError, TypeError):
    return {}


def _is_same_file(file, path: str) -> bool:
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
  except OSError:
    return False


# Which steps of W/best are of the run, as its metrics.jsonl tells it.
#
# metrics.jsonl is what is known of a run: it is cut back to the checkpoint that
# a start goes on from, and a line is written once. So it is the index of W/best
# too. A step of W/best counts where a line says how it was evaluated; any other
# is of a future that was given up, or its line was not yet written when the run
# was killed. This holds for as long as no line is written of a step of which
# W/best has other weights: train.best takes those out of sight before the
# first.


BEST_FOLDER = 'best'


def logged_evaluations(workdir: str, metric: str,
                       last: int) -> dict[int, float]:
  """Step -> value, of a run's evaluations up to a step; 0 is none.

  Args:
    workdir: W.
    metric: the key of metrics.jsonl.
    last: lines behind it do not count.

  Raises:
    InputError: a line is damaged.
  """
  path = f'{workdir}/metrics.jsonl'
  if not files.exists(path):
    return {}
  return {line['step']: line[metric] for _, line in read_metrics(path)
          if 0 < line['step'] <= last and is_value(line.get(metric))}


def is_value(value: Any) -> bool:
  """Whether it says how good the weights are: NaN and null do not."""
  return isinstance(value, (int, float)) and math.isfinite(value)


def best_or_newest(workdir: str) -> tuple[str, int | None]:
  """The weights that others take of a run: its best, else its newest.

  Looks only, makes no folder.

  Args:
    workdir: W.

  Returns:
    The folder in W, and the step; None: there are none.

  Raises:
    InputError: a line of metrics.jsonl is damaged, or every checkpoint.
  """
  if best := _best_step(workdir):
    return BEST_FOLDER, best
  return 'checkpoints', finished_step(workdir)


def _best_step(workdir: str) -> int:
  """The newest of W/best that counts, which is the best of them; 0: none."""
  kept = saved_steps(f'{workdir}/{BEST_FOLDER}')
  path = f'{workdir}/metrics.jsonl'
  if not kept or not files.exists(path):  # Someone has copied weights alone.
    return max(kept, default=0)
  lines = [line for _, line in read_metrics(path)]
  evaluated = {line['step'] for line in lines if any(
      name.startswith('eval/') and is_value(value)
      for name, value in line.items())}
  counts = [step for step in kept if step in evaluated]
  if not counts and not files.isdir(f'{workdir}/checkpoints'):
    # A sweep has removed them at the end of its run, none of whose evaluations
    # may have had a value: then the last weights are kept.
    counts = [step for step in kept if lines and step == lines[-1]['step']]
  return max(counts, default=0)


def weights_step(workdir: str) -> int | None:
  """The step of `weights`; None: there is none, or it cannot be told."""
  try:
    return best_or_newest(workdir)[1]
  except (InputError, OSError):
    return None


def read_config(workdir: str) -> Config | None:
  """The config of a workdir, None where there is none.

  Raises:
    InputError: config.json is damaged.
  """
  path = f'{workdir}/config.json'
  if not files.exists(path):
    return None
  try:
    with files.open(path) as f:
      return parse(json.load(f))
  except (OSError, ValueError, AttributeError, RecursionError) as e:
    raise InputError(f'{path}: not a config written by robertax ({e}). Put '
                     'its own back, or choose another folder.') from e


# What a task fills in where it is left at the default: the tokenizer's or the
# format's (which are compared), the task's heads, the steps of its epochs.
FILLED_IN = {'model': ('vocab_size', 'num_types', 'nsp_head', 'lm_head',
                       'num_classes', 'span_head'),
             'train': ('steps', 'eval_every', 'checkpoint_every'),
             'finetune': ('labels',)}


def check_config(workdir: str, config: Config) -> Config:
  """Refuses a workdir that belongs to another config.

  Returns:
    The config, with what the workdir's task has filled in.

  Raises:
    InputError: shows the keys that differ; or it belongs to none that is known.
  """
  saved = read_config(workdir)
  if saved is None:
    place = f'{workdir}/checkpoints'
    if files.isdir(place) and files.listdir(place):
      raise InputError(
          f'{workdir} has checkpoints, but no config.json that says of which '
          'model. Put it back, or choose another --workdir.')
    return config
  for section, keys in FILLED_IN.items():
    here = getattr(config, section)
    blank = {'lm_head': True, 'labels': ''}
    config = dataclasses.replace(config, **{section: dataclasses.replace(
        here, **{key: getattr(getattr(saved, section), key) for key in keys
                 if getattr(here, key) == blank.get(key, 0)})})
  new = to_dict(config)
  lines = [line for line in differences(to_dict(saved), new)
           if line.partition(':')[0] not in FREE_ON_RESUME]
  if lines:
    raise InputError(
        f'{workdir} belongs to another config, with other values of '
        f'{"; ".join(lines)}. Choose another --workdir, or give the old '
        'values.')
  return config


def claim_workdir(workdir: str, config: Config, tokenizer: Tokenizer,
                  lock: Lock):
  """Makes W this run's, and writes it; process 0 does, for all.

  Raises:
    InputError: another run has it, or it cannot be written.
  """
  if processes.first():
    lock.make()
    write_workdir(workdir, config, tokenizer)


def write_workdir(workdir: str, config: Config, tokenizer: Tokenizer):
  """Writes config.json and tokenizer.json.

  Args:
    workdir: W, made if needed.
    config: with the vocabulary's size filled in.
    tokenizer: of the run's records.

  Raises:
    InputError: W cannot be written.
  """
  with writing(workdir):
    files.makedirs(workdir)
    files.write_text(f'{workdir}/config.json',
                     json.dumps(to_dict(config), indent=2) + '\n')
    tokenizer.save(f'{workdir}/tokenizer.json')
