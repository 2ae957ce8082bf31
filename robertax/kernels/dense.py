"""The arithmetic of dense layers: product, bias, LayerNorm and GELU.

Each has its own backward pass if the one that JAX derives is slower, less
exact, or keeps more in memory.
"""

import math

import jax
from jax import lax
import jax.numpy as jnp

from robertax.kernels.attention import platform


@jax.custom_vjp
def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
  """y [..., *dims] + bias float32[*dims], in y's dtype.

  The bias's gradient is a sum over all tokens. As a product with ones, the
  matrix unit computes it in float32. A plain sum would be rounded to bfloat16,
  and alone takes four times as long (compiled for v5e).
  """
  return y + bias.astype(y.dtype)


def _add_bias_forward(y, bias):
  return add_bias(y, bias), bias  # Only its shape is needed.


def _add_bias_backward(bias, dy):
  before = tuple(range(dy.ndim - bias.ndim))
  ones = jnp.ones([dy.shape[dim] for dim in before], dy.dtype)
  return dy, lax.dot_general(ones, dy, ((before, before), ((), ())),
                             preferred_element_type=jnp.float32)


add_bias.defvjp(_add_bias_forward, _add_bias_backward)


def product(x: jax.Array, kernel: jax.Array, num_inputs: int = 1) -> jax.Array:
  """Contracts the last `num_inputs` dims of x with the first ones of a kernel.

  x is [*rows, *inputs], and the kernel [*inputs, *outputs] has the same dtype.

  On a CPU all other dims are flattened, so that both passes are products of two
  matrices and the kernel's gradient is x' dy. JAX would derive (dy' x)', for
  which XLA for CPU first transposes dy, and the GELU's gradient with it. XLA
  for TPU transposes while it multiplies, and flattened dims are slower there.
  """
  num_rows = x.ndim - num_inputs
  if platform() != 'cpu':
    return lax.dot_general(x, kernel, (
        (tuple(range(num_rows, x.ndim)), tuple(range(num_inputs))), ((), ())))
  rows, outputs = x.shape[:num_rows], kernel.shape[num_inputs:]
  size = math.prod(kernel.shape[:num_inputs])
  y = _product(x.reshape(-1, size), kernel.reshape(size, -1))
  return y.reshape(*rows, *outputs)


def _dot(x, y, x_dim, y_dim):
  return lax.dot_general(x, y, (((x_dim,), (y_dim,)), ((), ())))


@jax.custom_vjp
def _product(x, kernel):
  return _dot(x, kernel, 1, 0)


def _product_forward(x, kernel):
  return _product(x, kernel), (x, kernel)


def _product_backward(residuals, dy):
  x, kernel = residuals
  return _dot(dy, kernel, 1, 1), _dot(x, dy, 0, 0)


_product.defvjp(_product_forward, _product_backward)


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array,
               eps: float) -> jax.Array:
  """LayerNorm over the last dim D (fairseq modules/layer_norm.py).

  Statistics and affine part, with scale and bias float32[D], are in float32;
  the result has x's dtype. `eps` is added to the variance, inside the root.
  """
  wide = x.astype(jnp.float32)
  centred = wide - wide.mean(-1, keepdims=True)
  variance = (centred * centred).mean(-1, keepdims=True)
  y = centred * lax.rsqrt(variance + eps) * scale + bias
  return y.astype(x.dtype)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
  """x Phi(x) with the exact erf (fairseq modules/gelu.py), in float32.

  `jax.nn.gelu` is the tanh approximation by default. This one keeps only x for
  the backward pass; the derivative by JAX would keep three more arrays.
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
