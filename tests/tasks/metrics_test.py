"""GLUE's metrics equal scikit-learn and scipy called directly."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as theirs

from robertax.tasks.glue import METRICS, glue_scores


@pytest.mark.parametrize('seed', range(3))
def test_classes(seed):
  rng = np.random.default_rng(seed)
  targets, found = rng.integers(0, 2, (2, 200))
  assert METRICS['accuracy'](targets, found) == pytest.approx(
      100 * theirs.accuracy_score(targets, found))
  assert METRICS['f1'](targets, found) == pytest.approx(
      100 * theirs.f1_score(targets, found))
  assert METRICS['matthews'](targets, found) == pytest.approx(
      100 * theirs.matthews_corrcoef(targets, found))
  words = np.array(['no', 'yes'])
  assert glue_scores(['accuracy'], list(words[targets]),
                     list(words[found])) == {
                         'accuracy': METRICS['accuracy'](targets, found)
                     }
  # Labels are strings in the files: '1' is the positive one.
  assert glue_scores(['f1', 'matthews'], list(map(str, targets)),
                     list(map(str, found))) == {
                         'f1': METRICS['f1'](targets, found),
                         'matthews': METRICS['matthews'](targets, found)}


@pytest.mark.parametrize('seed', range(3))
def test_scores(seed):
  rng = np.random.default_rng(seed)
  targets = rng.integers(0, 11, 150) / 2  # With ties.
  found = targets + rng.normal(size=150)
  assert METRICS['pearson'](targets, found) == pytest.approx(
      100 * stats.pearsonr(targets, found).statistic)
  assert METRICS['spearman'](targets, found) == pytest.approx(
      100 * stats.spearmanr(targets, found).statistic)


def test_constant_predictions_correlate_with_nothing():
  assert METRICS['pearson']([1, 2, 3], [2, 2, 2]) == 0
  assert METRICS['spearman']([1, 2, 3], [2, 2, 2]) == 0
  assert METRICS['matthews']([0, 1, 1], [1, 1, 1]) == 0
  assert METRICS['f1']([0, 1, 1], [0, 0, 0]) == 0
