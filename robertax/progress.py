"""Messages and progress bars of a command, on stderr.

All processes of a run would print the same messages. With `say` and the bars
only process 0 prints them. Whatever else a process prints to sys.stderr gets
its number as a prefix (`leave_talking`).
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

PROGRESS_SECONDS = 10  # Seconds between two lines in a log.
_speaks = True
_listener: Callable[[], None] = lambda: None


def say(text: str):
  """Prints a line on stderr, above any bar, in process 0 of a run only."""
  if _speaks:
    bars = getattr(sys.modules.get('tqdm'), 'tqdm', None)
    with contextlib.suppress(OSError, ValueError), (
        bars.external_write_mode(file=sys.stderr) if bars
        else contextlib.nullcontext()):
      call_out(text)


_said: set[str] = set()


def say_once(text: str):
  """Prints a line that several parts of a command come upon."""
  if text not in _said:
    _said.add(text)
    say(text)


def call_out(text: str, last: bool = False):
  """Prints a line that this process alone has to say.

  A stderr that is full or closed ends no run: there is nowhere to say so.
  `last` words are for Python's own stderr, because a notebook's would lose them
  when the process ends at once.
  """
  whole = last and not isinstance(sys.stderr, Prefixed)
  with contextlib.suppress(OSError, ValueError):
    print(text, file=sys.__stderr__ if whole else sys.stderr, flush=True)


def leave_talking(prefix: str):
  """Silences `say` and the bars, and gives the rest of stderr a prefix."""
  global _speaks
  _speaks = False
  sys.stderr = Prefixed(2, prefix)


class Prefixed(io.TextIOBase):
  """A stream that writes only whole lines, each with a prefix."""
  encoding, errors = 'utf-8', 'backslashreplace'

  def __init__(self, descriptor: int, prefix: str):
    self._descriptor, self._prefix = descriptor, prefix
    self._begun: dict[threading.Thread, str] = {}  # Unfinished lines.

  def write(self, text: str) -> int:
    me = threading.current_thread()
    *lines, rest = (self._begun.pop(me, '') + text).split('\n')
    if rest:
      self._begun[me] = rest
    # A thread that has ended will not go on with its line.
    lines += filter(None, [self._begun.pop(thread, '') for thread in list(
        self._begun) if not thread.is_alive()])
    left = ''.join(f'{self._prefix}{line}\n' for line in lines).encode(
        self.encoding, self.errors)
    with contextlib.suppress(OSError):
      while left:
        left = left[os.write(self._descriptor, left):]
    return len(text)

  def flush(self):
    self.write('\n' if threading.current_thread() in self._begun else '')

  def fileno(self) -> int:
    return self._descriptor


def advance():
  """Tells the watchdog that a piece of long work, such as a batch, is done."""
  _listener()


@contextlib.contextmanager
def heard_by(listener: Callable[[], None]) -> Iterator[None]:
  """Calls `listener` at each `advance` in the body."""
  global _listener
  before, _listener = _listener, listener
  try:
    yield
  finally:
    _listener = before


class _LogLines:
  """A log file for tqdm: each state of a bar becomes a line."""

  def write(self, text: str):
    if text.strip():
      call_out(text.strip())

  def flush(self):
    pass


def progress_bar(total: int, unit: str, what: str, shown: bool, done: int = 0
                 ) -> 'tqdm':
  """A bar, or lines in a log; its rate excludes the first `done` units."""
  from tqdm import tqdm
  terminal = sys.stderr.isatty()
  return tqdm(
      total=total, initial=done, unit=unit, unit_scale=True, desc=what,
      file=sys.stderr if terminal else _LogLines(),
      disable=not (shown and _speaks),
      mininterval=.2 if terminal else PROGRESS_SECONDS,
      delay=0 if terminal else PROGRESS_SECONDS)


class Progress:
  """Shows a run's step, loss, tokens per second and time left."""

  def __init__(self, start: int, steps: int, every_seconds: float = 15.0):
    """Starts a bar at step `start`; a log has a line `every_seconds`."""
    from tqdm import tqdm
    self._terminal = sys.stderr.isatty()
    self._start, self._steps, self._step = start, steps, start
    self._every, self._begun, self._shown = every_seconds, None, 0.0
    self._bar = tqdm(
        total=steps, initial=start, unit='step', dynamic_ncols=True,
        disable=not self._terminal, file=sys.stderr)

  def step(self, step: int):
    """Records that a step is done."""
    if self._begun is None:
      # The first step includes compilation, so time counts from its end.
      self._begun, self._start = time.time(), step
    self._bar.update(step - self._step)
    self._step = step

  def show(self, metrics: dict[str, float | None]):
    """Shows the latest `train/...` metrics."""
    words = (f"loss {metrics['train/loss']:.3f}, "
             f"{metrics['train/tokens_per_second']:,.0f} tokens/s")
    if self._terminal:
      self._bar.set_postfix_str(words)
      return
    now = time.time()
    if now - self._shown < self._every and self._step < self._steps:
      return
    self._shown = now
    spent = now - self._begun
    left = spent / max(1, self._step - self._start) * (self._steps - self._step)
    clock = self._bar.format_interval
    say(f'step {self._step}/{self._steps}, {words}, {clock(spent)} gone, '
        f'{clock(left)} left')

  def close(self):
    self._bar.close()
