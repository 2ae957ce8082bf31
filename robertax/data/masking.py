"""Which tokens are hidden, and behind what (Devlin et al. 2018, section 3.1).

The law, example by example, is one of masking_laws.py; fairseq's is
(data/mask_tokens_dataset.py):

1. n = int(rate * L + u) tokens are chosen, u uniform on [0, 1): on average
   exactly `rate` of the L tokens (:141-145).
2. They are n distinct positions, each set of n equally likely (:148). Where
   whole words or spans are chosen, see masking_units.py.
3. A chosen token becomes <mask>, or a random token, or stays (:188-203); a
   random one is uniform over the vocabulary without its first 4 ids (:95-101).
4. What was there is predicted at all chosen positions, also where it stayed.

Every number comes from a hash of the example's key and the token's position in
its example. So a mask depends on neither the batch nor the row that an example
is in, and NumPy and TensorFlow give the same bits: all is integer arithmetic.
"""

from collections.abc import Sequence
from fractions import Fraction
import functools

import numpy as np

from robertax.config import MASKING_UNITS, SPECIALS, DataConfig
from robertax.data import masking_units
from robertax.data.arrays import (
    NumPyArrays,
    TensorFlowArrays,
    counts,
    flat_examples,
)
from robertax.data.hashing import ACTION, COUNT, RANDOM, SCORE, bits32
from robertax.data.masking_laws import LAWS, ONE, exact, num_masked, quotas
from robertax.errors import InputError, unknown

Batch = dict[str, np.ndarray]


