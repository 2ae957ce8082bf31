"""Checksums of arrays: two numbers for each, the same on any mesh.

A storage that flips a byte of an array gives it back without a word, orbax too.
So a checkpoint has, for each array, two sums over its elements of a hash of
(place, bits), modulo 2^32: exact integers, hence in any order, on any devices
and from any number of processes. Each hash is a bijection of the bits at its
place: one changed element always changes both sums; more of them leave both as
they were in one case of 2^64.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_BITS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def _mix(x: jax.Array, a: int, b: int) -> jax.Array:
  """A bijection of uint32 in which each bit of x moves about half of all.

  The multipliers are from https://github.com/skeeto/hash-prospector.
  """
  x = (x ^ (x >> 16)) * np.uint32(a)
  x = (x ^ (x >> 15)) * np.uint32(b)
  return x ^ (x >> 16)


@jax.jit
def array_sums(x: jax.Array) -> jax.Array:
  """uint32[2] of an array whose elements have at most 32 bits."""
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  bits = jax.lax.bitcast_convert_type(
      x, _BITS[x.dtype.itemsize]).astype(jnp.uint32)
  place, stride = jnp.zeros(x.shape, jnp.uint32), 1
  for dim in reversed(range(x.ndim)):
    place += (jax.lax.broadcasted_iota(jnp.uint32, x.shape, dim)
              * np.uint32(stride % (1 << 32)))
    stride *= x.shape[dim]
  first = _mix(place, 0x7feb352d, 0x846ca68b)
  second = _mix(place ^ np.uint32(0x9e3779b9), 0x21f0aaad, 0xd35a2d97)
  return jnp.stack([
      _mix(bits ^ first, 0x21f0aaad, 0xd35a2d97).sum(dtype=jnp.uint32),
      _mix(bits + second, 0x7feb352d, 0x846ca68b).sum(dtype=jnp.uint32)])


def flat(tree: Any) -> dict[str, Any]:
  """path -> leaf of a nested dict.

  >>> flat({'a': {'b': 1}})
  {'a/b': 1}
  """
  return {'/'.join(str(key.key) for key in path): leaf for path, leaf
          in jax.tree_util.tree_leaves_with_path(tree)}


def kind(x: Any) -> str:
  """What an array is.

  >>> kind(np.zeros((3, 4), np.float32))
  'float32[3,4]'
  """
  return f'{x.dtype}[{",".join(map(str, x.shape))}]'


def tree_sums(tree: dict[str, Any]) -> dict[str, list[Any]]:
  """{path: [kind, sum, sum]} of a nested dict of arrays.

  Over several processes each calls it, and each has all of it.
  """
  leaves = flat(tree)
  # One program a shape, not one a tree: less to compile, and most shapes of a
  # model come three times, with the optimizer's two moments.
  found = jax.device_get({path: array_sums(x) for path, x in leaves.items()})
  return {path: [kind(leaves[path]), *map(int, found[path])]
          for path in leaves}
