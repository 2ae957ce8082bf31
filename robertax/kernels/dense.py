"""A product of states and weights, and on a CPU its gradients as they lie."""

import math

import jax
from jax import lax

from robertax.kernels.attention_sharding import platform


def product(x: jax.Array, kernel: jax.Array, num_inputs: int = 1) -> jax.Array:
  """Contracts the last dims of x with the first dims of a kernel.

  On a CPU all other dims are laid side by side, so that forward and backward
  pass are products of two matrices, and the kernel's gradient is x' dy as it
  lies: derived by JAX it is (dy' x)', and XLA for CPU copies dy, and the GELU's
  gradient with it, into the transposed order first. XLA for TPU transposes
  while it multiplies, and makes a step slower of dims laid side by side.

  Args:
    x: [*rows, *inputs].
    kernel: [*inputs, *outputs], in x's dtype.
    num_inputs: how many dims `inputs` has.

  Returns:
    [*rows, *outputs], in x's dtype.
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


def _forward(x, kernel):
  return _product(x, kernel), (x, kernel)


def _backward(residuals, dy):
  x, kernel = residuals
  return _dot(dy, kernel, 1, 1), _dot(x, dy, 0, 0)


_product.defvjp(_forward, _backward)
