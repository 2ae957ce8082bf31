"""Masks tokens for masked-language modelling (Devlin et al. 2018, section 3.1).

Each example is masked by fairseq's rule (lines of its
data/mask_tokens_dataset.py), or by BERT's, which is also in LAWS:

1. n = int(rate * L + u) tokens are chosen, with u uniform on [0, 1): on average
   exactly `rate` of the L tokens (:141-145).
2. They are n distinct positions, each set of n equally likely (:148), or whole
   words or spans (`choose_units`).
3. A chosen token becomes <mask>, becomes a random token, or stays (:188-203).
   Random tokens are uniform over the vocabulary without its first 4 ids
   (:95-101); of other layouts, over the ids that a text can have.
4. The original tokens are predicted at all chosen positions, also where they
   stayed.

Every random number is a hash of the example's key and the token's position in
its example. So a mask depends on neither the batch nor the row that an example
is in. All of it is integer arithmetic.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
import functools
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from robertax.config import DataConfig
from robertax.data import hashing
from robertax.data.hashing import before, bits32, counts, flat_examples
from robertax.errors import InputError

Batch = dict[str, np.ndarray]
PROBABILITY_ONE = 1 << 32  # Probabilities are integers over this.


def exact(rate: float) -> Fraction:
  """The decimal number that was written: 0.15 is 3/20, not 0.1499999..."""
  return Fraction(repr(float(rate)))


def num_masked(rate: float | Fraction, length: int, max_examples: int,
               longest: int = 1) -> int:
  """M, the most tokens that can be chosen in a row: floor(rate * T) + P.

  Rounding adds less than one token to each example, so M is never exceeded.
  Spans of up to `longest` tokens are rounded up to whole spans, which adds
  longest * P instead.

  >>> num_masked(0.15, 512, 1)
  77
  """
  rate = rate if isinstance(rate, Fraction) else exact(rate)
  return int(rate * length) + longest * max_examples


class Law(NamedTuple):
  """How many tokens are chosen, and which random tokens may replace them."""
  # (rate, L) -> n before u is added; u does not change a whole number.
  number: Callable[[Fraction, int], Fraction | int]
  masks_specials: bool  # Whether `data.specials` may allow <s> and </s>.
  whole_vocabulary: bool  # Whether a random token may be any id.
  # With whole words, whether n and L count words and one draw decides for all
  # pieces of a word; else they count tokens, and each piece has its own draw.
  counts_words: bool


# law      n for an example of L tokens          <s> </s>   random tokens
# fairseq  int(rate * L + u), u uniform [0, 1)   maskable   ids from 4 on
# bert     min(max_predictions,                  never      all ids
#              max(1, round(rate * L)))
#
# BERT's rule is create_masked_lm_predictions in google-research/bert
# create_pretraining_data.py. Its L counts <s> and </s>, which it never chooses;
# fairseq's L counts the tokens that may be chosen.
LAWS = {
    'fairseq': Law(lambda rate, length: rate * length, True, False, True),
    'bert': Law(lambda rate, length: max(1, round(rate * length)),
                False, True, False),
}


@functools.lru_cache(maxsize=8)
def quotas(law: Law, rate: Fraction, length: int, most: int = 0) -> np.ndarray:
  """int64[T + 1]: floor(n * 2^32) for L = 0 .. T, before u; n <= `most` > 0."""
  numbers = (law.number(rate, n) for n in range(length + 1))
  if most:
    numbers = (min(number, most) for number in numbers)
  return np.array([number.numerator * PROBABILITY_ONE // number.denominator
                   for number in numbers], np.int64)


# Whole words and spans are units of tokens that are chosen together.
#
# An example's units are put in a random order, by the hash of where each
# starts, and taken in that order until n are chosen. Each example also has a
# budget of tokens. A unit that exceeds it is skipped and the next one is tried
# (as BERT does), so that no chosen unit is ever dropped.
#
# Whole words (fairseq data/mask_tokens_dataset.py; `mask_whole_words`): n =
# int(rate * W + u) of an example's W words are chosen, in at most
# floor(rate * L) + 1 tokens. This budget is reached in about every second
# example, since words drawn at random exceed the rate as often as not. Of
# English in RoBERTa's BPE 14.6 % is chosen instead of 15 % in examples of 512
# tokens and 13.3 % in examples of 32, and long words are skipped a little more
# often than short ones. BERT's rule chooses n tokens, in as many words as fit.
#
# Spans (fairseq, `mask_multiple_length`, `mask_stdev`): n = int(rate * L /
# length + u) distinct starts are chosen. A span ends with its example, and a
# token that several spans cover counts once: spans of 10 tokens cover 14.1 % of
# 512. The budget of floor(rate * L) + length tokens is never reached where all
# spans have one length; with a deviation it excludes spans that exceed it. M is
# larger than for tokens, floor(rate * T) + length * P, since otherwise examples
# shorter than length / rate could never hold a span.

def word_begins(ids: np.ndarray, segment_ids: np.ndarray,
                word_starts: np.ndarray, special: np.ndarray) -> np.ndarray:
  """bool[B,T]: where words begin; padding and specials are words of their own.

  A sentence is stripped before it is encoded, so that its first piece has no
  space in front. Therefore any token after a special token begins a word.

  ids and segment_ids are int32[B,T], word_starts and special bool[V].
  """
  apart = special[ids] | (segment_ids == 0)
  begins = word_starts[ids] | apart
  begins[:, 0] = True
  begins[:, 1:] |= apart[:, :-1] | (segment_ids[:, 1:] != segment_ids[:, :-1])
  return begins


def span_lengths(length: int, stdev: float) -> np.ndarray:
  """int64[K]: random bits u give a span of as many tokens as entries <= u."""
  # Lengths are normal and rounded, as fairseq draws them; 0 means no span.
  if not stdev:
    return np.zeros(length, np.int64)
  below = NormalDist(length, stdev).cdf
  return np.array([round(below(k + 0.5) * PROBABILITY_ONE)
                   for k in range(int(length + 6 * stdev) + 1)], np.int64)


def choose_units(
    masking: 'Masking', ids: np.ndarray, segment_ids: np.ndarray,
    keys: np.ndarray, rate: Fraction
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
  """Chooses whole words or spans; takes the arguments of `Masking.numpy`.

  Returns chosen bool[B,T]; starts int64[B,P], where examples start in the row;
  and int64[B,T], the position whose draw decides what replaces a token, or None
  if each token has its own draw.
  """
  length = ids.shape[1]
  shape = keys.shape[:2]
  candidate = segment_ids > 0
  totals = counts(segment_ids, candidate, shape[1])
  starts = before(totals)
  if masking.specials == 'exclude':
    candidate &= ~masking.is_special[ids]
  candidates = counts(segment_ids, candidate, shape[1])
  example = flat_examples(segment_ids, shape[1])
  place = np.arange(length) - starts.ravel()[example]
  example, place = example.ravel(), place.ravel()
  words = [keys[..., i].ravel() for i in (0, 1)]
  longest = masking.span_length if masking.unit == 'span' else 1

  def draw(stream: int, at: np.ndarray) -> np.ndarray:
    """Random bits for tokens, given by their index in the flattened batch."""
    which = example[at]
    return bits32(words[0][which], words[1][which],
                  (place[at] + stream).astype(np.uint32))

  def walk(at: np.ndarray) -> _Walk:
    """Starts a walk through the units that begin at `at`."""
    which = example[at]
    found = np.bincount(which, minlength=keys[..., 0].size)
    whole, some = (quotas(masking.law, share, length, masking.max_predictions)
                   for share in (rate, rate / longest))
    number = masking.number(some, keys, totals, found.reshape(shape)).ravel()
    tokens = (whole[candidates] >> 32).ravel() + longest
    if not masking.law.counts_words:
      number, tokens = np.full_like(number, length), masking.number(
          whole, keys, totals, candidates).ravel()
    order = _shuffled(which, draw(hashing.SCORE, at), found)
    return _Walk(order, found, number, tokens.copy())

  if masking.unit == 'span':
    lengths = lambda at: np.searchsorted(
        masking.span_lengths, draw(hashing.LENGTH, at), 'right')
    at = np.flatnonzero(candidate)
    chosen = _choose_spans(at, segment_ids, candidate, lengths, walk(at))
    return chosen, starts, None
  at = np.flatnonzero(
      word_begins(ids, segment_ids, masking.word_starts, masking.is_special))
  sizes = np.diff(at, append=ids.size)
  first = np.repeat(place[at], sizes).reshape(ids.shape)
  real = candidate.ravel()[at]
  chosen = _choose_words(at[real], sizes[real], ids.shape, walk(at[real]))
  return chosen, starts, first if masking.law.counts_words else None


class _Walk:
  """Walks through the units of all E examples at once, in random order."""

  def __init__(self, order: np.ndarray, found: np.ndarray, left: np.ndarray,
               tokens: np.ndarray):
    """The first found[e] entries of row e of `order` int64[E,W] are units, of
    which left[e], and tokens[e] tokens, may still be chosen.
    """
    self.left, self.tokens = left, tokens
    self._order, self._found = order, found

  def __iter__(self):
    """Yields (examples, units): the next unit of each unfinished example."""
    live = np.arange(len(self._found))
    for step in range(self._order.shape[1]):
      live = live[(self.left[live] > 0) & (self.tokens[live] > 0)
                  & (self._found[live] > step)]
      if not len(live):
        return
      yield live, self._order[live, step]


def _choose_words(at, sizes, shape, walk):
  """Chooses words, which start `at` with `sizes` tokens: bool[B,T]."""
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
  change[at + sizes] -= 1  # Another word may begin where one ends.
  return np.cumsum(change[:-1], dtype=np.int8).reshape(shape) > 0


def _choose_spans(at, segment_ids, candidate, lengths, walk):
  """Chooses spans, which start `at`: bool[B,T], the candidates they cover."""
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
  """int64[E,W]: units by ascending score; found[e] of row e are real."""
  first = np.cumsum(found) - found
  number = np.arange(len(which)) - first[which]
  # The number in the low bits decides between equal scores.
  rank = np.full((len(found), found.max()), np.iinfo(np.int64).max)
  rank[which, number] = scores.astype(np.int64) << 16 | number
  rank.sort(-1)
  return first[:, None] + (rank & 0xFFFF)


class Masking:
  """Hides some ids of a batch, and remembers which tokens they were."""

  def __init__(self, *, mask_rate: float, random_rate: float,
               keep_rate: float, specials: str, vocab_size: int, mask_id: int,
               special_ids: Sequence[int],
               random_ids: np.ndarray | None = None,
               law: str = 'fairseq', max_predictions: int = 0,
               unit: str = 'token', word_starts: np.ndarray | None = None,
               span_length: int = 10, span_stdev: float = 0.0,
               mask_rate_end: float = -1.0, mask_rate_steps: int = 0):
    """Takes values of DataConfig, which config.check_data checks, and what `of`
    reads from the tokenizer.
    """
    if unit == 'whole_word' and word_starts is None:
      raise InputError(
          "data.masking_unit='whole_word': this tokenizer does not say where "
          "words start (word_starts). Use data.masking_unit='token' or 'span'.")
    self.law, self.unit = LAWS[law], unit
    self.specials = specials if self.law.masks_specials else 'exclude'
    self.special_ids = tuple(special_ids)
    self.vocab_size, self.mask_id = vocab_size, mask_id
    # By default all but the first four ids, which are special in RoBERTa.
    self.random_ids = np.asarray(
        np.arange(vocab_size) if self.law.whole_vocabulary else
        np.arange(4, vocab_size) if random_ids is None else random_ids,
        np.int32)
    self.max_predictions = max_predictions
    self.span_length, self.word_starts = span_length, word_starts
    self.is_special = np.zeros(vocab_size, bool)
    self.is_special[list(self.special_ids)] = True
    self.span_lengths = span_lengths(span_length, span_stdev)
    random, keep = exact(random_rate), exact(keep_rate)
    self._mask_below = round((1 - random - keep) * PROBABILITY_ONE)
    self._random_below = round((1 - keep) * PROBABILITY_ONE)
    self._rate = exact(mask_rate)
    self._end = self._rate if mask_rate_end < 0 else exact(mask_rate_end)
    self._steps = max(mask_rate_steps, 1)

  @classmethod
  def of(cls, config: DataConfig, tokenizer) -> 'Masking':
    """The masking of a config.

    The tokenizer is a text.Tokenizer, or an object with its vocab_size,
    mask_id, special_ids, random_ids int32[R] and, for whole words, word_starts
    bool[V], which says whether a piece begins a word; without it, InputError.
    """
    return cls(
        mask_rate=config.mask_rate, random_rate=config.replace_random_rate,
        keep_rate=config.replace_keep_rate, specials=config.specials,
        vocab_size=tokenizer.vocab_size, mask_id=tokenizer.mask_id,
        special_ids=tokenizer.special_ids,
        random_ids=tokenizer.random_ids,
        law=config.masking_law, max_predictions=config.max_predictions,
        unit=config.masking_unit,
        word_starts=(getattr(tokenizer, 'word_starts', None)
                     if config.masking_unit == 'whole_word' else None),
        span_length=config.span_length, span_stdev=config.span_stdev,
        mask_rate_end=config.mask_rate_end,
        mask_rate_steps=config.mask_rate_steps)

  def rate(self, step: int) -> Fraction:
    """The share of tokens that is chosen at a step."""
    done = Fraction(min(max(int(step), 0), self._steps), self._steps)
    return self._rate + (self._end - self._rate) * done

  def budget(self, length: int, examples: int) -> int:
    """M for rows of `length` tokens, the same at every step."""
    return num_masked(max(self._rate, self._end), length, examples,
                      self.span_length if self.unit == 'span' else 1)

  def numpy(self, ids: np.ndarray, segment_ids: np.ndarray, keys: np.ndarray,
            step: int = 0) -> Batch:
    """Masks a batch.

    Args:
      ids: int32[B,T].
      segment_ids: int32[B,T], 1 .. P for the examples of a row, 0 for padding;
        each example is contiguous and the first starts at 0.
      keys: uint32[B,P,2], one for each example.
      step: where the rate's schedule is; evaluation keeps the rate of step 0.

    Returns:
      input_ids int32[B,T], mlm_positions int32[B,M], mlm_targets int32[B,M],
      mlm_weights float32[B,M]. Positions ascend; after the last one all three
      are 0.
    """
    rate = self.rate(step)
    if self.unit == 'token':
      chosen = self._choose(ids, segment_ids, keys, quotas(
          self.law, rate, ids.shape[1], self.max_predictions))
    else:
      chosen = choose_units(self, ids, segment_ids, keys, rate)
    return self._hide(ids, segment_ids, keys, *chosen)

  def _choose(self, ids, segment_ids, keys, quotas):
    """Steps 1 and 2: chosen bool[B,T]; int64[B,P], where examples start."""
    length, examples = ids.shape[1], keys.shape[1]
    candidate = segment_ids > 0
    candidates = totals = counts(segment_ids, candidate, examples)
    starts = before(totals)
    if self.specials == 'exclude':
      candidate &= ~self.is_special[ids]
      candidates = counts(segment_ids, candidate, examples)
    n = self.number(quotas, keys, totals, candidates)

    # Each token gets a random score, and the n lowest of an example win; the
    # column in the low bits decides between equal scores.
    columns = np.arange(length)
    if examples == 1:
      places, first, words = columns[None], 0, (keys[:, :, 0], keys[:, :, 1])
    else:
      example = flat_examples(segment_ids, examples)
      places = columns - starts.ravel()[example]
      words = [keys[..., i].ravel()[example] for i in (0, 1)]
      first = before(candidates)
    score = bits32(*words, (places + hashing.SCORE).astype(np.uint32))
    rank = score.astype(np.int64) * (1 << 16) + columns
    if examples > 1:  # Keeps examples apart.
      rank += segment_ids.astype(np.int64) * (1 << 48)
    rank = np.where(candidate, rank, (examples + 1) << 48)
    width = (min(self.budget(length, 1), length)
             if examples == 1 else length)
    lowest = np.sort(rank if width == length else
                     np.partition(rank, width - 1, -1)[:, :width], -1)
    rows = np.arange(len(ids))[:, None]
    last = np.where(n > 0, first + n - 1, 0) + rows * width
    limit = np.where(n > 0, lowest.ravel()[last], -1)
    if examples > 1:
      limit = limit.ravel()[example]
    return candidate & (rank <= limit), starts

  def number(self, quotas, keys, totals, candidates):
    """Step 1: how many of `candidates` are chosen of `totals` tokens."""
    # int(rate * L + u): the integer part of a 32-bit fixed-point sum.
    u = bits32(keys[..., 0], keys[..., 1], hashing.COUNT)
    if self.law.masks_specials:
      totals = candidates
    return np.minimum((quotas[totals] + u.astype(np.int64)) >> 32, candidates)

  def _hide(self, ids, segment_ids, keys, chosen, starts, deciding=None):
    """Steps 3 and 4."""
    length, examples = ids.shape[1], keys.shape[1]
    budget = self.budget(length, examples)
    at = np.flatnonzero(chosen)
    rows, columns = np.divmod(at, length)
    targets = ids.ravel()[at]
    example = rows
    if examples > 1:
      example = rows * examples + segment_ids.ravel()[at].astype(np.int64) - 1
    places = columns - starts.ravel()[example]
    words = [keys[..., i].ravel()[example] for i in (0, 1)]

    def draw(stream, places):
      return bits32(*words, (places + stream).astype(np.uint32)).astype(
          np.int64)

    action = draw(hashing.ACTION,
                  places if deciding is None else deciding.ravel()[at])
    random = self.random_ids[
        draw(hashing.RANDOM, places) * len(self.random_ids) >> 32]
    hidden = np.where(action < self._random_below, random, targets)
    hidden = np.where(action < self._mask_below, self.mask_id, hidden)

    totals = chosen.sum(-1, dtype=np.int64)
    if (totals > budget).any():
      raise ValueError(f'more than {budget} masked in a row')
    slots = np.arange(budget)[None] < totals[:, None]

    def in_slots(values: np.ndarray) -> np.ndarray:
      found = np.zeros(slots.shape, np.int32)
      found[slots] = values
      return found

    input_ids = ids.copy()
    input_ids.ravel()[at] = hidden
    return {'input_ids': input_ids, 'mlm_positions': in_slots(columns),
            'mlm_targets': in_slots(targets),
            'mlm_weights': slots.astype(np.float32)}
