"""Rows of records in a bucket.

Both backends read them in their memory-mapped form, whose arrays are plain
files. A *chunk* is a range of rows of one split that is fetched with one
request for each array. Chunks are kept on this machine's disk (`ChunkCache`),
rows are gathered from them (`Remote`), and the chunks of coming steps are
fetched and pinned in advance (`Lookahead`).
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
import contextlib
import itertools
import json
import os
import tempfile
import threading
import time
from typing import NamedTuple
import zlib

import numpy as np

from robertax import files
from robertax.config import DataConfig
from robertax.corpus import records, shards
from robertax.corpus.preparation import default_cache_dir
from robertax.corpus.records import Manifest
from robertax.corpus.shards import HEADER
from robertax.data.rows import VERIFY, Rows, copy_rows, slotted
from robertax.descriptors import mapped
from robertax.errors import InputError, raise_unless_damage, reading, writing
from robertax.files import PARTIAL
from robertax.progress import advance, call_out

# The cache of chunks on this machine's disk.

_MAGIC = 0x31_4B_4C_42_58_42_52  # 'RBXBLK1'
_PATIENCE = 60.0  # Seconds to wait for chunks that others have pinned.
# The processes of a run that starts again take over the folders that they left.
# Whatever nobody has taken so many seconds later takes room on the disk.
_UNTAKEN = 600.0
_OWNER = '.owner'
_OPEN: dict[tuple, 'ChunkCache'] = {}
_LOCK = threading.Lock()


class Chunk(NamedTuple):
  """A range of rows that can be fetched and kept."""
  name: str  # Of its file; chunks with other content have other names.
  size: int  # The most bytes that it can take.
  fetch: Callable[[], Sequence[np.ndarray]]


class Entry:
  """A chunk in the cache."""

  def __init__(self, name: str, size: int):
    self.name, self.size, self.pins = name, size, 0
    self.on_disk = False
    # Bytes of its arrays, mapped into memory; None while it is not pinned.
    self.arrays: Future | None = None


class ChunkCache:
  """The chunks of one process: at most `limit` bytes, in `folder`.

  A reader pins the chunks that it needs now or in a coming step. Unpinned
  chunks stay for the next epoch or the next start until others need the room;
  then the least recently used goes first. Each process locks its own folder, so
  that several on one machine do not disturb each other, and after a while
  empties those of processes that are gone. `changed` is notified when there may
  be more room.
  """

  def __init__(self, folder: str, limit: int, threads: int = 32):
    """Takes over the chunks that an earlier process left in `folder`."""
    self.limit = limit
    self.bytes = self.peak = self._pinned = 0
    self.changed = threading.Condition(threading.RLock())
    self._entries: OrderedDict[str, Entry] = OrderedDict()
    self._held = contextlib.ExitStack()
    self._pool = ThreadPoolExecutor(threads, 'robertax-chunks')
    with writing(folder):
      self.folder = _own_folder(folder, self._held)
      self._take_over()
    self._emptier = threading.Timer(_UNTAKEN, empty_untaken, (folder,))
    self._emptier.daemon = True
    self._emptier.start()

  @classmethod
  def of(cls, config: DataConfig) -> 'ChunkCache':
    """The process's cache for this config, which the first call opens."""
    folder = os.path.abspath(os.path.expanduser(
        config.remote_cache_dir or os.path.join(default_cache_dir(), 'remote')))
    key = (folder, int(config.remote_cache_gib * 2**30), config.remote_threads)
    with _LOCK:
      if key not in _OPEN:
        _OPEN[key] = cls(*key)
      return _OPEN[key]

  def close(self) -> None:
    """Ends the threads and releases the folder; the chunks stay in it."""
    self._emptier.cancel()
    self._pool.shutdown(cancel_futures=True)
    with _LOCK:
      for key in [key for key, cache in _OPEN.items() if cache is self]:
        del _OPEN[key]
    self._held.close()

  def pin(self, chunk: Chunk, share: float = 1.0) -> Entry | None:
    """Keeps, and fetches, a chunk until `unpin`; None if the share is full."""
    with self.changed:
      entry = self._entries.get(chunk.name)
      size = entry.size if entry else chunk.size
      if not (entry and entry.pins) and (
          self._pinned + size > share * self.limit):
        return None
      if entry is None:
        if not self._make_room(size):
          return None
        entry = self._entries[chunk.name] = Entry(chunk.name, size)
        self._grow(size)
        entry.arrays = self._pool.submit(self._fetch, entry, chunk)
      elif entry.arrays is None:
        entry.arrays = self._pool.submit(self._open, entry, chunk)
      self._pinned += 0 if entry.pins else entry.size
      entry.pins += 1
      self._entries.move_to_end(chunk.name)
      return entry

  def unpin(self, entry: Entry) -> None:
    with self.changed:
      entry.pins -= 1
      if entry.pins:
        return
      self._pinned -= entry.size
      # Nobody needs it any more, so it is cancelled if it has not begun.
      if entry.arrays.cancel() and not entry.on_disk:
        self._forget(entry)
      elif entry.arrays.done():
        entry.arrays = None  # It is mapped again when it is pinned again.
      self.changed.notify_all()

  def wait_to_pin(self, chunk: Chunk) -> Entry:
    """Pins a chunk once there is room; InputError if there will be none."""
    end = time.monotonic() + _PATIENCE
    with self.changed:
      while (entry := self.pin(chunk)) is None:
        left = end - time.monotonic()
        if chunk.size > self.limit or left <= 0:
          raise self.too_small(chunk.size)
        self.changed.wait(min(left, 1.0))
        advance()  # This wait has an end, and then an error with more to say.
      return entry

  def too_small(self, needed: int) -> InputError:
    return InputError(
        f'data.remote_cache_gib={self.limit / 2**30:.3g}: the cache has no '
        f'room for {needed / 2**30:.3g} GiB of chunks that are needed at once, '
        'beside those that coming steps need. Set it to '
        f'{4 * needed / 2**30 + self.limit / 2**30:.3g} or more, or lower '
        'data.shuffle_block.')

  def _grow(self, by: int) -> None:
    self.bytes += by
    self.peak = max(self.peak, self.bytes)

  def _make_room(self, size: int) -> bool:
    """Drops unpinned chunks until `size` bytes fit; whether they do."""
    for entry in list(self._entries.values()):  # Least recently used first.
      if self.bytes + size <= self.limit:
        break
      if not entry.pins and (entry.arrays is None or entry.arrays.done()):
        self._forget(entry)
    return self.bytes + size <= self.limit

  def _forget(self, entry: Entry) -> None:
    """Drops an entry and its files, so that all bytes on disk are counted."""
    if self._entries.get(entry.name) is entry:
      del self._entries[entry.name]
      self.bytes -= entry.size
      for path in (self._path(entry.name), self._path(entry.name) + PARTIAL):
        with contextlib.suppress(OSError):
          os.remove(path)

  def _path(self, name: str) -> str:
    return os.path.join(self.folder, name)

  def _fetch(self, entry: Entry, chunk: Chunk) -> np.ndarray:
    path = self._path(entry.name)
    try:
      data = b''.join(np.ascontiguousarray(a).tobytes() for a in chunk.fetch())
      head = np.array([_MAGIC, len(data), zlib.crc32(data)], '<i8').tobytes()
      with writing(path):
        # No fsync: a chunk with a wrong checksum is fetched again.
        with open(path + PARTIAL, 'wb') as f:
          f.writelines((head, data))
        os.replace(path + PARTIAL, path)
    except BaseException:
      with self.changed:
        # Those that wait for it get the error; the next reader tries again.
        self._forget(entry)
        self.changed.notify_all()
      raise
    advance()
    with self.changed:
      more = len(head) + len(data) - entry.size
      entry.size += more
      self._grow(more)
      self._pinned += more if entry.pins else 0
      entry.on_disk = True
      self._make_room(0)  # A damaged file may have been smaller.
      self.changed.notify_all()
    return _mapped(path)

  def _open(self, entry: Entry, chunk: Chunk) -> np.ndarray:
    """Maps the file, or fetches the chunk again if it is damaged or gone."""
    data = _mapped(self._path(entry.name))
    return self._fetch(entry, chunk) if data is None else data

  def _take_over(self) -> None:
    """Takes over the files in the folder, oldest first, as far as they fit."""
    found = []
    for file in filter(_is_chunk, os.scandir(self.folder)):
      if file.name.endswith(PARTIAL):
        os.remove(file)
      else:
        found.append((file.stat().st_mtime_ns, file.name, file.stat().st_size))
    for _, name, size in sorted(found):
      self._entries[name] = Entry(name, size)
      self._entries[name].on_disk = True
      self.bytes += size
    self._make_room(0)
    self.peak = self.bytes


