"""The memory-mapped form of a prepared corpus: plain arrays in files.

For machines without array_record and TensorFlow, and for the fastest reads.
Beside manifest.json lie, for each split:

    <split>.ids.bin              uint16 or uint32, the ids of all rows
    <split>.row_starts.npy       int64[R + 1], where each row starts in ids
    <split>.lengths.npy          int32[E], tokens of each example
    <split>.example_starts.npy   int64[R + 1], a row's first in lengths
    <split>.documents.npy        int32[E], each example's document
    <split>.first_lengths.npy    int32[E], tokens of `<s> A </s>`; [0] where
    <split>.second_documents.npy int32[E], the document of B; [0]   no pairs are

and memmap.json, written last.
"""

from collections import Counter
from collections.abc import Sequence
import json
import os
import time
from typing import Any, NamedTuple

import numpy as np

from robertax import files
from robertax.corpus import records
from robertax.corpus.blocks import Block, Shard
from robertax.corpus.packing import PackedRows
from robertax.corpus.records import (
    Manifest,
    RecordRow,
    discard,
    publish,
    split_names,
    staging,
    write_json,
)
from robertax.errors import InputError
from robertax.files import Checksum, checksum

MEMMAP_NAME = 'memmap.json'
_AT_ONCE = 1 << 20  # Values that are copied at once.


class MappedArrays(NamedTuple):
  """One split, mapped into memory; fields as in the module's docstring."""
  ids: np.ndarray
  row_starts: np.ndarray
  lengths: np.ndarray
  example_starts: np.ndarray
  documents: np.ndarray
  first_lengths: np.ndarray
  second_documents: np.ndarray


def array_path(folder: str, split: str, field: str) -> str:
  """Path of the file that holds one field of `Arrays`."""
  return files.join(
      folder, f'{split}.{field}.{"bin" if field == "ids" else "npy"}')


def array_dtypes(dtype) -> MappedArrays:
  """The dtype of each array on disk; `dtype` is that of the ids."""
  return MappedArrays(
      np.dtype(dtype).newbyteorder('<'), '<i8', '<i4', '<i8', '<i4', '<i4',
      '<i4')


def array_names(split: str) -> list[str]:
  """Names of the files of a split."""
  return [array_path('', split, field) for field in MappedArrays._fields]


def open_arrays(manifest: Manifest, split: str) -> MappedArrays:
  """Maps a split's arrays, read-only.

  Raises:
    InputError: a file is missing or not of the manifest's size.
  """
  info = manifest.splits[split]
  arrays = _open_arrays(manifest.folder, split, manifest.dtype)
  pairs = 0 if manifest.pair_law is None else info.num_examples
  if [len(array) for array in arrays] != [
      info.num_tokens, info.num_records + 1, info.num_examples,
      info.num_records + 1, info.num_examples, pairs, pairs]:
    raise InputError(f'{manifest.folder}: its {split} files are not those of '
                     'its manifest: delete the folder and prepare again.')
  return arrays


def _open_arrays(folder: str, split: str, dtype,
                 part: bool = False) -> MappedArrays:
  arrays = []
  for field in MappedArrays._fields:
    path = array_path(folder, split, field)
    try:
      if field != 'ids':
        arrays.append(np.load(path, mmap_mode='r'))
      elif part and not os.path.getsize(path):
        # A block may have no tokens, and nothing cannot be mapped.
        arrays.append(np.zeros(0, dtype))
      else:
        arrays.append(np.memmap(path, dtype, 'r'))
    except Exception as e:  # A head is a Python literal, read by NumPy.
      raise InputError(f'{path}: missing or damaged ({e}): delete its folder '
                       'and prepare again.') from e
  return MappedArrays(*arrays)


