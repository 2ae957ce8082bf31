"""One run a workdir: the second is refused, and told who the first is.

W/.lock is locked by the operating system for as long as the first process
lives, so what a killed run leaves locks nobody out. Where the storage knows no
locks (gs://, some network disks), a heartbeat in W/.lease takes its place.
"""

import errno
import fcntl
import json
import os
import socket
import sys
import threading
import time
from typing import Any
import uuid

from robertax import files
from robertax.errors import InputError, writing
from robertax.parallel import processes

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
        if not _same(file, path):
          file.close()  # Its holder removed it between our two calls.
          continue
        self._file = file
        try:
          file.truncate(0)
          # Past the file's buffer, for that would be tried again when the
          # file is closed.
          os.write(file.fileno(), json.dumps(_me()).encode())
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
    self._me = _me() | {'id': uuid.uuid4().hex}
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
    found = _read(self.path)
    if found and found.get('id') == self._me['id']:
      try:
        files.remove(self.path)
      except OSError:
        pass

  def _wait(self, folder: str, lost: float):
    """Clocks of two machines differ: what counts is whether it still beats."""
    seen = _read(self.path)
    if not seen:
      return
    if seen.get('host') == socket.gethostname():
      if not _alive(seen):
        return
      raise InputError(refusal(folder, json.dumps(seen)))
    print(f'{self.path} is of {_say(seen)}: looking for up to {lost:.0f} s '
          'whether it lives.', file=sys.stderr)
    end = time.monotonic() + lost
    while time.monotonic() < end:
      time.sleep(min(1.0, lost / 10))
      now = _read(self.path)
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
    who = _say(json.loads(holder))
  except (ValueError, KeyError, TypeError):
    who = 'another process'
  return (f'{folder} is in use by {who}: two runs in one workdir would spoil '
          'it. Wait for that one, stop it, or choose another --workdir.')


def _me() -> dict[str, Any]:
  return {'host': socket.gethostname(), 'pid': os.getpid(),
          'since': time.strftime('%Y-%m-%d %H:%M:%S %z'),
          'born': _born(os.getpid())}


def _say(holder: dict[str, Any]) -> str:
  return (f'process {holder["pid"]} on {holder["host"]}, since '
          f'{holder["since"]}')


def _born(pid: int) -> str:
  """When a process of this machine began, so that a pid is no other's."""
  try:
    with open(f'/proc/{pid}/stat') as f:
      return f.read().rpartition(')')[2].split()[19]
  except (OSError, IndexError):
    return ''


def _alive(holder: dict[str, Any]) -> bool:
  try:
    os.kill(int(holder['pid']), 0)
  except ProcessLookupError:
    return False
  except (OSError, KeyError, ValueError):
    return True
  born = _born(holder['pid'])
  return not born or not holder.get('born') or born == holder['born']


def _read(path: str) -> dict[str, Any]:
  try:
    with files.open(path) as f:
      return dict(json.loads(f.read()))
  except (OSError, ValueError, TypeError):
    return {}


def _same(file, path: str) -> bool:
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
  except OSError:
    return False
