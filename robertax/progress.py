"""Progress on stderr: the bars of a preparation, the line of a training run.

Floor 0, beside no room. tqdm is imported when a bar is made.
"""

import sys
import time
from typing import Any

PROGRESS_SECONDS = 10  # From one line in a log to the next.


class _LogLines:
  """For a log, where nothing can be drawn anew: a line for each state."""

  def write(self, text: str):
    if text.strip():
      sys.stderr.write(f'{text.strip()}\n')

  def flush(self):
    sys.stderr.flush()


def progress_bar(total: int, unit: str, what: str, shown: bool, done: int = 0
                 ) -> Any:
  """A tqdm.tqdm with rate and time left; in a log, a line now and then.

  Args:
    total: how many units there are.
    unit: what they are called.
    what: is being done.
    shown: if not, nothing is.
    done: units of an earlier process: they count, but not for the rate.
  """
  import tqdm
  terminal = sys.stderr.isatty()
  return tqdm.tqdm(
      total=total, initial=done, unit=unit, unit_scale=True, desc=what,
      file=sys.stderr if terminal else _LogLines(), disable=not shown,
      mininterval=.2 if terminal else PROGRESS_SECONDS,
      delay=0 if terminal else PROGRESS_SECONDS)


class Progress:
  """Step, loss, rate and time left of a run: a bar, in a log a line at times.
  """

  def __init__(self, start: int, steps: int, every_seconds: float = 15.0):
    """Begins at step `start` of `steps`."""
    import tqdm
    self._tqdm = tqdm.tqdm
    self._terminal = sys.stderr.isatty()
    self._start, self._steps, self._step = start, steps, start
    self._every, self._begun, self._shown = every_seconds, None, 0.0
    self._bar = tqdm.tqdm(
        total=steps, initial=start, unit='step', dynamic_ncols=True,
        disable=not self._terminal, file=sys.stderr)

  def step(self, step: int):
    """Notes that a step is done."""
    if self._begun is None:
      # The clock starts behind the first step, which waits for the compiler.
      self._begun, self._start = time.time(), step
    self._bar.update(step - self._step)
    self._step = step

  def show(self, metrics: dict[str, float | None]):
    """Shows the newest numbers of a step."""
    words = [f"loss {metrics['train/loss']:.3f}",
             f"{metrics['train/tokens_per_second']:,.0f} tokens/s"]
    if self._terminal:
      self._bar.set_postfix_str(', '.join(words))
      return
    now = time.time()
    last = self._step == self._steps
    if now - self._shown < self._every and not last:
      return
    self._shown = now
    spent = now - self._begun
    left = spent / max(1, self._step - self._start) * (self._steps - self._step)
    clock = self._tqdm.format_interval
    self.say(f'step {self._step}/{self._steps}, {", ".join(words)}, '
             f'{clock(spent)} gone, {clock(left)} left')

  def say(self, text: str):
    """Prints a line without tearing the bar."""
    self._tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()

  def close(self):
    """Leaves the bar as it stands."""
    self._bar.close()
