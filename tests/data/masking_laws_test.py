"""BERT's law for single tokens, and the table of laws."""

import numpy as np
import pytest
from scipy import stats

from robertax.data.hashing import train_keys
from robertax.data.masking import LAWS, Masking, exact, quotas

V, MASK = 1000, 999
SPECIAL = (0, 1, 2, 3, MASK)
ALPHA = 1e-4  # Seeds are fixed: a test that passes once passes always.


def law(**changes):
  return Masking(**(dict(
      mask_rate=0.15, random_rate=0.1, keep_rate=0.1, specials='fairseq',
      vocab_size=V, mask_id=MASK, special_ids=SPECIAL, law='bert') | changes))


def random_batch(size, length, seed=0):
  ids = np.random.default_rng(seed).integers(
      4, MASK, (size, length)).astype(np.int32)
  ids[:, 0], ids[:, -1] = 0, 2
  keys = train_keys(seed, np.zeros(size, np.int64), np.arange(size)[:, None])
  return ids, np.ones((size, length), np.int32), keys


def bert(ids, rng, rate=0.15, most=77):
  """create_masked_lm_predictions of create_pretraining_data.py, one example."""
  places = [i for i, x in enumerate(ids) if x not in SPECIAL]
  rng.shuffle(places)
  number = min(most, max(1, int(round(len(ids) * rate))))
  mask, changed = np.zeros(len(ids), bool), ids.copy()
  for i in places[:number]:
    mask[i] = True
    if rng.random() < 0.8:
      changed[i] = MASK
    elif rng.random() >= 0.5:
      changed[i] = rng.integers(0, V)
  return changed, mask


def chosen(batch, length):
  out = np.zeros((len(batch['mlm_weights']), length), bool)
  rows, slots = np.nonzero(batch['mlm_weights'])
  out[rows, batch['mlm_positions'][rows, slots]] = True
  return out


@pytest.mark.parametrize('rate', [0.15, 0.3, 0.4])
def test_quotas_are_what_python_counts(rate):
  got = quotas(LAWS['bert'], exact(rate), 1024)
  assert (got % 2**32 == 0).all()
  assert (got >> 32).tolist() == [max(1, int(round(n * rate)))
                                  for n in range(1025)]
  got = quotas(LAWS['bert'], exact(rate), 1024, most=20)
  assert (got >> 32).max() == 20
  got = quotas(LAWS['fairseq'], exact(rate), 1024) / 2**32
  assert np.abs(got - rate * np.arange(1025)).max() < 1e-6


@pytest.mark.parametrize('length', [2, 3, 4, 5, 10, 30, 50, 511, 512])
@pytest.mark.parametrize('most', [0, 4])
def test_numbers_are_exact(length, most):
  batch = law(max_predictions=most).numpy(*random_batch(50, length))
  want = min(max(1, round(0.15 * length)), most or 999, length - 2)
  assert (batch['mlm_weights'].sum(1) == want).all()
  mask = chosen(batch, length)
  assert not mask[:, [0, -1]].any()


def test_looks_like_bert():
  size, length = 3000, 60
  ids, segment_ids, keys = random_batch(size, length, 1)
  batch = law().numpy(ids, segment_ids, keys)
  rng = np.random.default_rng(0)
  changed, mask = (np.stack(x) for x in zip(*(bert(row, rng) for row in ids)))
  tables = []
  for now, what in ((batch['input_ids'], chosen(batch, length)),
                    (changed, mask)):
    assert what.sum() == 9 * size
    gaps = np.bincount(np.diff(np.flatnonzero(what)).clip(max=30))
    kinds = np.bincount(np.select([now == MASK, now == ids], [0, 1], 2)[what])
    tables.append((what.sum(0)[1:-1], gaps[1:], kinds))
  for a, b in zip(*tables):
    assert stats.chi2_contingency(np.stack([a, b])).pvalue > ALPHA


def test_random_tokens_are_of_the_whole_vocabulary():
  ids, segment_ids, keys = random_batch(1500, 512, 2)
  batch = law(random_rate=1.0, keep_rate=0.0).numpy(ids, segment_ids, keys)
  counts = np.bincount(batch['input_ids'][chosen(batch, 512)], minlength=V)
  assert len(counts) == V and counts[:4].all()
  assert stats.chisquare(counts).pvalue > ALPHA


def test_shares_of_a_million_tokens():
  ids, segment_ids, keys = random_batch(2000, 512, 3)
  batch = law().numpy(ids, segment_ids, keys)
  mask = chosen(batch, 512)
  assert (mask.sum(1) == 77).all()
  now, before = batch['input_ids'][mask], ids[mask]
  counts = [(now == MASK).sum(), (now == before).sum(),
            ((now != MASK) & (now != before)).sum()]
  share = np.array([0.8 + 0.1 / V, 0.1 + 0.1 / V, 0.1 * (1 - 2 / V)])
  assert stats.chisquare(counts, share * len(now)).pvalue > ALPHA


def test_a_schedule_of_rates():
  function = law(law='fairseq', mask_rate=0.3, mask_rate_end=0.15,
                 mask_rate_steps=100)
  assert [float(function.rate(step)) for step in (0, 50, 100, 10**6)] == [
      0.3, 0.225, 0.15, 0.15]
  assert function.budget(512, 1) == 154  # Of the largest rate.
  ids, segment_ids, keys = random_batch(2000, 200, 5)
  for step, want in ((0, 60), (50, 45), (90, 33), (10**9, 30)):
    batch = function.numpy(ids, segment_ids, keys, step)
    assert batch['mlm_weights'].shape == (2000, 61)
    assert (batch['mlm_weights'].sum(1) == want).all()
  # A lower rate hides a part of what a higher one hides.
  first, last = (chosen(function.numpy(ids, segment_ids, keys, step), 200)
                 for step in (0, 100))
  assert (first | ~last).all()
