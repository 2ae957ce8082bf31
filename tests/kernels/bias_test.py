"""The bias and its gradient, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax.kernels.dense import add_bias


@pytest.mark.parametrize('dims', [(5,), (2, 3)])
@pytest.mark.parametrize('dtype, rtol', [('float32', 1e-6),
                                         ('bfloat16', 1e-6)])
def test_the_sum_and_its_gradient(dims, dtype, rtol):
  """Of bfloat16 cotangents too the bias gets a float32 sum."""
  rng = np.random.default_rng(0)
  y = jnp.asarray(rng.normal(size=(7, 300, *dims)), dtype)
  bias = jnp.asarray(rng.normal(size=dims), jnp.float32)
  dy = jnp.asarray(rng.normal(size=y.shape), dtype)
  out, vjp = jax.vjp(add_bias, y, bias)
  assert out.dtype == y.dtype
  np.testing.assert_array_equal(out, y + bias.astype(dtype))
  got_y, got_bias = vjp(dy)
  np.testing.assert_array_equal(got_y, dy)
  assert got_bias.dtype == jnp.float32
  np.testing.assert_allclose(
      got_bias, np.asarray(dy, np.float64).sum((0, 1)), rtol=rtol, atol=1e-4)
