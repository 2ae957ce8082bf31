"""The unit of work: the texts of one block become its packed rows.

Runs in worker processes, so it imports nothing heavy and knows no files.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
import dataclasses
import random
from typing import NamedTuple

import numpy as np

from robertax.corpus.blocks import part_of
from robertax.corpus.formats import FORMATS
from robertax.corpus.pairs import PairLaw
from robertax.corpus.rows import fill_rows
from robertax.corpus.sentences import SPLITTERS
from robertax.corpus.wire import Row
from robertax.text import Tokenizer

# What the library keeps of an encoding is far larger than its ids: characters
# that are encoded at once.
CHARS_AT_ONCE = 1 << 19


@dataclasses.dataclass(frozen=True)
class Recipe:
  """All that decides the rows of given texts; attributes as in DataConfig.

  Attributes:
    tokenizer: the text of a tokenizer.json.
  """
  tokenizer: str
  format: str
  sentences: str
  sequence_length: int
  pair_law: PairLaw | None = None


class Work(NamedTuple):
  """A block to be packed.

  Attributes:
    documents: their texts.
    part: `Block.part`.
    name: of the block, the same however often it is packed: with the number of
      the duplicate, all that its random pairs depend on.
    duplicates: how often it is packed; only random pairs differ.
  """
  documents: list[str]
  part: str = 'all'
  name: str = ''
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
  """
  ids: np.ndarray
  row_lengths: np.ndarray
  lengths: np.ndarray
  row_examples: np.ndarray
  documents: np.ndarray
  first_lengths: np.ndarray
  second_documents: np.ndarray
  counts: Counter

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
    self._tokenizer = Tokenizer.from_json(recipe.tokenizer)
    self._recipe = recipe

  def __call__(self, work: Work) -> list[Rows]:
    """Packs one block; it is tokenized once for all duplicates."""
    recipe = self._recipe
    split = SPLITTERS[recipe.sentences]
    encoded = self._encode(
        [part_of(split(text), work.part) for text in work.documents])
    return [self._pack(encoded, random.Random(f'{work.name}/{number}'))
            for number in range(work.duplicates)]

  def _pack(self, encoded: list[list[np.ndarray]], rng: random.Random) -> Rows:
    recipe, tokenizer = self._recipe, self._tokenizer
    counts = Counter(num_sentences=sum(map(len, encoded)))
    kind = FORMATS[recipe.format]
    pairs = {'law': recipe.pair_law, 'rng': rng} if kind.pairs else {}
    examples = list(kind.pack(
        encoded, sequence_length=recipe.sequence_length,
        bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, counts=counts,
        **pairs))
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
        ids=np.concatenate([np.zeros(0, tokenizer.dtype),
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

  def _encode(self, documents: list[list[str]]) -> list[list[np.ndarray]]:
    """Ids of every sentence, as many at once as memory likes."""
    encoded, texts, chars = [], [], 0
    for sentence in (s for sentences in documents for s in sentences):
      texts.append(sentence)
      chars += len(sentence)
      if chars >= CHARS_AT_ONCE:
        encoded += self._tokenizer.encode_batch(texts)
        texts, chars = [], 0
    encoded += self._tokenizer.encode_batch(texts)
    ids = iter(encoded)
    return [[next(ids) for _ in sentences] for sentences in documents]


def _int32(values: Iterable[int]) -> np.ndarray:
  return np.fromiter(values, np.int32)
