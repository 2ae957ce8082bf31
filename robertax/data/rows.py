"""Reads rows of local records, and handles damaged ones.

Two forms give the same rows: `Shards` reads array_record files, and `Mapped`
reads plain arrays that are mapped into memory. array_record checks its own
bytes as it reads them. Each piece of 1 MiB of an array is compared with the
manifest's checksum when it is first read.
"""

import bisect
from collections.abc import Sequence
import os
import threading
from typing import NamedTuple
import zlib

import numpy as np

from robertax.corpus import records, shards
from robertax.corpus.records import Manifest
from robertax.descriptors import KEPT
from robertax.errors import InputError, raise_unless_damage
from robertax.files import (
    DAMAGE_ADVICE,
    DOUBT_ADVICE,
    PIECE,
    Checksum,
    read_range,
)
from robertax.parallel import processes
from robertax.progress import call_out

# What a checksum has not judged may be whole.
VERIFY = '`python -m robertax.prepare --verify` says which files are damaged.'
PREPARE_AGAIN = f'{DAMAGE_ADVICE}.'  # Only where a checksum says so.
_NAMED = 20  # Damaged records that are named; the others are counted.


class Rows(NamedTuple):
  """Some rows.

  Attributes:
    ids: int32[B,T], padded at the end.
    lengths: int32[B,P], the tokens of each example, 0 for empty slots.
    example_ids: int64[B,P], corpus << 48 | record in it << 8 | slot; -1 for
      empty slots. Masks depend on it, so it is the same on every host.
    documents: int32[B,P], the index in its corpus of the document in which an
      example begins; -1 for empty slots.
    first_lengths: int32[B,P], tokens of `<s> A </s>`; None: no pairs.
    second_documents: int32[B,P], the document of B; None: no pairs.
  """
  ids: np.ndarray
  lengths: np.ndarray
  example_ids: np.ndarray
  documents: np.ndarray
  first_lengths: np.ndarray | None = None
  second_documents: np.ndarray | None = None

  @classmethod
  def empty(cls, size: int, length: int, slots: int, pad_id: int,
            pairs: bool) -> 'Rows':
    """Rows of padding, to be filled."""
    def slotted(fill, dtype=np.int32):
      return np.full((size, slots), fill, dtype)
    return cls(np.full((size, length), pad_id, np.int32), slotted(0),
               slotted(-1, np.int64), slotted(-1),
               *((slotted(0), slotted(-1)) if pairs else ()))


def fits(sizes: np.ndarray, number: np.ndarray, rows: Rows) -> bool:
  """Whether rows of these sizes and numbers of examples can be stored."""
  return (0 <= sizes.min() and sizes.max() <= rows.ids.shape[1]
          and 0 <= number.min() and number.max() <= rows.lengths.shape[1])


def slotted(pairs: bool) -> list[str]:
  """The fields of `Rows` that records and arrays hold for each example."""
  return [name for name in (
      records.PAIR_FIELDS if pairs else records.ROW_FIELDS) if name != 'ids']


def copy_rows(arrays: shards.MappedArrays, slotted: list[str], folder: str,
              local: np.ndarray, places: np.ndarray, rows: Rows) -> None:
  """Copies rows `local` of these arrays to `places` in `rows`."""
  starts, ends = arrays.row_starts[local], arrays.row_starts[local + 1]
  first = arrays.example_starts[local]
  number = arrays.example_starts[local + 1] - first
  if not fits(ends - starts, number, rows):
    raise InputError(f'{folder}: its memory-mapped records are damaged: '
                     f'{VERIFY}')
  for place, start, end in zip(places.tolist(), starts.tolist(), ends.tolist()):
    rows.ids[place, :end - start] = arrays.ids[start:end]
  for slot in range(int(number.max(initial=0))):
    has = number > slot
    for name in slotted:
      getattr(rows, name)[places[has], slot] = (
          getattr(arrays, name)[first[has] + slot])