class _GrowingArray:
  """An array that grows on disk: .npy with room for its header, or bare."""
  _HEADER = 128

  def __init__(self, path: str, dtype):
    self._path, self._dtype, self._size = path, np.dtype(dtype), 0
    self._npy = path.endswith('.npy')
    with records.writing_records(path):
      self._partial = staging(path)
      self._file = open(self._partial, 'wb')
      if self._npy:
        self._file.write(bytes(self._HEADER))

  def append(self, values) -> None:
    values = np.asarray(values, self._dtype)
    self._size += values.size
    with records.writing_records(self._path):
      self._file.write(values.tobytes())

  def close(self) -> Checksum:
    with records.writing_records(self._path):
      if self._npy:
        # NumPy's format 1.0: magic, header size, a dict padded with spaces.
        text = repr({'descr': self._dtype.str, 'fortran_order': False,
                     'shape': (self._size,)})
        size = self._HEADER - 10
        self._file.seek(0)
        self._file.write(b'\x93NUMPY\x01\x00' + size.to_bytes(2, 'little')
                         + text.ljust(size - 1).encode() + b'\n')
      self._file.close()
    return publish(self._partial, self._path)

  def abandon(self) -> None:
    try:
      self._file.close()
    except OSError:
      pass  # A full disk: what is buffered is being thrown away.
    discard(self._partial)


class ArraysWriter:
  """Writes one split row by row, in constant memory."""

  def __init__(self, folder: str, split: str, dtype):
    self._split = split
    self._files = MappedArrays(*(
        _GrowingArray(array_path(folder, split, field), kind)
        for field, kind in zip(MappedArrays._fields, array_dtypes(dtype))))
    self._tokens = self._examples = 0
    self._files.row_starts.append([0])
    self._files.example_starts.append([0])

  def write(self, row: RecordRow) -> None:
    self._tokens += len(row.ids)
    self._examples += len(row.lengths)
    self._files.row_starts.append([self._tokens])
    self._files.example_starts.append([self._examples])
    for field in RecordRow._fields:
      getattr(self._files, field).append(getattr(row, field))

  def write_rows(self, rows: PackedRows, first_document: int) -> None:
    """All rows of a block whose documents begin at that one of the corpus."""
    files = self._files
    files.ids.append(rows.ids)
    files.row_starts.append(self._tokens + np.cumsum(rows.row_lengths))
    files.lengths.append(rows.lengths)
    files.example_starts.append(
        self._examples + np.cumsum(rows.row_examples))
    files.documents.append(rows.documents + first_document)
    files.first_lengths.append(rows.first_lengths)
    files.second_documents.append(rows.second_documents + first_document)
    self._tokens += len(rows.ids)
    self._examples += len(rows.lengths)

  def write_arrays(self, arrays: MappedArrays) -> None:
    """All rows of another split, such as a part of this one."""
    for field, file, values in zip(MappedArrays._fields, self._files, arrays):
      start = dict(row_starts=self._tokens,
                   example_starts=self._examples).get(field)
      if start is not None:
        values = values[1:]
      for at in range(0, len(values), _AT_ONCE):
        some = values[at:at + _AT_ONCE]
        file.append(some if start is None else some + start)
    self._tokens += len(arrays.ids)
    self._examples += len(arrays.lengths)

  def close(self) -> dict[str, Checksum]:
    """The files have their names; these are their checksums."""
    return {name: file.close() for name, file in zip(
        array_names(self._split), self._files)}

  def abandon(self) -> None:
    for file in self._files:
      file.abandon()


def join_arrays(folder: str, split: str, parts: Sequence[str], dtype
                ) -> dict[str, Checksum]:
  """Makes a split of its parts, splits themselves, in constant memory."""
  writer = ArraysWriter(folder, split, dtype)
  try:
    for part in parts:
      writer.write_arrays(_open_arrays(folder, part, dtype, part=True))
    return writer.close()
  except BaseException:
    writer.abandon()
    raise


def finish_arrays(folder: str, splits: Sequence[str]) -> dict[str, Checksum]:
  """Marks the form of these splits as whole; the file that it writes."""
  path = os.path.join(folder, MEMMAP_NAME)
  records.write_json(path, {'version': records.VERSION,
                            'splits': list(splits)})
  return {MEMMAP_NAME: checksum(path)}


def arrays_from_records(manifest: Manifest) -> dict[str, Checksum]:
  """Makes the memory-mapped form out of array_record files; its files."""
  sums = {}
  for split in manifest.splits:
    writer = ArraysWriter(manifest.folder, split, manifest.dtype)
    try:
      for row in records.read_rows(manifest, split):
        writer.write(row)
      sums |= writer.close()
    except BaseException:
      writer.abandon()
      raise
  return sums | finish_arrays(manifest.folder, list(manifest.splits))


