"""Rows of array_record files."""

import bisect
import os
import threading

import numpy as np

from robertax.corpus import records, wire
from robertax.corpus.records import Manifest
from robertax.data.damage import AGAIN, BadRecords
from robertax.data.fields import Damaged, Fields
from robertax.data.rows import Rows, fits, slotted
from robertax.errors import InputError

# One pread a record, in this thread: for random access the reader's threads and
# its read-ahead of 16 MB cost more than they give.
_READER_OPTIONS = 'readahead_buffer_size:0,max_parallelism:0'


class Shards:
  """The array_record files of one corpus, opened when first read."""

  def __init__(self, manifest: Manifest, split: str, bad: BadRecords):
    self._bad = bad
    info = manifest.splits[split]
    self._paths = manifest.shard_paths(split)
    self._sizes = info.shard_lengths
    self._starts = np.cumsum((0, *info.shard_lengths)).tolist()
    self._dtype = np.dtype(manifest.dtype).newbyteorder('<')
    self._pairs = manifest.pair_law is not None
    self._readers = [None] * len(self._paths)
    self._lock = threading.Lock()
    if records.array_record_module() is None:
      raise InputError("data.backend='tf' needs array_record, which is not "
                       "installed here: set data.backend='numpy'.")
    for path in self._paths:
      if not os.path.exists(path):
        raise InputError(f'{path}: this shard is missing: {AGAIN}')

  def fill(self, local, places, rows, spans=None):
    # Sorted: a shard is asked once a batch, in the order of its file.
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
        self._copy(Fields([examples[i] for i in whole], wire.PAIR_FIELDS
                          if self._pairs else wire.FIELDS), places[whole], rows)
        return
      except Damaged as e:
        number = local[whole.pop(e.index)]
        shard = self._shard(number)
        self._bad.report(self._paths[shard], number - self._starts[shard],
                         'not what a record looks like')

  def _shard(self, number: int) -> int:
    return bisect.bisect_right(self._starts, number) - 1

  def _read(self, shard: int, wanted: list[int]) -> list[bytes | None]:
    """Records of a shard; None where one is damaged, and left out."""
    with self._lock:
      # One by one, in this thread: a list would go to the library's pool of
      # threads record by record, and take five times as long.
      examples = []
      for number in wanted:
        reader = self._reader(shard)
        try:
          reader.seek(number)
          examples.append(reader.read())
        except (RuntimeError, IndexError) as e:
          self._readers[shard] = None  # It reads no more after an error.
          self._bad.report(self._paths[shard], number, _reason(e))
          examples.append(None)
      return examples

  def _reader(self, shard: int):
    """Opened when first asked for, or after an error.

    Raises:
      InputError: it cannot be, or has not the records of the manifest.
    """
    path = self._paths[shard]
    try:
      reader = self._readers[shard]
      if reader is None:
        reader = records.array_record_module().ArrayRecordReader(
            path, _READER_OPTIONS)
        if not reader.ok():
          reader.read([0])  # Raises what is wrong.
        if reader.num_records() != self._sizes[shard]:
          raise InputError(
              f'{path}: {reader.num_records()} records, its manifest says '
              f'{self._sizes[shard]}: {AGAIN}')
        self._readers[shard] = reader
      return reader
    except (RuntimeError, IndexError) as e:
      raise InputError(f'{path}: this shard is damaged or truncated '
                       f'({_reason(e)}): {AGAIN}') from e

  def _copy(self, fields: Fields, places, rows: Rows):
    starts, sizes = fields.parts['ids']
    number = fields.parts['lengths'][1] // 4
    if not fits(sizes // self._dtype.itemsize, number, rows):
      raise Damaged(int(np.argmax(sizes)))
    data = fields.data.data
    for place, start, size in zip(
        places.tolist(), starts.tolist(), sizes.tolist()):
      size //= self._dtype.itemsize
      rows.ids[place, :size] = np.frombuffer(data, self._dtype, size, start)
    for name in slotted(self._pairs):
      starts, sizes = fields.parts[name]
      if (sizes != 4 * number).any():
        raise Damaged(int(np.argmax(sizes != 4 * number)))
      for slot in range(int(number.max(initial=0))):
        has = number > slot
        at = (starts[has] + 4 * slot)[:, None] + np.arange(4)
        getattr(rows, name)[places[has], slot] = (
            fields.data[at].view('<i4')[:, 0])


def _reason(error: Exception) -> str:
  """The library's words without its list of where it passed by."""
  return str(error).partition('\n')[0].partition('; ')[0]
