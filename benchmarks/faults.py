"""The faults of benchmarks.chaos, one row per kind.

A LIVE fault happens while the run trains, a RESTING one between two starts,
when no process is alive. Each then returns the exit codes that docs/runs.md
allows.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import os
import pathlib
import random
import resource
import signal
import subprocess
import time

from benchmarks.training import Running

GONE, KILLED, ABORTED, WRONG = 75, -signal.SIGKILL, -signal.SIGABRT, 2
PATIENCE = 180.0  # Seconds for what ends by itself, on a machine that is busy.


class Disk:
  """A small disk of its own where that is allowed: it can be filled.

  Attributes:
    folder: where it is.
    own: whether it is one; else `fill` limits the size of a run's files.
  """

  def __init__(self, folder: pathlib.Path, megabytes: int = 192):
    """Mounts it, which only root may."""
    self.folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    while folder.is_mount():  # Of a benchmark that was killed.
      subprocess.run(['umount', '-l', folder], check=True)
    self.own = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'chaos', folder],
        capture_output=True, check=False).returncode == 0
    self._limited: list[int] = []

  def fill(self, running: Running | None):
    """Nothing more can be written."""
    if not self.own:
      self._limited = [worker.pid for worker in running.workers]
      self._limit(4096)
      return
    with open(self.folder / 'filler', 'ab') as f:
      # In parts: one for which there is no space any more takes none at all.
      for size in (1 << 24, 1 << 20, 1 << 16, 1 << 12):
        with contextlib.suppress(OSError):
          while True:
            os.posix_fallocate(f.fileno(), f.seek(0, os.SEEK_END), size)

  def free(self):
    """It can be again."""
    if self.own:
      (self.folder / 'filler').unlink(missing_ok=True)
    else:
      self._limit(resource.RLIM_INFINITY)

  def close(self):
    """Unmounts it."""
    if self.own:
      subprocess.run(['umount', '-l', self.folder], check=False)

  def _limit(self, size):
    for pid in self._limited:
      try:
        resource.prlimit(pid, resource.RLIMIT_FSIZE,
                         (size, resource.RLIM_INFINITY))
      except ProcessLookupError:
        pass


@dataclasses.dataclass
class Scene:
  """Where a fault happens.

  Attributes:
    workdir: W.
    disk: W's.
    draw: of everything that is random.
    start: starts the run.
    running: the start that is alive.
    every: train.checkpoint_every.
    start_seconds: that a start took, until its first step.
    noticed: seconds until the others had ended, where one was gone.
  """
  workdir: pathlib.Path
  disk: Disk
  draw: random.Random
  start: Callable[[], Running]
  every: int
  running: Running | None = None
  start_seconds: float = 10.0
  noticed: float | None = None

  def saved(self) -> list[int]:
    """Steps of the checkpoints that are finished, oldest first."""
    return sorted(
        int(p.name) for p in (self.workdir / 'checkpoints').glob('*')
        if p.name.isdigit() and any(p.iterdir()))

  def one(self) -> int:
    """One of the processes."""
    return self.draw.randrange(len(self.running.workers))


# A fault returns the exit codes that are right, or None where the run goes on.
Codes = frozenset[int] | None


def kill(scene: Scene) -> Codes:
  """kill -9 of all processes."""
  scene.running.signal(signal.SIGKILL)
  return frozenset({KILLED})


def _asked(scene, number):
  scene.running.signal(number, scene.one())
  scene.running.wait(PATIENCE)
  return frozenset({128 + number})


def terminate(scene: Scene) -> Codes:
  """SIGTERM to one of the processes: all save and end."""
  return _asked(scene, signal.SIGTERM)


def interrupt(scene: Scene) -> Codes:
  """SIGINT to one of the processes."""
  return _asked(scene, signal.SIGINT)


def pause(scene: Scene) -> Codes:
  """SIGSTOP of one for some seconds, then it goes on."""
  which = scene.one()
  scene.running.signal(signal.SIGSTOP, which)
  time.sleep(scene.draw.uniform(0.5, 3.0))
  scene.running.signal(signal.SIGCONT, which)
  return None


def _without(scene, which):
  """The others notice that one is gone, and end by themselves."""
  begin = time.monotonic()
  others = tuple(i for i in range(len(scene.running.workers)) if i != which)
  scene.running.wait(PATIENCE, others)
  scene.noticed = time.monotonic() - begin
  return frozenset({KILLED, GONE, ABORTED})


def kill_peer(scene: Scene) -> Codes:
  """kill -9 of one of several."""
  which = scene.one()
  scene.running.signal(signal.SIGKILL, which)
  return _without(scene, which)


def stop_peer(scene: Scene) -> Codes:
  """SIGSTOP of one of several, for ever."""
  which = scene.one()
  scene.running.signal(signal.SIGSTOP, which)
  return _without(scene, which)


def disk_full(scene: Scene) -> Codes:
  """No space until a save has failed, then there is again.

  One process goes on all the while. Several end at the first save that failed,
  and are started when there is space.
  """
  running, failures = scene.running, scene.running.said('is not saved')
  scene.disk.fill(running)
  try:
    if len(running.workers) > 1:
      running.wait(PATIENCE)
      return frozenset({WRONG, GONE, ABORTED})
    running.until(lambda: running.said('is not saved') > failures, PATIENCE)
  finally:
    scene.disk.free()
  newest = max(scene.saved(), default=0)
  if running.until(lambda: max(scene.saved(), default=0) > newest, PATIENCE):
    return None
  # Three saves failed before there was space, or the run's last: it ends.
  running.wait(PATIENCE)
  return frozenset({WRONG}) if running.workers[0].returncode else None


LIVE = {f.__name__: f for f in (kill, terminate, interrupt, pause, disk_full)}
OF_PEERS = {f.__name__: f for f in (kill_peer, stop_peer)}


def _file(scene: Scene) -> pathlib.Path | None:
  """One of the newest checkpoint's, where another is left to go back to."""
  saved = scene.saved()
  if len(saved) < 2:
    return None
  return scene.draw.choice([
      p for p in sorted((scene.workdir / 'checkpoints' / str(saved[-1])
                         ).rglob('*')) if p.is_file() and p.stat().st_size])


