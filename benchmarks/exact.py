"""Compares each kernel with float64: `python -m benchmarks.exact`.

Attention of each implementation that the platform has (values and all three
gradients, with and without dropout, in float32 and bfloat16), LayerNorm and
GELU (values and gradients) are compared with NumPy in float64, from the same
rounded inputs and the same dropout masks. An error is the largest difference
relative to the largest number of the array. Needs only jax, flax, optax and
numpy. The last line is one JSON object, and the exit code is 1 if an error is
larger than the dtype allows.
"""

import argparse
import functools
import json
import math
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.attention import BY_PLATFORM, functions, inputs
from robertax.errors import InputError, first_line
from robertax.kernels import gelu, keep_mask, layer_norm

# Sums of a few hundred products; bfloat16 has 8 bits. On a GPU products of
# float32 are of TF32, with 11 bits, unless jax is told otherwise.
ALLOWED = {'float32': 5e-3, 'bfloat16': 4e-2}


def wide(x) -> np.ndarray:
  return np.asarray(jnp.asarray(x, jnp.float32)).astype(np.float64)


def exact_attention(q, k, v, direction, segment_ids, keys, rate: float):
  """(out, dq, dk, dv) in float64, each [B, T, H, K]."""
  q, k, v, dout = map(wide, (q, k, v, direction))
  scale = q.shape[-1] ** -.5
  segment_ids = np.asarray(segment_ids)
  scores = np.einsum('bthk,bshk->bhts', q, k) * scale
  same = segment_ids[:, None, :, None] == segment_ids[:, None, None]
  scores = np.where(same, scores, -np.inf)
  odds = np.exp(scores - scores.max(-1, keepdims=True))
  weights = odds / odds.sum(-1, keepdims=True)
  kept = np.ones_like(weights)
  if rate:
    kept = np.asarray(keep_mask(keys, weights.shape[1:], rate)) / (1 - rate)
  dropped = weights * kept
  dweights = np.einsum('bthk,bshk->bhts', dout, v) * kept
  dscores = scale * weights * (
      dweights - (dweights * weights).sum(-1, keepdims=True))
  return (np.einsum('bhts,bshk->bthk', dropped, v),
          np.einsum('bhts,bshk->bthk', dscores, k),
          np.einsum('bhts,bthk->bshk', dscores, q),
          np.einsum('bhts,bthk->bshk', dropped, dout))


def exact_layer_norm(x, scale, bias, dy, eps: float):
  """(y, dx) in float64."""
  x, scale, bias, dy = map(wide, (x, scale, bias, dy))
  centred = x - x.mean(-1, keepdims=True)
  root = np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
  unit, du = centred / root, dy * scale
  return unit * scale + bias, (
      du - du.mean(-1, keepdims=True)
      - unit * (du * unit).mean(-1, keepdims=True)) / root


def exact_gelu(x, dy):
  """(y, dx) in float64."""
  x, dy = wide(x), wide(dy)
  below = .5 * (1 + np.vectorize(math.erf)(x * math.sqrt(.5)))
  density = np.exp(-.5 * x * x) / math.sqrt(2 * math.pi)
  return x * below, dy * (below + x * density)


def largest_error(found, expected) -> float:
  return max(float(np.abs(wide(x) - y).max() / np.abs(y).max())
             for x, y in zip(found, expected, strict=True))


def attention_errors(name: str, shape, dtype: str, rate: float) -> float:
  """Of the values and the gradients; InputError if it has no such kernel."""
  arrays = inputs(*shape, dtype)
  return largest_error(functions(name, rate)[1](*arrays),
                       exact_attention(*arrays, rate))


def _rows(dtype: str):
  """x, dy [64, 768], and a scale and a bias [768]."""
  random = np.random.default_rng(0)
  x, dy = (jnp.asarray(3 * random.standard_normal((64, 768)), dtype)
           for _ in range(2))
  return x, dy, *(jnp.asarray(random.standard_normal(768), jnp.float32)
                  for _ in range(2))


def layer_norm_error(dtype: str) -> float:
  x, dy, scale, bias = _rows(dtype)
  y, back = jax.vjp(lambda x: layer_norm(x, scale, bias, 1e-5), x)
  return largest_error((y, *back(dy)), exact_layer_norm(
      x, scale, bias, dy, 1e-5))


def gelu_error(dtype: str) -> float:
  x, dy, *_ = _rows(dtype)
  y, back = jax.vjp(gelu, x)
  return largest_error((y, *back(dy)), exact_gelu(x, dy))


DENSE = {'layer_norm': layer_norm_error, 'gelu': gelu_error}


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--rows', type=int, default=2)
  parser.add_argument('--tokens', type=int, default=512)
  parser.add_argument('--heads', type=int, default=4)
  parser.add_argument('--head_dim', type=int, default=64)
  given = parser.parse_args(arguments)
  shape = given.rows, given.tokens, given.heads, given.head_dim
  errors: dict[str, float | None] = {}
  failed = []
  for dtype, allowed in ALLOWED.items():
    cases = {name: functools.partial(error, dtype)
             for name, error in DENSE.items()}
    for name in BY_PLATFORM.get(jax.default_backend(), ('xla',)):
      for rate in (0., .1):
        cases[f'{name}, dropout {rate}'] = functools.partial(
            attention_errors, name, shape, dtype, rate)
    for case, ask in cases.items():
      begin, label = time.perf_counter(), f'{case}, {dtype}'
      try:
        errors[label] = ask()
      except (InputError, NotImplementedError, RuntimeError) as e:
        print(f'{label}: not available here: {first_line(e)}', flush=True)
        errors[label] = None
        continue
      if not errors[label] <= allowed:
        failed.append(label)
      print(f'{label}: {errors[label]:.2e} of at most {allowed:g} '
            f'({time.perf_counter() - begin:.1f} s)', flush=True)
  print(json.dumps({
      'platform': jax.default_backend(), 'jax': jax.__version__,
      'device': jax.devices()[0].device_kind, 'shape': shape,
      'errors': errors, 'failed': failed}))
  if failed:
    raise SystemExit(1)


if __name__ == '__main__':
  main()
