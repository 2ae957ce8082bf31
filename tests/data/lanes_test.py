"""Lanes: parts of the records that are read apart, whoever reads them."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from robertax.data.order import AsTheyAre, Lanes, Mixture, Order, open_order
from robertax.data.pipeline import Pipeline
from robertax.data.source import open_source
from robertax.errors import InputError


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(12, 300), min_size=1, max_size=3),
       st.integers(1, 20), st.integers(1, 5), st.integers(1, 12),
       st.integers(0, 2**31))
def test_each_lane_has_each_of_its_records_once_an_epoch(
    sizes, block, window, lanes, seed):
  its = Order(sizes, seed, block, window, lanes)
  starts = np.cumsum([0, *sizes])
  found = [[] for _ in sizes]
  for lane in range(lanes):
    lengths = [n * (lane + 1) // lanes - n * lane // lanes for n in sizes]
    epochs, records = its.at(np.arange(2 * sum(lengths)), lane)
    assert (np.diff(epochs) >= 0).all()
    for epoch in range(2 * len(sizes)):
      here = np.sort(records[epochs == epoch])
      number = epoch % len(sizes)
      assert len(here) == lengths[number]
      assert here.tolist() == list(range(here[0], here[0] + len(here)))
      if epoch < len(sizes):
        found[number] += here.tolist()
  # All lanes together: every record of every duplicate.
  for number, records in enumerate(found):
    assert sorted(records) == list(range(starts[number], starts[number + 1]))


def test_one_lane_is_the_order_without_lanes():
  a, b = Order(997, 3, 8, 4), Order([997], 3, 8, 4, lanes=1)
  assert (a.locate(500, 2000)[1] == b.locate(500, 2000)[1]).all()
  c = AsTheyAre(['x'], 997, 3, 8, 4, 1, batch_size=16)
  assert (a.locate(500, 2000)[1] == c.at(np.arange(500, 2500))[1]).all()


def test_what_orders_were_before_lanes():
  # Runs that have begun go on: these were written down before lanes came.
  assert Order(1000, 7, 16, 4).locate(2990, 12)[1].tolist() == GOLDEN[0]
  its = Mixture(['a', 'b'], [50, 70], [1, 3], 7, 8, 2)
  assert its.at(np.arange(100, 112))[1].tolist() == GOLDEN[1]


GOLDEN = (
    [906, 578, 584, 909, 363, 897, 577, 903, 907, 911, 982, 583],
    [71, 92, 39, 102, 42, 24, 114, 76, 69, 60, 70, 7])


def test_lanes_do_not_read_alike():
  its = Order(1000, 0, 4, 8, lanes=2)
  a, b = (its.at(np.arange(500), lane)[1] for lane in range(2))
  assert ((a + 500) == b).sum() < 8


def test_a_lane_of_a_place():
  lanes, own = Lanes(2, 4).split(np.arange(9))
  assert lanes.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0]
  assert own.tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 4]
  with pytest.raises(InputError, match='data.shuffle_lanes=3'):
    Lanes(3, 4)
  with pytest.raises(InputError, match='data.shuffle_lanes=11'):
    Order(10, 0, lanes=11)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**31),
       st.lists(st.integers(8, 200), min_size=2, max_size=4))
def test_blocks_are_what_a_window_reads(block, lanes, seed, sizes):
  its = Order(sizes, seed, block, 3, lanes)
  records = np.arange(sum(sizes))
  first, stop = its.chunks(records)
  assert (first <= records).all() and (records < stop).all()
  assert (stop - first <= block).all()
  # They part the records: what is read for one is of no other.
  assert (np.diff(first) >= 0).all()
  assert set(first[1:]) - {first[0]} <= set(stop)
  # The records of a window of a lane are whole blocks.
  length = sizes[0] - sizes[0] * (lanes - 1) // lanes
  if length >= 3 * block and length % block == 0:
    _, read = its.at(np.arange(3 * block), lanes - 1)
    assert len(np.unique(its.chunks(read)[0])) == 3


def mixture(lanes, sizes=((90, 40, 60),), batch_size=24, **changes):
  return Mixture(['a', 'b', 'c'], np.array(sizes), [3, 1, 2], 5, 4, 3, lanes,
                 batch_size, **changes)


def test_a_mixture_has_its_shares_in_each_lane():
  its = mixture(4)
  lanes, _ = Lanes(4, 24).split(np.arange(24 * 512))
  _, records = its.at(np.arange(24 * 512))
  corpora = np.searchsorted([90, 130], records, side='right')
  for lane in range(4):
    shares = np.bincount(corpora[lanes == lane]) / (6 * 512)
    np.testing.assert_allclose(shares, [1 / 2, 1 / 6, 1 / 3], atol=.001)


def test_a_mixtures_lanes_read_parts_of_each_corpus():
  its = mixture(4)
  lanes, _ = Lanes(4, 24).split(np.arange(24 * 200))
  epochs, records = its.at(np.arange(24 * 200))
  for lane in range(4):
    for low, size in ((0, 90), (90, 40), (130, 60)):
      part = low + size * lane // 4, low + size * (lane + 1) // 4
      here = (lanes == lane) & (low <= records) & (records < low + size)
      assert records[here].min() == part[0]
      assert records[here].max() == part[1] - 1
      first = records[here & (epochs == 0)]
      assert sorted(first) == list(range(*part))


def test_a_mixtures_blocks():
  # Two duplicates; corpus b has no record in the first.
  its = Mixture(['a', 'b', 'c'], np.array([[9, 0, 30], [12, 0, 7]]), [1, 0, 1],
                5, 4, 3, 2, 8)
  records = np.arange(58)
  first, stop = its.chunks(records)
  assert (first <= records).all() and (records < stop).all()
  cuts = [0, 4, 9, 24, 39, 45, 51, 54, 58]
  for low, high in zip(cuts, cuts[1:]):
    assert first[low] == low and stop[high - 1] == high


@pytest.mark.parametrize('mixture', ['', '1,2'])
def test_hosts_read_no_record_of_another(two_corpora, config, law, mixture):
  settings = config(batch_size=16, shuffle_lanes=4, mixture=mixture)
  source = open_source(two_corpora, 'train', 'numpy')
  whole = Pipeline(source, settings, law(), seed=1)
  read = []
  for host in range(2):
    rows = np.arange(16).reshape(2, 2, 4)[:, host].ravel()  # 2 micro-batches.
    mine = Pipeline(source, settings, law(), seed=1, rows=rows)
    read.append(set())
    for step in range(24):
      batch = mine.make_batch(step)
      for name, value in whole.make_batch(step).items():
        np.testing.assert_array_equal(batch[name], value[rows])
      read[-1] |= set(mine.locate(step)[1].tolist())
  assert not read[0] & read[1]
  assert read[0] | read[1] == set(range(source.num_records))


def test_lanes_must_fit(two_corpora, config, law):
  source = open_source(two_corpora, 'train', 'numpy')
  with pytest.raises(InputError, match='not a multiple'):
    open_order(source, config(shuffle_lanes=3), 0)
