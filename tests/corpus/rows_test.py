
import doctest

from hypothesis import given, settings
from hypothesis import strategies as st

from robertax.corpus import shards
from robertax.corpus.shards import fill_rows

LENGTH = 20
SIZES = st.lists(st.integers(3, LENGTH), max_size=120)


def test_worked_example():
  found = doctest.testmod(shards)
  assert not found.failed and found.attempted


def plainly(sizes, most, window):
  """The rule in other words: all rows are kept, and which are open."""
  found, is_open = [], []
  room = lambda row: LENGTH - sum(sizes[i] for i in row)
  for number, size in enumerate(sizes):
    fits = [i for i, row in enumerate(found)
            if is_open[i] and room(row) >= size]
    if fits:
      at = sorted(fits, key=lambda i: (room(found[i]), i))[0]
      found[at].append(number)
    else:
      at = len(found)
      found.append([number])
      is_open.append(True)
    if len(found[at]) == most:
      is_open[at] = False
    still = [i for i in range(len(found)) if is_open[i]]
    if len(still) > window:
      is_open[sorted(still, key=lambda i: (room(found[i]), i))[0]] = False
  return found


@settings(deadline=None, max_examples=150)
@given(SIZES, st.integers(1, 6))
def test_each_example_stands_in_one_row(sizes, most):
  found = fill_rows(sizes, LENGTH, most)
  assert sorted(i for row in found for i in row) == list(range(len(sizes)))
  assert [row[0] for row in found] == sorted(row[0] for row in found)
  for row in found:
    assert row == sorted(row) and 1 <= len(row) <= most
    assert sum(sizes[i] for i in row) <= LENGTH
  assert found == plainly(sizes, most, shards.OPEN_ROWS)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(3, LENGTH), max_size=shards.OPEN_ROWS))
def test_two_half_empty_rows_would_have_been_one(sizes):
  """While no row is closed for want of a window; the law of any-fit rules."""
  found = fill_rows(sizes, LENGTH, len(sizes) + 1)
  half = [row for row in found if 2 * sum(sizes[i] for i in row) <= LENGTH]
  assert len(half) <= 1


@settings(deadline=None, max_examples=50)
@given(SIZES)
def test_one_example_a_row_is_the_examples_in_order(sizes):
  assert fill_rows(sizes, LENGTH, 1) == [[i] for i in range(len(sizes))]
