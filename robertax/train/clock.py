"""Time: the kind of each second, goodput, the watchdog, rates of steps.

The clock of a run assigns each second to exactly one kind, so the seconds of
all kinds add up to the time that has passed. Goodput is the share of steps in
them, over all starts of the run. A kind that lasts too long is a stall. The
steps between two lines of metrics give tokens a second and MFU.
"""

from collections.abc import Callable, Iterator
import contextlib
import faulthandler
import json
import os
import tempfile
import threading
import time
from typing import NoReturn

import jax
import numpy as np

from robertax import files, progress
from robertax.config import MASKED_LM, Config
from robertax.errors import STALLED, reading
from robertax.model.roberta import training_flops
from robertax.parallel import chips, processes
from robertax.train.divergence import Describe, Judge
from robertax.train.writer import LineFile, nothing

# `start` is preparing, restoring and compiling; `input_wait` is waiting for a
# batch; `step` is the rest.
KINDS = ('start', 'input_wait', 'step', 'checkpoint', 'evaluation')
# A kind may last so many times train.watchdog_seconds without a sign of work:
# compiling and reading a checkpoint take longer than a step, and give none.
PATIENCE = {'start': 6, 'input_wait': 1, 'step': 1, 'checkpoint': 3,
            'evaluation': 6}
_USUAL = 10  # Or so many times the longest that it has lasted so far.
_WRITING_SECONDS = 30  # For the report, because the disk of W may hang.
NORMS = ('gradient_norm', 'update_norm', 'parameter_norm')


class Clock:
  """Sums up seconds by kind, beginning with `start`."""

  def __init__(self):
    self.begun = time.time()
    self._since = time.perf_counter()
    self.kind, self.signs = 'start', 0  # Turns and ticks.
    self.update = 0  # The newest update that was begun.
    self._lap = dict.fromkeys(KINDS, 0.0)
    self.step_seconds = 0.0  # Seconds of kind `step` up to the newest turn.

  @contextlib.contextmanager
  def at(self, kind: str) -> Iterator[None]:
    """Counts the seconds inside as this kind, later ones as the previous."""
    before = self.turn(kind)
    try:
      yield
    finally:
      self.turn(before)

  def turn(self, kind: str, update: int | None = None) -> str:
    """Counts seconds as this kind from now on; returns the previous kind."""
    now = time.perf_counter()
    before, spent = self.kind, now - self._since
    self.tick()
    self.kind, self._since = kind, now
    if update is not None:
      self.update = update
    self._lap[before] += spent
    if before == 'step':
      self.step_seconds += spent
    return before

  def tick(self):
    """Notes that work of this kind goes on; any thread may call it."""
    self.signs += 1

  def where(self) -> str:
    """Says what the run is doing."""
    return f'{self.kind}, update {self.update}'

  def lap(self) -> dict[str, float]:
    """Returns the seconds of each kind since the last lap."""
    self.turn(self.kind)
    lap, self._lap = self._lap, dict.fromkeys(KINDS, 0.0)
    return lap


class Goodput:
  """The share of all seconds, since the run first began, that steps took.

  Preparing, compiling, waiting for input, evaluating and saving are not
  productive, nor is the time between a kill and the next start, nor are steps
  that were taken again. W/clock.jsonl has what a later start must know.
  """

  def __init__(self, workdir: str, clock: Clock, start_step: int,
               write: bool = True, check: Callable[[], None] = nothing):
    """Reads what earlier starts noted; updates beyond `start_step` are lost."""
    self._clock, self._file = clock, None
    path = f'{workdir}/clock.jsonl'
    lines = read_clock(path)
    self.starts = lines[-1]['start'] + 1 if lines else 1  # This one included.
    self._begun = lines[0]['time'] if lines else clock.begun
    self._before = _productive_seconds(lines, start_step)
    if write:
      self._file = LineFile(
          path, ''.join(json.dumps(line) + '\n' for line in lines), check=check)
    self._note(start_step, clock.begun, 0.0)
    self.save()

  def note(self, step: int) -> float:
    """Notes the seconds up to a step, and returns the share up to now."""
    self._clock.turn(self._clock.turn('step'))
    self._note(step, time.time(), self._clock.step_seconds)
    return self.share()

  def share(self) -> float:
    """Returns the goodput, from 0 to 1."""
    return ((self._before + self._clock.step_seconds)
            / max(time.time() - self._begun, 1e-9))

  def describe(self) -> str:
    """Returns a line for people."""
    starts = '' if self.starts == 1 else f', over {self.starts} starts'
    return (f'goodput {self.share():.1%}: '
            f'{self._before + self._clock.step_seconds:,.1f} s of steps that '
            f'count in {time.time() - self._begun:,.1f} s since the run began'
            f'{starts}')

  def save(self):
    """Writes the lines that wait, as they do on remote storage."""
    if self._file:
      self._file.flush()

  def close(self):
    if self._file:
      self._file.close(must=False)

  def _note(self, step: int, now: float, step_seconds: float):
    if self._file:
      self._file.add(json.dumps({
          'start': self.starts, 'step': step, 'time': round(now, 3),
          'step_seconds': round(step_seconds, 6)}) + '\n')


