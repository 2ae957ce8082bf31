"""Corpora in given shares: exact, of (seed, place) alone, epochs of their own.
"""

import time

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from robertax.data import order
from robertax.data.order import WINDOW, Mixture
from robertax.data.pipeline import Pipeline
from robertax.data.source import open_source
from robertax.errors import InputError

WEIGHTS = [4, 12, 76, 38, 31]  # Of the paper's corpora, in GB.
SIZES = [700, 1900, 12000, 6000, 5000]


def mixed(weights=WEIGHTS, sizes=SIZES, seed=0, **changes):
  names = [f'c{i}' for i in range(len(weights))]
  return Mixture(names, sizes, weights, seed, **changes)


@pytest.mark.parametrize('batch_size', [32, 256])
def test_shares_of_a_run(batch_size):
  """A tenth of a percent of each share, so less of the whole."""
  corpora, _ = mixed().deal(np.arange(2000 * batch_size))
  found = np.bincount(corpora) / len(corpora)
  asked = np.array(WEIGHTS) / sum(WEIGHTS)
  assert np.abs(found / asked - 1).max() < 1e-3


def test_any_beginning_is_close():
  deal = mixed()
  corpora, _ = deal.deal(np.arange(64_000))
  counts = np.cumsum(corpora[:, None] == np.arange(5), 0)
  off = np.abs(counts - deal.shares * np.arange(1, 64_001)[:, None])
  assert off[WINDOW - 1::WINDOW].max() <= 2.5
  assert off.max() < 16


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 50) | st.floats(0, 1e6), min_size=1, max_size=6)
       .filter(sum), st.integers(0, 10**12), st.integers(0, 2**63 - 1))
def test_every_place_of_every_corpus_once(weights, start, seed):
  deal = mixed(weights, [5] * len(weights), seed)
  start *= WINDOW
  places = np.arange(start, start + 5 * WINDOW)
  corpora, own = deal.deal(places)
  before, behind = deal.counts(np.array([start, start + 5 * WINDOW]))
  assert before.sum() == start
  for number in range(len(weights)):
    assert sorted(own[corpora == number]) == list(
        range(before[number], behind[number]))
  assert not (corpora[:, None] == np.flatnonzero(np.array(weights) == 0)).any()


def test_places_in_any_order_and_company():
  deal = mixed()
  places = np.random.default_rng(0).permutation(3000)
  for whole, part in zip(deal.at(np.arange(3000)), deal.at(places)):
    np.testing.assert_array_equal(whole[places], part)


def test_seeds_differ_and_nothing_repeats():
  a, b = (mixed(seed=s).deal(np.arange(64 * WINDOW))[0] for s in (0, 1))
  assert (a != b).mean() > 0.3
  windows = a.reshape(64, WINDOW)
  assert len({tuple(w) for w in windows}) == 64


def test_epochs_are_of_each_corpus():
  deal = mixed([3, 1], [8, 6], block=2, window=2)
  epochs, records = deal.at(np.arange(64 * 6))
  for number, size in enumerate([8, 6]):
    first = 8 * number
    own = (records >= first) & (records < first + size)
    seen = list(zip(epochs[own], records[own]))
    assert len(set(seen)) == len(seen)
    for epoch in range(own.sum() // size):
      assert (epochs[own] == epoch).sum() == size
  assert deal.epochs(64) == {'c0': 6.0, 'c1': pytest.approx(16 / 6)}


def test_a_late_step_costs_what_the_first_does():
  deal, seconds = mixed(), []
  for step in (0, 400_000):
    begun = time.perf_counter()
    for _ in range(10):
      deal.at(step * 256 + np.arange(256))
    seconds.append(time.perf_counter() - begun)
  assert seconds[1] < 10 * seconds[0] + 2


@pytest.mark.parametrize('spec, found', [
    ('4,12', [4, 12]), (' 4 , .5', [4, .5]), ('b=3,a=1', [1, 3]),
    ('0,1', [0, 1]), ('alpha=0.5', [10, 20]), ('alpha=1', [100, 400]),
    ('alpha=0', [1, 1])])
def test_what_may_be_asked(spec, found):
  assert order.mixture_weights(spec, ['a', 'b'], [100, 400]) == found


@pytest.mark.parametrize('spec, said', [
    ('1', '1 weights for 2 corpora'), ('1,2,3', '3 weights for 2 corpora'),
    ('1,x', "'x' is not a number"), ('1,-1', "'-1' is not a number"),
    ('1,inf', "'inf'"), ('nan,1', "'nan'"), ('0,0', 'all weights are 0'),
    ('a=1', 'no weight for b'), ('a=1,c=2', "'c=2' is not one weight"),
    ('a=1,a=2', "'a=2' is not one"), ('a=1,2', "'2' is not one weight"),
    ('alpha=x', "'x' is not a number"), ('beta=1', "'beta=1'"), (',', "''")])
def test_what_may_not(spec, said):
  with pytest.raises(InputError) as e:
    order.mixture_weights(spec, ['a', 'b'], [100, 400])
  assert said in str(e.value) and 'data.mixture' in str(e.value)
  assert "'alpha=0.5'" in str(e.value) and 'the corpora: a, b' in str(e.value)


def test_a_corpus_without_records_needs_the_weight_0():
  with pytest.raises(InputError, match='c1 has no training record'):
    mixed([1, 1], [5, 0])
  assert (mixed([1, 0], [5, 0]).at(np.arange(200))[1] < 5).all()


@pytest.mark.parametrize('backend', ['tf', 'numpy'])
def test_batches(two_corpora, config, law, backend):
  """Hosts' rows make the batch, a masks' epoch is its corpus's."""
  source = open_source(two_corpora, 'train', backend)
  setting = config(mixture='b=3,a=1', backend=backend)
  pipeline = Pipeline(source, setting, law(), seed=5)
  batches = pipeline.batches(30)
  for step in (30, 31):
    whole = next(batches)
    parts = [
        Pipeline(source, setting, law(), seed=5, rows=rows).make_batch(step)
        for rows in np.split(np.arange(8), 4)]
    for key, value in whole.items():
      np.testing.assert_array_equal(
          value, np.concatenate([part[key] for part in parts]), key)
  batches.close()
  corpora = np.concatenate([
      pipeline.make_batch(step)['example_ids'][:, 0] >> 48
      for step in range(16)])
  assert (corpora == 1).sum() == 96
  passes = pipeline.epochs(16)
  assert passes == {'a': 32 / 41, 'b': 96 / 30}


def test_as_they_are_by_default(two_corpora, config, law):
  source = open_source(two_corpora, 'train', 'numpy')
  pipeline = Pipeline(source, config(), law(), seed=5)
  assert pipeline.epochs(71) == {'a': 8.0, 'b': 8.0}
  records = [pipeline.make_batch(step)['example_ids'] for step in range(71)]
  _, counts = np.unique(np.concatenate(records), return_counts=True)
  assert len(counts) == 71 and (counts == 8).all()
