"""Progress on stderr: bars of a preparation, and the line of a run."""

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from tqdm import tqdm

PROGRESS_SECONDS = 10  # Between two lines in a log.


class _LogLines:
  """A log, in which nothing can be drawn anew: each state is a line."""

  def write(self, text: str):
    if text.strip():
      sys.stderr.write(f'{text.strip()}\n')

  def flush(self):
    sys.stderr.flush()


def progress_bar(total: int, unit: str, what: str, shown: bool, done: int = 0
                 ) -> 'tqdm':
  """Rate and time left on stderr, if `shown`: a bar; in a log, some lines.

  Of `total` units, `done` are of an earlier process and not of the rate.
  """
  from tqdm import tqdm
  terminal = sys.stderr.isatty()
  return tqdm(
      total=total, initial=done, unit=unit, unit_scale=True, desc=what,
      file=sys.stderr if terminal else _LogLines(), disable=not shown,
      mininterval=.2 if terminal else PROGRESS_SECONDS,
      delay=0 if terminal else PROGRESS_SECONDS)


class Progress:
  """A run's step, loss, tokens a second and time left: a bar, or lines."""

  def __init__(self, start: int, steps: int, every_seconds: float = 15.0):
    """Begins at step `start` of `steps`; in a log, a line `every_seconds`."""
    from tqdm import tqdm
    self._terminal = sys.stderr.isatty()
    self._start, self._steps, self._step = start, steps, start
    self._every, self._begun, self._shown = every_seconds, None, 0.0
    self._bar = tqdm(
        total=steps, initial=start, unit='step', dynamic_ncols=True,
        disable=not self._terminal, file=sys.stderr)

  def step(self, step: int):
    """Notes that a step is done."""
    if self._begun is None:
      # The first step waits for the compiler: time is counted from its end.
      self._begun, self._start = time.time(), step
    self._bar.update(step - self._step)
    self._step = step

  def show(self, metrics: dict[str, float | None]):
    """Shows the newest `train/...` numbers."""
    words = [f"loss {metrics['train/loss']:.3f}",
             f"{metrics['train/tokens_per_second']:,.0f} tokens/s"]
    if self._terminal:
      self._bar.set_postfix_str(', '.join(words))
      return
    now = time.time()
    if now - self._shown < self._every and self._step < self._steps:
      return
    self._shown = now
    spent = now - self._begun
    left = spent / max(1, self._step - self._start) * (self._steps - self._step)
    clock = self._bar.format_interval
    self.say(f'step {self._step}/{self._steps}, {", ".join(words)}, '
             f'{clock(spent)} gone, {clock(left)} left')

  def say(self, text: str):
    """Prints a line without tearing the bar."""
    self._bar.write(text, file=sys.stderr)
    sys.stderr.flush()

  def close(self):
    self._bar.close()
