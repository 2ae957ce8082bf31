"""Blocks: the fixed unit of work, and which documents are held out.

A block is a run of documents in input order, and packing never looks outside
it. Where blocks begin and end follows from the documents alone, so the bytes of
the records do not depend on how many processes made them, in which order, or
how often they were interrupted. The price is the unfilled end of each block's
last example, which is counted.
"""

from collections import deque
from collections.abc import Iterator
import dataclasses

MIN_CHARS = 2 << 20
MIN_DOCUMENTS = 8
MAX_CHARS = 32 << 20
MAX_DOCUMENTS = 1024
BLOCKS_PER_SHARD = 64
HELD_OUT = 100  # One document in so many.
HELD_OUT_SENTENCES = 20  # One sentence in so many of a one-document corpus.


@dataclasses.dataclass(frozen=True)
class Block:
  """Documents start <= i < stop of a corpus, all of one split.

  Attributes:
    split: 'train' or 'eval'.
    start, stop: the documents.
    chars: their characters.
    part: 'all', or, of a one-document corpus, 'head' or 'tail' of its
      sentences (see `part_of`).
  """
  split: str
  start: int
  stop: int
  chars: int
  part: str = 'all'


def num_held_out(num_documents: int) -> int:
  """How many documents at the end are for evaluation: 1 %, at least one."""
  return max(1, num_documents // HELD_OUT)


def part_of(sentences: list[str], part: str) -> list[str]:
  """The sentences of a document that a block takes; the tail is 5 %."""
  if part == 'all':
    return sentences
  cut = len(sentences) - max(1, len(sentences) // HELD_OUT_SENTENCES)
  return sentences[:cut] if part == 'head' else sentences[cut:]


def is_full(chars: int, documents: int) -> bool:
  """Whether a block with so much in it is closed."""
  return (chars >= MIN_CHARS and documents >= MIN_DOCUMENTS
          or documents >= MAX_DOCUMENTS or chars >= MAX_CHARS)


class Survey:
  """Learns a corpus's blocks from the sizes of its documents, in one pass.

  Keeps a few numbers a block and the sizes of the last 1 % of documents: which
  documents those are is known only at the end.
  """

  def __init__(self):
    self.num_documents = self.num_chars = 0
    self._closed = []  # Blocks as if nothing were held out.
    self._chars = 0
    self._start = 0
    self._tail = deque()  # Sizes of the documents that may be held out.

  def add(self, chars: int) -> None:
    """Takes note of the next document's size in characters."""
    self.num_documents += 1
    self.num_chars += chars
    self._tail.append(chars)
    # The share held out moves to the right as documents come, never back.
    while len(self._tail) > num_held_out(self.num_documents):
      self._settle(self._tail.popleft())

  def _settle(self, chars: int) -> None:
    """The next document in order is for training, for certain."""
    stop = self.num_documents - len(self._tail)
    self._chars += chars
    if is_full(self._chars, stop - self._start):
      self._close('train', stop)

  def _close(self, split: str, stop: int) -> None:
    if stop > self._start:
      self._closed.append(Block(split, self._start, stop, self._chars))
    self._start, self._chars = stop, 0

  def blocks(self) -> list[Block]:
    """All blocks in order; call it once, after the last document."""
    if self.num_documents == 1:
      return [Block('train', 0, 1, self.num_chars, 'head'),
              Block('eval', 0, 1, self.num_chars, 'tail')]
    stop = self.num_documents - len(self._tail)
    self._close('train', stop)
    for chars in self._tail:
      stop += 1
      self._chars += chars
      if is_full(self._chars, stop - self._start):
        self._close('eval', stop)
    self._close('eval', stop)
    return self._closed


class Changed(Exception):
  """The documents are not those that were surveyed."""


def read_blocks(documents: Iterator[str], blocks: list[Block]
                ) -> Iterator[tuple[Block, list[str]]]:
  """Yields each block with its documents.

  Raises:
    Changed: the documents are not those that were surveyed.
  """
  documents = iter(documents)
  texts = []
  for block in blocks:
    if block.part != 'tail':  # The tail is the head's document again.
      texts = [text for _, text in zip(range(block.stop - block.start),
                                       documents)]
    if (len(texts), sum(map(len, texts))) != (
        block.stop - block.start, block.chars):
      raise Changed
    yield block, texts
  if next(documents, None) is not None:
    raise Changed
