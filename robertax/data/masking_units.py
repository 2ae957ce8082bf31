"""Whole words and spans: which tokens are chosen where they go together.

An example's units are put in a random order, by the hash of where each starts,
and walked through until the law's number is chosen. The budget of an example
caps this: a unit that would not fit is passed over, and the walk goes on (as
BERT's does), so nothing that was chosen is ever dropped.

Whole words (fairseq data/mask_tokens_dataset.py; `mask_whole_words`): n =
int(rate * W + u) of an example's W words, in at most floor(rate * L) + 1
tokens. This cap binds in about every second example: words drawn at random are
as often above the rate as below. Of English in RoBERTa's BPE 14.6 % is chosen
instead of 15 % in examples of 512 tokens, 13.3 % in examples of 32, and long
words are passed over a little more often than short ones.

Whole words by BERT's law: n tokens, in as many words as fit.

Spans (fairseq, `mask_multiple_length`, `mask_stdev`): n = int(rate * L / length
+ u) distinct starts; a span ends with its example; where spans overlap, a token
counts once: with 10 tokens a span, 14.1 % of 512 is covered. The budget,
floor(rate * L) + length tokens, never binds where all spans are of one length;
with a deviation it passes over a span that would be too much. M is larger than
for tokens, floor(rate * T) + length * P, because an example that is shorter
than length / rate could else never hold a span.

NumPy only: a walk has no use for TensorFlow's ops.
"""

from fractions import Fraction
from statistics import NormalDist

import numpy as np

from robertax.data.arrays import NumPyArrays, counts, flat_examples
from robertax.data.hashing import LENGTH, SCORE, bits32
from robertax.data.masking_laws import ONE


def word_begins(ids: np.ndarray, segment_ids: np.ndarray,
                word_starts: np.ndarray, special: np.ndarray) -> np.ndarray:
  """Where words begin; padding and special tokens are words of their own.

  A sentence is stripped before it is encoded, so its first piece has no space
  in front: what follows a special token begins a word, whatever it is.

  Args:
    ids, segment_ids: int32[B,T].
    word_starts: bool[V], whether a piece begins a word.
    special: bool[V], the special tokens.

  Returns:
    bool[B,T].
  """
  apart = special[ids] | (segment_ids == 0)
  begins = word_starts[ids] | apart
  begins[:, 0] = True
  begins[:, 1:] |= apart[:, :-1] | (segment_ids[:, 1:] != segment_ids[:, :-1])
  return begins


def span_lengths(length: int, stdev: float) -> np.ndarray:
  """Normal lengths, rounded, as fairseq draws them (0 is no span at all).

  Returns:
    int64[K]: 32 random bits u stand for the length that is the number of
    entries <= u.
  """
  if not stdev:
    return np.zeros(length, np.int64)
  below = NormalDist(length, stdev).cdf
  return np.array([round(below(k + 0.5) * ONE)
                   for k in range(int(length + 6 * stdev) + 1)], np.int64)


def choose(law, ids: np.ndarray, segment_ids: np.ndarray, keys: np.ndarray,
           rate: Fraction) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
  """Whole words or spans of a batch.

  Args:
    law: a masking.Masking.
    ids, segment_ids: int32[B,T].
    keys: uint32[B,P,2].
    rate: share that is chosen.

  Returns:
    chosen: bool[B,T].
    starts: int64[B,P], where each example starts in its row.
    deciding: int64[B,T], the place whose draw decides what becomes of a token;
      None: its own.
  """
  o, length = NumPyArrays(), ids.shape[1]
  shape = keys.shape[:2]
  candidate = segment_ids > 0
  totals = counts(o, segment_ids, candidate, shape[1])
  starts = o.starts(totals)
  if law.specials == 'exclude':
    candidate &= ~law.is_special[ids]
  candidates = counts(o, segment_ids, candidate, shape[1])
  example = flat_examples(o, segment_ids, shape[1])
  place = np.arange(length) - starts.ravel()[example]
  example, place = example.ravel(), place.ravel()
  words = [keys[..., i].ravel() for i in (0, 1)]
  longest = law.span_length if law.unit == 'span' else 1

  def draw(stream: int, at: np.ndarray) -> np.ndarray:
    """Random bits of tokens, given by where they are in the flat batch."""
    which = example[at]
    return bits32(o, words[0][which], words[1][which],
                  (place[at] + stream).astype(np.uint32))

  def walk(at):
    """Units that begin at `at`, in random order, as long as one may come."""
    which = example[at]
    found = np.bincount(which, minlength=keys[..., 0].size)
    number = law.number(o, law.quotas_of(length, rate / longest), keys, totals,
                        found.reshape(shape)).ravel()
    tokens = (law.quotas_of(length, rate)[candidates] >> 32).ravel() + longest
    if not law.law.counts_words:
      number, tokens = np.full_like(number, length), law.number(
          o, law.quotas_of(length, rate), keys, totals, candidates).ravel()
    return _Walk(_shuffled(which, draw(SCORE, at), found), found, number,
                 tokens.copy())

  if law.unit == 'span':
    lengths = lambda at: np.searchsorted(law.span_lengths, draw(LENGTH, at),
                                         'right')
    at = np.flatnonzero(candidate)
    chosen = _spans(at, segment_ids, candidate, lengths, walk(at))
    return chosen, starts, None
  at = np.flatnonzero(
      word_begins(ids, segment_ids, law.word_starts, law.is_special))
  sizes = np.diff(at, append=ids.size)
  first = np.repeat(place[at], sizes).reshape(ids.shape)
  real = candidate.ravel()[at]
  chosen = _words(at[real], sizes[real], ids.shape, walk(at[real]))
  return chosen, starts, first if law.law.counts_words else None


