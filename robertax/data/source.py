"""Rows of prepared corpora by number, however they lie on disk.

Corpora are concatenated: row numbers count through all of them, and where
there are duplicates (pairs drawn anew), through duplicate 0 of all corpora,
then duplicate 1 and so on. Both backends give the same rows: 'tf' reads
array_record files, 'numpy' the memory-mapped form, which needs neither
array_record nor tensorflow.
"""

import bisect
from collections.abc import Sequence
import os
import threading
from typing import NamedTuple, Protocol

import numpy as np

from robertax.corpus import memmap, records, wire
from robertax.corpus.records import Manifest
from robertax.data.config import BACKENDS
from robertax.data.fields import Damaged, Fields
from robertax.errors import InputError
from robertax.sections import unknown

_AGAIN = 'delete its folder and prepare the corpus again.'
# One pread a record, in this thread: for random access the reader's threads and
# its read-ahead of 16 MB cost more than they give.
_READER_OPTIONS = 'readahead_buffer_size:0,max_parallelism:0'
# Attributes of manifests that must agree for rows to share a batch.
_AGREEING = ('tokenizer', 'vocab_size', 'format', 'sequence_length',
             'duplicates')


class Rows(NamedTuple):
  """Some rows.

  Attributes:
    ids: int32[B,T], padded behind.
    lengths: int32[B,P], tokens of each example, 0 where a row has fewer.
    example_ids: int64[B,P], corpus << 48 | record in it << 8 | slot; -1 where
      none is. Names the example in masks, so it is the same on every host.
    documents: int32[B,P], index in its corpus of the document that an example
      begins in; -1 where none is.
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
               slotted(0) if pairs else None, slotted(-1) if pairs else None)


class _Corpus(Protocol):
  """Rows of one split on disk; `fill` writes them into the given places."""

  def fill(self, local: np.ndarray, places: np.ndarray, rows: Rows
           ) -> None: ...


class Source:
  """The rows of one split of some corpora.

  Attributes:
    corpora: names, in the order of their rows.
    num_records, num_examples, num_tokens: of all corpora and duplicates.
    records_DK: int64[D,K], records of each duplicate of each corpus.
    corpus_tokens: of each corpus, in all duplicates.
    pairs: whether examples are pairs of segments.
    sequence_length: T.
    max_examples_per_row: P.
    vocab_size: every id is below it.
  """

  def __init__(self, manifests: Sequence[Manifest], split: str,
               parts: Sequence[_Corpus], pad_id: int):
    """See `open_source`; `parts` are row-major [D,K]."""
    splits_DK = [[m.splits[name] for m in manifests for name in
                  m.split_names(split)[number:number + 1]]
                 for number in range(len(manifests[0].split_names(split)))]
    self.corpora = tuple(m.corpus for m in manifests)
    self.records_DK = np.array(
        [[s.num_records for s in splits] for splits in splits_DK], np.int64)
    self.corpus_tokens = tuple(
        sum(s.num_tokens for s in splits) for splits in zip(*splits_DK))
    self.num_records = int(self.records_DK.sum())
    self.num_examples = sum(
        s.num_examples for splits in splits_DK for s in splits)
    self.num_tokens = sum(self.corpus_tokens)
    self.pairs = manifests[0].pair_law is not None
    self.sequence_length = manifests[0].sequence_length
    self.vocab_size = manifests[0].vocab_size
    self.max_examples_per_row = max(m.max_examples_per_row for m in manifests)
    self._folders = [m.folder for m in manifests]
    self._starts = np.cumsum([0, *self.records_DK.ravel()])
    # Of each part, in its own corpus.
    self._own_starts = (
        np.cumsum(self.records_DK, 0) - self.records_DK).ravel()
    self._parts, self._pad_id = parts, pad_id

  def gather(self, numbers: np.ndarray) -> Rows:
    """Reads rows, in any order, also repeatedly.

    Args:
      numbers: int64[B], 0 <= number < num_records.

    Raises:
      InputError: a damaged or missing file.
    """
    numbers = np.asarray(numbers, np.int64)
    if len(numbers) and not (0 <= numbers.min()
                             and numbers.max() < self.num_records):
      raise IndexError(f'rows {numbers.min()} .. {numbers.max()} of '
                       f'{self.num_records}')
    slots = self.max_examples_per_row
    rows = Rows.empty(len(numbers), self.sequence_length, slots, self._pad_id,
                      self.pairs)
    part = np.searchsorted(self._starts, numbers, side='right') - 1
    local = numbers - self._starts[part]
    corpus = part % len(self.corpora)
    for number in np.unique(part):
      places = np.flatnonzero(part == number)
      self._parts[number].fill(local[places], places, rows)
    if rows.ids.max(initial=0) >= self.vocab_size:
      wrong = corpus[np.argmax(rows.ids.max(1))]
      raise InputError(
          f'{self._folders[wrong]}: token id {rows.ids.max()} is not below the '
          f'vocabulary size {self.vocab_size}: {_AGAIN}')
    record = self._own_starts[part] + local
    rows.example_ids[...] = np.where(
        rows.lengths > 0,
        (corpus << 48 | record << 8)[:, None] | np.arange(slots), -1)
    return rows


def open_source(manifests: Sequence[Manifest | str], split: str,
                backend: str = 'tf', pad_id: int = 1) -> Source:
  """Opens the prepared rows of a split.

  Args:
    manifests: of the corpora, or their folders.
    split: 'train' or 'eval'.
    backend: 'tf' (array_record files) or 'numpy' (memory-mapped form).
    pad_id: stands behind the end of a row.

  Raises:
    InputError: manifests that do not fit together, with the differing keys; a
      missing file; a form that was not prepared.
  """
  if backend not in BACKENDS:
    raise unknown('data.backend', backend, BACKENDS)
  manifests = [m if isinstance(m, Manifest) else Manifest.read(m)
               for m in manifests]
  if not manifests:
    raise InputError('no corpus: data.corpora names none.')
  first = manifests[0]
  for other in manifests[1:]:
    wrong = [f'{key} is {getattr(other, key)!r}, not {getattr(first, key)!r}'
             for key in _AGREEING if getattr(other, key) != getattr(first, key)]
    if wrong:
      raise InputError(
          f'{other.folder}: made otherwise than {first.folder}: '
          f'{"; ".join(wrong)}. Prepare both with one config.')
  if first.max_examples_per_row > 256:
    raise InputError(f'{first.folder}: max_examples_per_row='
                     f'{first.max_examples_per_row}: at most 256.')
  kind = _Mapped if backend == 'numpy' else _Shards
  names = zip(*(m.split_names(split) for m in manifests))
  return Source(manifests, split, [
      kind(m, name) for each in names for m, name in zip(manifests, each)],
                pad_id)


def _fits(sizes, number, rows: Rows) -> bool:
  """Whether rows of these sizes and numbers of examples can be stored."""
  return (0 <= sizes.min() and sizes.max() <= rows.ids.shape[1]
          and 0 <= number.min() and number.max() <= rows.lengths.shape[1])


def _slotted(pairs: bool) -> list[str]:
  """Fields of `Rows` that records and arrays hold, one value an example."""
  return [name for name in (wire.PAIR_FIELDS if pairs else wire.FIELDS)
          if name != 'ids']


class _Mapped:
  """The memory-mapped form of one corpus."""

  def __init__(self, manifest: Manifest, split: str):
    self._folder = manifest.folder
    # Slices of np.memmap are slower to make than those of plain arrays.
    arrays = memmap.open_split(manifest, split)
    self._arrays = memmap.Arrays(*(a.view(np.ndarray) for a in arrays))
    self._slotted = _slotted(manifest.pair_law is not None)

  def fill(self, local, places, rows):
    arrays = self._arrays
    starts, ends = arrays.row_starts[local], arrays.row_starts[local + 1]
    first = arrays.example_starts[local]
    number = arrays.example_starts[local + 1] - first
    if not _fits(ends - starts, number, rows):
      raise InputError(f'{self._folder}: its memory-mapped records are '
                       f'damaged: {_AGAIN}')
    for place, start, end in zip(
        places.tolist(), starts.tolist(), ends.tolist()):
      rows.ids[place, :end - start] = arrays.ids[start:end]
    for slot in range(int(number.max(initial=0))):
      has = number > slot
      for name in self._slotted:
        getattr(rows, name)[places[has], slot] = (
            getattr(arrays, name)[first[has] + slot])


class _Shards:
  """The array_record files of one corpus, opened when first read."""

  def __init__(self, manifest: Manifest, split: str):
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
        raise InputError(f'{path}: this shard is missing: {_AGAIN}')

  def fill(self, local, places, rows):
    # Sorted: a shard is asked once a batch, in the order of its file.
    order = np.argsort(local, kind='stable')
    local, places = local[order].tolist(), places[order]
    examples = []
    while len(examples) < len(local):
      at = len(examples)
      shard = self._shard(local[at])
      end = bisect.bisect_left(local, self._starts[shard + 1], at)
      examples += self._read(
          shard, [number - self._starts[shard] for number in local[at:end]])
    try:
      self._copy(Fields(examples, wire.PAIR_FIELDS if self._pairs
                        else wire.FIELDS), places, rows)
    except Damaged as e:
      shard = self._shard(local[e.index])
      number = local[e.index] - self._starts[shard]
      raise InputError(f'{self._paths[shard]}: record {number} is damaged: '
                       f'{_AGAIN}') from e

  def _shard(self, number: int) -> int:
    return bisect.bisect_right(self._starts, number) - 1

  def _read(self, shard: int, wanted: list[int]) -> list[bytes]:
    path = self._paths[shard]
    try:
      with self._lock:
        reader = self._readers[shard]
        if reader is None:
          reader = records.array_record_module().ArrayRecordReader(
              path, _READER_OPTIONS)
          if not reader.ok():
            reader.read([0])  # Raises what is wrong.
          if reader.num_records() != self._sizes[shard]:
            raise InputError(
                f'{path}: {reader.num_records()} records, its manifest says '
                f'{self._sizes[shard]}: {_AGAIN}')
          self._readers[shard] = reader
        # One by one, in this thread: a list would go to the library's pool of
        # threads record by record, and take five times as long.
        examples = []
        for number in wanted:
          reader.seek(number)
          examples.append(reader.read())
        return examples
    except (RuntimeError, IndexError) as e:
      # The library's words without its list of where it passed by.
      reason = str(e).partition('\n')[0].partition('; ')[0]
      raise InputError(f'{path}: this shard is damaged or truncated '
                       f'({reason}): {_AGAIN}') from e

  def _copy(self, fields: Fields, places, rows: Rows):
    starts, sizes = fields.parts['ids']
    number = fields.parts['lengths'][1] // 4
    if not _fits(sizes // self._dtype.itemsize, number, rows):
      raise Damaged(int(np.argmax(sizes)))
    data = fields.data.data
    for place, start, size in zip(
        places.tolist(), starts.tolist(), sizes.tolist()):
      size //= self._dtype.itemsize
      rows.ids[place, :size] = np.frombuffer(data, self._dtype, size, start)
    for name in _slotted(self._pairs):
      starts, sizes = fields.parts[name]
      if (sizes != 4 * number).any():
        raise Damaged(int(np.argmax(sizes != 4 * number)))
      for slot in range(int(number.max(initial=0))):
        has = number > slot
        at = (starts[has] + 4 * slot)[:, None] + np.arange(4)
        getattr(rows, name)[places[has], slot] = (
            fields.data[at].view('<i4')[:, 0])
