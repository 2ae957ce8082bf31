"""The two layers that hold parameters, and the law that fills them.

fairseq modules/transformer_sentence_encoder.py `init_bert_params`: all matrices
and tables N(0, .02), not truncated; biases 0; LayerNorm 1 and 0.
"""

from flax import nnx
import jax
import jax.numpy as jnp

from robertax.kernels import layer_norm
from robertax.kernels.dense import add_bias, product


def gaussian(key, shape: tuple[int, ...], std: float) -> nnx.Param:
  """N(0, std), not truncated, float32."""
  return nnx.Param(std * jax.random.normal(key, shape, jnp.float32))


class Dense(nnx.Module):
  """y = x kernel + bias, over one or two contracted dims.

  Parameters stay float32 and are cast to x's dtype where they are used.
  """

  def __init__(self, key, inputs: tuple[int, ...], outputs: tuple[int, ...],
               std: float):
    self.kernel = gaussian(key, inputs + outputs, std)
    self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))

  def __call__(self, einsum: str, x):
    """`einsum` spells the product, such as 'BTD,DF->BTF'."""
    del einsum  # Says it to the reader; the kernel's own dims say the same.
    kernel, bias = self.kernel[...], self.bias[...]
    return add_bias(product(x, kernel.astype(x.dtype),
                            kernel.ndim - bias.ndim), bias)


class Norm(nnx.Module):
  """LayerNorm in float32."""

  def __init__(self, size: int, eps: float):
    self.scale = nnx.Param(jnp.ones(size, jnp.float32))
    self.bias = nnx.Param(jnp.zeros(size, jnp.float32))
    self.eps = eps

  def __call__(self, x):
    return layer_norm(x, self.scale[...], self.bias[...], self.eps)
