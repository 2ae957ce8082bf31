"""The masked-LM loss against float64, and at the edge of float32."""

import jax
import jax.numpy as jnp
import numpy as np

from robertax.model import mlm_loss


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
