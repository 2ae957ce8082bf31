
from collections import Counter
import doctest
import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from robertax.config import PAIR_NEGATIVES, DataConfig, check_data
from robertax.corpus import formats
from robertax.corpus.formats import FORMATS, PairLaw
from robertax.errors import InputError

BOS, EOS = 0, 2
BOTH = ['segment_pair', 'sentence_pair']
SIZES = st.lists(st.lists(st.integers(0, 9), max_size=7), max_size=5)


def pack(name, documents, length, rng=0, law=None, dtype=np.uint32):
  counts = Counter()
  found = list(FORMATS[name].pack(
      [[np.array(s, dtype) for s in d] for d in documents],
      sequence_length=length, bos_id=BOS, eos_id=EOS, counts=counts,
      law=law or PairLaw(),
      rng=random.Random(rng) if isinstance(rng, int) else rng))
  return found, counts


def number(sizes):
  """Documents of sentences of such sizes whose tokens count on from 3."""
  token = iter(range(3, 10 ** 9))
  return [[[next(token) for _ in range(n)] for n in d] for d in sizes]


def parts(example):
  ids, cut = example.ids.tolist(), example.first_length
  return ids[1:cut - 1], ids[cut:-1]


def test_worked_examples():
  found = doctest.testmod(formats)
  assert not found.failed and found.attempted >= 6


class Numbers:
  """The uses that BERT makes of its generator, from random() alone."""

  def __init__(self, seed):
    self.random = random.Random(seed).random

  def randint(self, first, last):
    return first + math.floor(self.random() * (last - first + 1))

  def sides(self, number):
    """'0' and '1' for so many tokens; 53 to a random()."""
    text = ''
    while len(text) < number:
      text += f'{int(self.random() * 2 ** 53):053b}'
    return list(text[:number])


class BertCoin:

  def __init__(self, rng):
    self.rng, self.forced = rng, 0

  def __call__(self, is_alone):
    self.forced += is_alone
    return is_alone or self.rng.random() < .5


class HalfCoin(BertCoin):
  """Says of each pair what the coin said, and what became of it."""
  wishes = made = debt = 0

  def __call__(self, is_alone):
    wish = self.rng.random() < .5
    self.forced += is_alone
    if is_alone:
      made = True
    elif wish and self.made > self.wishes:
      made = False
    else:
      made = wish
    self.wishes += wish
    self.made += made
    return made


def truncate(a, b, most, rng):
  """BERT's truncate_seq_pair; the coins of all of A's tokens come first."""
  sizes, order = [len(a), len(b)], []
  while sum(sizes) > most:
    order.append(0 if sizes[0] > sizes[1] else 1)
    sizes[order[-1]] -= 1
  coins = [rng.sides(order.count(side)) for side in (0, 1)]
  for side in order:
    (a, b)[side].pop(0 if coins[side].pop() == '1' else -1)


def elsewhere(documents, own, rng):
  others = [d for d in documents if d is not own]
  document = others[rng.randint(0, len(others) - 1)]
  return document, rng.randint(0, len(document) - 1)


def berts_segments(documents, length, short_rate, coin, rng):
  """create_instances_from_document of BERT's create_pretraining_data.py."""
  max_num_tokens = length - 3
  for document in documents:
    target = max_num_tokens
    if rng.random() < short_rate:
      target = rng.randint(2, max_num_tokens)
    chunk, size, i = [], 0, 0
    while i < len(document):
      chunk.append(document[i])
      size += len(document[i])
      if i == len(document) - 1 or size >= target:
        a_end = 1
        if len(chunk) >= 2:
          a_end = rng.randint(1, len(chunk) - 1)
        a, b = sum(chunk[:a_end], []), []
        is_random = coin(len(chunk) == 1)
        if is_random:
          other, start = elsewhere(documents, document, rng)
          room = target - len(a)
          for sentence in other[start:]:
            b += sentence
            if len(b) >= room:
              break
          i -= len(chunk) - a_end
        else:
          b = sum(chunk[a_end:], [])
        truncate(a, b, max_num_tokens, rng)
        yield a, b, is_random
        chunk, size = [], 0
      i += 1


def single_sentences(documents, length, short_rate, coin, rng):
  for document in documents:
    rest = list(document)
    while rest:
      a = list(rest.pop(0))
      is_random = coin(not rest)
      if is_random:
        other, start = elsewhere(documents, document, rng)
        b = list(other[start])
      else:
        b = list(rest.pop(0))
      truncate(a, b, length - 3, rng)
      yield a, b, is_random


ORACLES = dict(segment_pair=berts_segments, sentence_pair=single_sentences)


@pytest.mark.parametrize('name', BOTH)
@pytest.mark.parametrize('negatives', PAIR_NEGATIVES)
@settings(deadline=None, max_examples=150)
@given(length=st.integers(5, 24), sizes=SIZES, seed=st.integers(0, 999),
       short_rate=st.sampled_from([0., .5, 1.]))
