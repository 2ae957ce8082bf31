"""Input formats: how the sentences of documents are packed into examples.

A row of `FORMATS` is a `Format`. Here are FULL-SENTENCES and DOC-SENTENCES of
the paper's section 4.2; the formats with next-sentence prediction are in
pairs.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
import dataclasses
from typing import NamedTuple

import numpy as np

from robertax.config import PAIR_NEGATIVES
from robertax.errors import InputError, unknown
from robertax.tables import Table

# Each row is a `Format`.
FORMATS = Table(
    full_sentences='robertax.corpus.formats:FULL_SENTENCES',
    doc_sentences='robertax.corpus.formats:DOC_SENTENCES',
    segment_pair='robertax.corpus.pairs:SEGMENT_PAIR',
    sentence_pair='robertax.corpus.pairs:SENTENCE_PAIR')


class Example(NamedTuple):
  """One packed sequence, or one pair: `<s> A </s> B </s>`.

  Attributes:
    ids: [n] token ids, <s> first, no padding.
    document: which of the given documents its first sentence comes from.
    first_length: of a pair, the tokens of `<s> A </s>`: those have type 0, and
      the others, `B </s>`, type 1. Otherwise 0.
    second_document: of a pair, the document of B. If it is `document`, B
      follows A there; any other is a random negative. Otherwise -1.
  """
  ids: np.ndarray
  document: int
  first_length: int = 0
  second_document: int = -1


@dataclasses.dataclass(frozen=True)
class PairLaw:
  """What the paper leaves to choose.

  Attributes:
    short_rate: share of the documents whose segment pairs aim at fewer tokens,
      a number drawn uniformly from 2 to the most (BERT's short_seq_prob, .1
      there).
    negatives: 'half', the paper's p = .5, or 'bert', where negatives that the
      text forces come on top (pairs.Coin).
  """
  short_rate: float = 0.0
  negatives: str = 'half'

  def __post_init__(self):
    if not 0 <= self.short_rate <= 1:
      raise InputError(f'data.pair_short_rate={self.short_rate}: a share of '
                       'documents, 0 to 1.')
    if self.negatives not in PAIR_NEGATIVES:
      raise unknown('data.pair_negatives', self.negatives,
                    PAIR_NEGATIVES)


@dataclasses.dataclass(frozen=True)
class Format:
  """A row of `FORMATS`.

  Attributes:
    pack: from documents to examples, called as `full_sentences` is, or, if
      `pairs`, as `segment_pairs` is. It knows nothing of rows, which are filled
      alike for all formats (shards.fill_rows).
    max_examples_per_row: the most that P may be, however long the rows.
    pairs: whether an example is two texts with next-sentence prediction.
  """
  pack: Callable[..., Iterator[Example]]
  max_examples_per_row: int = 1
  pairs: bool = False

  def examples_per_row(self, sequence_length: int) -> int:
    """P, the most examples that a row, so a record, may hold.

    Every row pays for it: each example may round its masked tokens up by one,
    so M = floor(mask_rate * T) + P are computed (data/masking.py). So a short
    row has no more than one for 16 tokens.
    """
    return min(self.max_examples_per_row, max(1, sequence_length // 16))


def full_sentences(documents: list[list[np.ndarray]], *, sequence_length: int,
                   bos_id: int, eos_id: int, counts: Counter
                   ) -> Iterator[Example]:
  """FULL-SENTENCES: whole sentences until the next one would not fit.

  As fairseq's `--sample-break-mode complete` (fairseq
  data/token_block_utils_fast.pyx, tasks/masked_lm.py:181-192), exactly:

  - a sentence is its ids and </s>;
  - between two documents stands a sentence of nothing but </s>, so their
    border reads </s></s> (fairseq #1023, #1654), and an example may begin with
    it;
  - sentences are added while they make sequence_length - 1 tokens or fewer,
    across documents; then <s> is put before them, and nothing after them.

  One departure: a longer sentence makes an over-long example in fairseq, which
  its trainer then drops in silence. Here it is cut into pieces of
  sequence_length - 1 tokens, each packed as a sentence, and counted.

  >>> a, b, c = np.array([5, 5]), np.array([6, 6, 6]), np.array([7])
  >>> for example in full_sentences([[a, b], [c]], sequence_length=8, bos_id=0,
  ...                               eos_id=2, counts=Counter()):
  ...   print(example.ids.tolist(), example.document)
  [0, 5, 5, 2, 6, 6, 6, 2] 0
  [0, 2, 7, 2] 1

  Args:
    documents: the ids of each sentence of each document, special tokens not
      included.
    sequence_length: most tokens of an example, <s> included.
    bos_id, eos_id: ids of <s> and </s>.
    counts: `over_long_sentences` is added to it.

  Yields:
    Examples in order; their ids, less the <s>, are the stream of sentences.
  """
  block = sequence_length - 1
  bos, eos = _specials(documents, bos_id, eos_id)

  def stream():
    for number, sentences in enumerate(documents):
      border = [eos[:0]] if number and sentences else []
      for ids in border + sentences:
        for piece in _pieces(ids, eos, block, counts):
          yield number, piece

  yield from _greedy(stream(), block, bos)


def doc_sentences(documents: list[list[np.ndarray]], *, sequence_length: int,
                  bos_id: int, eos_id: int, counts: Counter
                  ) -> Iterator[Example]:
  """DOC-SENTENCES: as FULL-SENTENCES, but no example crosses a document.

  As fairseq's `--sample-break-mode complete_doc` (the same files):

  - sentences are added while they fit, as in `full_sentences`;
  - a document's end closes the example, and nothing stands for the border;
  - an example of nothing but </s> beside its <s> is dropped, and counted.

  Over-long sentences are cut as in `full_sentences`. The paper then enlarges
  the batch where examples are short; here several share a row
  (shards.fill_rows), which keeps the tokens of a batch about the same, too.

  >>> a, b, c = np.array([5, 5]), np.array([6, 6, 6]), np.array([7])
  >>> for example in doc_sentences([[a, b], [c]], sequence_length=8, bos_id=0,
  ...                              eos_id=2, counts=Counter()):
  ...   print(example.ids.tolist(), example.document)
  [0, 5, 5, 2, 6, 6, 6, 2] 0
  [0, 7, 2] 1

  Arguments are those of `full_sentences`; `dropped_examples` is added to
  `counts`, too. A sentence without ids does not end its document.
  """
  block = sequence_length - 1
  bos, eos = _specials(documents, bos_id, eos_id)
  for number, sentences in enumerate(documents):
    pieces = ((number, piece) for ids in sentences
              for piece in _pieces(ids, eos, block, counts))
    for example in _greedy(pieces, block, bos):
      if len(example.ids) > 2:
        yield example
      else:
        counts['dropped_examples'] += 1


def _specials(documents, bos_id: int, eos_id: int):
  """<s> and </s> as arrays of the documents' dtype."""
  dtype = next((ids.dtype for sentences in documents for ids in sentences),
               np.uint16)
  return np.array([bos_id], dtype), np.array([eos_id], dtype)


def _pieces(ids: np.ndarray, eos: np.ndarray, block: int, counts: Counter
            ) -> list[tuple[np.ndarray, ...]]:
  """A sentence and its </s>: one piece, or several if it is cut."""
  if len(ids) + 1 <= block:
    return [(ids, eos)]
  counts['over_long_sentences'] += 1
  whole = np.concatenate([ids, eos])
  return [(whole[i:i + block],) for i in range(0, len(whole), block)]


def _greedy(pieces: Iterable[tuple[int, tuple[np.ndarray, ...]]], block: int,
            bos: np.ndarray) -> Iterator[Example]:
  """Examples of whole (document, piece)s until the next one would not fit."""
  parts, size, first = [bos], 0, 0
  for number, piece in pieces:
    length = sum(map(len, piece))
    if size + length > block and size:
      yield Example(np.concatenate(parts), first)
      parts, size = [bos], 0
    if not size:
      first = number
    parts.extend(piece)
    size += length
  if size:
    yield Example(np.concatenate(parts), first)


# P, the most examples a row, at 512 tokens with a 50K BPE. Each 4 more make M,
# 77 and up, larger by 4: about .3 % of a base model's arithmetic. Without a
# limit a row of news or web text holds 6 examples at most, so 8 costs no
# padding (news 5.1 %, web 4.3 %); 4 gives 5.2 and 4.3 %, 2 gives 22.5 and
# 11.3 %. 4 would do for these, but documents of 64 tokens need 8.
#
# Another number changes bytes: records.VERSION would have to be raised.
FULL_SENTENCES = Format(full_sentences)
DOC_SENTENCES = Format(doc_sentences, max_examples_per_row=8)
