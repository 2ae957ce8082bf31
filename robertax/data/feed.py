"""Lays host batches on the mesh before the step that needs them.

`Prefetch` runs any iterator ahead in its own thread, and `Feed` lays batches on
the devices there. `fetch_behind` brings results back to the host. `local_rows`
says which rows of the global batch this process makes.
"""

import atexit
from collections import deque
from collections.abc import Callable, Iterable, Iterator
import contextlib
import queue
import threading
import time
from typing import Any, Generic, TypeVar

import jax
import numpy as np

from robertax.data.masking import Batch
from robertax.errors import InputError
from robertax.progress import advance

T = TypeVar('T')
DeviceBatch = dict[str, jax.Array]  # A masking.Batch, laid on the mesh.
_END = object()
_RUNNING: dict[threading.Thread, threading.Event] = {}
# Without x64, jax turns a large int64 into a wrong int32 in silence.
HOST_ONLY = frozenset({'example_ids'})


class Prefetch(contextlib.AbstractContextManager, Generic[T]):
  """Runs an iterator `depth` items ahead in a thread; close it after use.

  `waited_seconds` is how long its consumer has waited so far. `__next__` raises
  the thread's own error after the items that were made before it. After `close`
  (or `with`) the thread has ended and the iterator beneath is closed too.
  """

  def __init__(self, items: Iterable[Any], depth: int,
               convert: Callable[[Any], T] = lambda item: item):
    """Starts the thread, which runs both `items` and `convert`."""
    self.waited_seconds = 0.0
    self._queue = queue.Queue(max(depth, 1))
    self._stop = threading.Event()
    # The thread keeps no reference to self, so that a forgotten Prefetch is
    # garbage-collected.
    self._thread = threading.Thread(
        target=_run_thread, args=(items, convert, self._queue, self._stop),
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
    if error is not None or item is _END:
      self.close()
      raise error or StopIteration
    advance()
    return item

  def close(self) -> None:
    """Ends the thread; a second call does nothing."""
    self._stop.set()
    self._thread.join()

  def __exit__(self, *_):
    self.close()

  def __del__(self):
    if hasattr(self, '_stop'):
      self._stop.set()  # No join: this may run in any thread.


def _run_thread(items: Iterable[Any], convert: Callable[[Any], Any],
                out: queue.Queue, stop: threading.Event) -> None:
  def put(item: Any, error: BaseException | None) -> None:
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
  except BaseException as e:  # The consumer raises it again.
    put(None, e)
  finally:
    try:
      # Closed in the thread that ran it, since no other can be inside it.
      getattr(items, 'close', lambda: None)()
    finally:
      _RUNNING.pop(threading.current_thread(), None)
      if stop.is_set():
        _wake_thread(out)


def _wake_thread(out: queue.Queue) -> None:
  try:
    while True:
      out.get_nowait()
  except queue.Empty:
    out.put_nowait((_END, None))


@atexit.register
def _stop_all() -> None:
  # TensorFlow aborts the process if its threads still call Python when the
  # interpreter ends, so iterators that were left open are closed here.
  running = list(_RUNNING.items())
  for _, stop in running:
    stop.set()
  for thread, _ in running:
    thread.join(10)


class Feed(Prefetch[dict[str, jax.Array]]):
  """Yields batches as global jax.Arrays, without the fields of `HOST_ONLY`."""

  def __init__(self, batches: Iterable[Batch],
               sharding: jax.sharding.Sharding, depth: int = 2):
    """Takes this host's rows of each batch; closes `batches` with the feed."""
    super().__init__(batches, depth, lambda batch: {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in batch.items() if name not in HOST_ONLY})


def fetch_behind(batches: Iterable[T], start: Callable[[T], Any], behind: int
                 ) -> Iterator[tuple[T, Any]]:
  """Yields each batch with its result, fetched to the host.

  `start` begins to compute the result of a batch, a pytree of jax.Arrays. The
  result is fetched once `behind` later ones have begun, so that the devices do
  not wait for the host (see parallel.mesh.steps_ahead for when they must).
  """
  under_way = deque()
  for batch in batches:
    under_way.append((batch, start(batch)))
    if len(under_way) > behind:
      before, result = under_way.popleft()
      yield before, jax.device_get(result)
  for batch, result in under_way:
    yield batch, jax.device_get(result)


def host_rows(batch_size: int, micro_batches: int, process_index: int,
              process_count: int) -> np.ndarray:
  """int64[B / process_count]: the rows of the global batch that a host makes.

  Row r belongs to micro-batch r // (B / A), and each host makes its share of
  every micro-batch. After `split_micro_batches`, these are the rows that
  PartitionSpec(None, ('data', 'fsdp')) keeps on the host's devices.

  >>> host_rows(8, 2, process_index=1, process_count=2)
  array([2, 3, 6, 7])
  """
  if batch_size % (micro_batches * process_count):
    raise InputError(
        f'data.batch_size={batch_size} is not a multiple of '
        f'{micro_batches} micro-batches x {process_count} hosts.')
  return np.arange(batch_size).reshape(
      micro_batches, process_count, -1)[:, process_index].ravel()


def local_rows(sharding: jax.sharding.Sharding, batch_size: int,
               micro_batches: int) -> np.ndarray:
  """int64[b]: the rows of the global batch that this process's devices keep.

  They are in the order of make_array_from_process_local_data. They are
  `host_rows` if the devices are neighbours on the mesh, which is not always so,
  since JAX lays a mesh along a TPU's links. If several processes share the work
  of a row (mesh.model), each makes it. `sharding` is that of micro-batches;
  InputError if these and the devices do not divide the global batch.
  """
  processes = len({d.process_index for d in sharding.device_set})
  if processes == 1:
    return host_rows(batch_size, micro_batches, 0, 1)
  shape = (micro_batches, batch_size // micro_batches)
  try:
    parts = sharding.addressable_devices_indices_map(shape).values()
  except ValueError as e:
    raise InputError(
        f'data.batch_size={batch_size} cannot be divided evenly into '
        f'{micro_batches} micro-batches over {sharding.num_devices} devices '
        f'({e}).') from e
  columns = np.unique(np.concatenate(
      [np.arange(shape[1])[part[1]] for part in parts]))
  return np.arange(batch_size).reshape(shape)[:, columns].ravel()


def split_micro_batches(batch: Batch, micro_batches: int) -> Batch:
  """Reshapes every field from a host's rows [b, ...] to [A, b / A, ...]."""
  return {name: value.reshape(micro_batches, -1, *value.shape[1:])
          for name, value in batch.items()}
