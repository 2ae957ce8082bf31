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
  """A small disk of its own that can be filled, if mounting is allowed.

  Attributes:
    folder: its mount point.
    own: whether it is mounted; else `fill` limits the size of a run's files.
  """

  def __init__(self, folder: pathlib.Path, megabytes: int = 192):
    """Mounts it, which only root may do."""
    self.folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    while folder.is_mount():  # Of a benchmark that was killed.
      subprocess.run(['umount', '-l', folder], check=True)
    self.own = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'chaos', folder],
        capture_output=True, check=False).returncode == 0
    self._limited: list[int] = []

  def fill(self, running: Running | None):
    """Fills the disk, so that nothing more can be written."""
    if not self.own:
      self._limited = [worker.pid for worker in running.workers]
      self._limit(4096)
      return
    with open(self.folder / 'filler', 'ab') as f:
      # In parts, because a part that does not fit takes no space at all.
      for size in (1 << 24, 1 << 20, 1 << 16, 1 << 12):
        with contextlib.suppress(OSError):
          while True:
            os.posix_fallocate(f.fileno(), f.seek(0, os.SEEK_END), size)

  def free(self):
    """Frees the disk again."""
    if self.own:
      (self.folder / 'filler').unlink(missing_ok=True)
    else:
      self._limit(resource.RLIM_INFINITY)

  def close(self):
    """Unmounts the disk."""
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
  """The run that a fault hits.

  Attributes:
    workdir: W.
    disk: the disk that holds W.
    draw: source of everything random.
    start: starts the run.
    running: the start whose processes are alive.
    every: train.checkpoint_every.
    start_seconds: duration of a start, until its first step.
    noticed: seconds until the other processes ended, after one was lost.
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
    """The steps of the finished checkpoints, oldest first."""
    return sorted(
        int(p.name) for p in (self.workdir / 'checkpoints').glob('*')
        if p.name.isdigit() and any(p.iterdir()))

  def one(self) -> int:
    """A random process."""
    return self.draw.randrange(len(self.running.workers))


# A fault returns the right exit codes, or None if the run continues.
Codes = frozenset[int] | None


def kill(scene: Scene) -> Codes:
  """Kills all processes (kill -9)."""
  scene.running.signal(signal.SIGKILL)
  return frozenset({KILLED})


def _asked(scene, number):
  scene.running.signal(number, scene.one())
  scene.running.wait(PATIENCE)
  return frozenset({128 + number})


def terminate(scene: Scene) -> Codes:
  """Sends SIGTERM to a process: all save and end."""
  return _asked(scene, signal.SIGTERM)


def interrupt(scene: Scene) -> Codes:
  """Sends SIGINT to a process."""
  return _asked(scene, signal.SIGINT)


def pause(scene: Scene) -> Codes:
  """Stops a process for some seconds (SIGSTOP)."""
  which = scene.one()
  scene.running.signal(signal.SIGSTOP, which)
  time.sleep(scene.draw.uniform(0.5, 3.0))
  scene.running.signal(signal.SIGCONT, which)
  return None


def _without(scene, which):
  """Waits until the others notice that one is gone, and end."""
  begin = time.monotonic()
  others = tuple(i for i in range(len(scene.running.workers)) if i != which)
  scene.running.wait(PATIENCE, others)
  scene.noticed = time.monotonic() - begin
  return frozenset({KILLED, GONE, ABORTED})


def kill_peer(scene: Scene) -> Codes:
  """Kills one of several processes (kill -9)."""
  which = scene.one()
  scene.running.signal(signal.SIGKILL, which)
  return _without(scene, which)


def stop_peer(scene: Scene) -> Codes:
  """Stops one of several processes forever (SIGSTOP)."""
  which = scene.one()
  scene.running.signal(signal.SIGSTOP, which)
  return _without(scene, which)


def disk_full(scene: Scene) -> Codes:
  """Fills the disk until a save has failed, then frees it.

  A single process continues. Several end at the first failed save, and are
  restarted when there is space.
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
  # The run ends after three failed saves, or a failed last one.
  running.wait(PATIENCE)
  return frozenset({WRONG}) if running.workers[0].returncode else None


LIVE = {f.__name__: f for f in (kill, terminate, interrupt, pause, disk_full)}
OF_PEERS = {f.__name__: f for f in (kill_peer, stop_peer)}


def _file(scene: Scene) -> pathlib.Path | None:
  """A file of the newest checkpoint, if an older checkpoint exists."""
  saved = scene.saved()
  if len(saved) < 2:
    return None
  return scene.draw.choice([
      p for p in sorted((scene.workdir / 'checkpoints' / str(saved[-1])
                         ).rglob('*')) if p.is_file() and p.stat().st_size])


def truncate(scene: Scene) -> bool:
  """Truncates a file of the newest checkpoint."""
  path = _file(scene)
  if path:
    os.truncate(path, scene.draw.randrange(path.stat().st_size))
  return path is not None


def flip(scene: Scene) -> bool:
  """Flips a bit of the newest checkpoint."""
  path = _file(scene)
  if path:
    content = bytearray(path.read_bytes())
    content[scene.draw.randrange(len(content))] ^= 1 << scene.draw.randrange(8)
    path.write_bytes(content)
  return path is not None


def empty_step(scene: Scene) -> bool:
  """Makes an empty folder for a newer step, half the time the next one."""
  newest = max(scene.saved(), default=0)
  ahead = scene.draw.choice([
      scene.every - newest % scene.every, scene.draw.randint(1, scene.every)])
  path = scene.workdir / 'checkpoints' / str(newest + ahead)
  if path.exists():
    return False
  path.mkdir(parents=True)
  return True


def kill_starting(scene: Scene) -> bool:
  """Kills the run (kill -9) at a random moment of its start."""
  running = scene.start()
  try:
    time.sleep(scene.draw.uniform(0, scene.start_seconds))
  finally:
    running.kill()
  return True


def start_on_full_disk(scene: Scene) -> bool:
  """Starts the run on a full disk: it ends with an error, and loses nothing."""
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
