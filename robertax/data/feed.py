"""Host batches -> arrays on the mesh, ahead of the step that needs them."""

import atexit
from collections.abc import Callable, Iterable, Iterator, Mapping
import queue
import threading
import time
from typing import Any, Generic, TypeVar

import jax
import numpy as np

from robertax.errors import InputError

# An iterator that is run ahead by a thread of its own.


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


def _run_thread(items, convert, out: queue.Queue,
                stop: threading.Event) -> None:
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
        _wake_thread(out)


def _wake_thread(out: queue.Queue) -> None:
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


Batch = dict[str, np.ndarray]
# Without x64, jax turns a large int64 into a wrong int32 in silence.
HOST_ONLY = frozenset({'example_ids'})


class Feed(Prefetch[dict[str, jax.Array]]):
  """Lays batches on devices in a thread of its own.

  Iterating gives dicts of global jax.Arrays; fields of `HOST_ONLY` are left
  out. Everything that making a batch raises is raised by the consumer's
  `next`. Close it, or use it in a `with`.

  Attributes:
    waited_seconds: time that the consumer has waited for batches.
  """

  def __init__(self, batches: Iterable[Batch],
               shardings: (jax.sharding.Sharding
                           | Mapping[str, jax.sharding.Sharding]
                           | Callable[[str], jax.sharding.Sharding]),
               depth: int = 2):
    """Starts the thread.

    Args:
      batches: this host's rows of each batch; closed with the feed.
      shardings: one for all fields, or by field name.
      depth: batches on the devices ahead of the consumer.
    """
    if isinstance(shardings, jax.sharding.Sharding):
      of = lambda name: shardings
    elif callable(shardings):
      of = shardings
    else:
      of = shardings.__getitem__

    def place(batch: Batch) -> dict[str, jax.Array]:
      return {name: jax.make_array_from_process_local_data(of(name), value)
              for name, value in batch.items() if name not in HOST_ONLY}

    super().__init__(batches, depth, place)


def host_rows(batch_size: int, micro_batches: int, process_index: int,
              process_count: int) -> np.ndarray:
  """The rows of the global batch that a host makes, in its order.

  Row r belongs to micro-batch r // (B / A), and within that to the host in
  whose part it lies: cut by `split_micro_batches`, a host's rows are what
  PartitionSpec(None, ('data', 'fsdp')) keeps on its devices.

  >>> host_rows(8, 2, process_index=1, process_count=2)
  array([2, 3, 6, 7])

  Args:
    batch_size: B, global.
    micro_batches: A.
    process_index, process_count: as jax has them.

  Returns:
    int64[B / process_count].

  Raises:
    InputError: B is not a multiple of A * process_count.
  """
  if batch_size % (micro_batches * process_count):
    raise InputError(
        f'data.batch_size={batch_size} is not a multiple of '
        f'{micro_batches} micro-batches x {process_count} hosts.')
  return np.arange(batch_size).reshape(
      micro_batches, process_count, -1)[:, process_index].ravel()


def local_rows(sharding: jax.sharding.Sharding, batch_size: int,
               micro_batches: int) -> np.ndarray:
  """The rows of the global batch that this process's devices keep.

  Where its devices stand next to each other on the mesh, these are
  `host_rows`. They need not (JAX lays a mesh along a TPU's links), and where a
  row's work is shared out over processes (mesh.model), several make the same.

  Args:
    sharding: of the batch, cut into micro-batches.
    batch_size: B, global.
    micro_batches: A.

  Returns:
    int64[b], in the order in which make_array_from_process_local_data takes
    them.

  Raises:
    InputError: B does not come out even.
  """
  processes = len({d.process_index for d in sharding.device_set})
  if processes == 1:
    return host_rows(batch_size, micro_batches, 0, 1)
  shape = (micro_batches, batch_size // micro_batches)
  try:
    parts = sharding.addressable_devices_indices_map(shape).values()
  except ValueError as e:
    raise InputError(
        f'data.batch_size={batch_size} does not come out even in '
        f'{micro_batches} micro-batches over {sharding.num_devices} devices '
        f'({e}).') from e
  columns = np.unique(np.concatenate(
      [np.arange(shape[1])[part[1]] for part in parts]))
  return np.arange(batch_size).reshape(shape)[:, columns].ravel()


def split_micro_batches(batch: Batch, micro_batches: int) -> Batch:
  """[b, ...] -> [A, b / A, ...] for every field, in the order of the rows.

  Args:
    batch: a host's rows, in the order of `host_rows`.
    micro_batches: A, which divides b.
  """
  return {name: value.reshape(micro_batches, -1, *value.shape[1:])
          for name, value in batch.items()}
