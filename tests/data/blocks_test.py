"""Where groups lie: nothing lost, nothing across a row's end, few shapes."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from robertax.data.finetuning import Examples, RowGroups, ladder


def examples_of(sizes):
  """Groups of examples of these sizes."""
  flat = [n for group in sizes for n in group]
  groups = np.repeat(np.arange(len(sizes)), [len(g) for g in sizes])
  return Examples.of([np.arange(n) for n in flat], groups=groups)


def check(law, placed, examples, max_length):
  """Each example whole in one row, no two in one place, groups side by side."""
  taken = np.zeros((placed.row_groups, law.rows, placed.length), int)
  for e, at, start in zip(placed.examples, placed.row_group, placed.start):
    row, column = divmod(int(start), placed.length)
    size = examples.lengths[e]
    assert column + size <= placed.length <= max_length
    taken[at, row, column:column + size] += 1
  assert taken.max() <= 1
  assert len({*zip(placed.row_group, placed.slot)}) == len(placed.examples)
  assert placed.slot.max() < placed.slots
  assert placed.slots % law.members == 0
  each = placed.slots // law.members
  for group, place in zip(placed.groups, placed.group_slot):
    row_group, number = divmod(int(place), each)
    mine = np.arange(examples.firsts[group], examples.firsts[group + 1])
    at = [placed.examples.tolist().index(e) for e in mine]
    assert (placed.row_group[at] == row_group).all()
    assert placed.slot[at].tolist() == [
        number * law.members + n for n in range(len(mine))]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4),
                min_size=1, max_size=30), st.integers(1, 3))
def test_every_example_lies_somewhere_once(sizes, unit):
  examples = examples_of(sizes)
  law = RowGroups(examples, 40, unit)
  placed = law.place(range(len(sizes)))
  check(law, placed, examples, 40)
  assert sorted(placed.examples) == list(range(len(examples)))
  assert placed.row_groups % unit == 0
  found = []
  for part in law.cut(200):
    check(law, part, examples, 40)
    found += part.examples.tolist()
  assert sorted(found) == list(range(len(examples)))


def test_the_worked_example_of_the_module():
  law = RowGroups(examples_of([(2, 2), (1, 3), (2,)]), 8, 1)
  placed = law.place([0, 1, 2])
  assert (law.rows, law.members, placed.length) == (1, 2, 8)
  assert placed.row_group.tolist() == [0, 0, 0, 0, 1]
  assert placed.slot.tolist() == [0, 1, 2, 3, 0]
  assert placed.start.tolist() == [0, 2, 4, 5, 0]


def test_a_group_longer_than_a_row_takes_several():
  sizes = [(30, 30, 30, 30), (15, 15, 16, 16), (10, 10)]
  examples = examples_of(sizes)
  law = RowGroups(examples, 40, 2)
  assert law.rows == 4
  check(law, law.place([0, 1, 2]), examples, 40)
  assert RowGroups(examples_of(sizes[1:]), 40, 1).rows == 2


def test_rows_are_no_longer_than_the_batch_needs():
  examples = examples_of([(n,) for n in [500, 20, 150, 60, 90] + [10] * 60])
  law = RowGroups(examples, 512, 1)
  # And no shorter than four of an average length, which is 23.
  assert [law.place([g]).length for g in range(5)] == [512, 96, 192, 96, 96]
  assert law.place([1, 3, 5]).row_groups == 1


def test_short_examples_are_packed():
  """SST-2's lengths: padding is a ninth, not the two thirds of one a row."""
  lengths = np.random.default_rng(0).poisson(9, 4000) + 3
  examples = examples_of([(int(n),) for n in lengths])
  law = RowGroups(examples, 512, 1)
  tokens = places = 0
  shapes = set()
  for step in range(60):
    placed = law.place(range(step * 64, step * 64 + 64))
    shapes.add((placed.row_groups, placed.length))
    tokens += lengths[placed.examples].sum()
    places += placed.row_groups * placed.length
  assert 1 - tokens / places < .25 and len(shapes) <= 4
  places = sum(p.row_groups * p.length for p in law.cut(4096))
  assert 1 - lengths.sum() / places < .12


def test_the_ladder_of_counts():
  rungs = sorted({ladder(n, 1) for n in range(1, 1000)})
  assert rungs[:8] == [1, 2, 3, 4, 6, 8, 12, 16]
  assert all(n <= ladder(n, 8) and ladder(n, 8) % 8 == 0
             for n in range(1, 300))
  # Never more than a half too many.
  assert all(ladder(n, 1) <= 1.5 * n for n in range(2, 1000))


def test_an_example_longer_than_a_row_is_the_tasks_mistake():
  with pytest.raises(ValueError, match='41 tokens in rows of 40'):
    RowGroups(examples_of([(41,)]), 40, 1)
