"""Costs of kernels, against counts made by hand."""

import jax
from jax.experimental import pallas as pl
import jax.numpy as jnp
import pytest

from robertax.kernels import attention
from robertax.parallel.chips import CHIPS
from robertax.studies.compiled_program import KernelCost, kernel_costs


def call(x):
  def kernel(x, out):
    out[...] = jnp.exp(x[...]) + jnp.dot(x[...], x[...])
  return pl.pallas_call(
      kernel, grid=(3,), name='mine',
      in_specs=[pl.BlockSpec((None, 64, 64), lambda i: (i, 0, 0))],
      out_specs=pl.BlockSpec((None, 64, 64), lambda i: (i, 0, 0)),
      out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)


def test_a_kernel_in_a_loop():
  x = jax.ShapeDtypeStruct((3, 64, 64), jnp.float32)
  jaxpr = jax.jit(lambda x: jax.lax.scan(
      lambda c, _: (call(c), None), x, length=5)[0]).trace(x).jaxpr
  cost = kernel_costs(jaxpr)['mine']
  assert cost.calls == 5
  # 64 is filled up to the unit's 128, in the inner dim and in the columns.
  assert cost.flops == 5 * 3 * 2 * 64 * 128 * 128
  # An exp counts 4, the addition 1.
  assert cost.vector == 5 * 3 * 64 * 64 * 5
  assert cost.bytes == 5 * 2 * 3 * 64 * 64 * 4


def test_the_slowest_of_three_is_the_time():
  chip = CHIPS['v5e']
  assert KernelCost(flops=197e12).seconds(chip) == pytest.approx(1 / .7)
  assert KernelCost(bytes=819e9).seconds(chip) == pytest.approx(1 / .8)
  assert KernelCost(vector=8 * 128 * 4 * 1.5e9, flops=1).seconds(chip) == (
      pytest.approx(1))


def test_attention_with_its_dropout_and_gradient():
  """2 + 5 products of T x T x 128; 13 operations an element for the hash."""
  B, T, H, K = 2, 128, 2, 64
  x = jax.ShapeDtypeStruct((B, T, H, K), jnp.bfloat16)
  segments = jax.ShapeDtypeStruct((B, T), jnp.int32)
  keys = jax.ShapeDtypeStruct((B, 2), jnp.uint32)

  def costs(rate):
    def step(x, segments, keys):
      return jax.grad(lambda x: attention(
          x, x, x, segment_ids=segments, dropout_key=keys, dropout_rate=rate,
          implementation='fused').astype(jnp.float32).sum())(x)
    return kernel_costs(jax.jit(step).trace(x, segments, keys).jaxpr)

  dropped, plain = costs(.1), costs(0.)
  assert set(dropped) == {'attention_forward', 'attention_backward'}
  for name, products in (('attention_forward', 2), ('attention_backward', 5)):
    assert dropped[name].calls == 1
    assert dropped[name].flops == products * B * H * 2 * T * T * 128
    hashed = dropped[name].vector - plain[name].vector
    assert 10 <= hashed / (B * H * T * T) <= 20
