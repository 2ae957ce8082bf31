"""The masking law against exact expectations and a plain loop of fairseq's."""

from fractions import Fraction
import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import stats

from robertax.data.hashing import eval_keys, train_keys
from robertax.data.masking import Masking, num_masked

V, MASK = 1000, 999
SPECIAL = (0, 1, 2, 3, MASK)
ALPHA = 1e-4  # Seeds are fixed: a test that passes once passes always.


def law(**changes):
  return Masking(**(dict(
      mask_rate=0.15, random_rate=0.1, keep_rate=0.1, specials='fairseq',
      vocab_size=V, mask_id=MASK, special_ids=SPECIAL) | changes))


def random_batch(size, length, seed=0, full=True):
  rng = np.random.default_rng(seed)
  ids = rng.integers(4, MASK, (size, length)).astype(np.int32)
  lengths = np.full(size, length) if full else rng.integers(
      0, length + 1, size)
  segment_ids = (np.arange(length) < lengths[:, None]).astype(np.int32)
  keys = train_keys(seed, np.zeros(size, np.int64), np.arange(size)[:, None])
  return np.where(segment_ids, ids, 1), segment_ids, keys


def chosen(batch, length):
  """bool[B,T] out of positions and weights."""
  out = np.zeros((len(batch['mlm_weights']), length), bool)
  rows, slots = np.nonzero(batch['mlm_weights'])
  out[rows, batch['mlm_positions'][rows, slots]] = True
  return out


def fairseq(ids, rng, rate=0.15, random_rate=0.1, keep_rate=0.1):
  """fairseq data/mask_tokens_dataset.py, one example, as a plain loop."""
  n = int(rate * len(ids) + rng.random())
  mask = np.zeros(len(ids), bool)
  mask[rng.choice(len(ids), n, replace=False)] = True
  changed = ids.copy()
  for i in np.flatnonzero(mask):
    if rng.random() < random_rate + keep_rate:
      if rng.random() < random_rate / (random_rate + keep_rate):
        changed[i] = rng.integers(4, V)
    else:
      changed[i] = MASK
  return changed, mask


def slow(ids, key, rate=Fraction(3, 20)):
  """The same law and hash as Masking, in Python integers, one example."""
  def mix(x):
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return x ^ x >> 16

  def bits(stream, place):
    counter = stream * 65536 + place
    return mix(mix(int(key[0]) ^ counter) ^ int(key[1]))

  n = int(rate * len(ids) + Fraction(bits(0, 0), 2**32))
  order = sorted(range(len(ids)), key=lambda i: (bits(1, i), i))
  changed = list(ids)
  for i in order[:n]:
    action = Fraction(bits(2, i), 2**32)
    if action < Fraction(8, 10):
      changed[i] = MASK
    elif action < Fraction(9, 10):
      changed[i] = 4 + bits(3, i) * (V - 4) // 2**32
  return changed, sorted(order[:n])


def test_equals_the_slow_law():
  ids, segment_ids, keys = random_batch(60, 50, full=False)
  got = law().numpy(ids, segment_ids, keys)
  for row in range(60):
    size = segment_ids[row].sum()
    want_ids, want = slow(ids[row, :size], keys[row, 0])
    n = len(want)
    assert got['mlm_positions'][row, :n].tolist() == want
    assert got['input_ids'][row, :size].tolist() == want_ids
    assert got['mlm_targets'][row, :n].tolist() == ids[row, want].tolist()
    assert (got['input_ids'][row, size:] == 1).all()
    assert got['mlm_weights'][row].tolist() == [1.0] * n + [0.0] * (
        len(got['mlm_weights'][row]) - n)
    for field in ('mlm_positions', 'mlm_targets'):
      assert not got[field][row, n:].any()


@pytest.mark.parametrize('length', [1, 3, 7, 20, 100, 511, 512])
def test_number_chosen_is_rounded_at_random(length):
  size = 20_000 if length < 200 else 4_000
  batch = law().numpy(*random_batch(size, length, seed=length))
  n = batch['mlm_weights'].sum(1)
  floor, rest = divmod(15 * length, 100)
  assert set(n) <= {floor, floor + 1}
  ups = (n == floor + 1).sum()
  if rest == 0:
    assert ups == 0
  else:
    assert stats.binomtest(int(ups), size, rest / 100).pvalue > ALPHA


