"""Shards: the ids of blocks become rows, which become the files of a shard.

`fill_rows` decides which examples share a row, `Packer` packs a block into
rows, and `ShardFiles` writes the rows of a shard as records, as memory-mapped
arrays, or both. The arrays are for machines without array_record and
TensorFlow, and for the fastest reads. Each split has the files

    <split>.ids.bin              uint16 or uint32, the ids of all rows
    <split>.row_starts.npy       int64[R + 1], where each row starts in ids
    <split>.lengths.npy          int32[E], tokens of each example
    <split>.example_starts.npy   int64[R + 1], a row's first in lengths
    <split>.documents.npy        int32[E], each example's document
    <split>.first_lengths.npy    int32[E], tokens of `<s> A </s>`; pairs only
    <split>.second_documents.npy int32[E], the document of B; pairs only

and memmap.json, which is written last.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import io
import os
import random
import time
from typing import Any, NamedTuple

import numpy as np

from robertax import errors, files
from robertax.corpus import records
from robertax.corpus.blocks import Block, Shard
from robertax.corpus.formats import FORMATS, PairLaw
from robertax.corpus.records import FileWriter, Manifest, RecordRow, Unfinished
from robertax.corpus.tokens import BlockPlace, Tokens, read_block
from robertax.descriptors import mapped
from robertax.errors import InputError
from robertax.files import Checksum, checksum

MEMMAP_NAME = 'memmap.json'
HEADER = 128  # Bytes before the numbers of a .npy, as NumPy writes it.
_AT_ONCE = 1 << 20  # Values that are copied at once.
ENTRY_COUNTS = ('num_records', 'num_examples', 'num_tokens', 'num_documents',
                'num_sentences')
# Rows that wait for an example that fits. More of them would hardly fill rows
# better, and would mix documents that are further apart (benchmarks/RESULTS.md,
# "Packed rows"). Another number changes bytes, so records.VERSION must then be
# raised.
OPEN_ROWS = 16


def fill_rows(sizes: Sequence[int], sequence_length: int, max_examples: int
              ) -> list[list[int]]:
  """Puts examples into rows by best-fit over a window of open rows, in order.

  Where examples are short the paper enlarges the batch (section 4.2). Shapes
  are fixed here, so several examples share a row instead, and a batch has about
  as many tokens.

  An example goes to the open row in which it leaves the least room, or opens a
  row. A row closes when it has `max_examples`, or when OPEN_ROWS + 1 are open
  and it is the fullest. Of equal rows the oldest one is taken.

  >>> fill_rows([6, 5, 2, 3, 8], sequence_length=8, max_examples=4)
  [[0, 2], [1, 3], [4]]

  Args:
    sizes: tokens of each example, at most `sequence_length`.
    sequence_length: most tokens of a row.
    max_examples: most examples of a row, P.

  Returns:
    The indices of each row's examples, ascending; rows are ordered by their
    first example.
  """
  rows, waiting = [], []  # Open rows, oldest first, are [room, examples].
  for number, size in enumerate(sizes):
    # Of equal ones, `min` takes the first.
    row = min((row for row in waiting if row[0] >= size),
              key=lambda row: row[0], default=None)
    if row is None:
      row = [sequence_length, []]
      rows.append(row[1])
      waiting.append(row)
    row[0] -= size
    row[1].append(number)
    if len(row[1]) == max_examples:
      waiting = [other for other in waiting if other is not row]
    elif len(waiting) > OPEN_ROWS:
      fullest = min(waiting, key=lambda row: row[0])
      waiting = [other for other in waiting if other is not fullest]
  return rows


@dataclasses.dataclass(frozen=True)
class RowRecipe:
  """Everything that decides the rows of given tokens, as in DataConfig.

  With `encoded`, the bytes of each record are made as well.
  """
  format: str
  sequence_length: int
  dtype: str
  bos_id: int
  eos_id: int
  pair_law: PairLaw | None = None
  encoded: bool = True


class PackingJob(NamedTuple):
  """A block to be packed `duplicates` times, with different random pairs.

  They depend only on the block's name and the index of the duplicate.
  """
  place: BlockPlace
  name: str = ''
  first_document: int = 0
  duplicates: int = 1


@dataclasses.dataclass(frozen=True)
class PackedRows:
  """The rows of one block, back to back."""
  ids: np.ndarray  # uint16 or uint32 [tokens].
  row_lengths: np.ndarray  # int64[rows], tokens of each row.
  lengths: np.ndarray  # int32[examples], tokens of each example.
  row_examples: np.ndarray  # int64[rows], examples of each row.
  # int32[examples], as in `RecordRow`, but documents count from the block's.
  documents: np.ndarray
  first_lengths: np.ndarray
  second_documents: np.ndarray
  counts: Counter
  seconds: float = 0.
  # The bytes of each row's record, with `RowRecipe.encoded`.
  records: list[bytes] = dataclasses.field(default_factory=list)

  def as_records(self, first_document: int) -> Iterator[RecordRow]:
    """Yields the rows; documents are counted from `first_document`."""
    if not len(self.row_lengths):
      return  # np.split would give one part.
    ids = np.split(self.ids, np.cumsum(self.row_lengths)[:-1])
    ends = np.cumsum(self.row_examples)[:-1]
    yield from map(RecordRow, ids, np.split(self.lengths, ends),
                   np.split(self.documents + first_document, ends),
                   np.split(self.first_lengths, ends),
                   np.split(self.second_documents + first_document, ends))


class Packer:
  """Packs blocks, in worker processes, so it imports nothing heavy."""

  def __init__(self, recipe: RowRecipe):
    self._recipe = recipe

  def __call__(self, job: PackingJob) -> list[PackedRows]:
    """Packs a block into rows, once for each duplicate."""
    started = time.monotonic()
    whole = read_block(job.place)
    kept = whole.without_empty()
    empty = len(whole.sentences) - len(kept.sentences)
    packed = []
    for number in range(job.duplicates):
      rows = self._pack(kept, random.Random(f'{job.name}/{number}'))
      if empty and not number:
        rows.counts['sentences_without_ids'] = empty
      encoded = ([records.encode_record(row)
                  for row in rows.as_records(job.first_document)]
                 if self._recipe.encoded else [])
      now = time.monotonic()
      packed.append(dataclasses.replace(
          rows, records=encoded, seconds=now - started))
      started = now
    return packed

  def _pack(self, tokens: Tokens, rng: random.Random) -> PackedRows:
    recipe = self._recipe
    counts = Counter(num_sentences=len(tokens.sentences))
    kind = FORMATS[recipe.format]
    pairs = {'law': recipe.pair_law, 'rng': rng} if kind.pairs else {}
    examples = list(kind.pack(
        tokens.nested() if kind.pairs else tokens,
        sequence_length=recipe.sequence_length,
        bos_id=recipe.bos_id, eos_id=recipe.eos_id, counts=counts, **pairs))
    rows = fill_rows([len(example.ids) for example in examples],
                     recipe.sequence_length,
                     kind.examples_per_row(recipe.sequence_length))
    rows = [[examples[number] for number in row] for row in rows]
    examples = [example for row in rows for example in row]
    sizes = np.array([sum(len(e.ids) for e in row) for row in rows], np.int64)
    spare = recipe.sequence_length - sizes
    counts['padding_tokens'] += int(spare.sum())
    counts['block_end_waste_tokens'] += int(spare[-1:].sum())
    return PackedRows(
        ids=np.concatenate([np.zeros(0, recipe.dtype),
                            *(e.ids for e in examples)]),
        row_lengths=sizes, lengths=_int32(len(e.ids) for e in examples),
        row_examples=np.array([len(row) for row in rows], np.int64),
        documents=_int32(e.document for e in examples),
        first_lengths=_int32(e.first_length for e in examples if kind.pairs),
        second_documents=_int32(
            e.second_document for e in examples if kind.pairs), counts=counts)


def _int32(values: Iterable[int]) -> np.ndarray:
  return np.fromiter(values, np.int32)


class MappedArrays(NamedTuple):
  """One split, mapped into memory; this file's docstring has the fields."""
  ids: np.ndarray
  row_starts: np.ndarray
  lengths: np.ndarray
  example_starts: np.ndarray
  documents: np.ndarray
  first_lengths: np.ndarray
  second_documents: np.ndarray


