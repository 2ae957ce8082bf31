"""Attention on a mesh: each device its own rows and its own heads.

A Pallas kernel is one call that XLA cannot divide. So under the mesh that
`jax.set_mesh` has entered, it is mapped over the devices by `jax.shard_map`.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

# As in parallel.partitioning: the rows of a batch, and the heads of a layer.
ROWS, HEADS = ('data', 'fsdp'), 'model'


def platform() -> str:
  """'cpu', 'gpu' or 'tpu': of the mesh that is set, else of the default device.

  The two differ where a program is compiled for devices that are not here.
  """
  device = getattr(jax.sharding.get_abstract_mesh(), 'abstract_device', None)
  found = getattr(device, 'platform', None) or jax.default_backend()
  return 'gpu' if found in ('cuda', 'rocm') else found


@dataclasses.dataclass(frozen=True)
class Shards:
  """Mesh axes that share out rows and heads.

  Attributes:
    axes: all axes to map over; empty: nothing to map.
    rows: those that share out rows.
    heads: the one that shares out heads, or None.
  """
  axes: frozenset[str]
  rows: tuple[str, ...]
  heads: str | None

  @property
  def activations(self) -> P:
    """Of [B, T, H, K]."""
    return P(self.rows or None, None, self.heads, None)

  @property
  def joined(self) -> P:
    """Of [B, T, H K]."""
    return P(self.rows or None, None, self.heads)

  @property
  def batch(self) -> P:
    """Of [B, ...]."""
    return P(self.rows or None)

  @property
  def by_head(self) -> P:
    """Of [B, H, ...]."""
    return P(self.rows or None, self.heads)

  def first_head(self, local_heads: int) -> jax.Array | int:
    """Inside `map`: the index of the first head here among all."""
    return lax.axis_index(self.heads) * local_heads if self.heads else 0

  def map(self, function: Callable[..., Any], in_specs, out_specs):
    """The function, run on each device's own part."""
    if not self.axes:
      return function
    return jax.shard_map(function, axis_names=self.axes, in_specs=in_specs,
                         out_specs=out_specs, check_vma=False)


def shards(rows: int, heads: int) -> Shards:
  """How the mesh that is set shares out an array of [rows, T, heads, K].

  An axis that does not divide its dim does not share it out: then its devices
  do the same work.
  """
  mesh = jax.sharding.get_abstract_mesh()
  sizes = {name: size for name, size, kind in zip(
      mesh.axis_names, mesh.axis_sizes, mesh.axis_types)
           if kind != AxisType.Manual}
  if math.prod(sizes.values()) == 1:
    return Shards(frozenset(), (), None)
  axes = tuple(name for name in ROWS if name in sizes)
  if rows % math.prod(sizes[name] for name in axes):
    axes = ()
  return Shards(frozenset(sizes), axes,
                HEADS if HEADS in sizes and not heads % sizes[HEADS] else None)
