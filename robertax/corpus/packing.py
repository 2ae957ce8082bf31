"""Packing: the ids of one block become its rows.

Runs in worker processes, so it imports nothing heavy.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import random
import time
from typing import NamedTuple

import numpy as np

from robertax.corpus.formats import FORMATS, PairLaw
from robertax.corpus.records import RecordRow, encode_record
from robertax.corpus.tokens import BlockPlace, read_block

# Which examples share a row.
#
# The paper enlarges the batch where examples are short (section 4.2). Shapes
# are fixed here, so a row takes several instead, and a batch of as many rows
# has about as many tokens. Decided at preparation, inside a block: a record is
# a row, and batch k is found without looking at any other.


# Rows that wait for an example that fits. More would hardly fill rows better
# and spread neighbouring documents wider. Padding of DOC-SENTENCES at 512
# tokens, GPT-2's BPE, and how many documents lie between a row's first and last
# on average, in 21 MB of news, 30 MB of web text and 75 MB of books:
#
#                          news            web             books
#   alone                  55.6 %          40.2 %          3.4 %
#   next-fit               22.4 %   0.7    18.2 %   0.4    3.4 %   0
#   best-fit of 4          10.4 %   1.9     9.4 %   0.9    3.4 %   0
#   of 16, oldest closed    6.5 %   4.8     6.0 %   2.2    3.4 %   0
#   of 16, fullest closed   5.1 %  15.2     4.3 %   8.6    3.3 %   0
#   of 64, fullest closed   4.8 %  26.5     4.2 %  15.3    3.3 %   0
#   of all in the block     4.8 %  34.3     4.2 %  19.8    3.3 %   0
#
# Another number changes bytes: records.VERSION would have to be raised.
OPEN_ROWS = 16


def fill_rows(sizes: Sequence[int], sequence_length: int, max_examples: int
              ) -> list[list[int]]:
  """Best-fit over a window of open rows, example by example, in order.

  An example goes to the open row that it leaves the least room in, the oldest
  of equal ones, or opens one. A row closes when it has its most examples, or
  when OPEN_ROWS + 1 are open and it is the fullest, the oldest of equal ones.

  >>> fill_rows([6, 5, 2, 3, 8], sequence_length=8, max_examples=4)
  [[0, 2], [1, 3], [4]]

  Args:
    sizes: tokens of each example, at most `sequence_length`.
    sequence_length: most tokens of a row.
    max_examples: most examples of a row, P.

  Returns:
    The numbers of each row's examples, ascending; rows in the order of their
    first one. Each example stands in exactly one row.
  """
  rows, waiting = [], []  # Of open rows, oldest first: [room, examples].
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
  """All that decides the rows of given tokens; attributes as in DataConfig.

  Attributes:
    dtype: of the ids.
    bos_id, eos_id: ids of <s> and </s>.
    encoded: give the bytes of each record, too.
  """
  format: str
  sequence_length: int
  dtype: str
  bos_id: int
  eos_id: int
  pair_law: PairLaw | None = None
  encoded: bool = True


class PackingJob(NamedTuple):
  """A block to be packed.

  Attributes:
    place: where its tokens lie.
    name: of the block, the same however often it is packed: with the number of
      the duplicate, all that its random pairs depend on.
    first_document: its number in the corpus.
    duplicates: how often it is packed; only random pairs differ.
  """
  place: BlockPlace
  name: str = ''
  first_document: int = 0
  duplicates: int = 1


@dataclasses.dataclass(frozen=True)
class PackedRows:
  """The rows of one block, back to back.

  Attributes:
    ids: uint16 or uint32 [tokens].
    row_lengths: int64[rows], tokens of each row.
    lengths: int32[examples], tokens of each example.
    row_examples: int64[rows], examples of each row.
    documents: int32[examples], counted from the block's; those of the rows'
      first examples ascend.
    first_lengths, second_documents: int32[examples], as in `wire.Row`, but
      counted from the block's; [0] where none are pairs.
    counts: what the packing counted.
    seconds: what it took.
    records: the bytes of each row's record, if they were asked for.
  """
  ids: np.ndarray
  row_lengths: np.ndarray
  lengths: np.ndarray
  row_examples: np.ndarray
  documents: np.ndarray
  first_lengths: np.ndarray
  second_documents: np.ndarray
  counts: Counter
  seconds: float = 0.
  records: list[bytes] = dataclasses.field(default_factory=list)

  def of(self, first_document: int) -> Iterator[RecordRow]:
    """The rows of a block whose documents begin at that one of the corpus."""
    if not len(self.row_lengths):
      return  # np.split gives one part at least.
    ids = np.split(self.ids, np.cumsum(self.row_lengths)[:-1])
    ends = np.cumsum(self.row_examples)[:-1]
    yield from map(RecordRow, ids, np.split(self.lengths, ends),
                   np.split(self.documents + first_document, ends),
                   np.split(self.first_lengths, ends),
                   np.split(self.second_documents + first_document, ends))


class Packer:
  """Called with a block's `Work`, gives its `Rows`, one for each duplicate."""

  def __init__(self, recipe: RowRecipe):
    self._recipe = recipe

  def __call__(self, work: PackingJob) -> list[PackedRows]:
    """Packs one block, as often as there are duplicates."""
    started = time.monotonic()
    tokens = read_block(work.place).nested()
    packed = []
    for number in range(work.duplicates):
      rows = self._pack(tokens, random.Random(f'{work.name}/{number}'))
      encoded = ([encode_record(row) for row in rows.of(work.first_document)]
                 if self._recipe.encoded else [])
      now = time.monotonic()
      packed.append(dataclasses.replace(
          rows, records=encoded, seconds=now - started))
      started = now
    return packed

  def _pack(self, tokens: list[list[np.ndarray]],
            rng: random.Random) -> PackedRows:
    recipe = self._recipe
    counts = Counter(num_sentences=sum(map(len, tokens)))
    kind = FORMATS[recipe.format]
    pairs = {'law': recipe.pair_law, 'rng': rng} if kind.pairs else {}
    examples = list(kind.pack(
        tokens, sequence_length=recipe.sequence_length,
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
        row_lengths=sizes,
        lengths=_int32(len(e.ids) for e in examples),
        row_examples=np.array([len(row) for row in rows], np.int64),
        documents=_int32(e.document for e in examples),
        first_lengths=_int32(
            e.first_length for e in examples if kind.pairs),
        second_documents=_int32(
            e.second_document for e in examples if kind.pairs),
        counts=counts)


def _int32(values: Iterable[int]) -> np.ndarray:
  return np.fromiter(values, np.int32)
