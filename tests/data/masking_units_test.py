"""Whole words and spans against plain loops of fairseq's and BERT's rules."""

import numpy as np
import pytest
from scipy import stats

from robertax.data.hashing import train_keys
from robertax.data.masking import Masking, num_masked
from robertax.errors import InputError

V, MASK = 1000, 999
SPECIAL = (0, 1, 2, 3, MASK)
# Ids ending in 0 to 5 begin a word: words of 1, 2, 3, ... pieces.
STARTS = np.arange(V) % 10 < 6
ALPHA = 1e-4  # Seeds are fixed: a test that passes once passes always.


def law(unit='whole_word', **changes):
  return Masking(**(dict(
      mask_rate=0.15, random_rate=0.1, keep_rate=0.1, specials='fairseq',
      vocab_size=V, mask_id=MASK, special_ids=SPECIAL, unit=unit,
      word_starts=STARTS) | changes))


def random_batch(size, length, seed=0):
  """Rows <s> ... </s> ... </s>."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(4, MASK, (size, length)).astype(np.int32)
  ids[:, 0], ids[:, -1] = 0, 2
  ids[np.arange(size), rng.integers(1, length, size)] = 2
  keys = train_keys(seed, np.zeros(size, np.int64), np.arange(size)[:, None])
  return ids, np.ones((size, length), np.int32), keys


def packed_batch(size, length, slots, seed=0):
  """Rows of `slots` examples or fewer, most of them padded."""
  rng = np.random.default_rng(seed)
  ids, _, _ = random_batch(size, length, seed)
  segment_ids = np.zeros((size, length), np.int32)
  for row in range(size):
    cuts = np.unique(rng.integers(1, length + 1, rng.integers(1, slots + 1)))
    for number, (a, b) in enumerate(zip([0, *cuts[:-1]], cuts)):
      segment_ids[row, a:b] = number + 1
      ids[row, a], ids[row, b - 1] = 0, 2
  ids[segment_ids == 0] = 1
  return ids, segment_ids, rng.integers(0, 2**32, (size, slots, 2),
                                        dtype=np.uint32)


def chosen(batch, length):
  out = np.zeros((len(batch['mlm_weights']), length), bool)
  rows, slots = np.nonzero(batch['mlm_weights'])
  out[rows, batch['mlm_positions'][rows, slots]] = True
  return out


def words_of(ids):
  """[(start, end)] of one example, as fairseq splits it."""
  begins = [i for i, x in enumerate(ids)
            if i == 0 or STARTS[x] or x in SPECIAL or ids[i - 1] in SPECIAL]
  return list(zip(begins, [*begins[1:], len(ids)]))


def fairseq_words(ids, rng, rate=0.15):
  """fairseq's whole words of one example, capped as here; as a plain loop."""
  words = words_of(ids)
  left = int(rate * len(words) + rng.random())
  room = int(rate * len(ids) + 1e-9) + 1
  mask, changed = np.zeros(len(ids), bool), ids.copy()
  for index in rng.permutation(len(words)):
    a, b = words[index]
    if left and b - a <= room:
      left, room, mask[a:b] = left - 1, room - (b - a), True
      action = rng.random()
      if action < 0.8:
        changed[a:b] = MASK
      elif action < 0.9:
        changed[a:b] = rng.integers(4, V, b - a)
  return changed, mask


def bert_words(ids, rng, rate=0.15, most=1000):
  """create_masked_lm_predictions with do_whole_word_mask, as a plain loop."""
  words = [(a, b) for a, b in words_of(ids) if ids[a] not in SPECIAL]
  number = min(most, max(1, int(round(len(ids) * rate))))
  rng.shuffle(words)
  mask, changed = np.zeros(len(ids), bool), ids.copy()
  for a, b in words:
    if mask.sum() >= number:
      break
    if mask.sum() + b - a > number:
      continue
    mask[a:b] = True
    for i in range(a, b):
      if rng.random() < 0.8:
        changed[i] = MASK
      elif rng.random() >= 0.5:
        changed[i] = rng.integers(0, V)
  return changed, mask


