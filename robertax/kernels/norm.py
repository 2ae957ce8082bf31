"""LayerNorm and GELU, both computed in float32 whatever goes in."""

import math

import jax
from jax import lax
import jax.numpy as jnp


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array,
               eps: float) -> jax.Array:
  """LayerNorm over the last dimension (fairseq modules/layer_norm.py).

  Args:
    x: [..., D].
    scale, bias: float32[D].
    eps: added to the variance, inside the root.

  Returns:
    [..., D] in x's dtype; statistics and affine part in float32.
  """
  wide = x.astype(jnp.float32)
  centred = wide - wide.mean(-1, keepdims=True)
  variance = (centred * centred).mean(-1, keepdims=True)
  y = centred * lax.rsqrt(variance + eps) * scale + bias
  return y.astype(x.dtype)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
  """x Phi(x) with the exact erf (fairseq modules/gelu.py), in float32.

  Not `jax.nn.gelu`, whose default is the tanh approximation. Keeps x alone for
  the backward pass; derived by JAX it keeps three more arrays of its size.
  """
  wide = x.astype(jnp.float32)
  return (wide * _normal_cdf(wide)).astype(x.dtype)


def _normal_cdf(x):
  return 0.5 * (1 + lax.erf(x * math.sqrt(0.5)))


def _gelu_forward(x):
  return gelu(x), x


def _gelu_backward(x, dy):
  wide = x.astype(jnp.float32)
  density = jnp.exp(-0.5 * wide * wide) * (1 / math.sqrt(2 * math.pi))
  slope = _normal_cdf(wide) + wide * density
  return ((dy.astype(jnp.float32) * slope).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)
