"""What a command says while it works, on stderr: lines, bars, signs of life.

The processes of a run would all say the same. So what is said for the run goes
through `say` and the bars, where process 0 alone speaks. All else, printed to
sys.stderr, is of one process, whose number stands before it (`leave_talking`).
"""

from collections.abc import Callable, Iterator
import contextlib
import io
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from tqdm import tqdm

PROGRESS_SECONDS = 10  # Between two lines in a log.
_speaks = True
_listener: Callable[[], None] = lambda: None


def say(text: str):
  """Prints a line on stderr, unless process 0 says it for this one too."""
  if _speaks:
    print(text, file=sys.stderr, flush=True)


def leave_talking(prefix: str):
  """Leaves the talking to process 0; all else on stderr gets the prefix."""
  global _speaks
  _speaks = False
  sys.stderr = Prefixed(2, prefix)


class Prefixed(io.TextIOBase):
  """A stream that writes each line whole, when it ends, behind a prefix."""
  encoding, errors = 'utf-8', 'backslashreplace'

  def __init__(self, descriptor: int, prefix: str):
    self._descriptor, self._prefix = descriptor, prefix
    self._begun = threading.local()  # Each thread's line without its end.

  def write(self, text: str) -> int:
    *lines, rest = (getattr(self._begun, 'text', '') + text).split('\n')
    self._begun.text = rest
    content = ''.join(f'{self._prefix}{line}\n' for line in lines)
    left = content.encode(self.encoding, self.errors)
    while left:
      left = left[os.write(self._descriptor, left):]
    return len(text)

  def flush(self):
    if getattr(self._begun, 'text', ''):
      self.write('\n')

  def fileno(self) -> int:
    return self._descriptor


def advance():
  """Says that a piece of long work is done, such as a batch or a file.

  A run's watchdog takes for a stall what does not say so for too long.
  """
  _listener()


@contextlib.contextmanager
def heard_by(listener: Callable[[], None]) -> Iterator[None]:
  """Calls `listener` at each `advance` inside."""
  global _listener
  before, _listener = _listener, listener
  try:
    yield
  finally:
    _listener = before


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
      file=sys.stderr if terminal else _LogLines(),
      disable=not (shown and _speaks),
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
    """Says a line without tearing the bar."""
    with self._bar.external_write_mode(file=sys.stderr):
      say(text)

  def close(self):
    self._bar.close()
