"""The other processes of a run: whether they are alive, and where they stand.

Each tells the others, by way of process 0, that it is alive and what it does.
JAX counts heartbeats too, but its own end is an abort that names a number; and
what a collective says of a peer that is gone names none at all. So its limit is
the longer one, and what is found here comes first.
"""

from collections.abc import Callable, Iterator, Mapping
import dis
import json
import os
import re
import socket
import sys
import threading
import time
from typing import Any, NoReturn
import uuid

import jax

from robertax.errors import PEER_GONE

# Of the timeout: the rest is left for the others to end in.
_SILENT = 0.7
_BEATS = 30  # In a timeout.
# Beats that are missed by one who is surely gone, for an error says so too.
_MISSED = 4
_PREFIX = 'robertax/alive'
# How an error of JAX's runtime begins where another process does not answer,
_UNANSWERED = re.compile('(UNAVAILABLE|ABORTED|DEADLINE_EXCEEDED|CANCELLED): ')
# or has left in the midst of a collective; what is wrong here (a program, the
# memory) begins with another word.
_COLLECTIVE = re.compile(
    '(UNKNOWN|INTERNAL|FAILED_PRECONDITION|UNAVAILABLE|ABORTED|CANCELLED|'
    'DEADLINE_EXCEEDED): .*(Gloo|NCCL|nccl|coordination service|heartbeat)',
    re.DOTALL)
_active: 'Peers | None' = None


class Pace:
  """Seconds that pass while this process runs.

  One that is stopped (SIGSTOP, a paused machine) and goes on finds that the
  clock has jumped, and nobody else is to blame for that: of such a gap it
  counts no more than three of its own intervals.
  """

  def __init__(self, interval: float,
               clock: Callable[[], float] = time.monotonic):
    """Begins; `passed` is called about every `interval` seconds."""
    self._interval, self._clock, self._last = interval, clock, clock()

  def passed(self) -> float:
    """Since the last call."""
    now = self._clock()
    before, self._last = self._last, now
    return min(now - before, 3 * self._interval)


class Silence:
  """For how long each of the others has not been heard of."""

  def __init__(self, me: int, limit: float):
    """Nobody is heard yet, and who never was is not missed.

    Args:
      me: this process.
      limit: seconds.
    """
    self._me, self._limit = me, limit
    self._said: dict[int, str] = {}
    self._ages: dict[int, float] = {}
    self._round = 0.0

  def heard(self, said: Mapping[int, str]):
    """What all have said last; it differs where one is alive."""
    self._round = 0.0
    for process, text in said.items():
      if text != self._said.get(process):
        self._ages[process] = 0.0
    self._said = dict(said)

  def pass_by(self, seconds: float):
    """So much time has gone by."""
    self._round += seconds
    for process in self._ages:
      self._ages[process] += seconds

  def missing(self, limit: float | None = None) -> dict[int, float]:
    """{process: seconds} of who is silent for too long.

    Where nothing at all comes, it is process 0 that passes nothing on.

    Args:
      limit: another one.
    """
    limit = self._limit if limit is None else limit
    if self._round >= limit and self._me and self._ages:
      return {0: self._round}
    return {process: age for process, age in sorted(self._ages.items())
            if age >= limit and process != self._me
            and not self.last(process).get('done')}

  def left(self) -> list[int]:
    """Who has said that it ends in disorder."""
    return [process for process in sorted(self._said)
            if process != self._me and self.last(process).get('gone')]

  def last(self, process: int) -> dict[str, Any]:
    """What it said last."""
    return json.loads(self._said.get(process, '{}'))

  def describe(self, process: int) -> str:
    """A line on who it is and what it did when it was heard last."""
    said = self.last(process)
    words = f'process {process}'
    if 'host' in said:
      words += f' (host {said["host"]}, pid {said["pid"]}; {said["doing"]})'
    if said.get('gone'):
      return f'{words} has ended: {said["gone"]}'
    return f'{words}, silent for {self._ages.get(process, self._round):.0f} s'


