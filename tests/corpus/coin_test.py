"""How the pair formats use chance: by chi-square and binomials, seeds fixed."""

from collections import Counter
import random

import numpy as np
import pytest

from robertax.corpus import formats
from robertax.corpus.formats import FORMATS, PairLaw


def pack(name, sizes, length, rng=None, law=None):
  """Packs documents of sentences of such sizes; tokens count on from 3."""
  counts, token = Counter(), iter(range(3, 10 ** 9))
  found = list(FORMATS[name].pack(
      [[np.array([next(token) for _ in range(n)], np.uint32) for n in d]
       for d in sizes], sequence_length=length, bos_id=0, eos_id=2,
      counts=counts, law=law or PairLaw(), rng=rng or random.Random(0)))
  return found, counts


def chi_square(seen, expected):
  assert seen.keys() <= expected.keys()
  return sum((seen[k] - n) ** 2 / n for k, n in expected.items())


@pytest.mark.parametrize('name', ['segment_pair', 'sentence_pair'])
def test_half_are_negative(name):
  rng = np.random.default_rng(0)
  sizes = [rng.integers(1, 12, rng.integers(1, 9)) for _ in range(4000)]
  half, bert = (pack(name, sizes, 32, law=PairLaw(negatives=n))[1]
                for n in ('half', 'bert'))
  pairs_, sigma = half['pairs'], .5 / half['pairs'] ** .5
  assert pairs_ > 6000
  assert abs(half['negative_pairs'] / pairs_ - .5) < 4 * sigma
  # The forced ones come on top, and the others are half.
  forced = bert['forced_negatives']
  free = bert['pairs'] - forced
  assert forced > .2 * bert['pairs']
  assert abs(bert['negative_pairs'] - forced - free / 2) < 2 * free ** .5


def test_labels_have_no_pattern():
  found, counts = pack('sentence_pair', [[1] * 9000] * 2, 8)
  assert counts['forced_negatives'] <= 2
  labels = [e.document != e.second_document for e in found]
  runs = Counter(zip(labels[::3], labels[1::3], labels[2::3]))
  expected = dict.fromkeys(runs, runs.total() / 8)
  assert len(runs) == 8 and chi_square(runs, expected) < 30  # 7 degrees


def test_negatives_are_uniform():
  """Any other document with tokens alike, then any of its sentences."""
  sizes = [[1], [1] * 12000, [], [1, 1], [0, 1, 0, 1, 1, 1, 1]]
  found, _ = pack('sentence_pair', sizes, 8)
  seen = Counter(
      (e.second_document, int(e.ids[-2])) for e in found
      if e.document == 1 != e.second_document)
  assert seen.total() > 3500
  tokens = {0: [3], 3: [12004, 12005], 4: range(12006, 12011)}
  expected = {(d, t): seen.total() / 3 / len(tokens[d])
              for d in tokens for t in tokens[d]}
  assert chi_square(seen, expected) < 30  # 7 degrees; chance 1e-4


@pytest.mark.parametrize('short_rate', [0., .25, 1.])
def test_short_targets_are_uniform(short_rate):
  # Sentences are single tokens, so a chunk makes its target exactly, and a
  # document without others gives whole chunks.
  rng, seen = random.Random(0), Counter()
  for _ in range(3600):
    found, _ = pack('segment_pair', [[1] * 10], 13, rng, PairLaw(short_rate))
    seen[len(found[0].ids) - 3] += 1
  if not short_rate:
    assert seen == {10: 3600}
  else:
    expected = dict.fromkeys(range(2, 11), 400 * short_rate)
    expected[10] += 3600 * (1 - short_rate)
    assert chi_square(seen, expected) < 32  # 8 degrees; chance 1e-4


@pytest.mark.parametrize('tosses', [1, 2, 52, 53, 54, 300])
def test_cuts_are_fair(tosses):
  rng = random.Random(tosses)
  heads = [formats.heads(rng, tosses) for _ in range(4000)]
  sigma = (tosses / 4) ** .5
  assert 0 <= min(heads) and max(heads) <= tosses
  assert abs(np.mean(heads) - tosses / 2) < 4 * sigma / 4000 ** .5
  assert abs(np.var(heads) / sigma ** 2 - 1) < .1


def test_draws_stay_below():
  class Largest:
    def random(self):
      return 1 - 2. ** -53
  for stop in [*range(1, 2000), 2 ** 31, 10 ** 9 + 7, 2 ** 52]:
    assert formats.below(Largest(), stop) == stop - 1
  assert formats.heads(Largest(), 100) == 100


def test_an_endless_line_costs_few_draws():
  class Counted(random.Random):
    calls = 0
    def random(self):
      self.calls += 1
      return super().random()
  rng = Counted(0)
  _, counts = pack('segment_pair', [[53000], [1] * 200], 16, rng)
  assert rng.calls < counts['pairs'] * 1010 + 10
