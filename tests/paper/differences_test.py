"""Welch's interval against scipy's own, and what may be said of few seeds."""

import numpy as np
import pytest
from scipy import stats

from robertax.paper.report import difference


@pytest.mark.parametrize('first, second', [
    ([1.0, 2.0, 3.0], [11.0, 12.0, 13.5]), ([4.0, 4.5, 4.1], [4.2, 3.0]),
    ([0.1, 0.2, 0.4, 0.8], [0.3, 0.3, 0.3])])
def test_the_interval_is_scipys(first, second):
  found = difference(first, second)
  oracle = stats.ttest_ind(second, first, equal_var=False)
  interval = oracle.confidence_interval(0.95)
  assert (found.low, found.high) == pytest.approx(tuple(interval))
  assert found.mean == pytest.approx(np.mean(second) - np.mean(first))
  assert found.apart == (oracle.pvalue < 0.05)


def test_one_seed_says_nothing():
  found = difference([1.0], [2.0, 2.1, 2.2])
  assert found.mean == pytest.approx(1.1) and found.apart is None


def test_seeds_that_do_not_differ():
  assert difference([2.0] * 3, [2.0] * 3).apart is False
  assert difference([2.0] * 3, [2.5] * 3).apart is True


def test_of_equal_rows_about_a_twentieth_are_apart():
  rng = np.random.default_rng(0)
  apart = [difference(rng.normal(size=3), rng.normal(size=3)).apart
           for _ in range(2_000)]
  # Welch's is a little conservative with three and three.
  assert 0.02 < np.mean(apart) < 0.06


@pytest.mark.parametrize('wrong', [float('nan'), float('inf')])
def test_a_run_that_diverged_is_apart_from_nothing(wrong):
  for rows in (([1.0, 2.0], [wrong, 2.0]), ([wrong, wrong], [1.0, 2.0])):
    assert difference(*rows).apart is None