def _is_chunk(file: os.DirEntry) -> bool:
  """Whether a file is ours: a person may have named any folder as a cache."""
  with contextlib.suppress(OSError), open(file, 'rb') as f:
    return f.read(8) == _MAGIC.to_bytes(8, 'little')
  return False


def _mapped(path: str) -> np.ndarray | None:
  """A chunk's bytes after its head; None if it is gone or damaged."""
  try:
    data = mapped(path)
    magic, size, check = data[:24].view('<i8')
    if (magic, size, check) == (_MAGIC, len(data) - 24, zlib.crc32(data[24:])):
      return data[24:]
  except (OSError, ValueError) as e:
    raise_unless_damage(e, path)
  return None


def _own_folder(folder: str, held: contextlib.ExitStack) -> str:
  """A folder of this process alone, which is locked as long as `held` lasts."""
  for number in itertools.count():
    path = os.path.join(folder, str(number))
    if os.path.isdir(path) and not os.access(path, os.W_OK | os.X_OK):
      continue  # It is another user's.
    os.makedirs(path, exist_ok=True)
    lock, ours = files.lock(os.path.join(path, '.lock'))
    if ours:
      held.callback(lock.release)
      return path
    if ours is None:  # Without locks, the folder is removed at the end.
      path = held.enter_context(
          tempfile.TemporaryDirectory(dir=folder, prefix='process-'))
      files.write_text(f'{path}/{_OWNER}', json.dumps(files.this_process()))
      return path


