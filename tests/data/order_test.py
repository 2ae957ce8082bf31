import time

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from robertax.data.order import Order, permute
from robertax.errors import InputError

SIZES = st.tuples(st.integers(1, 600), st.integers(1, 70), st.integers(1, 12))


@settings(max_examples=80, deadline=None)
@given(SIZES, st.integers(0, 2**31), st.integers(0, 5))
def test_each_epoch_has_each_record_once(sizes, seed, epoch):
  n, block, window = sizes
  epochs, records = Order(n, seed, block, window).locate(epoch * n, n)
  assert (epochs == epoch).all()
  assert np.sort(records).tolist() == list(range(n))


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 2**31))
def test_windows_hold_whole_blocks(sizes, seed):
  n, block, window = sizes
  _, records = Order(n, seed, block, window).locate(0, n)
  blocks = records // block
  at, seen = 0, set()
  while at < n:
    # A window ends where its `window` blocks are used up.
    here = list(dict.fromkeys(blocks[at:].tolist()))[:window]
    size = sum(min(block, n - b * block) for b in here)
    found = set(blocks[at:at + size].tolist())
    # Taken together, the records are exactly those of at most `window` blocks.
    assert len(found) <= window and not found & seen
    assert sorted(records[at:at + size]) == sorted(
        r for b in found for r in range(b * block, min(n, (b + 1) * block)))
    seen |= found
    at += size
  assert len(seen) == -(-n // block)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=5),
       st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**31))
def test_epochs_of_duplicates_take_turns(sizes, block, window, seed):
  order = Order(sizes, seed, block, window)
  epochs, records = order.locate(0, 2 * sum(sizes))
  starts = np.cumsum([0, *sizes])
  assert order.starts.tolist() == starts.tolist()
  for epoch in range(2 * len(sizes)):
    number = epoch % len(sizes)
    assert np.sort(records[epochs == epoch]).tolist() == list(
        range(starts[number], starts[number + 1]))
  assert (np.diff(epochs) >= 0).all()
  assert order.passes(sum(sizes)) == len(sizes)
  assert order.passes(0) == 0
  assert order.passes(sum(sizes) + 1) == pytest.approx(
      len(sizes) + 1 / sizes[0])


def test_one_duplicate_is_no_duplicate():
  for n in (5, 64, 997):
    for got, want in zip(Order([n], 3, 8, 4).locate(5 * n, 3 * n),
                         Order(n, 3, 8, 4).locate(5 * n, 3 * n)):
      assert (got == want).all()


def test_independent_of_how_it_is_cut():
  order = Order(1000, 3, 16, 4)
  epochs, records = order.locate(0, 5000)
  for size in (1, 7, 256):
    parts = [order.locate(start, min(size, 5000 - start))
             for start in range(0, 5000, size)]
    assert (np.concatenate([p[0] for p in parts]) == epochs).all()
    assert (np.concatenate([p[1] for p in parts]) == records).all()
  places = np.random.default_rng(0).integers(0, 5000, 300)
  assert (order.at(places)[1] == records[places]).all()


def test_epochs_and_seeds_differ():
  _, first = Order(997, 0, 8, 4).locate(0, 2 * 997)
  _, other = Order(997, 1, 8, 4).locate(0, 997)
  # Two random permutations agree at about one place.
  assert (first[:997] == first[997:]).sum() < 10
  assert (first[:997] == other).sum() < 10


def test_places_are_uniform():
  # Where record 0 lands over many epochs: chi-square over 16 bins.
  n, epochs = 160, 4000
  _, records = Order(n, 5, 8, 4).locate(0, n * epochs)
  where = np.argmax(records.reshape(epochs, n) == 0, 1)
  counts = np.bincount(where * 16 // n, minlength=16)
  expected = epochs / 16
  assert ((counts - expected) ** 2 / expected).sum() < 37.7  # p = 0.001, 15 df


def test_neighbours_are_independent_within_a_window():
  # Which record follows record 0 in a mixed window of 64.
  _, records = Order(64, 5, 8, 8).locate(0, 64 * 6400)
  records = records.reshape(-1, 64)
  row, column = np.nonzero(records[:, :-1] == 0)
  counts = np.bincount(records[row, column + 1], minlength=64)[1:]
  expected = counts.sum() / 63
  assert ((counts - expected) ** 2 / expected).sum() < 104  # p = 0.0007, 62 df


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 500), st.integers(0, 2**63))
def test_permute_is_a_permutation(size, key):
  result = permute(np.arange(size), np.full(size, size),
                   np.full(size, key, np.uint64))
  assert np.sort(result).tolist() == list(range(size))


def test_small_permutations_are_all_reached():
  keys = np.repeat(np.random.default_rng(0).integers(
      0, 2**63, 12_000, dtype=np.uint64), 4)
  got = permute(np.tile(np.arange(4), 12_000), np.full(48_000, 4), keys)
  _, counts = np.unique(got.reshape(-1, 4) @ [64, 16, 4, 1],
                        return_counts=True)
  assert len(counts) == 24
  # A network on so few values is only nearly uniform.
  assert counts.min() > 350 and counts.max() < 650


def test_far_steps_cost_the_same():
  order = Order(80_000_000, 0)
  def seconds(start):
    begin = time.perf_counter()
    for _ in range(5):
      order.locate(start, 256)
    return time.perf_counter() - begin
  seconds(0)
  assert seconds(400_000 * 8192) < 20 * seconds(0) + 2


def test_bad_numbers():
  for numbers in ((0, 0, 1, 1), (5, 0, 0, 1), (5, 0, 1, 0)):
    with pytest.raises(InputError, match='at least 1'):
      Order(*numbers)
