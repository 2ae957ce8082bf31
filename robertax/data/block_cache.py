"""Blocks of remote records on this machine's disk, within a bound.

A block is pinned by whoever needs it, now or in a coming step; what nobody has
pinned makes room for others, the longest unused first, and otherwise stays: for
the next epoch, and for the next start. Each process has a folder of its own,
held by a lock, so that several on one machine do not get into each other's way.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
import contextlib
import itertools
import os
import tempfile
import threading
import time
from typing import NamedTuple
import zlib

import numpy as np

from robertax.config import DataConfig
from robertax.corpus.preparation import default_cache_dir
from robertax.errors import InputError, writing

_MAGIC = 0x31_4B_4C_42_58_42_52  # 'RBXBLK1'
_PATIENCE = 60.0  # Seconds, for blocks that others have pinned.
_OPEN: dict[tuple, 'BlockCache'] = {}
_LOCK = threading.Lock()


class Block(NamedTuple):
  """What can be fetched and kept.

  Attributes:
    name: of its file; another content, another name.
    size: bytes that it takes at most.
    fetch: gives its arrays, whose sizes the caller knows to read.
  """
  name: str
  size: int
  fetch: Callable[[], Sequence[np.ndarray]]


class Entry:
  """A block in the cache.

  Attributes:
    arrays: a Future of its arrays' bytes, mapped into memory; None: nobody has
      pinned it.
  """

  def __init__(self, name: str, size: int):
    self.name, self.size, self.pins = name, size, 0
    self.arrays: Future | None = None


class BlockCache:
  """The blocks of one process.

  Attributes:
    folder: where they lie.
    limit: bytes.
    bytes, peak: kept or on their way now, and the most so far.
    fetched: blocks that were read from the storage so far.
    changed: notified when there may be more room.
  """

  def __init__(self, folder: str, limit: int, threads: int = 32):
    """Takes over what an earlier process has left in its folder.

    Args:
      folder: of all processes of this machine; made if needed.
      limit: bytes, for this process.
      threads: blocks that are fetched at once.

    Raises:
      InputError: the folder cannot be written.
    """
    self.limit, self.fetched = limit, 0
    self.bytes = self.peak = self._pinned = 0
    self.changed = threading.Condition(threading.RLock())
    self._entries: OrderedDict[str, Entry] = OrderedDict()
    self._held = contextlib.ExitStack()
    self._pool = ThreadPoolExecutor(threads, 'robertax-blocks')
    with writing(folder):
      self.folder = _own_folder(folder, self._held)
      self._take_over()

  @classmethod
  def of(cls, config: DataConfig) -> 'BlockCache':
    """The process's cache for this config, opened when first asked for."""
    folder = os.path.abspath(os.path.expanduser(
        config.remote_cache_dir or os.path.join(default_cache_dir(), 'remote')))
    key = (folder, int(config.remote_cache_gib * 2**30), config.remote_threads)
    with _LOCK:
      if key not in _OPEN:
        _OPEN[key] = cls(*key)
      return _OPEN[key]

  def close(self) -> None:
    """Ends its threads and gives the folder back; what it holds stays there."""
    self._pool.shutdown(cancel_futures=True)
    with _LOCK:
      for key in [key for key, cache in _OPEN.items() if cache is self]:
        del _OPEN[key]
    self._held.close()

  def pin(self, block: Block, share: float = 1.0) -> Entry | None:
    """Keeps a block until `unpin`, and begins to fetch it if it is not there.

    Args:
      block: which.
      share: of the limit that all pinned blocks may take.

    Returns:
      None: there is no room as yet.
    """
    with self.changed:
      entry = self._entries.get(block.name)
      size = entry.size if entry else block.size
      if not (entry and entry.pins) and (
          self._pinned + size > share * self.limit):
        return None
      if entry is None:
        if not self._make_room(size):
          return None
        entry = self._entries[block.name] = Entry(block.name, size)
        self._grow(size)
        entry.arrays = self._pool.submit(self._fetch, entry, block)
      elif entry.arrays is None:
        entry.arrays = self._pool.submit(self._open, entry, block)
      self._pinned += 0 if entry.pins else entry.size
      entry.pins += 1
      self._entries.move_to_end(block.name)
      return entry

  def unpin(self, entry: Entry) -> None:
    with self.changed:
      entry.pins -= 1
      if entry.pins:
        return
      self._pinned -= entry.size
      if entry.arrays.cancel():  # Nobody needs it, and it has not begun.
        self._forget(entry)
      elif entry.arrays.done():
        entry.arrays = None  # Mapped again when it is pinned again.
      self.changed.notify_all()

  def wait_to_pin(self, block: Block) -> Entry:
    """`pin`, once there is room.

    Raises:
      InputError: there will be none.
    """
    end = time.monotonic() + _PATIENCE
    with self.changed:
      while (entry := self.pin(block)) is None:
        left = end - time.monotonic()
        if block.size > self.limit or left <= 0:
          raise self.too_small(block.size)
        self.changed.wait(left)
      return entry

  def too_small(self, needed: int) -> InputError:
    return InputError(
        f'data.remote_cache_gib={self.limit / 2**30:.3g}: {needed / 2**30:.3g} '
        f'GiB of blocks are needed at once, beside what coming steps need: '
        f'set it to {4 * needed / 2**30 + self.limit / 2**30:.3g} or more, or '
        'data.shuffle_block lower.')

  def _grow(self, by: int) -> None:
    self.bytes += by
    self.peak = max(self.peak, self.bytes)

  def _make_room(self, size: int) -> bool:
    """Drops unpinned blocks until so many bytes fit."""
    excess, dropped = self.bytes + size - self.limit, []
    for entry in self._entries.values():  # The longest unused comes first.
      if excess <= 0:
        break
      if not entry.pins and (entry.arrays is None or entry.arrays.done()):
        dropped.append(entry)
        excess -= entry.size
    for entry in dropped:
      self._forget(entry)
      try:
        os.remove(self._path(entry.name))
      except FileNotFoundError:
        pass
    return excess <= 0

  def _forget(self, entry: Entry) -> None:
    if self._entries.get(entry.name) is entry:
      del self._entries[entry.name]
      self.bytes -= entry.size

  def _path(self, name: str) -> str:
    return os.path.join(self.folder, name)

  def _fetch(self, entry: Entry, block: Block) -> np.ndarray:
    path = self._path(entry.name)
    try:
      data = b''.join(np.ascontiguousarray(a).tobytes() for a in block.fetch())
      head = np.array([_MAGIC, len(data), zlib.crc32(data)], '<i8').tobytes()
      with writing(path):
        with open(f'{path}.partial', 'wb') as f:
          f.write(head)
          f.write(data)
        os.replace(f'{path}.partial', path)
    except BaseException:
      with self.changed:
        # Whoever waits for it has the error; the next one tries again.
        self._forget(entry)
        self.changed.notify_all()
      raise
    with self.changed:
      self.fetched += 1
      more = len(head) + len(data) - entry.size
      entry.size += more
      self._grow(more)
      self._pinned += more if entry.pins else 0
      self.changed.notify_all()
    return _mapped(path)

  def _open(self, entry: Entry, block: Block) -> np.ndarray:
    """From disk; from the storage, where that is damaged or gone."""
    data = _mapped(self._path(entry.name))
    return self._fetch(entry, block) if data is None else data

  def _take_over(self) -> None:
    """What an earlier process has left, oldest first, as far as it fits."""
    found = []
    for name in os.listdir(self.folder):
      path = self._path(name)
      if name.endswith('.partial'):
        os.remove(path)
      elif name != '.lock':
        stat = os.stat(path)
        found.append((stat.st_mtime_ns, name, stat.st_size))
    for _, name, size in sorted(found):
      self._entries[name] = Entry(name, size)
      self.bytes += size
    self._make_room(0)
    self.peak = self.bytes


def _mapped(path: str) -> np.ndarray | None:
  """A block's bytes behind its head; None: gone, or not as it was written."""
  try:
    data = np.memmap(path, np.uint8, 'r').view(np.ndarray)
    magic, size, check = data[:24].view('<i8')
    if (magic, size, check) == (_MAGIC, len(data) - 24, zlib.crc32(data[24:])):
      return data[24:]
  except (OSError, ValueError):
    pass
  return None


def _own_folder(folder: str, held: contextlib.ExitStack) -> str:
  """A folder that no living process has; `held` is what keeps it so."""
  for number in itertools.count():
    path = os.path.join(folder, str(number))
    os.makedirs(path, exist_ok=True)
    file = open(os.path.join(path, '.lock'), 'w')
    try:
      import fcntl
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      held.enter_context(file)
      return path
    except BlockingIOError:
      file.close()
    except (ImportError, OSError):
      # Without locks: a folder that goes with the process.
      file.close()
      return held.enter_context(
          tempfile.TemporaryDirectory(dir=folder, prefix='process-'))
