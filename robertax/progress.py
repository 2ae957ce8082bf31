"""The progress bars of a preparation."""

import sys
import time

import tqdm

PROGRESS_SECONDS = 10  # From one line in a log to the next.


class _LogLines:
  """For a log, where nothing can be drawn anew: a line for each state."""

  def write(self, text: str):
    if text.strip():
      sys.stderr.write(f'{text.strip()}\n')

  def flush(self):
    sys.stderr.flush()


def progress_bar(total: int, unit: str, what: str, shown: bool, done: int = 0
                 ) -> tqdm.tqdm:
  """Rate and time left on stderr: a bar; in a log, a line now and then.

  Args:
    total: how many units there are.
    unit: what they are called.
    what: is being done.
    shown: if not, nothing is.
    done: by an earlier process: they count, but not for the rate.
  """
  terminal = sys.stderr.isatty()
  return tqdm.tqdm(
      total=total, initial=done, unit=unit, unit_scale=True, desc=what,
      file=sys.stderr if terminal else _LogLines(), disable=not shown,
      mininterval=.2 if terminal else PROGRESS_SECONDS,
      delay=0 if terminal else PROGRESS_SECONDS)


# The progress line: step, ETA, tokens a second, loss.


class Progress:
  """A bar on a terminal; elsewhere (a log) a line now and then."""

  def __init__(self, start: int, steps: int, every_seconds: float = 15.0):
    """Begins at step `start` of `steps`."""
    self._terminal = sys.stderr.isatty()
    self._start, self._steps, self._step = start, steps, start
    self._every, self._begun, self._said = every_seconds, None, 0.0
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
    if now - self._said < self._every and not last:
      return
    self._said = now
    spent = now - self._begun
    left = spent / max(1, self._step - self._start) * (self._steps - self._step)
    clock = tqdm.tqdm.format_interval
    self.say(f'step {self._step}/{self._steps}, {", ".join(words)}, '
             f'{clock(spent)} gone, {clock(left)} left')

  def say(self, text: str):
    """Prints a line without tearing the bar."""
    tqdm.tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()

  def close(self):
    """Leaves the bar as it stands."""
    self._bar.close()