def test_million_tokens_exact_shares():
  ids, segment_ids, keys = random_batch(2000, 512)
  batch = law().numpy(ids, segment_ids, keys)
  total = batch['mlm_weights'].sum()
  # Bernoulli(.8) a row on top of 76: 512 * .15 = 76.8.
  assert abs(total - 2000 * 76.8) < 4.5 * np.sqrt(2000 * 0.8 * 0.2)
  mask = chosen(batch, 512)
  assert (batch['input_ids'][~mask] == ids[~mask]).all()
  now, before = batch['input_ids'][mask], ids[mask]
  hits = 1 / (V - 4)  # A random token may be <mask>, or what was there.
  share = np.array([0.8 + 0.1 * hits, 0.1 + 0.1 * hits, 0.1 * (1 - 2 * hits)])
  counts = [(now == MASK).sum(), (now == before).sum(),
            ((now != MASK) & (now != before)).sum()]
  assert stats.chisquare(counts, share * total).pvalue > ALPHA


def test_positions_are_uniform():
  batch = law().numpy(*random_batch(4000, 512, seed=4))
  counts = chosen(batch, 512).sum(0)
  # Without replacement counts vary less, by (L - n) / (L - 1).
  statistic = ((counts - counts.mean()) ** 2 / counts.mean()).sum() / (
      (512 - 76.8) / 511)
  assert ALPHA < stats.chi2(511).sf(statistic) < 1 - ALPHA


def test_every_set_is_equally_likely():
  batch = law(mask_rate=0.5).numpy(*random_batch(20_000, 6, seed=5))
  sets = chosen(batch, 6) @ (1 << np.arange(6))
  values, counts = np.unique(sets, return_counts=True)
  assert len(values) == 20
  assert stats.chisquare(counts).pvalue > ALPHA


def test_random_tokens_are_uniform_without_the_first_four():
  ids, segment_ids, keys = random_batch(1500, 512, seed=6)
  batch = law(random_rate=1.0, keep_rate=0.0).numpy(ids, segment_ids, keys)
  now = batch['input_ids'][chosen(batch, 512)]
  counts = np.bincount(now, minlength=V)
  assert not counts[:4].any() and len(counts) == V
  assert stats.chisquare(counts[4:]).pvalue > ALPHA


@pytest.mark.parametrize('shares, what', [((0.0, 1.0), 'kept'),
                                          ((0.0, 0.0), 'masked')])
def test_shares_of_one_are_exact(shares, what):
  ids, segment_ids, keys = random_batch(200, 100)
  batch = law(random_rate=shares[0], keep_rate=shares[1]).numpy(
      ids, segment_ids, keys)
  mask = chosen(batch, 100)
  want = ids[mask] if what == 'kept' else MASK
  assert (batch['input_ids'][mask] == want).all()


def test_epochs_and_examples_are_independent():
  ids, segment_ids, _ = random_batch(2000, 512)
  examples = np.arange(2000)[:, None] << 8
  masks, actions = [], []
  for epoch in (0, 1):
    keys = train_keys(3, np.full(2000, epoch), examples)
    batch = law().numpy(ids, segment_ids, keys)
    masks.append(chosen(batch, 512))
    actions.append(batch['input_ids'])
  n = [m.sum(1) for m in masks]
  for other, m in ((masks[1], n[1]),                         # Another epoch.
                   (np.roll(masks[0], 1, 0), np.roll(n[0], 1))):  # Example.
    overlap = (masks[0] & other).sum(1)
    mean, var = stats.hypergeom(512, n[0], m).stats()
    z = (overlap - mean).sum() / np.sqrt(var.sum())
    assert abs(z) < 4
    assert 0.9 < ((overlap - mean) ** 2 / var).mean() < 1.1
  both = masks[0] & masks[1]
  table = stats.contingency.crosstab(
      *((a[both] == MASK) for a in actions)).count
  assert stats.chi2_contingency(table).pvalue > ALPHA


def test_looks_like_fairseq():
  # Gaps between hidden tokens, and hidden tokens a row, against the plain loop.
  ids, segment_ids, keys = random_batch(1500, 100, seed=8)
  ours = chosen(law().numpy(ids, segment_ids, keys), 100)
  rng = np.random.default_rng(0)
  theirs = np.stack([fairseq(row, rng)[1] for row in ids])
  for measure in (lambda m: np.diff(np.flatnonzero(m)).clip(max=25),
                  lambda m: m.reshape(-1, 10).sum(1)):
    a, b = (np.bincount(measure(m), minlength=26) for m in (ours, theirs))
    table = np.stack([a, b])[:, a + b > 0]
    assert stats.chi2_contingency(table).pvalue > ALPHA