class Peers:
  """While it is entered, a peer that dies or is stopped ends this process.

  The exit code is PEER_GONE, for the same command on all of them goes on from
  the last checkpoint. With one process nothing happens.
  """

  def __init__(self, timeout: float, doing: Callable[[], str] = lambda: ''):
    """Not yet begun.

    Args:
      timeout: seconds in which a dead peer is noticed and this process ended.
      doing: words on where this process stands, for the others.
    """
    self._doing = doing
    self._interval = min(max(timeout / _BEATS, 0.1), 2.0)
    self._silence = Silence(jax.process_index(), _SILENT * timeout)
    self._lock, self._stop = threading.Lock(), threading.Event()
    self._threads = []

  def __enter__(self) -> 'Peers':
    global _active
    if jax.process_count() > 1:
      self._run = uuid.uuid4().hex
      self._count = 0
      # One that speaks to process 0, which may never answer, and one that
      # looks at the clock.
      self._threads = [
          threading.Thread(target=target, daemon=True, name=f'robertax-{name}')
          for name, target in (('beat', self._beat), ('peers', self._watch))]
      for thread in self._threads:
        thread.start()
      _active = self
    return self

  def __exit__(self, kind, error, trace):
    global _active
    if not self._threads:
      return
    if kind is not None and not getattr(error, 'agreed', False):
      return  # In disorder: `who_is_gone` and `leave` are still to come.
    self._stop.set()
    self._say(done=True)
    _active = None

  def _say(self, **more: Any):
    """Tells the others; without a word where process 0 cannot be reached."""
    # Not public, but what jax.distributed is made of (see processes.gather).
    from jax._src import distributed
    client = distributed.global_state.client
    self._count += 1
    try:
      client.key_value_set(f'{_PREFIX}/{jax.process_index()}', json.dumps({
          'host': socket.gethostname(), 'pid': os.getpid(), 'run': self._run,
          'beat': self._count, 'doing': self._doing(), **more}),
                           allow_overwrite=True)
      said = client.key_value_dir_get(f'{_PREFIX}/')
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError):
      return  # Silence is counted.
    with self._lock:
      self._silence.heard({int(key.rpartition('/')[2]): text
                           for key, text in said})

  def _beat(self):
    while not self._stop.wait(self._interval):
      self._say()

  def _watch(self):
    pace = Pace(self._interval)
    while not self._stop.wait(self._interval):
      with self._lock:
        self._silence.pass_by(pace.passed())
        gone = self._describe()
      if gone and not self._stop.is_set():
        end(gone)

  def _describe(self, limit: float | None = None) -> str:
    gone = [*self._silence.left(), *self._silence.missing(limit)]
    return '; '.join(self._silence.describe(process)
                     for process in dict.fromkeys(gone))

  def who_is_gone(self) -> str:
    """Waits for some beats; who has missed them, or nothing."""
    seconds = _MISSED * self._interval
    for _ in range(3 * _MISSED):
      time.sleep(self._interval / 2)
      with self._lock:
        if gone := self._describe(0.7 * seconds):
          return gone
    return ''

  def others(self) -> str:
    """Where each of them stands."""
    with self._lock:
      return '\n'.join(
          self._silence.describe(process) for process in sorted(
              self._silence._ages) if process != jax.process_index())

  def leave(self, reason: str):
    """Tells the others why this process ends, in disorder."""
    self._stop.set()
    teller = threading.Thread(target=self._say, kwargs={'gone': reason},
                              daemon=True)
    teller.start()
    teller.join(5)  # Process 0 may be the one that is gone.


def says_so(error: BaseException) -> bool:
  """Whether JAX's runtime has raised it, for another process is gone.

  What Python code raises never is such an error, whatever its text says. JAX
  raises JaxRuntimeError where one waits for a result or for process 0; but
  jaxlib 0.10 makes ValueErrors of those that come while a program is started.

  Args:
    error: or what it was raised from, or while.
  """
  for e in _chain(error):
    if isinstance(e, jax.errors.JaxRuntimeError):
      if _UNANSWERED.match(str(e)) or _COLLECTIVE.match(str(e)):
        return True
    elif type(e) is ValueError and not _raised_by_python(e):
      if _COLLECTIVE.match(str(e)):
        return True
  return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  while error is not None:
    yield error
    error = error.__cause__ or (
        None if error.__suppress_context__ else error.__context__)


def _raised_by_python(error: BaseException) -> bool:
  """Whether it began at a `raise`, not in a call of compiled code."""
  trace = error.__traceback__
  if trace is None:
    return True
  while trace.tb_next is not None:
    trace = trace.tb_next
  code = trace.tb_frame.f_code.co_code[trace.tb_lasti]
  return dis.opname[code] in ('RAISE_VARARGS', 'RERAISE')


def who_is_gone() -> str:
  """Lines on the peers that are gone; '': none, or it is not known."""
  return _active.who_is_gone() if _active else ''


def others() -> str:
  """A line on each other process of the run; '': there is none."""
  return _active.others() if _active else ''


def leave(reason: str):
  """Tells the others, if there are any, that this process ends, and why."""
  if _active:
    _active.leave(reason)


def linger():
  """Process 0 goes last: without it, JAX aborts the others unheard."""
  if jax.process_count() > 1 and jax.process_index() == 0:
    time.sleep(3)


def end(gone: str) -> NoReturn:
  """Ends this process, for others are gone.

  The main thread may wait in a collective for ever: no exception reaches it.

  Args:
    gone: who.
  """
  print(f'process {jax.process_index()} of {jax.process_count()}: {gone}. '
        'This one ends too; the same command on all of them goes on from the '
        'last checkpoint.', file=sys.__stderr__, flush=True)
  linger()
  os._exit(PEER_GONE)
