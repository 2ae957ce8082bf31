"""The watchdog: a run that stands still says where, and ends.

Standing still is that the clock stays at one kind (train.clock.KINDS) for
longer than that kind may take. What blocks a run is mostly out of Python's
reach (a collective that waits for a peer, a file system that does not answer):
no exception gets there, so the process ends as it stands.
"""

import faulthandler
import os
import sys
import tempfile
import threading
from typing import NoReturn

import jax

from robertax import files
from robertax.errors import STALLED
from robertax.parallel import processes
from robertax.train.clock import Clock

# Times train.watchdog_seconds that a kind may last without a turn: compiling,
# restoring, evaluating and saving take longer than a step.
PATIENCE = {'start': 6, 'input_wait': 1, 'step': 1, 'checkpoint': 3,
            'evaluation': 6}
# A kind that has come to an end may last as many times as long again: a step
# of minutes is no stall.
_USUAL = 10
_WRITING_SECONDS = 30  # W may lie on what does not answer.


class Watchdog:
  """Looks at the clock of a run, from a thread of its own."""

  def __init__(self, folder: str, clock: Clock, seconds: float,
               on_stall: str = 'exit'):
    """Not yet begun.

    Args:
      folder: W, which gets `stalled-<process>.txt`.
      clock: of the run.
      seconds: for a step, or for waiting for a batch; 0: nothing is watched.
      on_stall: 'exit', with STALLED, or 'report', and wait on.
    """
    self._folder, self._clock = folder, clock
    self._seconds, self._on_stall = seconds, on_stall
    self._stop = threading.Event()
    self._thread = None

  def __enter__(self) -> 'Watchdog':
    if self._seconds:
      self._thread = threading.Thread(
          target=self._watch, daemon=True, name='robertax-watchdog')
      self._thread.start()
    return self

  def __exit__(self, *unused):
    self._stop.set()
    if self._thread:
      self._thread.join()

  def limit(self, kind: str) -> float:
    """Seconds for which the clock may stay at a kind."""
    return max(self._seconds * PATIENCE[kind],
               _USUAL * self._clock.longest[kind])

  def _watch(self):
    interval = min(self._seconds / 10, 5.0)
    pace, seen, still, reported = processes.Pace(interval), -1, 0.0, 1
    while not self._stop.wait(interval):
      passed = pace.passed()
      if self._clock.turns != seen:
        seen, still, reported = self._clock.turns, 0.0, 1
        continue
      still += passed
      # Said again after twice the time, and so on.
      if still >= reported * self.limit(self._clock.kind):
        reported *= 2
        words = (f'process {jax.process_index()} of {jax.process_count()} has '
                 f'stood still for {still:.0f} s: {self._clock.where()}.')
        self._report(words)
        if self._on_stall == 'exit':
          _end(words)

  def _report(self, words: str):
    """To stderr first: writing to W may stall as well."""
    if others := processes.other_processes():
      words += f'\nThe others:\n{others}'
    print(f'\nrobertax: {words}\nWhere every thread stands:',
          file=sys.__stderr__, flush=True)
    faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
    with tempfile.TemporaryFile('w+') as f:
      faulthandler.dump_traceback(f, all_threads=True)
      f.seek(0)
      threads = f.read()
    path = f'{self._folder}/stalled-{jax.process_index()}.txt'

    def write():
      try:
        with files.open(path, 'w') as f:
          f.write(f'{words}\n{threads}')
      except Exception as e:  # The report stands on stderr.
        print(f'robertax: cannot write {path}: {e}', file=sys.__stderr__)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(_WRITING_SECONDS)


def _end(words: str) -> NoReturn:
  print('robertax: this process ends; the same command goes on from the last '
        "checkpoint (train.on_stall='report' waits on; train.watchdog_seconds "
        'is its patience).', file=sys.__stderr__, flush=True)
  processes.tell_leaving(words)
  processes.linger_as_first()
  os._exit(STALLED)