def test_specials_excluded():
  ids, segment_ids, keys = random_batch(4000, 103, seed=9)
  ids[:, [0, 50, 102]] = 0, 2, 2  # 100 are left: exactly 15 each.
  batch = law(specials='exclude').numpy(ids, segment_ids, keys)
  mask = chosen(batch, 103)
  assert (mask.sum(1) == 15).all()
  assert not mask[:, [0, 50, 102]].any()
  assert (batch['input_ids'][:, [0, 50, 102]] == [0, 2, 2]).all()
  counts = np.delete(mask.sum(0), [0, 50, 102])
  statistic = ((counts - 600) ** 2 / 600).sum() / (85 / 99)
  assert stats.chi2(99).sf(statistic) > ALPHA
  # fairseq masks them like any other.
  mask = chosen(law().numpy(ids, segment_ids, keys), 103)
  assert stats.binomtest(int(mask[:, 0].sum()), 4000, 0.15).pvalue > ALPHA


def packed(rng, size, length, slots):
  """Rows of up to `slots` examples: ids, segment_ids, keys."""
  ids, segment_ids, keys = random_batch(size, length)
  segment_ids[:] = 0
  for row in segment_ids:
    ends = np.sort(rng.integers(0, length + 1, rng.integers(1, slots + 1)))
    for number, (a, b) in enumerate(zip([0, *ends[:-1]], ends)):
      row[a:b] = number + 1
  # Numbers ascend without gaps: an example has a token.
  for row in segment_ids:
    real = row > 0
    row[real] = np.unique(row[real], return_inverse=True)[1] + 1
  ids[:, ::9] = 2
  keys = rng.integers(0, 2**32, (size, slots, 2), dtype=np.uint32)
  return np.where(segment_ids, ids, 1).astype(np.int32), segment_ids, keys


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 1), st.integers(1, 60), st.integers(1, 6),
       st.integers(0, 1000))
def test_never_more_than_the_budget(rate, length, slots, seed):
  ids, segment_ids, keys = packed(
      np.random.default_rng(seed), 20, length, slots)
  batch = law(mask_rate=rate).numpy(ids, segment_ids, keys)
  budget = num_masked(rate, length, slots)
  assert batch['mlm_weights'].shape == (20, budget)
  # Each example has its own number, rounded down or up.
  mask = chosen(batch, length)
  for row in range(20):
    for number in range(1, segment_ids[row].max() + 1):
      where = segment_ids[row] == number
      n = mask[row, where].sum()
      assert abs(n - Fraction(repr(rate)) * int(where.sum())) < 1


def test_the_written_rate_counts():
  # Floats would say 0.29 * 100 = 28.999999999999996.
  assert num_masked(0.29, 100, 1) == 30
  assert num_masked(0.15, 512, 1) == 77
  assert num_masked(0.15, 512, 4) == 80
  batch = law(mask_rate=0.29).numpy(*random_batch(500, 100))
  assert (batch['mlm_weights'].sum(1) == 29).all()


@pytest.mark.parametrize('changes, digest', [
    ({}, '5f29173f098cda24'),
    ({'specials': 'exclude'}, '4b0468fa501c9d5b'),
    ({'law': 'bert'}, 'ceb2455e8c3657c5'),
    ({'unit': 'span', 'span_length': 3, 'span_stdev': 1.}, 'ba112326c575c9df'),
    ({'unit': 'whole_word', 'word_starts': np.arange(V) % 3 > 0},
     '0ceb79e1e1a91451')], ids=str)
def test_masks_keep_their_bits(changes, digest):
  """What a run has masked since the first version, it masks when it resumes."""
  total = hashlib.sha256()
  for size, length, slots, rate in ((64, 128, 1, 0.15), (20, 96, 5, 0.15),
                                    (5, 7, 3, 1.0)):
    batch = law(mask_rate=rate, **changes).numpy(*packed(
        np.random.default_rng(length), size, length, slots))
    for name in sorted(batch):
      total.update(f'{name} {batch[name].dtype} {batch[name].shape}'.encode())
      total.update(batch[name].tobytes())
  assert total.hexdigest()[:16] == digest


def test_input_is_left_alone():
  ids, segment_ids, keys = random_batch(4, 64)
  before = ids.copy()
  law().numpy(ids, segment_ids, keys)
  assert (ids == before).all()


def test_eval_masks_depend_on_set_and_example_only():
  ids, segment_ids, _ = random_batch(8, 64)
  example_ids = np.arange(8)[:, None] << 8
  keys = eval_keys('wiki', example_ids)
  assert (eval_keys('wiki', example_ids[3:5]) == keys[3:5]).all()
  a = law().numpy(ids, segment_ids, keys)
  b = law().numpy(ids, segment_ids, eval_keys('news', example_ids))
  assert (a['mlm_positions'] != b['mlm_positions']).any()