def empty_untaken(folder: str) -> None:
  """Removes the chunks of processes that are gone, with a message."""
  for path in (entry.path for entry in os.scandir(folder) if entry.is_dir()):
    size = 0
    with contextlib.suppress(OSError, ValueError):  # Others remove them, too.
      with contextlib.ExitStack() as held:
        if _is_left(path, held):
          for left in os.scandir(path):
            if left.name == _OWNER or _is_chunk(left):
              size += left.stat().st_size
              os.remove(left)
    if size:
      call_out(f'{path}: {size / 2**30:.3g} GiB of chunks of a process that is '
               'gone are removed.')


def _is_left(path: str, held: contextlib.ExitStack) -> bool:
  """Whether the folder's process is gone; a numbered one is locked then."""
  if not os.path.basename(path).isdigit():
    return files.is_alive(files.read_json(os.path.join(path, _OWNER))) is False
  path = os.path.join(path, '.lock')
  lock, ours = files.lock(path) if os.path.exists(path) else (None, False)
  if ours:
    held.callback(lock.release)
  return bool(ours)


# The rows of one split, gathered from its chunks.

GRID = 64  # Rows of a chunk where no order says which are read together.


class RowRange(NamedTuple):
  """Rows first <= i < stop of one split."""
  first: int
  stop: int


