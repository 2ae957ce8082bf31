"""The losses against float64, and at the edge of float32."""

import jax
import jax.numpy as jnp
import numpy as np

from robertax.model import mlm_loss, nsp_loss


def test_sums_are_the_formula_in_float64():
  random = np.random.RandomState(0)
  logits = random.randn(3, 5, 11) * 4
  targets = random.randint(0, 11, (3, 5))
  weights = (random.rand(3, 5) < .6).astype(float)
  probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  nats = -np.log(np.take_along_axis(probs, targets[..., None], -1)[..., 0])
  got = mlm_loss(jnp.float32(logits), jnp.asarray(targets),
                 jnp.float32(weights))
  np.testing.assert_allclose(got['loss_sum'], (weights * nats).sum(), rtol=1e-6)
  assert got['weight_sum'] == weights.sum()
  assert got['correct_sum'] == (
      weights * (logits.argmax(-1) == targets)).sum()


def test_huge_logits_do_not_overflow():
  logits = jnp.array([[[1e4, 0., -1e4]]])
  for target, expected in [(0, 0.), (1, 1e4), (2, 2e4)]:
    loss = lambda x, target=target: mlm_loss(
        x, jnp.array([[target]]), jnp.ones((1, 1)))['loss_sum']
    value, gradient = jax.value_and_grad(loss)(logits)
    assert value == expected and np.isfinite(gradient).all()


def test_filler_counts_nothing():
  logits = jnp.zeros((1, 2, 4)).at[0, 1, 2].set(50.)
  got = mlm_loss(logits, jnp.array([[0, 1]]), jnp.array([[1., 0.]]))
  np.testing.assert_allclose(got['loss_sum'], np.log(4), rtol=1e-6)
  assert (got['weight_sum'], got['correct_sum']) == (1, 1)


def test_bfloat16_logits_are_summed_in_float32():
  logits = jnp.zeros((1, 1, 4096), jnp.bfloat16)
  got = mlm_loss(logits, jnp.zeros((1, 1), int), jnp.ones((1, 1)))
  assert got['loss_sum'].dtype == jnp.float32
  np.testing.assert_allclose(got['loss_sum'], np.log(4096), rtol=1e-6)


def test_next_sentence_sums_are_the_formula_in_float64():
  random = np.random.RandomState(1)
  logits = random.randn(5, 3, 2) * 3
  targets = random.randint(0, 2, (5, 3))
  weights = (np.arange(3) < random.randint(0, 4, (5, 1))).astype(float)
  # log(1 + exp(other - target)): two classes are a logistic regression.
  other, target = (np.take_along_axis(logits, t[..., None], -1)[..., 0]
                   for t in (1 - targets, targets))
  got = nsp_loss(jnp.float32(logits), jnp.asarray(targets),
                 jnp.float32(weights))
  assert set(got) == {'nsp_loss_sum', 'nsp_weight_sum', 'nsp_correct_sum'}
  np.testing.assert_allclose(
      got['nsp_loss_sum'], (weights * np.log1p(np.exp(other - target))).sum(),
      rtol=1e-6)
  assert 0 < got['nsp_weight_sum'] == weights.sum() < weights.size
  assert got['nsp_correct_sum'] == (weights * (target > other)).sum()


def test_of_equal_logits_the_first_is_the_guess():
  """As argmax has it: a model without an opinion is not right everywhere."""
  logits = jnp.zeros((1, 4, 3)).at[0, 3, 1:].set(1.)
  got = mlm_loss(logits, jnp.array([[0, 1, 2, 1]]), jnp.ones((1, 4)))
  assert got['correct_sum'] == 2