class BadRecords:
  """Stops at a damaged record or leaves it out, as data.bad_records says.

  A row that is left out becomes padding, so that all other rows stay the same.
  """

  def __init__(self, policy: str = 'stop'):
    self._skip = policy == 'skip'
    self._met: set[tuple[str, int]] = set()
    self._told: set[tuple[str, int]] = set()  # `count` has told of them.
    self._lock = threading.Lock()

  def count(self) -> int:
    """Counts the records that any process left out; all must call it alike."""
    with self._lock:
      news = sorted(self._met - self._told)
    for told in processes.gather(news):
      self._told.update(map(tuple, told))
    return len(self._told)

  def report(self, path: str, record: int, why: str) -> None:
    """Leaves a damaged record out, or raises InputError."""
    if not self._skip:
      raise InputError(
          f'{path}: record {record} is damaged: {why}: {VERIFY} '
          'data.bad_records=skip leaves such records out, and counts them.')
    key = '/'.join(path.split('/')[-2:]), record  # Equal on all machines.
    with self._lock:
      if key in self._met:
        return
      self._met.add(key)
      if len(self._met) <= _NAMED:
        call_out(f'{path}: record {record} is left out: {why}'
                 + (' (others will be counted only: bad_records)'
                    if len(self._met) == _NAMED else ''))


# Rows of array_record files.
#
# Records are tf.train.Examples of one fixed layout (corpus.records), in which
# the same fields follow each other. So a field is read for a whole batch at
# once, and any other layout is damage.

# One pread per record, in this thread: for random access the reader's threads
# and its read-ahead of 16 MB cost more than they give.
_READER_OPTIONS = 'readahead_buffer_size:0,max_parallelism:0'
_LENGTH_DELIMITED = 2
# Field numbers of tf.train.Example and of its map.
_EXAMPLE = _BYTES_LIST = _VALUE = _KEY = 1
_FEATURE = 2


class DamagedRow(Exception):
  """Record number `.index` does not have the layout."""

  def __init__(self, index: int):
    super().__init__(index)
    self.index = index


class Fields:
  """Finds the features of each record.

  `parts` maps each to its (starts int64[R], sizes int64[R]) in `data` uint8[n].
  """

  def __init__(self, examples: list[bytes], names: Sequence[str]):
    """Raises DamagedRow for the first record that has other features."""
    sizes = np.fromiter(map(len, examples), np.int64, len(examples))
    self._ends = np.cumsum(sizes)
    # A damaged last record may read past the end, where there are zeros.
    self.data = np.frombuffer(b''.join([*examples, bytes(32)]), np.uint8)
    self._at = self._ends - sizes
    # features { feature { key: .. value { .._list { value: .. } } } ... }
    self._enter(_EXAMPLE)
    self.parts = {name: self._feature(name.encode()) for name in names}
    self._demand(self._at == self._ends)

  def _feature(self, name: bytes) -> tuple[np.ndarray, np.ndarray]:
    self._enter(_EXAMPLE)
    self._demand(self._enter(_KEY) == len(name))
    for byte in name:
      self._byte(byte)
    self._enter(_FEATURE)
    self._enter(_BYTES_LIST)
    sizes = self._enter(_VALUE)
    starts = self._at
    self._demand(starts + sizes <= self._ends)
    self._at = starts + sizes
    return starts, sizes

  def _enter(self, number: int) -> np.ndarray:
    """Steps into a field and returns its size."""
    self._byte(number << 3 | _LENGTH_DELIMITED)
    return self._varint()

  def _byte(self, value: int) -> None:
    self._demand(self.data[self._at] == value)
    self._at = self._at + 1
    self._demand(self._at <= self._ends)

  def _varint(self) -> np.ndarray:
    value = np.zeros(len(self._at), np.int64)
    more = np.ones(len(self._at), bool)
    for shift in range(0, 42, 7):
      byte = self.data[self._at].astype(np.int64)
      value |= np.where(more, (byte & 127) << shift, 0)
      self._at = self._at + more
      more &= byte > 127
      self._demand(self._at <= self._ends)
      if not more.any():
        return value
    raise DamagedRow(int(np.argmax(more)))

  def _demand(self, true: np.ndarray) -> None:
    if not true.all():
      raise DamagedRow(int(np.argmin(true)))


