"""The product and its two gradients, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax.kernels.dense import product

SHAPES = [((3, 4, 5), (5, 6), 'abc,cd->abd'),
          ((3, 4, 5), (5, 2, 6), 'abc,cde->abde'),
          ((3, 4, 2, 5), (2, 5, 6), 'abcd,cde->abe')]


@pytest.mark.parametrize('dtype, rtol', [('float32', 1e-5), ('bfloat16', 2e-2)])
@pytest.mark.parametrize('rows, kernel, einsum', SHAPES)
def test_forward_and_both_gradients(rows, kernel, einsum, dtype, rtol):
  rng = np.random.default_rng(0)
  x, w = (jnp.asarray(rng.normal(size=s), dtype) for s in (rows, kernel))
  num_inputs = len(rows) - 2
  y, vjp = jax.vjp(lambda x, w: product(x, w, num_inputs), x, w)
  dy = jnp.asarray(rng.normal(size=y.shape), dtype)
  left, rest = einsum.split(',')
  right, out = rest.split('->')
  x64, w64, dy64 = (np.asarray(a, np.float64) for a in (x, w, dy))
  expected = (np.einsum(einsum, x64, w64),
              np.einsum(f'{out},{right}->{left}', dy64, w64),
              np.einsum(f'{left},{out}->{right}', x64, dy64))
  for got, wanted in zip((y, *vjp(dy)), expected):
    assert got.dtype == dtype and got.shape == wanted.shape
    np.testing.assert_allclose(np.asarray(got, np.float64), wanted, rtol=rtol,
                               atol=rtol)


def test_the_kernels_gradient_needs_no_transposed_copy():
  """Of 256 x 512 states, on a CPU: what made a tenth of a step."""
  x, w = jnp.ones((4, 64, 128)), jnp.ones((128, 512))

  def text(function):
    return jax.jit(jax.grad(lambda x, w: jnp.sin(function(x, w)).sum(), 1)
                   ).lower(x, w).compile().as_text()

  assert 'f32[512,256]' in text(lambda x, w: jnp.einsum('abc,cd->abd', x, w))
  assert 'f32[512,256]' not in text(product)