def array_path(folder: str, split: str, field: str) -> str:
  """Returns the path of the file with one field of `MappedArrays`."""
  return files.join(
      folder, f'{split}.{field}.{"bin" if field == "ids" else "npy"}')


def array_dtypes(dtype) -> MappedArrays:
  """Returns the dtype of each array on disk; `dtype` is that of the ids."""
  return MappedArrays(np.dtype(dtype).newbyteorder('<'),
                      '<i8', '<i4', '<i8', '<i4', '<i4', '<i4')


def array_sizes(manifest: Manifest, split: str) -> MappedArrays:
  """Returns how many numbers each array of a split has."""
  info = manifest.splits[split]
  rows, examples = info.num_records + 1, info.num_examples
  pairs = 0 if manifest.pair_law is None else examples
  return MappedArrays(info.num_tokens, rows, examples, rows, examples, pairs,
                      pairs)


def array_names(split: str) -> list[str]:
  """Returns the names of the files with the arrays of a split."""
  return [array_path('', split, field) for field in MappedArrays._fields]


def open_arrays(manifest: Manifest, split: str) -> MappedArrays:
  """Maps a split's arrays, read-only; InputError if missing or damaged."""
  arrays = _open_arrays(manifest.folder, split, manifest.dtype,
                        sums=manifest.checksums)
  sizes = array_sizes(manifest, split)
  for field, array, size in zip(sizes._fields, arrays, sizes):
    if len(array) != size:
      path = array_path(manifest.folder, split, field)
      advice = records.advice_on(path, manifest.checksums.get(
          os.path.basename(path)))
      raise InputError(f'{path}: {len(array):,} numbers, its manifest says '
                       f'{size:,}: {advice}.')
  return arrays


