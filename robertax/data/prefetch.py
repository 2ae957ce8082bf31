"""An iterator that is run ahead by a thread of its own."""

import atexit
from collections.abc import Callable, Iterable, Iterator
import queue
import threading
import time
from typing import Any, Generic, TypeVar

T = TypeVar('T')
_END = object()
_RUNNING: dict[threading.Thread, threading.Event] = {}


class Prefetch(Generic[T]):
  """Runs ahead of its consumer, at most `depth` items.

  What the thread raises is raised, itself, by `__next__`, after the items made
  before it. To be closed (or used in a `with`): afterwards the thread has
  ended, and the iterator beneath is closed too.

  Attributes:
    waited_seconds: time that the consumer has waited for items.
  """

  def __init__(self, items: Iterable[Any], depth: int,
               convert: Callable[[Any], T] = lambda item: item):
    """Starts the thread.

    Args:
      items: what to run ahead; its `__next__` runs in the thread.
      depth: items that may wait for the consumer.
      convert: applied to each item, in the thread.
    """
    self.waited_seconds = 0.0
    self._queue = queue.Queue(max(depth, 1))
    self._stop = threading.Event()
    # The thread holds no reference to self: a forgotten Prefetch is collected.
    self._thread = threading.Thread(
        target=_run, args=(items, convert, self._queue, self._stop),
        name='robertax-prefetch', daemon=True)
    _RUNNING[self._thread] = self._stop
    self._thread.start()

  def __iter__(self) -> Iterator[T]:
    return self

  def __next__(self) -> T:
    if self._stop.is_set():
      raise StopIteration
    start = time.perf_counter()
    item, error = self._queue.get()
    self.waited_seconds += time.perf_counter() - start
    if error is not None:
      self.close()
      raise error
    if item is _END:
      self.close()
      raise StopIteration
    return item

  def close(self) -> None:
    """Ends the thread; may be called again."""
    self._stop.set()
    self._thread.join()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def __del__(self):
    if hasattr(self, '_stop'):
      self._stop.set()  # No join: this may run in any thread.


def _run(items, convert, out: queue.Queue, stop: threading.Event) -> None:
  def put(item, error) -> None:
    while not stop.is_set():
      try:
        return out.put((item, error), timeout=0.05)
      except queue.Full:
        pass

  try:
    for item in items:
      put(convert(item), None)
      if stop.is_set():
        break
    else:
      put(_END, None)
  except BaseException as e:  # Raised again where the consumer is.
    put(None, e)
  finally:
    try:
      # Closed in the thread that ran it: no other can be inside it.
      getattr(items, 'close', lambda: None)()
    finally:
      _RUNNING.pop(threading.current_thread(), None)
      if stop.is_set():
        _wake(out)


def _wake(out: queue.Queue) -> None:
  """Lets a consumer that waits for a stopped thread see the end."""
  try:
    while True:
      out.get_nowait()
  except queue.Empty:
    out.put_nowait((_END, None))


@atexit.register
def _stop_all() -> None:
  # TensorFlow aborts the process if its threads still call Python when the
  # interpreter goes away: whoever left an iterator open gets it closed here.
  running = list(_RUNNING.items())
  for _, stop in running:
    stop.set()
  for thread, _ in running:
    thread.join(10)
