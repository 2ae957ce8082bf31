"""LayerNorm and GELU against float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from robertax.kernels import gelu, layer_norm


def test_layer_norm_is_the_formula_in_float64():
  random = np.random.RandomState(0)
  x = random.randn(5, 7, 48) * 3 + 100
  scale, bias = random.randn(48), random.randn(48)
  mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  expected = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
  got = layer_norm(*(jnp.asarray(a, jnp.float32) for a in (x, scale, bias)),
                   1e-5)
  np.testing.assert_allclose(got, expected, atol=5e-5)


def test_eps_stands_inside_the_root():
  x = jnp.array([[1e-3, -1e-3]])
  got = layer_norm(x, jnp.ones(2), jnp.zeros(2), 1e-5)
  np.testing.assert_allclose(got[0, 0], 1e-3 / math.sqrt(1e-6 + 1e-5),
                             rtol=1e-5)


def test_gelu_is_erf_not_tanh():
  x = np.linspace(-6, 6, 2001)
  expected = [v * .5 * math.erfc(-v / math.sqrt(2)) for v in x]
  got = np.asarray(gelu(jnp.asarray(x, jnp.float32)))
  np.testing.assert_allclose(got, expected, atol=1e-6)
  assert np.abs(np.asarray(jax.nn.gelu(x, approximate=True))
                - expected).max() > 1e-4


def test_gelus_slope_is_a_difference_in_float64():
  x = np.linspace(-9, 9, 2001)
  phi = np.vectorize(lambda v: v * .5 * math.erfc(-v / math.sqrt(2)))
  expected = (phi(x + 1e-5) - phi(x - 1e-5)) / 2e-5
  got = jax.vmap(jax.grad(gelu))(jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(got, expected, atol=1e-6)


def test_bfloat16_in_float32_inside():
  x = (jax.random.normal(jax.random.key(0), (4, 512)) + 50).astype(jnp.bfloat16)
  y = layer_norm(x, jnp.ones(512), jnp.zeros(512), 1e-5)
  wide = layer_norm(x.astype(jnp.float32), jnp.ones(512), jnp.zeros(512), 1e-5)
  assert y.dtype == gelu(x).dtype == jnp.bfloat16
  np.testing.assert_array_equal(y, wide.astype(jnp.bfloat16))