def _open_arrays(folder: str, split: str, dtype,
                 sums: Mapping[str, Checksum] = {}) -> MappedArrays:
  arrays = []
  for field in MappedArrays._fields:
    path = array_path(folder, split, field)
    try:
      data = mapped(path)
      if field == 'ids':
        arrays.append(data.view(np.dtype(dtype).newbyteorder('<')))
      else:
        (size,), kind = read_header(data[:HEADER].tobytes())
        arrays.append(data[HEADER:HEADER + size * kind.itemsize].view(kind))
    except Exception as e:  # NumPy evaluates the header as a Python literal.
      errors.raise_unless_damage(e, path)
      advice = records.advice_on(path, sums.get(os.path.basename(path)))
      raise InputError(f'{path}: missing or damaged ({e}): {advice}.') from e
  return MappedArrays(*arrays)


def read_header(head: bytes) -> tuple[tuple[int, ...], np.dtype]:
  """Returns shape and dtype of a .npy; ValueError if its head is another's."""
  stream = io.BytesIO(head)
  np.lib.format.read_magic(stream)
  shape, _, kind = np.lib.format.read_array_header_1_0(stream)
  if stream.tell() != HEADER:
    raise ValueError(f'its head has {stream.tell()} bytes')
  return shape, kind


class _GrowingArray(FileWriter):
  """An array that grows on disk, as .npy or as bare bytes."""
  def __init__(self, path: str, dtype):
    super().__init__(path)
    self._dtype, self._size = np.dtype(dtype), 0
    self._npy = path.endswith('.npy')
    if self._npy:
      self.write(bytes(HEADER))

  def append(self, values) -> None:
    values = np.asarray(values, self._dtype)
    self._size += values.size
    self.write(values.tobytes())

  def close(self) -> Checksum:
    if self._npy:
      # NumPy's format 1.0 is magic, header size, and a dict padded with spaces.
      text = repr({'descr': self._dtype.str, 'fortran_order': False,
                   'shape': (self._size,)})
      size = HEADER - 10
      with records.writing_records(self._path):
        self._file.seek(0)
      self.write(b'\x93NUMPY\x01\x00' + size.to_bytes(2, 'little')
                 + text.ljust(size - 1).encode() + b'\n')
    return super().close()


class ArraysWriter(Unfinished):
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
    self.write_arrays(MappedArrays(
        row_starts=np.array([0, len(row.ids)]),
        example_starts=np.array([0, len(row.lengths)]), **row._asdict()))

  def write_rows(self, rows: PackedRows, first_document: int) -> None:
    """Writes all rows of a block; documents count from `first_document`."""
    self.write_arrays(MappedArrays(
        rows.ids, np.cumsum([0, *rows.row_lengths]),
        rows.lengths, np.cumsum([0, *rows.row_examples]),
        rows.documents + first_document, rows.first_lengths,
        rows.second_documents + first_document))

  def write_arrays(self, arrays: MappedArrays) -> None:
    """Writes all rows of another split, such as a shard of this one."""
    starts = dict(row_starts=self._tokens, example_starts=self._examples)
    for field, file, values in zip(MappedArrays._fields, self._files, arrays):
      if field in starts:
        values = values[1:]
      for at in range(0, len(values), _AT_ONCE):
        some = np.asarray(values[at:at + _AT_ONCE])
        file.append(some + starts.get(field, 0))
    self._tokens += len(arrays.ids)
    self._examples += len(arrays.lengths)

  def close(self) -> dict[str, Checksum]:
    """Gives the files their final names; returns their checksums."""
    return {name: file.close() for name, file in zip(
        array_names(self._split), self._files)}

  def abandon(self) -> None:
    for file in self._files:
      file.abandon()


