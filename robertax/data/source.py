"""Reads rows of prepared corpora by number, in whatever form they are stored.

Row numbers count through all corpora; if there are duplicates (pairs drawn
again), they count through duplicate 0 of all corpora, then duplicate 1 and so
on. Both backends give the same rows: 'tf' reads array_record files, and 'numpy'
the memory-mapped form, which needs neither array_record nor tensorflow. In a
bucket both read the memory-mapped form.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from robertax import descriptors, files
from robertax.config import BACKENDS, DataConfig
from robertax.corpus.records import Manifest
from robertax.data import remote
from robertax.data.remote import GRID, ChunkCache, Lookahead, Remote
from robertax.data.rows import BadRecords, Mapped, Rows, Shards
from robertax.errors import InputError, unknown
from robertax.progress import advance

# Attributes of manifests that must agree for rows to share a batch.
_AGREEING = ('tokenizer', 'vocab_size', 'format', 'sequence_length',
             'duplicates')
# The rows of one split of one corpus: fill(local, places, rows, spans) copies
# its rows `local` to these places in `rows`. `spans` int64[b,2] are the chunks
# that contain them, which only remote rows need.
SplitReader = Shards | Mapped | Remote
# Maps row numbers to the first row and the stop of the chunk of each.
Chunks = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def grid(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Chunks of GRID rows."""
  first = numbers // GRID * GRID
  return first, first + GRID


class Source:
  """The rows of one split of some corpora.

  Attributes:
    corpora: names, in the order of their rows.
    num_records, num_examples: in all corpora and duplicates.
    records_DK: int64[D,K], records of each duplicate of each corpus.
    corpus_tokens: tokens of each corpus in all duplicates.
    pairs: whether examples are pairs of segments.
    sequence_length, max_examples_per_row: T and P.
    vocab_size: every id is below it.
    bad: the damaged records that were found.
  """

  def __init__(self, manifests: Sequence[Manifest], split: str,
               parts: Sequence[SplitReader], pad_id: int, bad: BadRecords):
    """See `open_source`; `parts` are row-major [D,K]."""
    self.bad = bad
    splits_DK = [[m.splits[name] for m, name in zip(manifests, names)]
                 for names in zip(*(m.split_names(split) for m in manifests))]
    self.corpora = tuple(m.corpus for m in manifests)
    self.records_DK = np.array(
        [[s.num_records for s in splits] for splits in splits_DK], np.int64)
    self.corpus_tokens = tuple(
        sum(s.num_tokens for s in splits) for splits in zip(*splits_DK))
    self.num_records = int(self.records_DK.sum())
    self.num_examples = sum(
        s.num_examples for splits in splits_DK for s in splits)
    self.pairs = manifests[0].pair_law is not None
    self.sequence_length = manifests[0].sequence_length
    self.vocab_size = manifests[0].vocab_size
    self.max_examples_per_row = max(m.max_examples_per_row for m in manifests)
    self._folders = [m.folder for m in manifests]
    self._starts = np.cumsum([0, *self.records_DK.ravel()])
    # The first record of each part, counted within its corpus.
    self._own_starts = (np.cumsum(self.records_DK, 0) - self.records_DK).ravel()
    self._parts, self._pad_id = parts, pad_id
    # All remote parts share one cache; None if there are none.
    self._cache = next((part.cache for part in parts
                        if isinstance(part, Remote)), None)

  def gather(self, numbers: np.ndarray, chunks: Chunks = grid) -> Rows:
    """Reads rows by number int64[B]; `chunks` groups reads of remote rows."""
    numbers = np.asarray(numbers, np.int64)
    if len(numbers) and not (0 <= numbers.min()
                             and numbers.max() < self.num_records):
      raise IndexError(f'rows {numbers.min()} .. {numbers.max()} of '
                       f'{self.num_records}')
    slots = self.max_examples_per_row
    rows = Rows.empty(len(numbers), self.sequence_length, slots, self._pad_id,
                      self.pairs)
    part = np.searchsorted(self._starts, numbers, side='right') - 1
    local, corpus = numbers - self._starts[part], part % len(self.corpora)
    spans = self._spans(numbers, part, chunks)
    for number in np.unique(part):
      places = np.flatnonzero(part == number)
      self._parts[number].fill(local[places], places, rows,
                               spans[places] if self._cache else None)
    record = self._own_starts[part] + local
    if rows.ids.max(initial=0) >= self.vocab_size:
      for place in np.flatnonzero(rows.ids.max(1) >= self.vocab_size).tolist():
        self.bad.report(
            self._folders[corpus[place]], int(record[place]),
            f'token id {rows.ids[place].max()} is not below the vocabulary '
            f'size {self.vocab_size}')
        rows.lengths[place] = 0
    out = rows.lengths[:, 0] == 0  # Damaged rows become padding.
    rows.ids[out], rows.documents[out] = self._pad_id, -1
    advance()
    rows.example_ids[...] = np.where(
        rows.lengths > 0,
        (corpus << 48 | record << 8)[:, None] | np.arange(slots), -1)
    return rows

  def lookahead(self, numbers: Callable[[int], np.ndarray], chunks: Chunks,
                start: int) -> Lookahead:
    """Fetches the chunks of rows `numbers(step)` ahead, from `start` on."""
    def needed(step: int) -> list[remote.Chunk]:
      rows = np.asarray(numbers(step), np.int64)
      part = np.searchsorted(self._starts, rows, side='right') - 1
      spans = np.unique(np.column_stack(
          [part, self._spans(rows, part, chunks)]), axis=0)
      return [self._parts[number].chunk(remote.RowRange(first, stop))
              for number, first, stop in spans.tolist()
              if isinstance(self._parts[number], Remote)]
    return Lookahead(self._cache, needed, start)

  def _spans(self, numbers: np.ndarray, part: np.ndarray, chunks: Chunks
             ) -> np.ndarray | None:
    """int64[B,2]: the chunk of each row, counted within the row's part."""
    if not self._cache:
      return None
    starts = self._starts[part]
    first, stop = chunks(numbers)
    return np.column_stack([
        np.maximum(first - starts, 0),
        np.minimum(stop, self._starts[part + 1]) - starts])


def open_source(manifests: Sequence[Manifest | str], split: str,
                backend: str = 'tf', pad_id: int = 1,
                config: DataConfig | None = None) -> Source:
  """Opens the prepared rows of a split; InputError if they cannot be read.

  `manifests` are those of the corpora, or their folders; `split` is 'train' or
  'eval', and `config` gives remote_* and bad_records.
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
  config = config or DataConfig()
  descriptors.limit()
  in_bucket = any(files.is_remote(m.folder) for m in manifests)
  cache = ChunkCache.of(config) if in_bucket else None
  bad = BadRecords(config.bad_records)

  def part(manifest: Manifest, name: str) -> SplitReader:
    if files.is_remote(manifest.folder):
      return Remote(manifest, name, cache)
    return (Mapped if backend == 'numpy' else Shards)(manifest, name, bad)
  wanted = [pair for each in zip(*(m.split_names(split) for m in manifests))
            for pair in zip(manifests, each)]
  if in_bucket:  # Each part opens a handful of files, so all run at once.
    with ThreadPoolExecutor(32) as pool:
      parts = list(pool.map(part, *zip(*wanted)))
  else:
    parts = [part(*pair) for pair in wanted]
  return Source(manifests, split, parts, pad_id, bad)