class _Walk:
  """Through the units of all examples at once.

  Attributes:
    left: int64[E], units that may still be chosen.
    tokens: int64[E], tokens that may.
  """

  def __init__(self, order, found, left, tokens):
    """Takes int64[E,W], whose row e has found[e] units; int64[E] the others."""
    self.left, self.tokens = left, tokens
    self._order, self._found = order, found

  def __iter__(self):
    """(examples, units): one of each example that has not enough."""
    live = np.arange(len(self._found))
    for step in range(self._order.shape[1]):
      live = live[(self.left[live] > 0) & (self.tokens[live] > 0)
                  & (self._found[live] > step)]
      if not len(live):
        return
      yield live, self._order[live, step]


def _words(at, sizes, shape, walk):
  """Words from int64[U] of int64[U] tokens -> bool[B,T], the chosen tokens."""
  taken = np.zeros(len(at), bool)
  for live, units in walk:
    fits = sizes[units] <= walk.tokens[live]
    live, units = live[fits], units[fits]
    taken[units] = True
    walk.left[live] -= 1
    walk.tokens[live] -= sizes[units]
  at, sizes = at[taken], sizes[taken]
  change = np.zeros(shape[0] * shape[1] + 1, np.int8)
  change[at] = 1
  change[at + sizes] -= 1  # Where one ends, another may begin.
  return np.cumsum(change[:-1], dtype=np.int8).reshape(shape) > 0


def _spans(at, segment_ids, candidate, lengths, walk):
  """Spans from int64[U] -> bool[B,T], the chosen tokens.

  A span runs over what is no candidate, and leaves it alone.
  """
  segments, row_length = segment_ids.ravel(), segment_ids.shape[1]
  free = candidate.flatten()  # Candidates that no span covers yet.
  for live, units in walk:
    start = at[units]
    size = lengths(start)
    reach = np.arange(size.max())
    covers = start[:, None] + reach
    ends = start // row_length * row_length + row_length
    inside = (reach < size[:, None]) & (covers < ends[:, None])
    covers[~inside] = 0
    inside &= segments[covers] == segments[start][:, None]
    fresh = inside & free[covers]
    cost = fresh.sum(1)
    fits = cost <= walk.tokens[live]
    walk.left[live] -= fits
    walk.tokens[live] -= cost * fits
    free[covers[fresh & fits[:, None]]] = False
  return candidate & ~free.reshape(candidate.shape)


def _shuffled(which, scores, found):
  """Units in the random order of each example.

  Args:
    which: int64[U], the example of each unit, ascending.
    scores: uint32[U].
    found: int64[E], units of each example.

  Returns:
    int64[E,W]: indices of units; found[e] of row e are real.
  """
  first = np.cumsum(found) - found
  number = np.arange(len(which)) - first[which]
  # The number behind the score decides between equal scores.
  rank = np.full((len(found), found.max()), np.iinfo(np.int64).max)
  rank[which, number] = scores.astype(np.int64) << 16 | number
  rank.sort(-1)
  return first[:, None] + (rank & 0xFFFF)
