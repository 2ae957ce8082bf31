"""Adding a bias, with a gradient that the matrix unit sums up."""

import jax
from jax import lax
import jax.numpy as jnp


@jax.custom_vjp
def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
  """y + bias, in y's dtype.

  The bias's gradient is a sum over all tokens: as a product with ones the
  matrix unit makes it, in float32. The plain sum is rounded to bfloat16, and
  takes four times as long where it stands alone (compiled for v5e).

  Args:
    y: [..., *dims], bfloat16 or float32.
    bias: float32[*dims].
  """
  return y + bias.astype(y.dtype)


def _forward(y, bias):
  return add_bias(y, bias), bias  # For its shape alone.


def _backward(bias, dy):
  before = tuple(range(dy.ndim - bias.ndim))
  ones = jnp.ones([dy.shape[dim] for dim in before], dy.dtype)
  return dy, lax.dot_general(ones, dy, ((before, before), ((), ())),
                             preferred_element_type=jnp.float32)


add_bias.defvjp(_forward, _backward)