def fairseq_spans(ids, rng, length, stdev, rate=0.15):
  """fairseq's mask_multiple_length of one example, without a budget."""
  size = len(ids)
  number = int(rate * size / float(length) + rng.random())
  starts = rng.choice(size, number, replace=False)
  lengths = [max(0, int(round(x)))
             for x in rng.normal(length, stdev, number)]
  mask = np.zeros(size, bool)
  for start, n in zip(starts, lengths):
    mask[start:start + n] = True
  return mask


def alike(left, right):
  """Whether two samples of small whole numbers have one distribution."""
  a, b = (np.bincount(np.asarray(x), minlength=300) for x in (left, right))
  often = a + b >= 20
  table = np.stack([[*x[often], x[~often].sum()] for x in (a, b)])
  table = table[:, table.sum(0) > 0]
  return table.shape[1] == 1 or stats.chi2_contingency(table).pvalue > ALPHA


def runs(mask):
  """Lengths of the runs of chosen tokens, rows apart."""
  edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(int)).ravel()
  return np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)


def first_places(mask):
  """Where the runs of chosen tokens begin."""
  return (mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]).nonzero()[1]


def outcome(ids, changed, mask):
  """0 masked, 1 kept, 2 random, of the chosen tokens."""
  return np.select([changed == MASK, changed == ids], [0, 1], 2)[mask]


LOOPS = {'fairseq': fairseq_words, 'bert': bert_words}


@pytest.mark.parametrize('specials', ['fairseq', 'exclude'])
@pytest.mark.parametrize('name', ['fairseq', 'bert'])
def test_no_word_is_chosen_half(name, specials):
  ids, segment_ids, keys = packed_batch(100, 120, 4)
  batch = law(law=name, specials=specials).numpy(ids, segment_ids, keys)
  mask, words_chosen = chosen(batch, 120), 0
  for row in range(100):
    for number in range(1, segment_ids[row].max() + 1):
      where = segment_ids[row] == number
      for a, b in words_of(ids[row, where]):
        assert len(set(mask[row, where][a:b])) == 1
        words_chosen += mask[row, where][a]
  assert words_chosen > 500
  if name == 'bert' or specials == 'exclude':
    assert not mask[np.isin(ids, SPECIAL)].any()
  assert not mask[segment_ids == 0].any()


@pytest.mark.parametrize('name', ['fairseq', 'bert'])
def test_whole_words_look_like_the_plain_loop(name):
  size, length = 3000, 100
  ids, segment_ids, keys = random_batch(size, length, 1)
  batch = law(law=name).numpy(ids, segment_ids, keys)
  ours = chosen(batch, length)
  rng = np.random.default_rng(0)
  changed, theirs = (np.stack(x) for x in zip(
      *(LOOPS[name](row, rng) for row in ids)))
  assert alike(ours.sum(1), theirs.sum(1))
  assert alike(runs(ours), runs(theirs))
  assert alike(first_places(ours), first_places(theirs))
  # By the length of a word, at its first token: the cap treats both alike.
  sizes = np.zeros(ids.shape, int)
  for row, line in enumerate(ids):
    for a, b in words_of(line):
      sizes[row, a] = b - a
  assert alike(sizes[ours], sizes[theirs])
  alone = sizes > 0  # Pieces of a word may share a draw: they count once.
  assert alike(outcome(ids, batch['input_ids'], ours & alone),
               outcome(ids, changed, theirs & alone))


def test_fairseq_decides_by_word_and_bert_by_piece():
  ids, segment_ids, keys = random_batch(2000, 100, 2)
  for name in ('fairseq', 'bert'):
    batch = law(law=name).numpy(ids, segment_ids, keys)
    mask, mixed, pairs = chosen(batch, 100), 0, 0
    for row in range(2000):
      for a, b in words_of(ids[row]):
        if mask[row, a] and b - a == 2:
          hidden = batch['input_ids'][row, a:b] == MASK
          pairs, mixed = pairs + 1, mixed + (hidden[0] != hidden[1])
    if name == 'fairseq':
      # A random piece may be <mask> itself, once in a thousand.
      assert mixed <= 3
    else:
      assert stats.binomtest(mixed, pairs, 2 * 0.8 * 0.2).pvalue > ALPHA


