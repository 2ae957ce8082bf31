"""Learning rates against their sources, written out."""

import math

import numpy as np
import pytest

from robertax.config import OptimConfig
from robertax.train.optimizer import SCHEDULES, rates

PEAK, WARMUP, STEPS, END = 6e-4, 20, 100, 1e-5


def expected(name, n):
  if n < WARMUP:
    return PEAK * n / WARMUP
  done = (n - WARMUP) / (STEPS - WARMUP)
  return {
      'linear': PEAK + (END - PEAK) * done,
      'constant': PEAK,
      'polynomial': END + (PEAK - END) * (1 - done)**3,
      'cosine': END + (PEAK - END) * (1 + math.cos(math.pi * done)) / 2,
      # fairseq inverse_square_root_schedule.py: peak sqrt(warm-up) / sqrt(n).
      'inverse_sqrt': PEAK * math.sqrt(WARMUP / n),
      # BERT optimization.py:32: over all steps, not those after warm-up.
      'bert': END + (PEAK - END) * (1 - n / STEPS)}[name]


@pytest.mark.parametrize('name', sorted(SCHEDULES))
def test_each_schedule(name):
  schedule = SCHEDULES[name](OptimConfig(
      learning_rate=PEAK, warmup_steps=WARMUP, end_learning_rate=END, power=3),
                             STEPS)
  for n in (0, 1, 10, 19, 20, 21, 50, 99, 100):
    assert float(schedule(n)) == pytest.approx(expected(name, n), rel=1e-5,
                                               abs=1e-12)


@pytest.mark.parametrize('name', sorted(SCHEDULES))
def test_without_a_warm_up_the_first_rate_is_the_peak(name):
  schedule = SCHEDULES[name](OptimConfig(learning_rate=PEAK, warmup_steps=0),
                             STEPS)
  assert float(schedule(0)) == pytest.approx(PEAK, rel=1e-5)


@pytest.mark.parametrize('name', sorted(SCHEDULES))
def test_rates_are_the_schedule_at_every_update(name):
  schedule = SCHEDULES[name](OptimConfig(learning_rate=PEAK, warmup_steps=5),
                             STEPS)
  np.testing.assert_allclose(
      rates(schedule, 30), [float(schedule(n)) for n in range(30)], rtol=1e-6)