class Shards:
  """The array_record files of one corpus, which are opened on first use."""

  def __init__(self, manifest: Manifest, split: str, bad: BadRecords):
    self._bad = bad
    info = manifest.splits[split]
    self._paths = manifest.shard_paths(split)
    self._sizes = info.shard_lengths
    self._starts = np.cumsum((0, *info.shard_lengths)).tolist()
    self._dtype = np.dtype(manifest.dtype).newbyteorder('<')
    self._pairs = manifest.pair_law is not None
    self._checksums = manifest.checksums
    self._lock = threading.Lock()
    if records.array_record_module() is None:
      raise InputError("data.backend='tf' needs array_record, which is not "
                       "installed here: set data.backend='numpy'.")
    for path in self._paths:
      if not os.path.exists(path):
        raise InputError(f'{path}: this shard is missing: {DOUBT_ADVICE}.')

  def fill(self, local: np.ndarray, places: np.ndarray, rows: Rows,
           spans: np.ndarray | None = None) -> None:
    # Sorted, so that each shard is read once a batch, in the file's order.
    order = np.argsort(local, kind='stable')
    local, places = local[order].tolist(), places[order]
    examples: list[bytes | None] = []
    while len(examples) < len(local):
      at = len(examples)
      shard = self._shard(local[at])
      end = bisect.bisect_left(local, self._starts[shard + 1], at)
      examples += self._read(
          shard, [number - self._starts[shard] for number in local[at:end]])
    whole = [i for i, example in enumerate(examples) if example is not None]
    while whole:
      try:
        self._copy(
            Fields([examples[i] for i in whole],
                   records.PAIR_FIELDS if self._pairs else records.ROW_FIELDS),
            places[whole], rows)
        return
      except DamagedRow as e:
        number = local[whole.pop(e.index)]
        shard = self._shard(number)
        self._bad.report(self._paths[shard], number - self._starts[shard],
                         'not what a record looks like')

  def _shard(self, number: int) -> int:
    return bisect.bisect_right(self._starts, number) - 1

  def _read(self, shard: int, wanted: list[int]) -> list[bytes | None]:
    """Records of a shard; None for damaged ones that are left out."""
    with self._lock:
      # One at a time: the library would hand the records of a list one by one
      # to its pool of threads, which takes five times as long.
      examples, reader = [], None
      for number in wanted:
        reader = reader or self._reader(shard)
        try:
          reader.seek(number)
          examples.append(reader.read())
        except (RuntimeError, IndexError) as e:
          reader = KEPT.drop(id(self), shard)  # It cannot read after an error.
          raise_unless_damage(e, self._paths[shard])
          self._bad.report(self._paths[shard], number, _reason(e))
          examples.append(None)
      return examples

  def _reader(self, shard: int):
    """Opens a shard, unless it is kept open."""
    path = self._paths[shard]

    def opened():
      reader = records.array_record_module().ArrayRecordReader(
          path, _READER_OPTIONS)
      if not reader.ok():
        reader.read([0])  # This raises what is wrong.
      if reader.num_records() != self._sizes[shard]:
        raise IndexError(f'{reader.num_records()} records, its manifest says '
                         f'{self._sizes[shard]}')
      return reader
    try:
      return KEPT.get(self, shard, opened)
    except (RuntimeError, IndexError) as e:
      raise_unless_damage(e, path)
      advice = records.advice_on(
          path, self._checksums.get(os.path.basename(path)))
      raise InputError(f'{path}: this shard is damaged or truncated '
                       f'({_reason(e)}): {advice}.') from e

  def _copy(self, fields: Fields, places: np.ndarray, rows: Rows) -> None:
    starts, sizes = fields.parts['ids']
    number = fields.parts['lengths'][1] // 4
    if not fits(sizes // self._dtype.itemsize, number, rows):
      raise DamagedRow(int(np.argmax(sizes)))
    data = fields.data.data
    for place, start, size in zip(
        places.tolist(), starts.tolist(), sizes.tolist()):
      size //= self._dtype.itemsize
      rows.ids[place, :size] = np.frombuffer(data, self._dtype, size, start)
    for name in slotted(self._pairs):
      starts, sizes = fields.parts[name]
      if (sizes != 4 * number).any():
        raise DamagedRow(int(np.argmax(sizes != 4 * number)))
      for slot in range(int(number.max(initial=0))):
        has = number > slot
        at = (starts[has] + 4 * slot)[:, None] + np.arange(4)
        getattr(rows, name)[places[has], slot] = (
            fields.data[at].view('<i4')[:, 0])


def _reason(error: Exception) -> str:
  """The library's message without its trace of source lines."""
  return str(error).partition('\n')[0].partition('; ')[0]


# Rows of the memory-mapped form.

_WHY = 'its bytes are not those that were written'


class Pieces:
  """Compares the pieces of a file with its checksum, if it has one."""

  def __init__(self, path: str, checksum: Checksum | None):
    self.path, self._checksum = path, checksum
    count = -(-checksum.size // PIECE) if checksum else 0
    self._state = np.zeros(count, np.int8)  # 1: sound, -1: damaged.

  def sound(self, first: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """bool[B]: whether the bytes first <= i < stop of each range are sound."""
    whole = np.ones(len(first), bool)
    if self._checksum is None or not len(first):
      return whole
    last = len(self._state) - 1
    piece = np.clip(first // PIECE, 0, last)
    end = np.clip(np.maximum(stop - 1, first) // PIECE, 0, last)
    for more in range(int((end - piece).max()) + 1):
      at = np.minimum(piece + more, end)
      for index in np.unique(at[self._state[at] == 0]).tolist():
        self._state[index] = self._check(index)
      whole &= self._state[at] > 0
    return whole

  def _check(self, index: int) -> int:
    start = index * PIECE
    found = zlib.crc32(read_range(
        self.path, start, min(start + PIECE, self._checksum.size)))
    return 1 if found == self._checksum.piece(index) else -1


class Mapped:
  """The memory-mapped form of one corpus."""

  def __init__(self, manifest: Manifest, split: str, bad: BadRecords):
    """Maps the arrays; InputError if one is missing or damaged."""
    self._folder, self._bad = manifest.folder, bad
    self._arrays = shards.open_arrays(manifest, split)
    self._slotted = slotted(manifest.pair_law is not None)
    self._pieces = {}
    for field in shards.MappedArrays._fields:
      path = shards.array_path(manifest.folder, split, field)
      self._pieces[field] = Pieces(
          path, manifest.checksums.get(os.path.basename(path)))
      if field != 'ids' and not self._sound(field, *np.zeros((2, 1), int))[0]:
        raise InputError(f'{path}: {_WHY}: {PREPARE_AGAIN}')

  def fill(self, local: np.ndarray, places: np.ndarray, rows: Rows,
           spans: np.ndarray | None = None) -> None:
    for fields in (('row_starts', 'example_starts'), (*self._slotted, 'ids')):
      for field in fields:
        whole = self._sound(field, *self._range(field, local))
        for record in local[~whole].tolist():
          self._bad.report(self._pieces[field].path, record, _WHY)
        local, places = local[whole], places[whole]
    if len(local):
      copy_rows(self._arrays, self._slotted, self._folder, local, places, rows)

  def _range(self, field: str, local: np.ndarray
             ) -> tuple[np.ndarray, np.ndarray]:
    """The range of each row's numbers in an array: first, stop."""
    if field in ('row_starts', 'example_starts'):
      return local, local + 2
    starts = (self._arrays.row_starts if field == 'ids'
              else self._arrays.example_starts)
    return starts[local], starts[local + 1]

  def _sound(self, field: str, first: np.ndarray, stop: np.ndarray
             ) -> np.ndarray:
    head = 0 if field == 'ids' else shards.HEADER
    size = getattr(self._arrays, field).itemsize
    return self._pieces[field].sound(head + size * first, head + size * stop)
