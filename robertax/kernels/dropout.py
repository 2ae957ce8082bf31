"""Dropout as a hash of (key, row of the global batch, element of the row).

There is no generator state and there are no random bits in memory: whether an
element is kept is arithmetic on its own address. So the mask is the same on any
mesh, for any split into micro-batches and after a restart. XLA fuses it into
neighbouring operations, and an attention kernel makes the same bits in fast
memory.

A key is two 32-bit words, because one index of 32 bits wraps at 8192 x 512 x
1024 elements. The row is part of the words, and the element of the row is the
counter. From seed to element:

  key_words(seed, step) -> row_keys(key, rows) -> fold(keys, layer)
    -> fold(keys, site) -> keep_mask(keys, shape of a row, rate)

`mix` is the two-round multiply-xorshift permutation of 32 bits with the least
bias in the hash-prospector list (C. Wellons, github.com/skeeto/
hash-prospector, "lowbias32" and its successors). On a plain counter its bits
are clearly correlated at lags of 1024 and more (14 sigmas in 2^17 elements). On
a Weyl sequence, the counter times an odd constant, they are not. This costs
nothing, because that is a sum of one product per dim of the row.
"""

import math

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from robertax.errors import InputError

FIRST, SECOND = np.uint32(0x21f0aaad), np.uint32(0xd35a2d97)
GOLDEN = np.uint32(0x9e3779b9)  # 2^32 / golden ratio, odd.


def mix(x: jax.Array) -> jax.Array:
  """A permutation of uint32 in which each bit influences every other."""
  x = (x ^ (x >> 16)) * FIRST
  x = (x ^ (x >> 15)) * SECOND
  return x ^ (x >> 15)


def fold(keys: jax.Array, data: int | jax.Array) -> jax.Array:
  """uint32[..., 2]: keys made of keys and a layer, site, row or step.

  For fixed data it permutes the 64 bits of keys uint32[..., 2]; for a fixed key
  different data give different keys. The data are integers modulo 2^32, which
  broadcast against [...].
  """
  first, second = keys[..., 0], keys[..., 1]
  first = mix(first ^ mix(_uint32(data) + GOLDEN))
  second = mix(second ^ first)
  return jnp.stack(jnp.broadcast_arrays(first + second, second), axis=-1)


def seed_words(seed: int) -> np.ndarray:
  """uint32[2]: the low 64 bits of a Python int, low word first."""
  return np.array([seed & 0xffffffff, (seed >> 32) & 0xffffffff], np.uint32)


def key_words(seed: int | jax.Array, step: int | jax.Array) -> jax.Array:
  """uint32[2], the key of one training step.

  Both arguments may be traced; a traced seed is `seed_words` of an int.
  """
  words = seed_words(seed) if isinstance(seed, int) else seed
  return fold(jnp.asarray(words), step)


def row_keys(key: jax.Array, rows: jax.Array) -> jax.Array:
  """uint32[B, 2]: one key per row, of key uint32[2].

  `rows` are indices [B] in the global batch, not in a shard or micro-batch, so
  that the mask does not depend on the split.
  """
  return fold(key, rows)


def bits(x: jax.Array, second: jax.Array) -> jax.Array:
  """32 random bits per element: `mix` with `second` added between its rounds.

  x is uint32: the index of an element in its row, times GOLDEN, plus the key's
  first word. `second` is the key's second word.
  """
  x = (x ^ (x >> 16)) * FIRST + second
  x = (x ^ (x >> 15)) * SECOND
  return x ^ (x >> 15)


def threshold(rate: float) -> np.uint32:
  """An element is kept if and only if its bits are at least this."""
  if not 0 <= rate < 1:
    raise InputError(f'dropout rate {rate}: a share from 0 up to, not '
                     'including, 1.')
  # A rate within 2^-33 of 1 would round to 2^32 and wrap to "keep all".
  return np.uint32(min(round(rate * 2**32), 2**32 - 1))


def keep_mask(keys: jax.Array, shape: tuple[int, ...],
              rate: float) -> jax.Array:
  """bool[B, *shape]: which elements of each row are kept.

  `keys` are uint32[B, 2], and elements are indexed in C order. InputError if
  the rate is outside [0, 1) or a row has more than 2^32 elements.
  """
  if math.prod(shape) > 2**32:
    raise InputError(f'dropout over rows of shape {shape}: more than 2^32 '
                     'elements, the index would wrap.')
  keys = keys.reshape(keys.shape[:1] + (1,) * len(shape) + (2,))
  # element x GOLDEN, modulo 2^32, is a sum of one small product per dim. The
  # key comes first: the sum of the products alone is equal for all layers, and
  # XLA would keep it, as large as a row, in memory around the scan.
  weyl, stride = keys[..., 0], math.prod(shape)
  for dim, size in enumerate(shape):
    stride //= max(size, 1)
    term = lax.iota(jnp.uint32, size) * np.uint32(stride * int(GOLDEN) % 2**32)
    weyl = weyl + lax.expand_dims(
        term, [d for d in range(len(shape) + 1) if d != dim + 1])
  return bits(weyl, keys[..., 1]) >= threshold(rate)


def dropout(x: jax.Array, keys: jax.Array | None, rate: float) -> jax.Array:
  """Inverted dropout of x[B, ...]: 0 if dropped, else x / (1 - rate).

  `keys` are uint32[B, 2], or None for no dropout.
  """
  if keys is None or rate == 0:
    return x
  # In float32: 1 / (1 - .1) rounded to bfloat16 would be .16 % off on every
  # element, the same way in every layer.
  scaled = (x.astype(jnp.float32) * np.float32(1 / (1 - rate))).astype(x.dtype)
  keep = keep_mask(keys, x.shape[1:], rate)
  return jnp.where(keep, scaled, jnp.zeros((), x.dtype))


def _uint32(data):
  if isinstance(data, (int, np.integer)):
    data = np.uint32(int(data) & 0xffffffff)
  return jnp.asarray(data).astype(jnp.uint32)
