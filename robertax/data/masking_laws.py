"""The laws of masking by name: how many tokens, and behind what.

    law      n of an example of L tokens           <s> </s>   random tokens
    fairseq  int(rate * L + u), u uniform [0, 1)   maskable   ids from 4 on
    bert     min(max_predictions,                  never      all ids
                 max(1, round(rate * L)))

fairseq: data/mask_tokens_dataset.py. BERT: google-research/bert
create_pretraining_data.py, create_masked_lm_predictions. BERT's L counts <s>
and </s>, which it never chooses; fairseq's counts what may be chosen.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

ONE = 1 << 32  # Probabilities are integers over this.


def exact(rate: float) -> Fraction:
  """The decimal number that a person wrote: 0.15 is 3/20, not 0.1499999...."""
  return Fraction(repr(float(rate)))


def num_masked(rate: float | Fraction, length: int, max_examples: int,
               longest: int = 1) -> int:
  """M: most tokens that can be chosen in a row, floor(rate * T) + P.

  Each example is rounded up by less than one, so M is never exceeded. Spans of
  up to `longest` tokens are rounded up to whole ones: floor(rate * T) +
  longest * P.

  >>> num_masked(0.15, 512, 1)
  77
  """
  rate = rate if isinstance(rate, Fraction) else exact(rate)
  return int(rate * length) + longest * max_examples


class Law(NamedTuple):
  """One row of the table above.

  Attributes:
    number: (rate, L) -> n before u is added; where it is a whole number, u
      changes nothing.
    masks_specials: whether `data.specials` may allow <s> and </s>.
    whole_vocabulary: whether a random token may be any id.
    counts_words: under whole-word masking, whether n counts words (and L too),
      and one draw decides for all pieces of a word; else n counts tokens and
      each piece is drawn for.
  """
  number: Callable[[Fraction, int], Fraction | int]
  masks_specials: bool
  whole_vocabulary: bool
  counts_words: bool


LAWS = {
    'fairseq': Law(lambda rate, length: rate * length, True, False, True),
    'bert': Law(lambda rate, length: max(1, round(rate * length)),
                False, True, False),
}


def quotas(law: Law, rate: Fraction, length: int, most: int = 0) -> np.ndarray:
  """What u is added to, for every L.

  Args:
    law: of LAWS.
    rate: share that is chosen.
    length: T.
    most: n is at most this; 0: no limit.

  Returns:
    int64[T + 1]: floor(n * 2^32) for L = 0 .. T.
  """
  numbers = (law.number(rate, n) for n in range(length + 1))
  if most:
    numbers = (min(number, most) for number in numbers)
  return np.array([number.numerator * ONE // number.denominator
                   for number in numbers], np.int64)
