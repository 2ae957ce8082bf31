"""Input formats: how the sentences of documents are packed into examples."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
import dataclasses

import numpy as np

from robertax.corpus.example import Example
from robertax.corpus.pairs import segment_pairs, sentence_pairs


def full_sentences(documents: list[list[np.ndarray]], *, sequence_length: int,
                   bos_id: int, eos_id: int, counts: Counter
                   ) -> Iterator[Example]:
  """FULL-SENTENCES: whole sentences until the next one would not fit.

  The laws are those of fairseq's `--sample-break-mode complete` (fairseq
  data/token_block_utils_fast.pyx, tasks/masked_lm.py:181-192), exactly:

  - a sentence is its ids and </s>;
  - between two documents stands a sentence of nothing but </s>, so their
    border reads </s></s> (fairseq #1023, #1654). It is a sentence as any
    other, so an example may begin with it;
  - sentences are added while they make sequence_length - 1 tokens or fewer,
    across documents; then <s> is put before them, and nothing after them.

  One departure: a sentence longer than that makes an over-long block in
  fairseq, which its trainer then drops in silence. Here it is cut into pieces
  of sequence_length - 1 tokens, each packed as a sentence, and counted.

  With 8 tokens, <s> = 0, </s> = 2, and the documents [[5 5] [6 6 6]] [[7]]:
  the block holds 7, and 3 + 4 fill it; the border and the next document follow.

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

  The laws are those of `--sample-break-mode complete_doc` (the same files):

  - sentences are added while they fit, as in `full_sentences`;
  - a document's end closes the example, and nothing stands for the border;
  - an example of one token or none beside its <s> is dropped, and counted. As
    every sentence ends in </s>, that is one of nothing but </s>.

  Over-long sentences are cut as in `full_sentences`. The paper then enlarges
  the batch where examples are short; here several share a row (corpus/rows.py),
  which keeps the tokens of a batch about the same, too.

  The documents of `full_sentences`' example: the second one begins anew.

  >>> a, b, c = np.array([5, 5]), np.array([6, 6, 6]), np.array([7])
  >>> for example in doc_sentences([[a, b], [c]], sequence_length=8, bos_id=0,
  ...                              eos_id=2, counts=Counter()):
  ...   print(example.ids.tolist(), example.document)
  [0, 5, 5, 2, 6, 6, 6, 2] 0
  [0, 7, 2] 1

  Args:
    documents: as in `full_sentences`. A sentence without ids is one of nothing
      but </s>: it does not end its document.
    sequence_length, bos_id, eos_id: as in `full_sentences`.
    counts: `over_long_sentences` and `dropped_examples` are added to it.

  Yields:
    Examples in order; those of a document, each less its <s>, are the stream
    of its sentences, less what was dropped.
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
  """<s> and </s> as arrays of the documents' kind of integer."""
  dtype = next((ids.dtype for sentences in documents for ids in sentences),
               np.uint16)
  return np.array([bos_id], dtype), np.array([eos_id], dtype)


def _pieces(ids: np.ndarray, eos: np.ndarray, block: int, counts: Counter
            ) -> list[tuple[np.ndarray, ...]]:
  """A sentence and its </s>: one piece, or what is left when it is cut."""
  if len(ids) + 1 <= block:
    return [(ids, eos)]
  counts['over_long_sentences'] += 1
  whole = np.concatenate([ids, eos])
  return [(whole[i:i + block],) for i in range(0, len(whole), block)]


def _greedy(pieces: Iterable[tuple[int, tuple[np.ndarray, ...]]], block: int,
            bos: np.ndarray) -> Iterator[Example]:
  """Whole pieces until the next one would not fit; (document, piece)s in."""
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


@dataclasses.dataclass(frozen=True)
class Format:
  """A row of `FORMATS`.

  Attributes:
    pack: from documents to examples, called as `full_sentences` is, or, if
      `pairs`, as `segment_pairs` is. It knows nothing of rows: those are filled
      alike for all formats (corpus/rows.py).
    max_examples_per_row: the most that P may be, however long the rows.
    pairs: whether an example is two texts with next-sentence prediction.
  """
  pack: Callable[..., Iterator[Example]]
  max_examples_per_row: int = 1
  pairs: bool = False

  def examples_per_row(self, sequence_length: int) -> int:
    """P, the most examples a row, so a record, may hold.

    It is paid for in every row: each example may round its masked tokens up by
    one, so M = floor(mask_rate * T) + P are computed (data/masking.py). So a
    short row has no more than one for 16 tokens.
    """
    return min(self.max_examples_per_row, max(1, sequence_length // 16))


# P at 512 tokens with a 50K BPE. Each 4 more make M, 77 and up, larger by 4:
# about .3 % of a base model's arithmetic.
#
# DOC-SENTENCES: unbounded, a row of news or web text holds 6 examples at most,
# so 8 costs no padding (news 5.1 %, web 4.3 %); 4 gives 5.2 and 4.3 %, 2 gives
# 22.5 and 11.3 %. 4 would do for these, but documents of 64 tokens need 8; for
# shorter ones yet, the padding that is printed tells.
#
# Pairs: padding in %, 10 MB of each corpus, GPT-2's BPE. `short`: segment pairs
# with short_rate .1, for which 8 is worth its price.
#
#   segment pairs     news   short    web   short   stories   wiki   books
#   mean tokens        191     182    377     325       494    479     511
#   P =  1            62.6    64.5   26.4    36.5       3.6    6.4      .1
#        2            29.6    32.6    3.3     9.1        .6     .8      .0
#        4             2.9     3.3    2.1     3.2        .6     .8      .0
#        8             2.5     2.4    2.1     2.4        .6     .8      .0
#       12 and more    2.5     2.4    2.1     2.2        .6     .8      .0
#
#   sentence pairs    news            web           stories   wiki   books
#   mean tokens         58             44                40     58      49
#   P =  8            10.8           31.5              38.3   11.4    25.3
#       12             1.2            6.0              14.5    1.2     5.6
#       16             1.1            1.1               2.8     .9     1.1
#       20             1.1             .5                .7     .8      .7
#       24 and more    1.1             .5                .7     .8      .7
#
# Another number changes bytes: records.VERSION would have to be raised.
FORMATS = {
    'full_sentences': Format(full_sentences),
    'doc_sentences': Format(doc_sentences, max_examples_per_row=8),
    'segment_pair': Format(segment_pairs, max_examples_per_row=8, pairs=True),
    'sentence_pair': Format(sentence_pairs, max_examples_per_row=20,
                            pairs=True),
}
