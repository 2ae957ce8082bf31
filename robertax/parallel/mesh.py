"""The device mesh and its three axes."""

import dataclasses
import math

import jax
from jax.sharding import AxisType, Mesh

from robertax.errors import InputError

AXES = ('data', 'fsdp', 'model')


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """The `mesh` section of a config: devices along each axis.

  Attributes:
    data: batch rows are shared out, parameters copied.
    fsdp: batch rows are shared out, parameters too.
    model: each layer's work is shared out.
  One axis may be -1: what the others leave.
  """
  data: int = -1
  fsdp: int = 1
  model: int = 1

  def __post_init__(self):
    for axis in AXES:
      if getattr(self, axis) < 1 and getattr(self, axis) != -1:
        raise InputError(f'mesh.{axis}={getattr(self, axis)}: at least 1, or '
                         '-1 for what the other axes leave.')
    rest = [f'mesh.{axis}' for axis in AXES if getattr(self, axis) == -1]
    if len(rest) > 1:
      raise InputError(f'{" and ".join(rest)} are -1: only one axis can take '
                       'what the others leave.')


def make_mesh(config: MeshConfig = MeshConfig(), devices=None) -> Mesh:
  """A mesh with axes data, fsdp, model over all devices.

  Args:
    config: sizes; their product is the number of devices.
    devices: jax.devices() if None.

  Returns:
    A Mesh with Auto axes (jax.make_mesh's own default is Explicit, in which
    plain indexing of a sharded table raises).

  Raises:
    InputError: the sizes do not multiply to the number of devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  sizes = [getattr(config, axis) for axis in AXES]
  if -1 in sizes:
    others = math.prod(size for size in sizes if size != -1)
    sizes[sizes.index(-1)] = max(len(devices) // others, 1)
  if math.prod(sizes) != len(devices):
    given = ', '.join(f'mesh.{axis}={getattr(config, axis)}' for axis in AXES)
    raise InputError(f'{given} do not multiply to the {len(devices)} devices '
                     'here; set one of them to -1 to take what is left.')
  return jax.make_mesh(tuple(sizes), AXES,
                       axis_types=(AxisType.Auto,) * len(AXES),
                       devices=devices)
