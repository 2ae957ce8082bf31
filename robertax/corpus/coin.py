"""Chance, and the coin that decides which pairs are negative.

All of it is `rng.random()`, the only method of random.Random whose numbers
Python promises to keep: so one state gives the same pairs on any version.
"""

from collections import Counter
import random


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
  Beyond this nothing foretells a label: coins are independent, debts are paid
  as the coins fall, and records are shuffled.

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
    """Starts without debts.

    Args:
      rng: is moved on.
      counts: `negative_pairs` and `forced_negatives` are added to it.
      makes_up: false for BERT's law.
    """
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