class Remote:
  """The rows of one split in a bucket."""

  def __init__(self, manifest: Manifest, split: str, cache: ChunkCache):
    """Checks that each array exists and has the manifest's size."""
    self.cache = cache
    self._manifest, self._split = manifest, split
    if 'memmap' not in manifest.forms:
      raise InputError(
          f'{manifest.folder}: remote records are read in their memory-mapped '
          'form, and this folder lacks it: prepare with --memmap.')
    info = manifest.splits[split]
    self._pairs = manifest.pair_law is not None
    self._slotted = slotted(self._pairs)
    self._rows, self._tokens = info.num_records, info.num_tokens
    self._examples = info.num_examples
    self._kinds = {name: np.dtype(kind) for name, kind in
                   shards.array_dtypes(manifest.dtype)._asdict().items()}
    sizes = shards.array_sizes(manifest, split)
    for name, size in zip(shards.MappedArrays._fields, sizes):
      self._check(name, size)
    # Other records under the same URL get chunks with other names.
    self._digest = files.json_hash([
        manifest.folder, split, manifest.seconds, sizes, manifest.tokenizer,
        records.VERSION])[:16]

  def chunk(self, span: RowRange) -> Chunk:
    rows, manifest = span.stop - span.first, self._manifest
    slots = min(self._examples, rows * manifest.max_examples_per_row)
    size = (64 + 16 * (rows + 1) + slots * (16 if self._pairs else 8)
            + rows * manifest.sequence_length * self._kinds['ids'].itemsize)
    return Chunk(f'{self._digest}-{span.first}-{span.stop}', size,
                 lambda: self._fetch(span))

  def arrays(self, span: RowRange, data: np.ndarray) -> shards.MappedArrays:
    """The arrays in a chunk's bytes; starts count from its first row."""
    rows = span.stop - span.first + 1
    starts = data[:16 * rows].view('<i8').reshape(2, rows)
    examples, tokens = int(starts[1, -1]), int(starts[0, -1])
    pairs = examples if self._pairs else 0
    at, found = 16 * rows, {'row_starts': starts[0],
                            'example_starts': starts[1]}
    for name, size in (('lengths', examples), ('documents', examples),
                       ('first_lengths', pairs), ('second_documents', pairs),
                       ('ids', tokens)):
      end = at + size * self._kinds[name].itemsize
      found[name] = data[at:end].view(self._kinds[name])
      at = end
    return shards.MappedArrays(**found)

  def fill(self, local: np.ndarray, places: np.ndarray, rows: Rows,
           spans: np.ndarray) -> None:
    """Copies rows `local` of chunks `spans` to `places` in `rows`."""
    order = np.argsort(local, kind='stable')
    local, places = local[order], places[order]
    cuts = np.flatnonzero(np.diff(spans[order, 0], prepend=-1))
    todo = [(RowRange(*spans[order[a]].tolist()), local[a:b], places[a:b])
            for a, b in zip(cuts, [*cuts[1:], len(local)])]
    while todo:
      held = []
      try:
        # All are fetched at once, as far as there is room.
        for span, *_ in todo:
          entry = self.cache.pin(self.chunk(span))
          if entry is None and not held:
            entry = self.cache.wait_to_pin(self.chunk(span))
          if entry is None:
            break
          held.append(entry)
        for entry, (span, numbers, where) in zip(held, todo):
          copy_rows(self.arrays(span, entry.arrays.result()), self._slotted,
                    self._manifest.folder, numbers - span.first, where, rows)
      finally:
        for entry in held:
          self.cache.unpin(entry)
      todo = todo[len(held):]

  def _fetch(self, span: RowRange) -> Sequence[np.ndarray]:
    rows = self._read('row_starts', span.first, span.stop + 1)
    examples = self._read('example_starts', span.first, span.stop + 1)
    for starts, total in ((rows, self._tokens), (examples, self._examples)):
      if not (0 <= starts[0] and starts[-1] <= total
              and (np.diff(starts) >= 0).all()):
        raise InputError(f'{self._manifest.folder}: its memory-mapped records '
                         f'are damaged: {VERIFY}')
    pairs = ('first_lengths', 'second_documents') if self._pairs else ()
    slots = [self._read(name, *examples[[0, -1]])
             for name in ('lengths', 'documents', *pairs)]
    return [rows - rows[0], examples - examples[0], *slots,
            self._read('ids', *rows[[0, -1]])]

  def _path(self, name: str) -> str:
    return shards.array_path(self._manifest.folder, self._split, name)

  def _read(self, name: str, first: int, stop: int) -> np.ndarray:
    kind, head = self._kinds[name], 0 if name == 'ids' else HEADER
    return np.frombuffer(self._bytes(name, head + int(first) * kind.itemsize,
                                     head + int(stop) * kind.itemsize), kind)

  def _bytes(self, name: str, start: int, stop: int) -> bytes:
    with reading(self._path(name), 'cannot be read', f': {VERIFY}'):
      return files.read_range(self._path(name), start, stop)

  def _check(self, name: str, size: int) -> None:
    """Checks that an array's file exists and has `size` numbers."""
    path = self._path(name)
    with reading(path, 'missing or damaged', f': {VERIFY}'):
      if name == 'ids':
        found = files.stat(path).size // self._kinds[name].itemsize
      else:
        (found,), kind = shards.read_header(self._bytes(name, 0, HEADER))
        if kind != self._kinds[name]:
          raise ValueError(f'of {kind}')
    if found != size:
      raise InputError(f'{path}: {found} numbers, its manifest says {size}: '
                       f'{VERIFY}')


