"""Packing: the ids of one block become its rows.

Runs in worker processes, so it imports nothing heavy.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
import dataclasses
import random
import time
from typing import NamedTuple

import numpy as np

from robertax.corpus import token_store
from robertax.corpus.formats import FORMATS
from robertax.corpus.pairs import PairLaw
from robertax.corpus.rows import fill_rows
from robertax.corpus.token_store import Place
from robertax.corpus.wire import Row, encode_record


@dataclasses.dataclass(frozen=True)
class Recipe:
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


class Work(NamedTuple):
  """A block to be packed.

  Attributes:
    place: where its tokens lie.
    name: of the block, the same however often it is packed: with the number of
      the duplicate, all that its random pairs depend on.
    first_document: its number in the corpus.
    duplicates: how often it is packed; only random pairs differ.
  """
  place: Place
  name: str = ''
  first_document: int = 0
  duplicates: int = 1


@dataclasses.dataclass(frozen=True)
class Rows:
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

  def of(self, first_document: int) -> Iterator[Row]:
    """The rows of a block whose documents begin at that one of the corpus."""
    if not len(self.row_lengths):
      return  # np.split gives one part at least.
    ids = np.split(self.ids, np.cumsum(self.row_lengths)[:-1])
    ends = np.cumsum(self.row_examples)[:-1]
    yield from map(Row, ids, np.split(self.lengths, ends),
                   np.split(self.documents + first_document, ends),
                   np.split(self.first_lengths, ends),
                   np.split(self.second_documents + first_document, ends))


class Packer:
  """Called with a block's `Work`, gives its `Rows`, one for each duplicate."""

  def __init__(self, recipe: Recipe):
    self._recipe = recipe

  def __call__(self, work: Work) -> list[Rows]:
    """Packs one block, as often as there are duplicates."""
    started = time.monotonic()
    tokens = token_store.read(work.place).nested()
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

  def _pack(self, tokens: list[list[np.ndarray]], rng: random.Random) -> Rows:
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
    return Rows(
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
