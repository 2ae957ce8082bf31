"""Input formats: how the sentences of documents are packed into examples.

A row of `FORMATS` is a `Format`. The formats are FULL-SENTENCES and
DOC-SENTENCES of the paper's section 4.2, and SEGMENT-PAIR and SENTENCE-PAIR,
which have next-sentence prediction.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
import dataclasses
import random
from typing import Any, NamedTuple

import numpy as np

from robertax.errors import InputError

# The ids of each sentence of each document, or a tokens.Tokens.
Documents = Any


class Example(NamedTuple):
  """One packed sequence, or one pair: `<s> A </s> B </s>`.

  Attributes:
    ids: [n] token ids, <s> first, no padding.
    document: index of the given document that has its first sentence.
    first_length: for a pair, the number of tokens of `<s> A </s>`, which have
      type 0; `B </s>` has type 1. Otherwise 0.
    second_document: for a pair, the document of B. If it is `document`, B
      follows A there; otherwise B is a random negative. Not a pair: -1.
  """
  ids: np.ndarray
  document: int
  first_length: int = 0
  second_document: int = -1


@dataclasses.dataclass(frozen=True)
class PairLaw:
  """What the paper leaves open; config.check_data checks it.

  Attributes:
    short_rate: share of the documents whose segment pairs aim at fewer tokens,
      drawn uniformly from 2 to the most (short_seq_prob in BERT, where it is
      .1).
    negatives: 'half', the paper's p = .5, or 'bert', where negatives that the
      text forces are added to that half (`Coin`).
  """
  short_rate: float = 0.0
  negatives: str = 'half'


@dataclasses.dataclass(frozen=True)
class Format:
  """A row of `FORMATS`.

  Attributes:
    pack: packs documents into examples, with the signature of `full_sentences`
      or, if `pairs`, of `segment_pairs`. shards.fill_rows then packs examples
      into rows in the same way for all formats.
    max_examples_per_row: the upper limit of P, however long the rows are.
    pairs: whether an example is two texts with next-sentence prediction.
  """
  pack: Callable[..., Iterator[Example]]
  max_examples_per_row: int = 1
  pairs: bool = False

  def examples_per_row(self, sequence_length: int) -> int:
    """Returns P, the most examples that a row, and so a record, may hold.

    Every row pays for P: each example may round its masked tokens up by one, so
    M = floor(mask_rate * T) + P logits are computed (data/masking.py). A short
    row therefore has at most one example for every 16 tokens.
    """
    return min(self.max_examples_per_row, max(1, sequence_length // 16))


def full_sentences(documents: Documents, *, sequence_length: int,
                   bos_id: int, eos_id: int, counts: Counter
                   ) -> Iterator[Example]:
  """Packs FULL-SENTENCES: whole sentences, until the next one does not fit.

  This is exactly fairseq's `--sample-break-mode complete` (fairseq
  data/token_block_utils_fast.pyx, tasks/masked_lm.py:181-192):

  - A sentence is its ids and </s>.
  - Between two documents there is an empty sentence, which is just </s>, so
    their border reads </s></s> (fairseq #1023, #1654). An example may begin
    with it.
  - Sentences are added up to sequence_length - 1 tokens, across documents; then
    <s> is put before them, and nothing after them.

  There is one departure: fairseq makes an over-long example of a longer
  sentence, which its trainer silently drops. Here the sentence is cut into
  pieces of sequence_length - 1 tokens, which are packed as sentences, and
  counted.

  >>> a, b, c = np.array([5, 5]), np.array([6, 6, 6]), np.array([7])
  >>> for example in full_sentences([[a, b], [c]], sequence_length=8, bos_id=0,
  ...                               eos_id=2, counts=Counter()):
  ...   print(example.ids.tolist(), example.document)
  [0, 5, 5, 2, 6, 6, 6, 2] 0
  [0, 2, 7, 2] 1

  Args:
    documents: the ids of each sentence of each document, without special
      tokens, as lists or as a tokens.Tokens.
    sequence_length: most tokens of an example, <s> included.
    bos_id, eos_id: ids of <s> and </s>.
    counts: receives `over_long_sentences`.

  Yields:
    Examples in order; their ids, without <s>, are the stream of sentences.
  """
  yield from _packed(documents, sequence_length - 1, bos_id, eos_id, counts,
                     across=True)


def doc_sentences(documents: Documents, *, sequence_length: int,
                  bos_id: int, eos_id: int, counts: Counter
                  ) -> Iterator[Example]:
  """Packs DOC-SENTENCES: FULL-SENTENCES, but no example crosses a document.

  This is fairseq's `--sample-break-mode complete_doc` (the same files): the end
  of a document closes the example, without an empty sentence, and an example of
  only <s> </s> is dropped, and counted.

  The paper enlarges the batch where examples are short; here several examples
  share a row (shards.fill_rows), which also keeps the number of tokens in a
  batch about the same.

  >>> a, b, c = np.array([5, 5]), np.array([6, 6, 6]), np.array([7])
  >>> for example in doc_sentences([[a, b], [c]], sequence_length=8, bos_id=0,
  ...                              eos_id=2, counts=Counter()):
  ...   print(example.ids.tolist(), example.document)
  [0, 5, 5, 2, 6, 6, 6, 2] 0
  [0, 7, 2] 1

  Arguments are those of `full_sentences`; `counts` also receives
  `dropped_examples`. A sentence without ids does not end its document.
  """
  for example in _packed(documents, sequence_length - 1, bos_id, eos_id, counts,
                         across=False):
    if len(example.ids) > 2:
      yield example
    else:
      counts['dropped_examples'] += 1


def _packed(documents: Documents, block: int, bos_id: int, eos_id: int,
            counts: Counter, across: bool) -> Iterator[Example]:
  """Packs whole sentences, also `across` documents, with an empty one between.

  A block of text is packed as three arrays, because an array for each sentence
  takes most of the time: all ids with their </s>, the ends of the pieces that
  stay whole in it, and their documents.
  """
  ids, sentences, numbers = _flat(documents)
  sizes = sentences.astype(np.int64)
  lengths, owners = sizes + 1, np.repeat(np.arange(len(numbers)), numbers)
  # A border, an empty sentence, comes before each later document with text.
  bordered = np.diff(owners, prepend=owners[:1]) > 0
  if across and len(owners):
    bordered[0] = owners[0] > 0
  bordered &= across
  stops = np.cumsum(lengths + bordered)
  starts = stops - lengths
  stream = np.full(stops[-1] if len(stops) else 0, eos_id, ids.dtype)
  stream[np.arange(len(ids)) + np.repeat(
      starts - (np.cumsum(sizes) - sizes), sizes)] = ids
  long = np.flatnonzero(lengths > block)
  if len(long):
    counts['over_long_sentences'] += len(long)
  ends = np.sort(np.concatenate([stops, starts[bordered], *(
      np.arange(starts[n] + block, stops[n], block) for n in long)]))
  owner = owners[np.searchsorted(stops, ends)]
  last = np.searchsorted(owner, owner, side='right')  # In the same document.
  firsts, stop, position = [], 0, 0
  places = ends.tolist()
  while stop < len(places):
    firsts.append(stop)
    reach = bisect_right(places, position + block, stop)
    stop = reach if across else min(reach, int(last[stop]))
    position = places[stop - 1]
  before = np.concatenate([[0], ends])[firsts]  # Where examples begin.
  counted = np.diff(before, append=len(stream))
  whole = np.full(len(stream) + len(firsts), bos_id, ids.dtype)
  whole[np.arange(len(stream)) + np.repeat(
      np.arange(1, len(firsts) + 1), counted)] = stream
  edges = np.concatenate([[0], np.cumsum(counted + 1)]).tolist()
  for start, end, number in zip(edges, edges[1:], owner[firsts].tolist()):
    yield Example(whole[start:end], number)


def _flat(documents: Documents) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns all ids, the sizes of sentences, and sentences of each document."""
  if hasattr(documents, 'ids'):
    return documents.ids, documents.sentences, documents.documents
  sentences = [ids for document in documents for ids in document]
  dtype = sentences[0].dtype if sentences else np.dtype(np.uint16)
  return (np.concatenate([np.zeros(0, dtype), *sentences]).astype(dtype),
          np.fromiter(map(len, sentences), np.int64, len(sentences)),
          np.fromiter(map(len, documents), np.int64, len(documents)))


def _specials(documents, bos_id: int, eos_id: int):
  """Returns <s> and </s> as arrays of the documents' dtype."""
  dtype = next((ids.dtype for sentences in documents for ids in sentences),
               np.uint16)
  return np.array([bos_id], dtype), np.array([eos_id], dtype)


# The formats of pairs. Where the paper's section 4.2 does not say what
# SEGMENT-PAIR and SENTENCE-PAIR are, they follow BERT's
# create_pretraining_data.py (`create_instances_from_document`,
# `truncate_seq_pair`). Layout and types are BERT's:
#
#   <s> A </s> B </s>
#    0  0   0  1   1
#
# - Half of the pairs are negative: B comes from another of the given documents,
#   each of which has the same chance if it has tokens (as in fairseq's
#   block_pair_dataset.py; BERT tries ten times to find another document, then
#   takes the same one), and begins at a sentence drawn uniformly. In the other
#   half B follows A.
# - Where nothing is left to follow A, the pair must be negative. In BERT more
#   than half are therefore negative; here `Coin` by default makes up for it.
# - Where no other document has tokens, all pairs are positive, and are counted
#   as `pairs_without_negative`. A sentence that makes no pair then is dropped
#   and counted.
# - A pair of more than sequence_length - 3 tokens loses tokens one by one, each
#   from the longer of A and B (from B, if they are equal), and a coin decides
#   whether at the front or the back.
#
# Pairs come in the order of their A. Every sentence is in an A or a positive B
# exactly once, and every token is in an A, in a positive B, in
# `truncated_tokens` or in `dropped_tokens`. Tokens cut off a random B, which
# occurs again elsewhere, are counted as `truncated_negative_tokens`.
#
# All randomness comes from `rng.random()`, the only method of random.Random
# whose numbers Python promises not to change in later versions.


class Coin:
  """Makes half of the pairs negative, although some of them must be.

  Where nothing is left to follow A, a pair is forced to be negative. In BERT
  forced negatives are added to those of the coin. With `makes_up` the coin is
  tossed for them as well; if it says positive, the next free pair whose coin
  says negative is made positive instead. Half of the pairs are then negative,
  unless too many are forced at the end, or all documents are one sentence.

  The price: where a share f of all pairs is forced, a free pair is negative
  with probability (1/2 - f) / (1 - f), not 1/2 as in BERT. So if the text of A
  shows that something follows it, the pair is more likely positive. Nothing
  else predicts a label: coins are independent, and records are shuffled.
  benchmarks/RESULTS.md ("Packed rows") has the shares of five corpora.
  """

  def __init__(self, rng: random.Random, counts: Counter, makes_up: bool):
    """`counts` receives `negative_pairs` and `forced_negatives`."""
    self._rng, self._counts, self._makes_up = rng, counts, makes_up
    self._owed = 0  # Negatives against their coin, not yet made up for.

  def toss(self, forced: bool) -> bool:
    """Returns whether the next pair is negative; a forced one always is."""
    # BERT tosses no coin for a forced pair; with `makes_up` the coin matters.
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
  """Draws 0 <= i < stop uniformly, up to a bias of at most stop / 2^53."""
  return int(rng.random() * stop)


def heads(rng: random.Random, tosses: int) -> int:
  """Counts heads in so many tosses; one random() gives 53 coins.

  With one coin a token, a very long line that is drawn repeatedly takes hours.
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
  """Packs SEGMENT-PAIR+NSP: BERT's pairs of segments of many sentences.

  - A chunk is a run of sentences of one document, up to the target length of
    sequence_length - 3 tokens (or fewer, see `PairLaw`) or the document's end.
  - A is the first 1 to n - 1 of its n sentences, a number drawn uniformly.
  - Positive: B is the rest of the chunk. Negative: B is as many sentences of
    another document as reach the target together with A, and the rest of the
    chunk begins the next chunk.
  - A chunk of one sentence can only be A of a negative.
  - Sentences in a segment have no separators; those without ids are left out.

  This example has room for 4 tokens of text. The first chunk is 11 to 14, A is
  11 12 13 and the pair is negative: with 21 21 it has 5 tokens, so A loses 11;
  14 begins the next chunk, 14 15 (16 16), which is split after 14 and positive.
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
    documents, bos_id, eos_id: as in `full_sentences`.
    sequence_length: most tokens of an example, at least 5.
    counts: receives `pairs`, `negative_pairs`, `forced_negatives` (of chunks of
      one sentence), `pairs_without_negative`, `truncated_tokens`,
      `truncated_negative_tokens`, `dropped_examples` and `dropped_tokens`.
    law, rng: what decides the pairs.

  Raises:
    InputError: sequence_length has no room for a pair.
  """
  pairs = _Pairs(documents, sequence_length, bos_id, eos_id, counts, law, rng)

  def aim() -> int:
    short = rng.random() < law.short_rate
    return 2 + below(rng, pairs.most - 1) if short else pairs.most
  yield from pairs.pack(aim)


def sentence_pairs(documents: list[list[np.ndarray]], *, sequence_length: int,
                   bos_id: int, eos_id: int, counts: Counter, law: PairLaw,
                   rng: random.Random) -> Iterator[Example]:
  """Packs SENTENCE-PAIR+NSP: A and B are one sentence each.

  - Positive: B is the sentence after A, and the one after B is the next A.
    Negative: B is a sentence of another document, and the one after A is the
    next A.
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

  Arguments are those of `segment_pairs`; the end of a document forces a
  negative.

  Raises:
    InputError: sequence_length has no room for a pair.
  """
  yield from _Pairs(documents, sequence_length, bos_id, eos_id, counts, law,
                    rng).pack(lambda: 0)


class _Pairs:
  """The text of one call as one array, and its coin."""

  def __init__(self, documents, sequence_length, bos_id, eos_id, counts, law,
               rng):
    self.most = sequence_length - 3
    if self.most < 2:
      raise InputError(f'sequence_length={sequence_length}: <s> A </s> B </s> '
                       'takes at least 5.')
    # `ends` has the number of tokens before each sentence, and of all; `spans`
    # has (document, first, stop) of the sentences of documents with tokens.
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
    self._bos, self._eos = _specials([[self._ids]], bos_id, eos_id)
    self._counts, self._rng = counts, rng
    self._coin = Coin(rng, counts, makes_up=law.negatives == 'half')

  def pack(self, aim: Callable[[], int]) -> Iterator[Example]:
    """Yields pairs; where `aim` gives 0 tokens, each is two sentences."""
    ends = self.ends
    for own, (_, start, stop) in enumerate(self.spans):
      target = aim()
      while start < stop:
        middle = start + 1
        end = min(middle + 1, stop)
        if target:
          end = _reach(ends, start, stop, target)
          middle += below(self._rng, end - middle) if end > middle else 0
        forced = end == middle
        if forced and self.alone:
          self._counts['dropped_examples'] += 1
          self._counts['dropped_tokens'] += ends[end] - ends[start]
          start = end
        elif self.toss(forced):
          other, first, last = self.elsewhere(own)
          room = target - (ends[middle] - ends[start])
          last = _reach(ends, first, last, room)
          yield self.example(own, start, middle, other, first, last)
          start = middle
        else:
          yield self.example(own, start, middle, own, middle, end)
          start = end

  def toss(self, forced: bool) -> bool:
    self._counts['pairs'] += 1
    if self.alone:
      self._counts['pairs_without_negative'] += 1
      return False
    return self._coin.toss(forced)

  def elsewhere(self, own: int) -> tuple[int, int, int]:
    """Draws a span other than `own`, and a sentence of it; adds its stop."""
    other = below(self._rng, len(self.spans) - 1)
    other += other >= own
    _, first, stop = self.spans[other]
    return other, first + below(self._rng, stop - first), stop

  def example(self, own: int, a: int, a_stop: int, other: int, b: int,
              b_stop: int) -> Example:
    """Makes a pair from runs of sentences of two spans, and cuts it to fit."""
    ends = self.ends
    a, a_stop, b, b_stop = ends[a], ends[a_stop], ends[b], ends[b_stop]
    size_a, size_b, most = a_stop - a, b_stop - b, self.most
    if size_a + size_b > most:
      # What remains when the longer one, or B, loses token after token.
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
  """The end, up to `stop`, of the fewest sentences with so many tokens."""
  return bisect_left(ends, ends[start] + tokens, start + 1, stop)


# The limits of P were chosen by the padding in benchmarks/RESULTS.md ("Packed
# rows"). Other limits change bytes, and records.VERSION must then be raised.
FORMATS = {
    'full_sentences': Format(full_sentences),
    'doc_sentences': Format(doc_sentences, max_examples_per_row=8),
    'segment_pair': Format(segment_pairs, max_examples_per_row=8, pairs=True),
    'sentence_pair': Format(sentence_pairs, max_examples_per_row=20,
                            pairs=True)}
