"""What is kept for the backward pass changes memory, and no number."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax import kernels, model
from robertax.config import ModelConfig
from robertax.errors import InputError
from robertax.model.encoder import POLICIES

B, T, N, F = 4, 32, 3, 128
CONFIG = ModelConfig(
    vocab_size=50, hidden_size=32, num_layers=N, num_heads=4, mlp_size=F,
    max_positions=T, attention='xla')
IDS = np.random.default_rng(0).integers(4, 50, (B, T)).astype(np.int32)
KEYS = kernels.row_keys(kernels.key_words(0, 1), jnp.arange(B))


def gradient(policy):
  config = dataclasses.replace(CONFIG, remat=policy)
  params = model.create(CONFIG, jax.random.key(0))

  def loss(params):
    x = model.bind(config, params).encode(IDS, np.ones_like(IDS),
                                          dropout_key=KEYS)
    return (x.astype(jnp.float32)**2 * jnp.arange(32)).sum()

  return jax.jit(jax.grad(loss)), params


def kept(policy):
  """Elements of the stacked arrays that the backward loop is given."""
  function, params = gradient(policy)
  loops = []

  def walk(jaxpr):
    for equation in jaxpr.eqns:
      if equation.primitive.name == 'scan':
        loops.append(equation)
      for value in equation.params.values():
        if isinstance(value, jax.extend.core.ClosedJaxpr):
          walk(value.jaxpr)
  walk(function.trace(params).jaxpr.jaxpr)
  backward, = [loop for loop in loops if loop.params['reverse']]
  given = backward.invars[backward.params['num_consts']
                          + backward.params['num_carry']:]
  return sum(x.aval.size for x in given) - sum(
      x.size for x in jax.tree.leaves(params['layers']))


@pytest.mark.parametrize('policy', sorted(set(POLICIES) - {'none'}))
def test_the_gradient_is_the_same(policy):
  whole, params = gradient('none')
  again, _ = gradient(policy)
  expected = jax.tree.leaves(whole(params))
  # Softmax does not see the bias of the keys: its gradient is rounding alone.
  noise = 1e-8 * max(np.abs(a).max() for a in expected)
  for a, b in zip(expected, jax.tree.leaves(again(params))):
    np.testing.assert_allclose(a, b, rtol=1e-5,
                               atol=noise + 1e-5 * np.abs(a).max())


def test_each_policy_keeps_less_than_the_one_before():
  sizes = [kept(policy) for policy in ('none', 'products', 'attention',
                                       'full')]
  assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
  # `attention` lets the MLP's hidden states go, `full` keeps x alone.
  assert sizes[1] - sizes[2] == N * B * T * F


def test_an_unknown_policy_names_the_known():
  with pytest.raises(InputError, match='model.remat.*products'):
    dataclasses.replace(CONFIG, remat='some')