class Masking:
  """ids -> ids with some hidden, and what they were.

  A functor: it holds the law's numbers and is called with batches.
  """

  def __init__(self, *, mask_rate: float, random_rate: float,
               keep_rate: float, specials: str, vocab_size: int, mask_id: int,
               special_ids: Sequence[int], first_random_id: int = 4,
               law: str = 'fairseq', max_predictions: int = 0,
               unit: str = 'token', word_starts: np.ndarray | None = None,
               span_length: int = 10, span_stdev: float = 0.0,
               mask_rate_end: float = -1.0, mask_rate_steps: int = 0):
    """Checks names only; see data.check for the numbers.

    Args:
      mask_rate: share of the tokens that is chosen.
      random_rate: of the chosen, the share that becomes a random token.
      keep_rate: of the chosen, the share that stays.
      specials: 'fairseq' (every token may be chosen, <s> and </s> too), or
        'exclude' (special tokens neither count in L nor are chosen).
      vocab_size: of the tokenizer.
      mask_id: id of <mask>.
      special_ids: what 'exclude' excludes.
      first_random_id: fairseq's random tokens are this or more.
      law: name in LAWS.
      max_predictions: most tokens of an example, 0: no limit; 'bert' only.
      unit: 'token', 'whole_word' or 'span'.
      word_starts: bool[V], whether a piece begins a word; for 'whole_word'.
      span_length, span_stdev: of the normal lengths of spans, in tokens.
      mask_rate_end: the rate after mask_rate_steps steps, and from then on; on
        the way there it is linear. -1: mask_rate throughout.
      mask_rate_steps: see there.

    Raises:
      InputError: an unknown name; whole words without `word_starts`.
    """
    for key, name, known in (
        ('specials', specials, SPECIALS), ('masking_law', law, LAWS),
        ('masking_unit', unit, MASKING_UNITS)):
      if name not in known:
        raise unknown(f'data.{key}', name, known)
    if unit == 'whole_word' and word_starts is None:
      raise InputError(
          "data.masking_unit='whole_word': this tokenizer does not say where "
          "words start (word_starts). Use data.masking_unit='token' or 'span'.")
    self.law, self.unit = LAWS[law], unit
    self.specials = specials if self.law.masks_specials else 'exclude'
    self.special_ids = tuple(special_ids)
    self.vocab_size, self.mask_id = vocab_size, mask_id
    self.first_random_id = 0 if self.law.whole_vocabulary else first_random_id
    self.max_predictions = max_predictions
    self.span_length, self.word_starts = span_length, word_starts
    self.is_special = np.zeros(vocab_size, bool)
    self.is_special[list(self.special_ids)] = True
    self.span_lengths = masking_units.span_lengths(span_length, span_stdev)
    random, keep = exact(random_rate), exact(keep_rate)
    self._mask_below = round((1 - random - keep) * ONE)
    self._random_below = round((1 - keep) * ONE)
    self._rate = exact(mask_rate)
    self._end = self._rate if mask_rate_end < 0 else exact(mask_rate_end)
    self._steps = max(mask_rate_steps, 1)

  @classmethod
  def of(cls, config: DataConfig, tokenizer) -> 'Masking':
    """The law of a config.

    Args:
      config: the `data` section.
      tokenizer: a text.Tokenizer, or what has its vocab_size, mask_id,
        special_ids, first_random_id and, for whole words, word_starts.

    Raises:
      InputError: whole words, and a tokenizer that has no word_starts.
    """
    return cls(
        mask_rate=config.mask_rate, random_rate=config.replace_random_rate,
        keep_rate=config.replace_keep_rate, specials=config.specials,
        vocab_size=tokenizer.vocab_size, mask_id=tokenizer.mask_id,
        special_ids=tokenizer.special_ids,
        first_random_id=tokenizer.first_random_id,
        law=config.masking_law, max_predictions=config.max_predictions,
        unit=config.masking_unit,
        word_starts=(getattr(tokenizer, 'word_starts', None)
                     if config.masking_unit == 'whole_word' else None),
        span_length=config.span_length, span_stdev=config.span_stdev,
        mask_rate_end=config.mask_rate_end,
        mask_rate_steps=config.mask_rate_steps)

  def rate(self, step: int) -> Fraction:
    """Share of the tokens that is chosen at a step."""
    done = Fraction(min(max(int(step), 0), self._steps), self._steps)
    return self._rate + (self._end - self._rate) * done

  def budget(self, length: int, examples: int) -> int:
    """M of rows of `length` tokens: the same at every step."""
    return num_masked(max(self._rate, self._end), length, examples,
                      self.span_length if self.unit == 'span' else 1)

  def quotas(self, length: int, step: int = 0) -> np.ndarray:
    """int64[T + 1]: n * 2^32 before rounding, for L = 0 .. T, at a step."""
    return self.quotas_of(length, self.rate(step))

  def numpy(self, ids: np.ndarray, segment_ids: np.ndarray, keys: np.ndarray,
            step: int = 0) -> Batch:
    """Masks a batch.

    Args:
      ids: int32[B,T].
      segment_ids: int32[B,T], 1 .. P for the examples of a row, 0 for padding;
        each example contiguous, the first at 0.
      keys: uint32[B,P,2], one for each example.
      step: of the rate's schedule. Evaluation stays at step 0's rate.

    Returns:
      input_ids int32[B,T], mlm_positions int32[B,M], mlm_targets int32[B,M],
      mlm_weights float32[B,M]. Positions ascend; behind the last one all three
      are 0.
    """
    o, rate = NumPyArrays(), self.rate(step)
    if self.unit == 'token':
      chosen, starts = self._choose(
          o, ids, segment_ids, keys, self.quotas_of(ids.shape[1], rate))
      return self._hide(o, ids, segment_ids, keys, chosen, starts)
    chosen, starts, deciding = masking_units.choose(
        self, ids, segment_ids, keys, rate)
    return self._hide(o, ids, segment_ids, keys, chosen, starts, deciding)

  def tf(self, ids, segment_ids, keys, quotas=None):
    """The same on tf.Tensors (T and P static), bit for bit; tokens only.

    Args:
      ids, segment_ids, keys: as in `numpy`.
      quotas: int64[T + 1] of the step, from `quotas`; None: of step 0.
    """
    if self.unit != 'token':
      raise InputError(f'data.masking_unit={self.unit!r}: there are no '
                       "TensorFlow ops for it; set data.masking_ops='numpy'.")
    import tensorflow as tf
    o = TensorFlowArrays(tf)
    if quotas is None:
      quotas = o.constant(self.quotas(ids.shape[1]))
    chosen, starts = self._choose(o, ids, segment_ids, keys, quotas)
    return self._hide(o, ids, segment_ids, keys, chosen, starts)

  def _choose(self, o, ids, segment_ids, keys, quotas):
    """Laws 1 and 2.

    Returns:
      chosen: bool[B,T].
      starts: int64[B,P], where each example starts in its row.
    """
    length, examples = ids.shape[1], keys.shape[1]
    candidate = segment_ids > 0
    candidates = totals = counts(o, segment_ids, candidate, examples)
    starts = o.starts(totals)
    if self.specials == 'exclude':
      for special in self.special_ids:
        candidate = candidate & (ids != special)
      candidates = counts(o, segment_ids, candidate, examples)
    n = self.number(o, quotas, keys, totals, candidates)

    # Each token gets a random score, and the n lowest of an example win; the
    # column behind the score decides between equal scores.
    columns = o.arange(length, 'int64')
    if examples == 1:
      places, first, words = columns[None], 0, (keys[:, :, 0], keys[:, :, 1])
    else:
      example = flat_examples(o, segment_ids, examples)
      places = columns[None] - o.take(o.reshape(starts, [-1]), example)
      words = [o.take(o.reshape(keys[..., i], [-1]), example) for i in (0, 1)]
      first = o.starts(candidates)
    score = bits32(o, *words, o.cast(places + SCORE, 'uint32'))
    rank = o.cast(score, 'int64') * (1 << 16) + columns
    if examples > 1:  # Keeps examples apart.
      rank = rank + o.cast(segment_ids, 'int64') * (1 << 48)
    rank = o.where(candidate, rank, (examples + 1) << 48)
    width = (min(self.budget(length, 1), length)
             if examples == 1 else length)
    lowest = o.smallest(rank, width)
    rows = o.arange(o.size(ids, 0), 'int64')[:, None]
    last = o.where(n > 0, first + n - 1, 0) + rows * width
    limit = o.where(n > 0, o.take(o.reshape(lowest, [-1]), last), -1)
    if examples > 1:
      limit = o.take(o.reshape(limit, [-1]), example)
    return candidate & (rank <= limit), starts

  def number(self, o, quotas, keys, totals, candidates):
    """Law 1: how many of `candidates` in examples of `totals` tokens."""
    # int(rate * L + u): the integer part of a 32-bit fixed-point sum.
    u = bits32(o, keys[..., 0], keys[..., 1], COUNT)
    if self.law.masks_specials:
      totals = candidates
    n = o.shift(o.take(quotas, totals) + o.cast(u, 'int64'), 32)
    return o.where(n > candidates, candidates, n)

  def _hide(self, o, ids, segment_ids, keys, chosen, starts, deciding=None):
    """Laws 3 and 4."""
    length, examples = ids.shape[1], keys.shape[1]
    budget = self.budget(length, examples)
    rows, columns = o.nonzero(chosen)
    flat = rows * length + columns
    targets = o.take(o.reshape(ids, [-1]), flat)
    example = rows
    if examples > 1:
      segments = o.take(o.reshape(segment_ids, [-1]), flat)
      example = rows * examples + o.cast(segments, 'int64') - 1
    places = columns - o.take(o.reshape(starts, [-1]), example)
    words = [o.take(o.reshape(keys[..., i], [-1]), example) for i in (0, 1)]

    def draw(stream, places):
      return o.cast(bits32(o, *words, o.cast(places + stream, 'uint32')),
                    'int64')

    action = draw(ACTION, places if deciding is None else
                  o.take(o.reshape(deciding, [-1]), flat))
    span = self.vocab_size - self.first_random_id
    random = o.shift(draw(RANDOM, places) * span, 32)
    random = o.cast(self.first_random_id + random, 'int32')
    hidden = o.where(action < self._random_below, random, targets)
    hidden = o.where(action < self._mask_below, self.mask_id, hidden)

    totals = o.sum(chosen)
    slots = o.arange(o.size(flat, 0), 'int64') - o.take(o.starts(totals), rows)
    place, shape = rows * budget + slots, (o.size(ids, 0), budget)
    return o.demand(totals <= budget, f'more than {budget} masked in a row', {
        'input_ids': o.update(ids, rows, columns, hidden),
        'mlm_positions': o.scatter(place, o.cast(columns, 'int32'), shape),
        'mlm_targets': o.scatter(place, targets, shape),
        'mlm_weights': o.cast(
            o.arange(budget, 'int64')[None] < totals[:, None], 'float32')})

  @functools.lru_cache(maxsize=8)  # noqa: B019 - lives as long as its run.
  def quotas_of(self, length: int, rate: Fraction) -> np.ndarray:
    """`quotas` of a rate."""
    return quotas(self.law, rate, length, self.max_predictions)