def test_pairs_are_berts(name, negatives, length, sizes, seed, short_rate):
  sizes += [[4, 60], [1]]  # Another document there is, and a long sentence.
  documents = number(sizes)
  short_rate *= name == 'segment_pair'
  found, counts = pack(name, documents, length, seed,
                       PairLaw(short_rate, negatives))
  documents = [[s for s in d if s] for d in documents]
  rng = Numbers(seed)
  coin = dict(bert=BertCoin, half=HalfCoin)[negatives](rng)
  expected = list(ORACLES[name]([d for d in documents if d], length,
                                short_rate, coin, rng))
  assert [(*parts(e), e.second_document != e.document) for e in found] == (
      expected)
  assert counts['pairs'] == len(expected)
  assert counts['negative_pairs'] == sum(random for _, _, random in expected)
  assert counts['forced_negatives'] == coin.forced
  if negatives == 'half':  # More than the coin said only where none paid.
    assert counts['negative_pairs'] == coin.made >= coin.wishes


@pytest.mark.parametrize('name', BOTH)
@settings(deadline=None, max_examples=150)
@given(length=st.integers(5, 24), sizes=SIZES, seed=st.integers(0, 999),
       negatives=st.sampled_from(PAIR_NEGATIVES))
def test_every_law_holds(name, length, sizes, seed, negatives):
  documents = number(sizes)
  where = {token: (d, s) for d, document in enumerate(documents)
           for s, ids in enumerate(document) for token in ids}
  found, counts = pack(name, documents, length, seed,
                       PairLaw(negatives=negatives))
  used = []
  for e in found:
    ids, (a, b) = e.ids.tolist(), parts(e)
    assert ids == [BOS, *a, EOS, *b, EOS] and len(ids) <= length
    for part, document in ((a, e.document), (b, e.second_document)):
      assert part == list(range(part[0], part[0] + len(part)))
      assert {where[token][0] for token in part} == {document}
      if name == 'sentence_pair':
        assert len({where[token] for token in part}) == 1
    whole = len(ids) < length
    used += a
    if e.document == e.second_document:
      # What stands between them was cut.
      assert b[0] == a[-1] + 1 if whole else b[0] > a[-1]
      used += b
    elif whole:
      assert b[0] == 3 or where[b[0]] != where[b[0] - 1]
  lost = counts['truncated_tokens'] + counts['dropped_tokens']
  assert used == sorted(set(used))  # In order, and none twice.
  assert len(used) + lost == len(where)
  negative = sum(e.document != e.second_document for e in found)
  assert counts['negative_pairs'] == negative
  assert counts['pairs'] == len(found)
  if sum(map(any, sizes)) == 1:
    assert counts['pairs_without_negative'] == len(found)
    assert not negative
  else:
    assert not counts['pairs_without_negative']
    assert not counts['dropped_examples']
  with_text = [d for d, s in enumerate(sizes) if any(s)]
  assert [d for d in with_text if d not in {e.document for e in found}] == (
      with_text * (not found))


@pytest.mark.parametrize('name, sizes, dropped, tokens', [
    ('sentence_pair', [[], [2, 3, 0, 1], [0]], 1, 1),
    ('segment_pair', [[], [2, 3, 0, 5], [0]], 1, 5),
    ('segment_pair', [[9]], 1, 9)])
def test_one_document_has_only_positives(name, sizes, dropped, tokens):
  found, counts = pack(name, number(sizes), 8)
  assert all(e.document == e.second_document for e in found)
  assert counts['dropped_examples'] == dropped
  assert counts['dropped_tokens'] == tokens
  assert counts['pairs_without_negative'] == counts['pairs'] == len(found)
  assert not counts['negative_pairs']


@pytest.mark.parametrize('name', BOTH)
def test_the_generator_decides(name):
  documents = number([[3, 4, 5, 6, 2, 8, 30]] * 6)
  show = lambda seed: [(e.ids.tolist(), *e[1:]) for e in pack(
      name, documents, 16, seed)[0]]
  assert show(1) == show(1) != show(2)


@pytest.mark.parametrize('name', BOTH)
def test_nothing_gives_nothing(name):
  for documents in [], [[]], [[], [[], []]]:
    assert pack(name, documents, 8) == ([], {})


def test_ids_keep_their_type():
  for dtype in np.uint16, np.uint32:
    found, _ = pack('segment_pair', number([[2, 3], [4]]), 9, dtype=dtype)
    assert {e.ids.dtype for e in found} == {np.dtype(dtype)}


def test_what_cannot_be_is_said():
  for changes, says in (({'pair_negatives': 'hlaf'}, "negatives 'hlaf'.*half"),
                        ({'pair_short_rate': 1.5}, 'short_rate=1.5'),
                        ({'pair_short_rate': .1, 'format': 'sentence_pair'},
                         'short_rate=0.1: sentence pairs')):
    with pytest.raises(InputError, match=says):
      check_data(DataConfig(**changes))
  with pytest.raises(InputError, match='sequence_length=4: .* at least 5'):
    pack('segment_pair', number([[2, 3], [4]]), 4)


@pytest.mark.parametrize('name, length, most', [
    ('full_sentences', 512, 1), ('full_sentences', 8, 1),
    ('doc_sentences', 512, 8), ('doc_sentences', 64, 4),
    ('segment_pair', 512, 8), ('sentence_pair', 512, 20),
    ('sentence_pair', 128, 8), ('sentence_pair', 8, 1)])
def test_short_rows_hold_few(name, length, most):
  assert FORMATS[name].examples_per_row(length) == most
