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

from collections.abc import Sequence
import os
from typing import NamedTuple

import numpy as np

from robertax import paths
from robertax.corpus import records
from robertax.corpus.checksums import Checksum, checksum
from robertax.corpus.packing import Rows
from robertax.corpus.publishing import discard, publish, staging
from robertax.corpus.records import Manifest
from robertax.corpus.wire import Row
from robertax.errors import InputError

NAME = 'memmap.json'
_AT_ONCE = 1 << 20  # Values that are copied at once.


class Arrays(NamedTuple):
  """One split, mapped into memory; fields as in the module's docstring."""
  ids: np.ndarray
  row_starts: np.ndarray
  lengths: np.ndarray
  example_starts: np.ndarray
  documents: np.ndarray
  first_lengths: np.ndarray
  second_documents: np.ndarray


def file_path(folder: str, split: str, field: str) -> str:
  """Path of the file that holds one field of `Arrays`."""
  return paths.join(
      folder, f'{split}.{field}.{"bin" if field == "ids" else "npy"}')


def kinds(dtype) -> Arrays:
  """The dtype of each array on disk; `dtype` is that of the ids."""
  return Arrays(np.dtype(dtype).newbyteorder('<'), '<i8', '<i4', '<i8', '<i4',
                '<i4', '<i4')


def file_names(split: str) -> list[str]:
  """Names of the files of a split."""
  return [file_path('', split, field) for field in Arrays._fields]


def open_split(manifest: Manifest, split: str) -> Arrays:
  """Maps a split's arrays, read-only.

  Raises:
    InputError: a file is missing or not of the manifest's size.
  """
  info = manifest.splits[split]
  arrays = _open(manifest.folder, split, manifest.dtype)
  pairs = 0 if manifest.pair_law is None else info.num_examples
  if [len(array) for array in arrays] != [
      info.num_tokens, info.num_records + 1, info.num_examples,
      info.num_records + 1, info.num_examples, pairs, pairs]:
    raise InputError(f'{manifest.folder}: its {split} files are not those of '
                     'its manifest: delete the folder and prepare again.')
  return arrays


def _open(folder: str, split: str, dtype, part: bool = False) -> Arrays:
  arrays = []
  for field in Arrays._fields:
    path = file_path(folder, split, field)
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
  return Arrays(*arrays)


class _File:
  """An array that grows on disk: .npy with room for its header, or bare."""
  _HEADER = 128

  def __init__(self, path: str, dtype):
    self._path, self._dtype, self._size = path, np.dtype(dtype), 0
    self._npy = path.endswith('.npy')
    with records.writing(path):
      self._partial = staging(path)
      self._file = open(self._partial, 'wb')
      if self._npy:
        self._file.write(bytes(self._HEADER))

  def append(self, values) -> None:
    values = np.asarray(values, self._dtype)
    self._size += values.size
    with records.writing(self._path):
      self._file.write(values.tobytes())

  def close(self) -> Checksum:
    with records.writing(self._path):
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


class SplitWriter:
  """Writes one split row by row, in constant memory."""

  def __init__(self, folder: str, split: str, dtype):
    self._split = split
    self._files = Arrays(*(
        _File(file_path(folder, split, field), kind)
        for field, kind in zip(Arrays._fields, kinds(dtype))))
    self._tokens = self._examples = 0
    self._files.row_starts.append([0])
    self._files.example_starts.append([0])

  def write(self, row: Row) -> None:
    self._tokens += len(row.ids)
    self._examples += len(row.lengths)
    self._files.row_starts.append([self._tokens])
    self._files.example_starts.append([self._examples])
    for field in Row._fields:
      getattr(self._files, field).append(getattr(row, field))

  def write_rows(self, rows: Rows, first_document: int) -> None:
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

  def write_arrays(self, arrays: Arrays) -> None:
    """All rows of another split, such as a part of this one."""
    for field, file, values in zip(Arrays._fields, self._files, arrays):
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
        file_names(self._split), self._files)}

  def abandon(self) -> None:
    for file in self._files:
      file.abandon()


def join(folder: str, split: str, parts: Sequence[str], dtype
         ) -> dict[str, Checksum]:
  """Makes a split of its parts, splits themselves, in constant memory."""
  writer = SplitWriter(folder, split, dtype)
  try:
    for part in parts:
      writer.write_arrays(_open(folder, part, dtype, part=True))
    return writer.close()
  except BaseException:
    writer.abandon()
    raise


def finish(folder: str, splits: Sequence[str]) -> dict[str, Checksum]:
  """Marks the form of these splits as whole; the file that it writes."""
  path = os.path.join(folder, NAME)
  records.write_json(path, {'version': records.VERSION,
                            'splits': list(splits)})
  return {NAME: checksum(path)}


def from_records(manifest: Manifest) -> dict[str, Checksum]:
  """Makes the memory-mapped form out of array_record files; its files."""
  sums = {}
  for split in manifest.splits:
    writer = SplitWriter(manifest.folder, split, manifest.dtype)
    try:
      for row in records.read_rows(manifest, split):
        writer.write(row)
      sums |= writer.close()
    except BaseException:
      writer.abandon()
      raise
  return sums | finish(manifest.folder, list(manifest.splits))