def read_clock(path: str) -> list[dict[str, float]]:
  """Returns the whole lines; a kill may leave half a line at the end."""
  lines = []
  if files.exists(path):
    with reading(path), files.open(path, 'rb') as f:
      for text in f:  # Bytes: damage in one line spoils no other.
        with contextlib.suppress(ValueError, LookupError, TypeError,
                                 RecursionError, OverflowError):
          line = json.loads(text)
          lines.append({key: kind(line[key]) for key, kind in (
              ('start', int), ('step', int), ('time', float),
              ('step_seconds', float))})
  return lines


def _productive_seconds(lines: list[dict[str, float]], step: int) -> float:
  """Sums the seconds of steps up to `step`, each step counted once."""
  total, counted = 0.0, set()
  for line in reversed(lines):
    if line['step'] <= step and line['start'] not in counted:
      counted.add(line['start'])
      total += line['step_seconds']
    if line['step_seconds'] == 0:  # The start began here.
      step = min(step, line['step'])
  return total


class Watchdog:
  """A thread that notices when the clock gives no sign for too long.

  A sign is a turn, or a piece of work that is done (progress.advance): an
  evaluation may take hours, as long as none of its batches does. What blocks a
  run (a collective that waits for a peer, a file system that hangs) is mostly
  outside Python, where no exception arrives, so the process ends at once. Its
  report is `W/stalled-<process>.txt`.
  """

  def __init__(self, workdir: str, clock: Clock, seconds: float,
               on_stall: str = 'exit'):
    """A step or a batch may take so many `seconds`; 0: nothing is watched."""
    self._workdir, self._clock = workdir, clock
    self._seconds, self._on_stall = seconds, on_stall
    self._stop, self._thread = threading.Event(), None
    self._heard = contextlib.ExitStack()
    # Seconds from sign to sign, without those in which this process was stopped
    # (processes.Pace) and without stalls: neither may become usual.
    self.longest = dict.fromkeys(KINDS, 0.0)

  def __enter__(self) -> 'Watchdog':
    if self._seconds:
      self._heard.enter_context(progress.heard_by(self._clock.tick))
      self._thread = threading.Thread(
          target=self._watch, daemon=True, name='robertax-watchdog')
      self._thread.start()
    return self

  def __exit__(self, *unused):
    self._stop.set()
    self._heard.close()
    if self._thread:
      self._thread.join()

  def limit(self, kind: str) -> float:
    """Returns the seconds that a kind may last without a sign."""
    return max(self._seconds * PATIENCE[kind], _USUAL * self.longest[kind])

  def _watch(self):
    interval = min(self._seconds / 10, 5.0)
    pace, seen, still, reported = processes.Pace(interval), -1, 0.0, 1
    kind = self._clock.kind
    while not self._stop.wait(interval):
      passed = pace.passed()
      if self._clock.signs != seen:
        if reported == 1:
          self.longest[kind] = max(self.longest[kind], still)
        seen, still, reported = self._clock.signs, 0.0, 1
        kind = self._clock.kind
        continue
      still += passed
      # The next report comes after twice the time, and so on.
      if still >= reported * self.limit(self._clock.kind):
        reported *= 2
        words = (f'process {jax.process_index()} of {jax.process_count()} has '
                 f'stood still for {still:.0f} s: {self._clock.where()}.')
        try:
          self._report(words)
        finally:
          if self._on_stall == 'exit':
            _end_stalled(words)

  def _report(self, words: str):
    """Writes to stderr first, because writing to W may hang as well."""
    if others := processes.other_processes():
      words += f'\nThe others:\n{others}'
    with tempfile.TemporaryFile('w+') as f:
      faulthandler.dump_traceback(f, all_threads=True)
      f.seek(0)
      threads = f.read()
    progress.call_out(
        f'\nrobertax: {words}\nStack traces of all threads:\n{threads}',
        last=True)
    path = f'{self._workdir}/stalled-{jax.process_index()}.txt'
    def write():
      try:
        with files.open(path, 'w') as f:
          f.write(f'{words}\n{threads}')
      except Exception as e:  # The report is on stderr already.
        progress.call_out(f'robertax: cannot write {path}: {e}', last=True)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(_WRITING_SECONDS)


