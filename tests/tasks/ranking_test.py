"""Losses over groups, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax.tasks import ranking

RNG = np.random.default_rng(0)
G, C = 7, 5
SCORES = RNG.normal(size=(G, C)).astype(np.float32)
MASK = (np.arange(C) < np.array([5, 4, 3, 2, 1, 5, 2])[:, None]).astype(
    np.float32)
WEIGHTS = np.array([1, 1, 1, 1, 1, 0, 1], np.float32)
TARGETS = np.array([4, 0, 2, 1, 0, 3, 0], np.int32)


def test_choice():
  sums = ranking.choice(SCORES, TARGETS, MASK, WEIGHTS)
  loss = correct = 0
  for g in range(G):
    if WEIGHTS[g]:
      there = SCORES[g, MASK[g] > 0].astype(np.float64)
      loss += np.log(np.exp(there).sum()) - there[TARGETS[g]]
      correct += int(np.argmax(there)) == TARGETS[g]
  assert float(sums['loss_sum']) == pytest.approx(loss, rel=1e-6)
  assert float(sums['correct_sum']) == correct
  assert float(sums['weight_sum']) == 6


@pytest.mark.parametrize('alpha, beta', [(1.0, 0.0), (5.0, 0.4)])
def test_margin(alpha, beta):
  sums = ranking.margin(SCORES, MASK, WEIGHTS, alpha, beta)
  loss = correct = 0
  for g in range(G):
    if WEIGHTS[g]:
      lq, *others = SCORES[g, MASK[g] > 0].astype(np.float64)
      loss += sum(-lq + alpha * max(0, lc - lq + beta) for lc in others)
      correct += all(lq >= lc for lc in others)
  assert float(sums['loss_sum']) == pytest.approx(loss, rel=1e-6)
  assert float(sums['correct_sum']) == correct
  assert float(sums['weight_sum']) == 6


@pytest.mark.parametrize('loss', [
    lambda s: ranking.choice(s, TARGETS, MASK, WEIGHTS)['loss_sum'],
    lambda s: ranking.margin(s, MASK, WEIGHTS, 1.0, 0.3)['loss_sum']])
def test_what_is_not_there_has_no_part(loss):
  gradient = jax.grad(loss)(jnp.asarray(SCORES))
  absent = (MASK * WEIGHTS[:, None]) == 0
  assert not np.any(np.asarray(gradient)[absent]) and np.any(gradient)
  filled = np.where(absent, 1e9, SCORES)
  assert float(loss(filled)) == pytest.approx(float(loss(SCORES)))


def test_a_tie_is_the_querys():
  scores = np.array([[1.0, 1.0, 0.5], [1.0, 1.5, 0], [1.0, 1.5, 0]])
  mask = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 1]])
  assert ranking.query_wins(scores, mask).tolist() == [True, False, True]


def test_mean_by_span():
  values = np.array([1.0, 2.0, 6.0, 5.0, 9.0], np.float32)
  spans = np.array([0, 0, 2, 0, 4])
  found = ranking.mean_by_span(jnp.asarray(values), jnp.asarray(spans), 4)
  np.testing.assert_allclose(found, [8 / 3, 0, 6, 0], rtol=1e-6)