def test_number_of_words_is_fairseqs_where_the_cap_is_far():
  # Words of one piece each: as tokens, to the exact number.
  function = law(word_starts=np.ones(V, bool))
  ids, segment_ids, keys = random_batch(4000, 103, 3)
  n = function.numpy(ids, segment_ids, keys)['mlm_weights'].sum(1)
  assert set(n) == {15, 16}  # 15.45
  assert stats.binomtest(int((n == 16).sum()), 4000, 0.45).pvalue > ALPHA
  n = law(word_starts=np.ones(V, bool), specials='exclude').numpy(
      ids, segment_ids, keys)['mlm_weights'].sum(1)
  special = np.isin(ids, SPECIAL).sum(1)
  assert (n[special == 3] == 15).all() and (special == 3).sum() > 3900


@pytest.mark.parametrize('length, stdev', [(1, 0.0), (3, 0.0), (10, 0.0)])
def test_spans_look_like_fairseq(length, stdev):
  ids, segment_ids, keys = random_batch(4000, 100, length)
  ours = chosen(law('span', span_length=length, span_stdev=stdev).numpy(
      ids, segment_ids, keys), 100)
  rng = np.random.default_rng(1)
  theirs = np.stack([fairseq_spans(row, rng, length, stdev) for row in ids])
  assert alike(ours.sum(1), theirs.sum(1))
  assert alike(runs(ours), runs(theirs))
  assert alike(first_places(ours), first_places(theirs))


def test_normal_span_lengths():
  # One span an example of 100, with room for it: 16 + 8 tokens.
  function = law('span', mask_rate=0.16, span_length=8, span_stdev=2.5)
  ids, segment_ids, keys = random_batch(6000, 100, 5)
  rng = np.random.default_rng(2)
  ours = chosen(function.numpy(ids, segment_ids, keys), 100)
  theirs = np.stack([fairseq_spans(row, rng, 8, 2.5, 0.16) for row in ids])
  assert alike(runs(ours), runs(theirs))
  assert alike(ours.sum(1), theirs.sum(1))


@pytest.mark.parametrize('unit, changes', [
    ('whole_word', {}), ('whole_word', {'law': 'bert'}),
    ('span', {'span_length': 4}),
    ('span', {'span_length': 6, 'span_stdev': 3.0}),
    ('span', {'span_length': 9, 'specials': 'exclude'})])
@pytest.mark.parametrize('rate', [0.02, 0.15, 0.5, 1.0])
def test_never_more_than_the_budget(unit, changes, rate):
  for seed in range(4):
    ids, segment_ids, keys = packed_batch(40, 60, 5, seed)
    function = law(unit, mask_rate=rate, **changes)
    batch = function.numpy(ids, segment_ids, keys)  # Raises if it does.
    longest = changes.get('span_length', 1)
    assert batch['mlm_weights'].shape == (40, num_masked(rate, 60, 5, longest))
    mask = chosen(batch, 60)
    for row in range(40):
      for number in range(1, segment_ids[row].max() + 1):
        where = segment_ids[row] == number
        most = rate * where.sum() + longest
        assert mask[row, where].sum() <= most + 1e-9


@pytest.mark.parametrize('unit, changes', [
    ('whole_word', {}), ('whole_word', {'law': 'bert'}),
    ('whole_word', {'specials': 'exclude'}), ('token', {'law': 'bert'}),
    ('token', {}), ('token', {'specials': 'exclude'}),
    ('span', {'span_length': 3, 'span_stdev': 1.5})])
def test_a_mask_knows_neither_batch_nor_row(unit, changes):
  ids, segment_ids, keys = packed_batch(30, 80, 4, 9)
  function = law(unit, **changes).numpy
  together = function(ids, segment_ids, keys)
  one = function(ids[7:8], segment_ids[7:8], keys[7:8])
  for name, value in one.items():
    assert (value[0] == together[name][7]).all()
  mask = chosen(together, 80)
  for row in range(30):
    for number in range(segment_ids[row].max()):
      where = segment_ids[row] == number + 1
      size = where.sum()
      alone_ids = np.full((1, 100), 1, np.int32)
      alone_ids[0, :size] = ids[row, where]
      alone = function(alone_ids, (np.arange(100) < size)[None].astype('i4'),
                       keys[row, None, None, number])
      assert (chosen(alone, 100)[0, :size] == mask[row, where]).all()
      assert (alone['input_ids'][0, :size]
              == together['input_ids'][row, where]).all()


def test_units_that_cannot_be():
  with pytest.raises(InputError, match='does not say where words start'):
    law(word_starts=None)
