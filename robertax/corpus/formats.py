"""Input formats: how the sentences of documents are packed into examples.

A row of `FORMATS` is a `Format`. First come FULL-SENTENCES and DOC-SENTENCES of
the paper's section 4.2, then SEGMENT-PAIR and SENTENCE-PAIR, which have
next-sentence prediction.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
import dataclasses
import random
from typing import NamedTuple

import numpy as np

from robertax.config import PAIR_NEGATIVES
from robertax.errors import InputError, unknown


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
      text forces come on top (`Coin`).
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


# The input formats with next-sentence prediction: a text and what follows it.
#
# The paper's section 4.2 says what SEGMENT-PAIR and SENTENCE-PAIR are; where it
# is silent, `create_instances_from_document` and `truncate_seq_pair` of BERT's
# create_pretraining_data.py are followed. Layout and types are BERT's:
#
#   <s> A </s> B </s>
#    0  0   0  1   1
#
# Both formats have in common:
#
# - Half of the pairs are negative: B comes from another of the given documents,
#   any that has tokens with the same chance (as fairseq's
#   block_pair_dataset.py; BERT tries ten times to find another one, then takes
#   its own), from a sentence on that is drawn uniformly. In the others B
#   follows A.
# - Where nothing is left to follow A, the pair can only be negative. BERT lets
#   these come on top of the coin's, so more than half are negative; by default
#   they are made up for here (`Coin` says how, and at what price).
# - Without another document with tokens, all pairs are positive, and are
#   counted as `pairs_without_negative`. What then makes no pair is dropped and
#   counted.
# - A pair of more than sequence_length - 3 tokens is cut: always the longer of
#   A and B (B, if equal) by one token, at the front or the back by a coin.
#
# Pairs come in the order of their A. Every sentence is in an A or a positive B
# exactly once, and no token is lost without a count: those of all documents are
# those in an A, in a positive B, in `truncated_tokens` or in `dropped_tokens`.
# What is cut off a random B, which stands elsewhere on its own, is counted
# apart, as `truncated_negative_tokens`.
#
# All chance is `rng.random()`, the only method of random.Random whose numbers
# Python promises to keep: so one state gives the same pairs on any version.


class Coin:
  """Says RANDOM to half of the pairs, though to some it has to.

  Where nothing is left to follow A, a pair is forced to be negative. BERT lets
  these come on top of its coin's. With `makes_up` the coin is tossed for them,
  too; if one is negative against its coin, the next pair that has the choice
  and is to be negative is made positive instead. So there are as many negatives
  as the coin said, half, wherever the text permits it: not if too many pairs
  are forced at the end, or if all documents are one sentence.

  The price: where a share f of all pairs is forced, one that has the choice is
  negative with chance (1/2 - f) / (1 - f), not 1/2 as in BERT. So an A that has
  something behind it, if that can be told from its text, speaks for a positive.
  Nothing else foretells a label: coins are independent, debts are paid as the
  coins fall, and records are shuffled.

  Measured at 512 tokens, GPT-2's BPE, 10 MB of each corpus:

                                     news   web   stories   wiki   books
    segment pairs, forced            .126  .060      .009   .016    .000
      negative                       .501  .506      .496   .490    .498
      negative without making up     .578  .539      .501   .496    .493
    sentence pairs, forced           .125  .025      .003   .006    .000
      negative                       .501  .499      .500   .499    .501
      negative without making up     .560  .511      .501   .503    .501
  """

  def __init__(self, rng: random.Random, counts: Counter, makes_up: bool):
    """Counts `negative_pairs` and `forced_negatives`."""
    self._rng, self._counts, self._makes_up = rng, counts, makes_up
    self._owed = 0  # Negatives against their coin, not made up for as yet.

  def toss(self, forced: bool) -> bool:
    """Whether the next pair is negative; if it is forced, it is."""
    # BERT tosses no coin where it would not matter; here it would.
    negative = forced and not self._makes_up or self._rng.random() < .5
    if forced:
      self._counts['forced_negatives'] += 1
      self._owed += not negative
      negative = True
    elif negative and self._owed:
      self._owed -= 1
      negative = False
    self._counts['negative_pairs'] += negative
    return negative


def below(rng: random.Random, stop: int) -> int:
  """Uniform in 0 <= i < stop, but for a bias of at most stop / 2^53."""
  return int(rng.random() * stop)


def heads(rng: random.Random, tosses: int) -> int:
  """Heads in so many tosses: the bits of a random() are 53 coins at once.

  A coin a token would let one endless line, drawn again and again, take hours.
  """
  number = 0
  while tosses > 0:
    coins = int(rng.random() * 2.0 ** 53)
    number += (coins >> max(0, 53 - tosses)).bit_count()
    tosses -= 53
  return number


def segment_pairs(documents: list[list[np.ndarray]], *, sequence_length: int,
                  bos_id: int, eos_id: int, counts: Counter, law: PairLaw,
                  rng: random.Random) -> Iterator[Example]:
  """SEGMENT-PAIR+NSP: BERT's pairs of segments of many sentences.

  - A chunk is sentences of one document, added until they make the target,
    sequence_length - 3 tokens (or fewer, see `PairLaw`), or the document ends.
  - A is its first sentences, a number drawn from 1 to all but one.
  - Positive: B is the rest of the chunk. Negative: B is sentences of another
    document until A and B make the target, and the rest of the chunk is put
    back: it begins the next one.
  - A chunk of one sentence can only be A of a negative.
  - Sentences of a segment stand together without separators; those without ids
    are left out.

  An example with room for 4 tokens of text. The first chunk is 11 to 14, A is
  11 12 13 and the pair negative: with 21 21 these are 5 tokens, so A loses one,
  11; 14 is put back. The chunk 14 15 (16 16) is split behind 14 and positive.
  The other document is one sentence: a negative, whose B, 15 (16 16), loses 15.

  >>> documents = [[[11], [12], [13], [14], [15], [16, 16]], [[21, 21]]]
  >>> documents = [[np.array(ids) for ids in d] for d in documents]
  >>> for pair in segment_pairs(
  ...     documents, sequence_length=7, bos_id=0, eos_id=2, counts=Counter(),
  ...     law=PairLaw(), rng=random.Random(6)):
  ...   print(pair.ids.tolist(), *pair[1:])
  [0, 12, 13, 2, 21, 21, 2] 0 4 1
  [0, 14, 2, 15, 16, 16, 2] 0 3 0
  [0, 21, 21, 2, 16, 16, 2] 1 4 0

  Args:
    documents, bos_id, eos_id: as in formats.full_sentences.
    sequence_length: most tokens of an example, at least 5.
    counts: `pairs`, `negative_pairs`, `forced_negatives` (those of a chunk of
      one sentence), `pairs_without_negative`, `truncated_tokens`,
      `truncated_negative_tokens`, `dropped_examples` and `dropped_tokens` are
      added to it, where there are any.
    law, rng: what decides the pairs.

  Raises:
    InputError: sequence_length has no room for a pair.
  """
  pairs = _Pairs(documents, sequence_length, bos_id, eos_id, counts, law, rng)
  ends = pairs.ends
  for own, (_, start, stop) in enumerate(pairs.spans):
    target = pairs.most
    if rng.random() < law.short_rate:
      target = 2 + below(rng, pairs.most - 1)
    while start < stop:
      end = _reach(ends, start, stop, target)
      middle = start + 1
      if end > middle:
        middle += below(rng, end - middle)
      forced = end == middle
      if forced and pairs.alone:
        pairs.drop(start, end)
        start = end
      elif pairs.toss(forced):
        other, first, last = pairs.elsewhere(own)
        room = target - (ends[middle] - ends[start])
        last = _reach(ends, first, last, room)
        yield pairs.example(own, start, middle, other, first, last)
        start = middle
      else:
        yield pairs.example(own, start, middle, own, middle, end)
        start = end


def sentence_pairs(documents: list[list[np.ndarray]], *, sequence_length: int,
                   bos_id: int, eos_id: int, counts: Counter, law: PairLaw,
                   rng: random.Random) -> Iterator[Example]:
  """SENTENCE-PAIR+NSP: A and B are one sentence each.

  - A is the next sentence of the document.
  - Positive: B is the sentence behind it, and the one behind that is the next
    A. Negative: B is a sentence of another document, and the one behind A is
    the next A.
  - The last sentence of a document can only be A of a negative.
  - Sentences without ids are left out.

  >>> documents = [[[11], [12], [13], [14], [15], [16, 16]], [[21, 21]]]
  >>> documents = [[np.array(ids) for ids in d] for d in documents]
  >>> for pair in sentence_pairs(
  ...     documents, sequence_length=7, bos_id=0, eos_id=2, counts=Counter(),
  ...     law=PairLaw(), rng=random.Random(3)):
  ...   print(pair.ids.tolist(), *pair[1:])
  [0, 11, 2, 21, 21, 2] 0 3 1
  [0, 12, 2, 13, 2] 0 3 0
  [0, 14, 2, 15, 2] 0 3 0
  [0, 16, 16, 2, 21, 21, 2] 0 4 1
  [0, 21, 21, 2, 16, 16, 2] 1 4 0

  Arguments are those of `segment_pairs`; a negative is forced by a document's
  end.

  Raises:
    InputError: sequence_length has no room for a pair, or law.short_rate is
      not 0, for there is no target length.
  """
  if law.short_rate:
    raise InputError(f'data.pair_short_rate={law.short_rate}: sentence pairs '
                     'have no length to aim at; only 0 would do.')
  pairs = _Pairs(documents, sequence_length, bos_id, eos_id, counts, law, rng)
  for own, (_, start, stop) in enumerate(pairs.spans):
    while start < stop:
      middle = start + 1
      forced = middle == stop
      if forced and pairs.alone:
        pairs.drop(start, middle)
        start = middle
      elif pairs.toss(forced):
        other, first, _ = pairs.elsewhere(own)
        yield pairs.example(own, start, middle, other, first, first + 1)
        start = middle
      else:
        yield pairs.example(own, start, middle, own, middle, middle + 1)
        start = middle + 1


class _Pairs:
  """The text of one call as one array, and its coin.

  Attributes:
    most: tokens of text that fit an example.
    ends: tokens before each sentence of the text, and of the whole.
    spans: (document, first, stop) of each document with tokens; its sentences
      are first <= i < stop.
    alone: whether there is only one such document.
  """

  def __init__(self, documents, sequence_length, bos_id, eos_id, counts, law,
               rng):
    self.most = sequence_length - 3
    if self.most < 2:
      raise InputError(f'sequence_length={sequence_length}: <s> A </s> B </s> '
                       'takes at least 5.')
    self.ends, self.spans, sentences = [0], [], []
    for number, document in enumerate(documents):
      first = len(sentences)
      for ids in document:
        if len(ids):
          sentences.append(ids)
          self.ends.append(self.ends[-1] + len(ids))
      if len(sentences) > first:
        self.spans.append((number, first, len(sentences)))
    self.alone = len(self.spans) == 1
    # Each segment is a slice of this, so a pair costs one copy.
    self._ids = np.concatenate(sentences or [np.zeros(0, np.uint16)])
    self._bos = np.array([bos_id], self._ids.dtype)
    self._eos = np.array([eos_id], self._ids.dtype)
    self._counts, self._rng = counts, rng
    self._coin = Coin(rng, counts, makes_up=law.negatives == 'half')

  def toss(self, forced: bool) -> bool:
    """Whether the next pair is negative; if it is forced, it is."""
    self._counts['pairs'] += 1
    if self.alone:
      self._counts['pairs_without_negative'] += 1
      return False
    return self._coin.toss(forced)

  def elsewhere(self, own: int) -> tuple[int, int, int]:
    """Another span than `own`, a sentence of it, and where it stops."""
    other = below(self._rng, len(self.spans) - 1)
    other += other >= own
    _, first, stop = self.spans[other]
    return other, first + below(self._rng, stop - first), stop

  def drop(self, start: int, stop: int) -> None:
    self._counts['dropped_examples'] += 1
    self._counts['dropped_tokens'] += self.ends[stop] - self.ends[start]

  def example(self, own: int, a: int, a_stop: int, other: int, b: int,
              b_stop: int) -> Example:
    """The pair of two spans and runs of their sentences, cut if need be."""
    ends = self.ends
    a, a_stop, b, b_stop = ends[a], ends[a_stop], ends[b], ends[b_stop]
    size_a, size_b, most = a_stop - a, b_stop - b, self.most
    if size_a + size_b > most:
      # What is left when the longer one, or B, loses token after token.
      keep_b = min(size_b, max(most // 2, most - size_a))
      keep_a = most - keep_b
      lost = 'truncated_tokens', ('truncated_tokens' if other == own else
                                  'truncated_negative_tokens')
      for name, cut in zip(lost, (size_a - keep_a, size_b - keep_b)):
        if cut:
          self._counts[name] += cut
      a += heads(self._rng, size_a - keep_a)
      b += heads(self._rng, size_b - keep_b)
      a_stop, b_stop = a + keep_a, b + keep_b
    return Example(
        np.concatenate((self._bos, self._ids[a:a_stop], self._eos,
                        self._ids[b:b_stop], self._eos)),
        self.spans[own][0], a_stop - a + 2, self.spans[other][0])


def _reach(ends: list[int], start: int, stop: int, tokens: int) -> int:
  """Where the fewest sentences from `start` end that make so many tokens.

  There is one at least, and none at `stop` or later.
  """
  return bisect_left(ends, ends[start] + tokens, start + 1, stop)


# P, the most examples a row, at 512 tokens with a 50K BPE. Each 4 more make M,
# 77 and up, larger by 4: about .3 % of a base model's arithmetic. Without a
# limit a row of news or web text holds 6 examples at most, so 8 costs no
# padding (news 5.1 %, web 4.3 %); 4 gives 5.2 and 4.3 %, 2 gives 22.5 and
# 11.3 %. 4 would do for these, but documents of 64 tokens need 8.
#
# Padding in % by P, the most examples a row: 10 MB of each corpus, 512 tokens,
# GPT-2's BPE. `short` are segment pairs with short_rate .1, for which 8 is
# worth its price.
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
                            pairs=True)}
