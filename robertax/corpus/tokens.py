"""The ids of a block's documents, sentence by sentence, and how they are made.

Runs in worker processes, so it imports nothing heavy and knows no files.
"""

from collections.abc import Iterator
import dataclasses
import itertools
import time
from typing import NamedTuple

import numpy as np

from robertax.corpus.blocks import part_of
from robertax.corpus.sentences import SPLITTERS
from robertax.text import Tokenizer

# What the library keeps of an encoding is far larger than its ids: characters
# that are encoded at once.
CHARS_AT_ONCE = 1 << 19


@dataclasses.dataclass(frozen=True)
class Tokens:
  """The documents of one block as ids.

  Attributes:
    ids: uint16 or uint32 [tokens], no special tokens among them.
    sentences: uint32[sentences], tokens of each.
    documents: uint32[documents], sentences of each.
    seconds: what it took, by stage.
  """
  ids: np.ndarray
  sentences: np.ndarray
  documents: np.ndarray
  seconds: dict[str, float] = dataclasses.field(default_factory=dict)

  def nested(self) -> list[list[np.ndarray]]:
    """The ids of each sentence of each document: views.

    >>> tokens = Tokens(np.arange(5), np.array([2, 1, 2]), np.array([1, 2]))
    >>> [[ids.tolist() for ids in d] for d in tokens.nested()]
    [[[0, 1]], [[2], [3, 4]]]
    """
    ends = itertools.accumulate(self.sentences.tolist(), initial=0)
    sentences = iter([self.ids[a:b] for a, b in itertools.pairwise(ends)])
    return [list(itertools.islice(sentences, number))
            for number in self.documents.tolist()]


class TextRecipe(NamedTuple):
  """All that decides the ids of given texts.

  Attributes:
    tokenizer: the text of a tokenizer.json.
    sentences: a splitter's name.
  """
  tokenizer: str
  sentences: str


class Texts(NamedTuple):
  """The documents of a block, and `Block.part`."""
  documents: list[str]
  part: str = 'all'


class Tokenizing:
  """Called with the `Texts` of a block, gives its `Tokens`."""

  def __init__(self, recipe: TextRecipe):
    self._tokenizer = Tokenizer.from_json(recipe.tokenizer)
    self._split = SPLITTERS[recipe.sentences]

  def __call__(self, texts: Texts) -> Tokens:
    started = time.monotonic()
    sentences, numbers = [], []
    for document in texts.documents:
      found = part_of(self._split(document), texts.part)
      sentences += found
      numbers.append(len(found))
    split = time.monotonic()
    encoded = [ids for some in _portions(sentences)
               for ids in self._tokenizer.encode_batch(some)]
    tokens = Tokens(
        np.concatenate([np.zeros(0, self._tokenizer.dtype), *encoded]),
        np.fromiter(map(len, encoded), np.uint32, len(encoded)),
        np.array(numbers, np.uint32))
    tokens.seconds.update(splitting=split - started,
                          tokenizing=time.monotonic() - split)
    return tokens


def _portions(sentences: list[str]) -> Iterator[list[str]]:
  """As many at once as memory likes."""
  start = chars = 0
  for stop, sentence in enumerate(sentences, 1):
    chars += len(sentence)
    if chars >= CHARS_AT_ONCE:
      yield sentences[start:stop]
      start, chars = stop, 0
  if start < len(sentences):
    yield sentences[start:]
