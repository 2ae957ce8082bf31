"""One run under faults, which benchmarks.chaos compares at its end."""

import time
from typing import Any

from benchmarks import faults
from benchmarks.training import Running, last_step

# Codes after which a scheduler restarts a run, although no fault happened: a
# busy machine can make a process look dead.
BEGIN_AGAIN = {faults.GONE, 76, faults.ABORTED}


class Fatal(Exception):
  """The run broke a promise."""


class Trial:
  """One run under faults, from its first step to its comparison.

  Attributes:
    records: a dict for each fault.
    unprovoked: number of ends without a fault.
  """

  def __init__(self, scene: faults.Scene, end: float, processes: int):
    """Prepares a trial; nothing is started yet.

    Args:
      scene: with an empty workdir.
      end: time by time.monotonic after which the run is left alone.
      processes: number of processes.
    """
    self._scene, self._end, self._processes = scene, end, processes
    self.records: list[dict[str, Any]] = []
    self.unprovoked = 0
    self._damaged = False  # Since the last start that went on.
    self._live, self._resting = [], []

  def go(self):
    """Runs until the end.

    Raises:
      Fatal: the run failed, with its output.
    """
    scene, reached, newest = self._scene, None, 0
    while True:
      begin = time.monotonic()
      running = scene.running = scene.start()
      try:
        at = self._resumed(running)
        if reached is not None and at is not None:
          self._account(reached, newest, at)
        running.until(lambda at=at: last_step(scene.workdir) > (at or 0), 300)
        scene.start_seconds = time.monotonic() - begin
        codes = self._trouble(running)
      finally:
        running.kill()
      if set(running.codes) == {0}:
        return  # A fault may have come too late to change that.
      self._judge(running, codes)
      reached = max(last_step(scene.workdir), 0) + self._lost(running)
      newest = max(scene.saved(), default=0)
      if self.records and 'under_way' not in self.records[-1]:
        self.records[-1]['under_way'] = any(
            '.orbax-checkpoint-tmp' in p.name
            for p in (scene.workdir / 'checkpoints').glob('*'))
      self._rest()

  def _resumed(self, running) -> int | None:
    """The step from which it resumes; None: it ended before it said so."""
    running.until(lambda: running.said('M parameters, '), 300)
    # That line comes after the other, if at all.
    running.until(lambda: running.said('resuming at step '), 0.3)
    if not running.said('M parameters, '):
      return None
    return next((int(line.rsplit(' ', 1)[1]) for line in running.lines()
                 if line.startswith('resuming at step ')), 0)

  def _lost(self, running) -> int:
    """The number of logged lines that could not be written."""
    for line in running.lines():
      if 'lines could not be written, and are lost' in line:
        return int(line.split('the last ')[1].split()[0])
    return 0

  def _trouble(self, running: Running):
    """Causes faults until one ends the run; returns the right exit codes."""
    scene = self._scene
    while True:
      at = last_step(scene.workdir)
      # After the last save nothing can be lost, so any moment will do.
      target = at + scene.draw.randint(1, 3 * scene.every)
      running.until(lambda target=target: last_step(scene.workdir) >= target,
                    300)
      if not running.alive() or time.monotonic() > self._end:
        if running.wait(600) and not any(
            worker.returncode for worker in running.workers):
          return None
        return frozenset()
      name, function = self._draw(
          self._live, faults.LIVE
          | (faults.OF_PEERS if self._processes > 1 else {}))
      scene.noticed = None
      record = {'kind': name, 'processes': self._processes,
                'step': last_step(scene.workdir), 'repeated': 0}
      codes = function(scene)
      if scene.noticed is not None:
        record['noticed_seconds'] = round(scene.noticed, 2)
      self.records.append(record)
      print(f'  step {record["step"]}: {name}', flush=True)
      if codes is not None:
        return codes
      if not running.alive():
        # A run that has finished meanwhile has survived it too.
        running.wait(faults.PATIENCE)
        return (None if not any(worker.returncode
                                for worker in running.workers)
                else frozenset())

  def _judge(self, running, codes):
    """Raises Fatal if the run ended with a wrong code."""
    ended = {code for code in running.codes if code is not None}
    if codes and ended <= codes | {0}:
      return
    if not codes and ended and ended <= BEGIN_AGAIN | {0}:
      self.unprovoked += 1
      return
    raise Fatal(f'ended with {running.codes}, not with '
                f'{sorted(codes or {0})}:\n' + '\n'.join(running.lines()))

  def _rest(self):
    """Causes a fault between two starts, sometimes."""
    scene = self._scene
    while scene.draw.random() < 0.5 and time.monotonic() < self._end:
      name, function = self._draw(self._resting, faults.RESTING)
      if name in faults.DAMAGE and self._damaged:
        continue  # One at a time: some checkpoint must be whole.
      record = {'kind': name, 'processes': self._processes,
                'step': max(scene.saved(), default=0), 'repeated': 0}
      try:
        if not function(scene):
          continue
      except RuntimeError as e:
        raise Fatal(str(e)) from e
      self.records.append(record | {'under_way': False})
      print(f'  at rest: {name}', flush=True)
      self._damaged |= name in faults.DAMAGE

  def _account(self, reached, newest, resumed):
    """Records which steps a fault cost."""
    ended = next((r for r in reversed(self.records)
                  if r['kind'] not in faults.RESTING), None)
    damage = next((r for r in reversed(self.records)
                   if r['kind'] in faults.DAMAGE and 'resumed' not in r), None)
    if ended is not None and 'resumed' not in ended:
      ended |= {'repeated': max(0, reached - newest), 'resumed': resumed}
    if damage is not None:
      damage |= {'repeated': max(0, newest - resumed), 'resumed': resumed}
      self._damaged = False
    elif resumed < newest:
      raise Fatal(f'the newest checkpoint was of step {newest}, undamaged, and '
                  f'the run went on from step {resumed}')

  def _draw(self, deck, kinds):
    """Draws all kinds equally often, in random order."""
    if not deck:
      deck.extend(kinds)
      self._scene.draw.shuffle(deck)
    name = deck.pop()
    return name, kinds[name]
