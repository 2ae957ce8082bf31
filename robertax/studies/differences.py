"""Whether two rows differ by more than their seeds do."""

from collections.abc import Sequence
import dataclasses
import math
import statistics

from scipy import stats

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Difference:
  """Of the means of two rows, the second less the first.

  Attributes:
    mean: that difference.
    low, high: Welch's t interval of it at CONFIDENCE; None where a row has one
      seed only, and nothing can be said.
    apart: whether the interval leaves out 0. None: not known.
  """
  mean: float
  low: float | None
  high: float | None

  @property
  def apart(self) -> bool | None:
    if self.low is None or self.high is None:
      return None
    return not self.low <= 0 <= self.high


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
  """Of two independent samples with unequal spreads (Welch 1947).

  >>> difference([1., 2., 3.], [11., 12., 13.])
  Difference(mean=10.0, low=7.73..., high=12.26...)

  Args:
    first, second: a value a seed, one or more.
  """
  mean = statistics.mean(second) - statistics.mean(first)
  if min(len(first), len(second)) < 2:
    return Difference(mean, None, None)
  errors = [statistics.variance(one) / len(one) for one in (first, second)]
  if not sum(errors):  # Seeds that do not differ at all.
    return Difference(mean, mean, mean)
  freedom = sum(errors)**2 / sum(
      error**2 / (len(one) - 1) for error, one in zip(errors, (first, second)))
  half = math.sqrt(sum(errors)) * float(
      stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
  return Difference(mean, mean - half, mean + half)