def truncate(scene: Scene) -> bool:
  """A file of the newest checkpoint loses its end."""
  path = _file(scene)
  if path:
    os.truncate(path, scene.draw.randrange(path.stat().st_size))
  return path is not None


def flip(scene: Scene) -> bool:
  """A bit of the newest checkpoint is another."""
  path = _file(scene)
  if path:
    content = bytearray(path.read_bytes())
    content[scene.draw.randrange(len(content))] ^= 1 << scene.draw.randrange(8)
    path.write_bytes(content)
  return path is not None


def empty_step(scene: Scene) -> bool:
  """A folder of a newer step, with nothing in it; half the time the next's."""
  newest = max(scene.saved(), default=0)
  ahead = scene.draw.choice([
      scene.every - newest % scene.every, scene.draw.randint(1, scene.every)])
  path = scene.workdir / 'checkpoints' / str(newest + ahead)
  if path.exists():
    return False
  path.mkdir(parents=True)
  return True


def kill_starting(scene: Scene) -> bool:
  """kill -9 at any moment of a start."""
  running = scene.start()
  try:
    time.sleep(scene.draw.uniform(0, scene.start_seconds))
  finally:
    running.kill()
  return True


def start_on_full_disk(scene: Scene) -> bool:
  """A start where nothing can be written: an error, and nothing is lost."""
  if not scene.disk.own:
    return False
  scene.disk.fill(None)
  running = scene.start()
  try:
    running.wait(PATIENCE)
  finally:
    scene.disk.free()
    running.kill()
  if set(running.codes) != {WRONG}:
    raise RuntimeError(f'on a full disk a start ended with {running.codes}:\n'
                       + '\n'.join(running.lines()[-30:]))
  return True


DAMAGE = ('truncate', 'flip')
RESTING = {f.__name__: f for f in (truncate, flip, empty_step, kill_starting,
                                   start_on_full_disk)}
