"""Metrics of classes and scores, in percent, by scikit-learn and scipy."""

from collections.abc import Callable, Sequence
import warnings

import numpy as np

Numbers = Sequence[int] | Sequence[float] | np.ndarray


def accuracy(targets: Numbers, predictions: Numbers) -> float:
  """Share of equal ones."""
  from sklearn import metrics
  return 100 * float(metrics.accuracy_score(targets, predictions))


def f1(targets: Numbers, predictions: Numbers) -> float:
  """Of class 1; 0 where none is predicted."""
  from sklearn import metrics
  return 100 * float(metrics.f1_score(targets, predictions, zero_division=0))


def f1_macro(targets: Numbers, predictions: Numbers) -> float:
  """Mean over the classes that occur, of F1; 0 where none is predicted."""
  from sklearn import metrics
  return 100 * float(metrics.f1_score(
      targets, predictions, average='macro', zero_division=0))


def matthews(targets: Numbers, predictions: Numbers) -> float:
  """Matthews' correlation; 0 where all predictions are one class."""
  from sklearn import metrics
  return 100 * float(metrics.matthews_corrcoef(targets, predictions))


def pearson(targets: Numbers, predictions: Numbers) -> float:
  """Pearson's correlation; 0 where all predictions are equal."""
  from scipy import stats
  return _correlation(stats.pearsonr, targets, predictions)


def spearman(targets: Numbers, predictions: Numbers) -> float:
  """Spearman's rank correlation; 0 where all predictions are equal."""
  from scipy import stats
  return _correlation(stats.spearmanr, targets, predictions)


def _correlation(function, targets, predictions):
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # Constant input, told as 0.
    found = float(function(targets, predictions)[0])
  return 100 * found if np.isfinite(found) else 0.0


METRICS: dict[str, Callable[[Numbers, Numbers], float]] = {
    'accuracy': accuracy, 'f1': f1, 'f1_macro': f1_macro,
    'matthews': matthews, 'pearson': pearson, 'spearman': spearman}