def join_arrays(folder: str, split: str, parts: Sequence[str], dtype
                ) -> dict[str, Checksum]:
  """Joins the arrays of parts into those of a split, in constant memory."""
  with ArraysWriter(folder, split, dtype) as writer:
    for part in parts:
      writer.write_arrays(_open_arrays(folder, part, dtype))
    return writer.close()


def finish_arrays(folder: str, splits: Sequence[str]) -> dict[str, Checksum]:
  """Marks the arrays of splits as complete; returns the file's checksum."""
  path = os.path.join(folder, MEMMAP_NAME)
  records.write_json(path, {'version': records.VERSION, 'splits': list(splits)})
  return {MEMMAP_NAME: checksum(path)}


def arrays_from_records(manifest: Manifest) -> dict[str, Checksum]:
  """Makes arrays from array_record files; returns checksums of new files."""
  sums = {}
  for split in manifest.splits:
    with ArraysWriter(manifest.folder, split, manifest.dtype) as writer:
      for row in records.read_rows(manifest, split):
        writer.write(row)
      sums |= writer.close()
  return sums | finish_arrays(manifest.folder, list(manifest.splits))


class ShardFiles(Unfinished):
  """Writes the files of one shard, for each duplicate of its split.

  A shard is finished, and a later preparation keeps it, when it has its entry,
  `<split>-0000i-of-0000N.json`. The entries become the manifest.
  """

  def __init__(self, folder: str, shard: Shard, dtype: str,
               forms: Sequence[str], duplicates: int):
    self._folder, self._shard, self._forms = folder, shard, forms
    self._names = records.split_names(shard.split, duplicates)
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
          num_tokens=len(rows.ids),
          # Of several documents, the last is counted once.
          num_documents=0 if block.part == 'end' else block.stop - block.start,
          num_sentences=rows.counts['num_sentences'])
      self._counts.update(rows.counts)
      self._seconds['packing'] += rows.seconds
    self._seconds['writing'] += time.monotonic() - started

  def close(self) -> None:
    """Finishes the shard: gives its files their names and writes its entry."""
    started = time.monotonic()
    sums = {}
    for number, name in enumerate(self._names):
      if self._records:
        path = records.shard_path('', name, self._shard.index,
                                  self._shard.total)
        sums[path] = self._records[number].close()
      if self._arrays:
        sums |= self._arrays[number].close()
    del self._counts['num_sentences']  # `splits` has it.
    self._seconds['writing'] += time.monotonic() - started
    records.write_json(entry_path(self._folder, self._shard), {
        'version': records.VERSION, 'shard': self._shard.identity,
        'forms': list(self._forms),
        'splits': self._totals, 'counts': self._counts,
        'seconds': {k: round(v, 3) for k, v in self._seconds.items()},
        'checksums': files.checksums_to_json(sums)})

  def abandon(self) -> None:
    for writer in self._records + self._arrays:
      writer.abandon()


def part_name(shard: Shard, name: str) -> str:
  """Returns the name of a shard's arrays, which are joined later."""
  return f'{name}-{shard.index:05d}-of-{shard.total:05d}'


def entry_path(folder: str, shard: Shard) -> str:
  """Returns the path of a finished shard's entry."""
  return os.path.join(folder, f'{shard.name}.json')


def read_entry(folder: str, shard: Shard, forms: Sequence[str]
               ) -> dict[str, Any] | None:
  """Reads the entry of a shard; None if it is not finished in all forms."""
  path = entry_path(folder, shard)
  try:
    entry = files.read_json(path)
    whole = (entry['version'] == records.VERSION
             and entry['shard'] == shard.identity
             and set(forms) <= set(entry['forms'])
             and all(files.stat(os.path.join(folder, name)).size == file['size']
                     for name, file in entry['checksums'].items()))
    return entry if whole else None
  except (OSError, ValueError, KeyError, TypeError) as e:
    errors.raise_unless_damage(e, path)
    return None