# Writing a shard: rows into records, arrays, or both, and what was written.
#
# A shard is finished when its entry, `<split>-0000i-of-0000N.json`, is there: a
# preparation that is started again keeps it. The entries become the manifest.


ENTRY_COUNTS = ('num_records', 'num_examples', 'num_tokens', 'num_documents',
                'num_sentences')


class ShardFiles:
  """The files of one shard, for each duplicate of its split.

  A context that drops what an error leaves unfinished.
  """

  def __init__(self, folder: str, shard: Shard, dtype: str,
               forms: Sequence[str], duplicates: int):
    """Makes the files.

    Args:
      folder: of the records.
      shard: what is going to be written.
      dtype: of the ids.
      forms: as in Manifest.
      duplicates: of the training split.
    """
    self._folder, self._shard, self._forms = folder, shard, forms
    self._names = split_names(shard.split, duplicates)
    self._records, self._arrays = [], []
    try:
      for name in self._names:
        if 'array_record' in forms:
          self._records.append(records.ShardWriter(records.shard_path(
              folder, name, shard.index, shard.total)))
        if 'memmap' in forms:
          self._arrays.append(ArraysWriter(
              folder, part_name(shard, name), dtype))
    except BaseException:
      self.abandon()
      raise
    self._totals = {name: Counter(dict.fromkeys(ENTRY_COUNTS, 0))
                    for name in self._names}
    self._counts, self._seconds = Counter(), Counter(packing=0., writing=0.)

  def write(self, block: Block, drawn: Sequence[PackedRows]) -> None:
    """Writes the rows of the next block, for each duplicate."""
    started = time.monotonic()
    for number, (name, rows) in enumerate(zip(self._names, drawn)):
      if self._records:
        for record in rows.records:
          self._records[number].write(record)
      if self._arrays:
        self._arrays[number].write_rows(rows, block.start)
      self._totals[name].update(
          num_records=len(rows.row_lengths), num_examples=len(rows.lengths),
          num_tokens=len(rows.ids), num_documents=block.stop - block.start,
          num_sentences=rows.counts['num_sentences'])
      self._counts.update(rows.counts)
      self._seconds['packing'] += rows.seconds
    self._seconds['writing'] += time.monotonic() - started

  def close(self) -> None:
    """The shard is finished: its files and its entry have their names."""
    started = time.monotonic()
    sums = {}
    for number, name in enumerate(self._names):
      if self._records:
        path = records.shard_path('', name, self._shard.index,
                                  self._shard.total)
        sums[path] = self._records[number].close()
      if self._arrays:
        sums |= self._arrays[number].close()
    del self._counts['num_sentences']  # Stands with the splits.
    self._seconds['writing'] += time.monotonic() - started
    write_json(entry_path(self._folder, self._shard), {
        'version': records.VERSION, 'shard': self._shard.identity,
        'forms': list(self._forms),
        'splits': self._totals, 'counts': self._counts,
        'seconds': {k: round(v, 3) for k, v in self._seconds.items()},
        'checksums': files.checksums_to_json(sums)})

  def abandon(self) -> None:
    """Drops unfinished files, on the way out of an error."""
    for writer in self._records + self._arrays:
      writer.abandon()

  def __enter__(self):
    return self

  def __exit__(self, kind, *rest):
    if kind:
      self.abandon()


def part_name(shard: Shard, name: str) -> str:
  """A shard of a split in memory-mapped form: a split that is joined later."""
  return f'{name}-{shard.index:05d}-of-{shard.total:05d}'


def entry_path(folder: str, shard: Shard) -> str:
  """Where what is known of a finished shard is kept until the manifest is."""
  return os.path.join(folder, f'{shard.name}.json')


def read_entry(folder: str, shard: Shard, forms: Sequence[str]
               ) -> dict[str, Any] | None:
  """What is known of a finished shard; None: it is not, or not in all forms."""
  try:
    with files.open(entry_path(folder, shard)) as f:
      entry = json.load(f)
    whole = (entry['version'] == records.VERSION
             and entry['shard'] == shard.identity
             and set(forms) <= set(entry['forms'])
             and all(files.stat(os.path.join(folder, name)).size == file['size']
                     for name, file in entry['checksums'].items()))
    return entry if whole else None
  except (OSError, ValueError, KeyError, TypeError):
    return None
