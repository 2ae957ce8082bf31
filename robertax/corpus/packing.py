"""The unit of work: the texts of one block become its packed rows.

Runs in worker processes, so it imports nothing heavy and knows no files.
"""

from collections import Counter
import dataclasses

import numpy as np

from robertax.corpus.blocks import part_of
from robertax.corpus.formats import FORMATS
from robertax.corpus.rows import fill_rows
from robertax.corpus.sentences import SPLITTERS
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


@dataclasses.dataclass(frozen=True)
class Rows:
  """The rows of one block, back to back.

  Attributes:
    ids: uint16 or uint32 [tokens].
    row_lengths: int64[rows], tokens of each row.
    lengths: int32[examples], tokens of each example.
    row_examples: int64[rows], examples of each row.
    documents: int64[rows], the document of a row's first example, counted from
      the block's; ascending.
    counts: what the packing counted.
  """
  ids: np.ndarray
  row_lengths: np.ndarray
  lengths: np.ndarray
  row_examples: np.ndarray
  documents: np.ndarray
  counts: Counter

  def __iter__(self):
    """Yields (ids, lengths, document) of each row."""
    ids = np.split(self.ids, np.cumsum(self.row_lengths)[:-1])
    lengths = np.split(self.lengths, np.cumsum(self.row_examples)[:-1])
    yield from zip(ids, lengths, self.documents.tolist())


class Packer:
  """Called with the documents of a block, gives its `Rows`."""

  def __init__(self, recipe: Recipe):
    self._tokenizer = Tokenizer.from_json(recipe.tokenizer)
    self._recipe = recipe

  def __call__(self, work: tuple[list[str], str]) -> Rows:
    """Packs one block.

    Args:
      work: the documents, and `Block.part`.
    """
    documents, part = work
    recipe, tokenizer = self._recipe, self._tokenizer
    split = SPLITTERS[recipe.sentences]
    encoded = self._encode([part_of(split(text), part) for text in documents])
    counts = Counter(num_sentences=sum(map(len, encoded)))
    kind = FORMATS[recipe.format]
    examples = list(kind.pack(
        encoded, sequence_length=recipe.sequence_length,
        bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, counts=counts))
    rows = fill_rows([len(example.ids) for example in examples],
                     recipe.sequence_length, kind.max_examples_per_row)
    rows = [[examples[number] for number in row] for row in rows]
    sizes = np.array([sum(len(e.ids) for e in row) for row in rows], np.int64)
    spare = recipe.sequence_length - sizes
    counts['padding_tokens'] += int(spare.sum())
    counts['block_end_waste_tokens'] += int(spare[-1:].sum())
    return Rows(
        ids=np.concatenate([np.zeros(0, tokenizer.dtype),
                            *(e.ids for row in rows for e in row)]),
        row_lengths=sizes,
        lengths=np.array([len(e.ids) for row in rows for e in row], np.int32),
        row_examples=np.array([len(row) for row in rows], np.int64),
        documents=np.array([row[0].document for row in rows], np.int64),
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
