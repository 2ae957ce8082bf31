"""The losses against float64, and at the edge of float32."""

import jax
import jax.numpy as jnp
import numpy as np

from robertax.model import class_loss, mlm_loss, nsp_loss, span_loss


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


def test_a_span_is_looked_for_in_its_own_sequence_alone():
  """Packed: each sequence's loss is that of its logits alone."""
  random = np.random.RandomState(1)
  segments = np.array([[1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 2, 3, 3, 3, 0, 0]])
  start, end = random.randn(2, 2, 8) * 3
  starts, ends = np.array([[1, 4, 0], [0, 2, 4]]), np.array(
      [[2, 6, 0], [1, 2, 3]])
  weights = np.array([[1., 1, 0], [1, 1, 1]])
  nats = 0
  for row, slot in zip(*np.nonzero(weights)):
    places = np.flatnonzero(segments[row] == slot + 1)
    for logits, targets in ((start, starts), (end, ends)):
      own = logits[row, places]
      nats += np.log(np.exp(own).sum()) - logits[row, targets[row, slot]]
  give = jax.value_and_grad(lambda x: span_loss(
      x, jnp.float32(end), segments, starts, ends,
      jnp.float32(weights))['loss_sum'])
  value, gradient = give(jnp.float32(start))
  np.testing.assert_allclose(value, nats / 2, rtol=1e-5)
  assert np.isfinite(gradient).all() and (gradient[segments == 0] == 0).all()


def test_a_group_is_a_softmax_over_its_members():
  """One logit each; a group may be shorter than the widest."""
  logits = jnp.array([[[2., 0, 1]], [[1., 3, -1e30]]])
  got = class_loss(logits, jnp.array([[0], [1]]), jnp.ones((2, 1)))
  want = (np.log(np.exp([2, 0, 1]).sum()) - 2
          + np.log(np.exp([1, 3]).sum()) - 3)
  np.testing.assert_allclose(got['loss_sum'], want, rtol=1e-6)
  assert got['correct_sum'] == 2
