"""Examples: what goes in comes out."""

import numpy as np
import pytest

from robertax.data.finetuning import Examples

SEQUENCES = [np.array([5, 6]), np.array([7]), np.array([8, 9, 10])]


def test_groups_values_and_marks_stay_together():
  found = Examples.of(
      SEQUENCES, groups=[0, 0, 1], values={'a': [1, 2, 3]},
      marks={'m': [[0, -1], [0, -1], [1, 2]]}, group_values={'g': [4, 5]})
  assert (len(found), found.num_groups, found.members) == (3, 2, 2)
  assert found.lengths.tolist() == [2, 1, 3]
  assert found.second_starts.tolist() == [2, 1, 3]
  assert [found.sequence(n).tolist() for n in range(3)] == [
      [5, 6], [7], [8, 9, 10]]
  assert found.firsts.tolist() == [0, 2, 3]
  assert found.values['a'].tolist() == [1, 2, 3]
  assert found.marks['m'].tolist() == [[0, -1], [0, -1], [1, 2]]
  assert found.group_values['g'].tolist() == [4, 5]


@pytest.mark.parametrize('given', [
    {'groups': [0, 2, 2]}, {'groups': [1, 1, 1]}, {'values': {'a': [1, 2]}},
    {'groups': [0, 0, 0], 'group_values': {'g': [1, 2]}}])
def test_what_does_not_fit_is_refused(given):
  with pytest.raises(ValueError):
    Examples.of(SEQUENCES, **given)
