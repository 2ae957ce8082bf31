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
from robertax.corpus.records import Manifest
from robertax.corpus.wire import Row
from robertax.errors import InputError

NAME = 'memmap.json'


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


def open_split(manifest: Manifest, split: str) -> Arrays:
  """Maps a split's arrays, read-only.

  Raises:
    InputError: a file is missing or not of the manifest's size.
  """
  info = manifest.splits[split]
  arrays = []
  for field in Arrays._fields:
    path = file_path(manifest.folder, split, field)
    try:
      arrays.append(np.memmap(path, manifest.dtype, 'r') if field == 'ids'
                    else np.load(path, mmap_mode='r'))
    except (OSError, ValueError, EOFError) as e:
      raise InputError(f'{path}: missing or damaged ({e}): delete its folder '
                       'and prepare again.') from e
  arrays = Arrays(*arrays)
  pairs = 0 if manifest.pair_law is None else info.num_examples
  if [len(array) for array in arrays] != [
      info.num_tokens, info.num_records + 1, info.num_examples,
      info.num_records + 1, info.num_examples, pairs, pairs]:
    raise InputError(f'{manifest.folder}: its {split} files are not those of '
                     'its manifest: delete the folder and prepare again.')
  return arrays


class _File:
  """An array that grows on disk: .npy with room for its header, or bare."""
  _HEADER = 128

  def __init__(self, path: str, dtype):
    self._path, self._dtype, self._size = path, np.dtype(dtype), 0
    self._npy = path.endswith('.npy')
    with records.writing(path):
      self._file = open(f'{path}.partial', 'wb')
      if self._npy:
        self._file.write(bytes(self._HEADER))

  def append(self, values) -> None:
    values = np.asarray(values, self._dtype)
    self._size += values.size
    with records.writing(self._path):
      self._file.write(values.tobytes())

  def close(self) -> None:
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
      os.replace(f'{self._path}.partial', self._path)

  def abandon(self) -> None:
    try:
      self._file.close()
    except OSError:
      pass  # A full disk: what is buffered is being thrown away.
    if os.path.exists(f'{self._path}.partial'):
      os.remove(f'{self._path}.partial')


class SplitWriter:
  """Writes one split row by row, in constant memory."""

  def __init__(self, folder: str, split: str, dtype):
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

  def close(self) -> None:
    for file in self._files:
      file.close()

  def abandon(self) -> None:
    for file in self._files:
      file.abandon()


def finish(folder: str, splits: Sequence[str]) -> None:
  """Marks the memory-mapped form of these splits as whole."""
  records.write_json(os.path.join(folder, NAME),
                     {'version': records.VERSION, 'splits': list(splits)})


def from_records(manifest: Manifest) -> None:
  """Makes the memory-mapped form out of array_record files."""
  for split in manifest.splits:
    writer = SplitWriter(manifest.folder, split, manifest.dtype)
    try:
      for row in records.read_rows(manifest, split):
        writer.write(row)
      writer.close()
    except BaseException:
      writer.abandon()
      raise
  finish(manifest.folder, list(manifest.splits))