def _end_stalled(words: str) -> NoReturn:
  progress.call_out(
      'robertax: this process ends; the same command goes on from the last '
      "checkpoint (train.on_stall='report' waits on; train.watchdog_seconds is "
      'its patience).', last=True)
  processes.tell_leaving(words)
  processes.linger_as_first()
  os._exit(STALLED)


class LogWindow:
  """Steps since the last logged one: their tokens and their seconds."""

  def __init__(self, describe: Describe, run_ahead: int, clock: Clock,
               utilization: 'Utilization', judge: Judge):
    """Up to `run_ahead` steps are started; more would fill the devices."""
    self._describe, self._run_ahead = describe, run_ahead
    self._clock, self._utilization = clock, utilization
    self._judge, self._sums = judge, []

  def add(self, step: int, sums: dict[str, jax.Array]):
    """Notes a step; judges the one `run_ahead` steps before it, once done."""
    self._judge.add(step, sums)
    if self._sums:  # Only the last step's norms are logged.
      self._sums[-1] = {name: value for name, value in self._sums[-1].items()
                        if name not in NORMS}
    self._sums.append(sums)
    self._judge.look(self._run_ahead)

  def settle(self):
    """Waits for the newest step and judges it."""
    jax.block_until_ready(self._sums[-1:])
    self._judge.look()

  def close(self, step: int, learning_rate: float) -> dict[str, float | None]:
    """Waits for the newest step, and begins the next window.

    Returns `train/...`: of that step the task's metrics, learning rate and
    norms; of the window skipped updates, tokens (without padding) a second of
    steps and of waiting for batches, mfu in the same seconds (None: not known),
    and the seconds of each kind, which add up to all that have passed.
    """
    self._judge.look()
    sums, self._sums = jax.device_get(self._sums), []
    lap = self._clock.lap()
    seconds = max(lap['step'] + lap['input_wait'], 1e-9)
    last = {name: float(value) for name, value in sums[-1].items()}
    total = {name: float(np.sum([s[name] for s in sums], dtype=np.float64))
             for name in last if name not in NORMS}
    metrics = self._describe(step, last) | {
        'learning_rate': learning_rate,
        'tokens_per_second': total['token_sum'] / seconds,
        **{name: last[name] for name in NORMS},
        'mfu': self._utilization(step, total, seconds), **self._judge.metrics(),
        **{f'{kind}_seconds': spent for kind, spent in lap.items()}}
    return {f'train/{name}': value for name, value in metrics.items()}


class Utilization:
  """MFU: model FLOP/s of a run over the peak of its devices.

  Only real tokens and targets count, and nothing that is computed again.
  """

  def __init__(self, config: Config, devices: list[jax.Device],
               masked_per_sequence: float = 0.0):
    """`config` has the vocabulary's size; `devices` are the whole mesh's."""
    self._config, self._masked = config, masked_per_sequence
    chip = chips.chip_of(devices[0].device_kind)
    self._peak = chip.flops * len(devices) if chip else None

  def __call__(self, step: int, sums: dict[str, float], seconds: float
               ) -> float | None:
    """Returns MFU from 0 to 1; None where the peak is not known (a CPU).

    `sums` and `seconds` are those of several steps. In pretraining all of them
    count as having rows as long as those of the last, `step`.
    """
    if not self._peak:
      return None
    if self._config.task == MASKED_LM:
      data = self._config.data
      length = (data.first_sequence_length if step <= data.first_sequence_steps
                else data.sequence_length)
      counts = (sums['token_sum'] * length, sums['weight_sum'],
                sums.get('nsp_weight_sum', 0.0))
    else:
      sequences = sums['sequence_sum']
      counts = sums['attended_sum'], self._masked * sequences, sequences
    return (training_flops(self._config.model, sums['token_sum'], *counts)
            / seconds / self._peak)