# Chunks of coming steps.

LOOKAHEAD_STEPS = 512  # How far ahead at most.
# The share of the cache that it may pin; the rest is for unplanned rows.
LOOKAHEAD_SHARE = 0.75


class Lookahead(contextlib.AbstractContextManager):
  """A thread that pins the chunks of coming steps; close it after use.

  It goes as far ahead as the cache has room. Without a cache it does nothing.
  """

  def __init__(self, cache: ChunkCache | None,
               chunks: Callable[[int], Sequence[Chunk]], start: int):
    """Starts the thread, which calls `chunks(step)` from step `start` on."""
    self._cache, self._chunks = cache, chunks
    self._next = start  # The step to be read next.
    self._held: deque[tuple[int, list[Entry]]] = deque()
    self._error: BaseException | None = None
    self._stopped = cache is None
    self._thread = threading.Thread(
        target=self._run, name='robertax-lookahead', daemon=True)
    if cache is not None:
      self._thread.start()

  def passed(self, step: int) -> None:
    """Says that steps up to this one are read; raises the thread's error."""
    if self._cache is None:
      return
    with self._cache.changed:
      self._next = step + 1
      self._release(step)
      self._cache.changed.notify_all()
    if self._error is not None:
      raise self._error

  def close(self) -> None:
    """Ends the thread and unpins all chunks; a second call does nothing."""
    if self._cache is None:
      return
    with self._cache.changed:
      self._stopped = True
      self._cache.changed.notify_all()
    self._thread.join()
    self._release(float('inf'))

  def __exit__(self, *_):
    self.close()

  def _release(self, last: float) -> None:
    """Unpins the chunks of steps up to `last`."""
    while self._held and self._held[0][0] <= last:
      for entry in self._held.popleft()[1]:
        self._cache.unpin(entry)

  def _run(self) -> None:
    step = self._next
    try:
      while not self._stopped:
        step = max(step, self._next)  # The reader may be faster.
        chunks = self._chunks(step)
        if (needed := sum(chunk.size for chunk in chunks)) > (
            LOOKAHEAD_SHARE * self._cache.limit):
          raise self._cache.too_small(needed)
        self._pin(step, chunks)
        step += 1
    except BaseException as e:
      self._error = e

  def _pin(self, step: int, chunks: Sequence[Chunk]) -> None:
    entries: list[Entry] = []
    with self._cache.changed:
      # Its entries are released with the step even if the rest has no room.
      self._held.append((step, entries))
    for chunk in chunks:
      with self._cache.changed:
        while not self._stopped and step >= self._next:
          entry = (self._cache.pin(chunk, LOOKAHEAD_SHARE)
                   if step < self._next + LOOKAHEAD_STEPS else None)
          if entry is not None:
            entries.append(entry)
            break
          self._cache.changed.wait(1.0)
