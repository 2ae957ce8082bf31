"""Losses over groups, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax import model
from robertax.tasks import objectives

RNG = np.random.default_rng(0)
B, G, M = 2, 4, 5
SCORES = RNG.normal(size=(B, G * M)).astype(np.float32)
SIZES = np.array([[5, 4, 3, 0], [2, 1, 5, 2]])
THERE = np.arange(M) < SIZES[..., None]
WEIGHTS = (SIZES > 0).astype(np.float32)
TARGETS = np.array([[4, 0, 2, 0], [1, 0, 3, 0]], np.int32)


def groups():
  """The scores of each group that is there, and its target."""
  for b in range(B):
    for g in range(G):
      if SIZES[b, g]:
        scores = SCORES[b].reshape(G, M)[g, :SIZES[b, g]]
        yield scores.astype(np.float64), TARGETS[b, g]


def apart(scores):
  return objectives.grouped(scores, THERE.reshape(B, -1).astype(np.float32), G)


def choice(scores):
  return model.class_loss(apart(scores), TARGETS, WEIGHTS)


def test_choice():
  sums = choice(SCORES)
  loss = sum(np.log(np.exp(s).sum()) - s[t] for s, t in groups())
  assert float(sums['loss_sum']) == pytest.approx(loss, rel=1e-6)
  assert float(sums['correct_sum']) == sum(
      np.argmax(s) == t for s, t in groups())
  assert float(sums['weight_sum']) == 7


@pytest.mark.parametrize('alpha, beta', [(1.0, 0.0), (5.0, 0.4)])
def test_margin(alpha, beta):
  sums = objectives.margin_loss(apart(SCORES), WEIGHTS, alpha, beta)
  loss = correct = 0
  for (lq, *others), _ in groups():
    loss += sum(-lq + alpha * max(0, lc - lq + beta) for lc in others)
    correct += all(lq >= lc for lc in others)
  assert float(sums['loss_sum']) == pytest.approx(loss, rel=1e-6)
  assert float(sums['correct_sum']) == correct
  assert float(sums['weight_sum']) == 7


@pytest.mark.parametrize('loss', [
    lambda s: choice(s)['loss_sum'],
    lambda s: objectives.margin_loss(apart(s), WEIGHTS, 1.0, 0.3)['loss_sum']])
def test_what_is_not_there_has_no_part(loss):
  gradient = np.asarray(jax.grad(loss)(jnp.asarray(SCORES)))
  absent = ~THERE.reshape(B, -1)
  assert not gradient[absent].any() and gradient.any()
  filled = np.where(absent, 1e9, SCORES)
  assert float(loss(filled)) == pytest.approx(float(loss(SCORES)))


def test_a_tie_is_the_querys():
  scores = np.array([[1.0, 1.0, 0.5, 1.0, 1.5, 0, 1.0, 1.5, 0]])
  there = np.array([[1, 1, 1, 1, 1, 1, 1, 0, 1]])
  for weights, correct in (([1, 1, 1], 2), ([0, 1, 1], 1), ([1, 0, 0], 1)):
    sums = objectives.margin_loss(objectives.grouped(scores, there, 3),
                                  np.array([weights], np.float32))
    assert float(sums['correct_sum']) == correct
