"""The device mesh and its three axes."""

import dataclasses
import math

import jax
from jax.experimental import mesh_utils
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
    zero1: what the optimizer keeps is shared out along `data` too (Rajbhandari
      et al. 2020, stage 1). The numbers are the same.
  One axis may be -1: what the others leave. Slices of TPUs, which a data-center
  network connects, are parts of `data`; the other axes stay inside a slice.
  """
  data: int = -1
  fsdp: int = 1
  model: int = 1
  zero1: bool = False

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
    InputError: the sizes do not multiply to the number of devices, or `data`
      to the number of slices.
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
  kinds = (AxisType.Auto,) * len(AXES)
  slices = len({getattr(device, 'slice_index', 0) for device in devices})
  if slices == 1:
    return jax.make_mesh(tuple(sizes), AXES, axis_types=kinds, devices=devices)
  if sizes[0] % slices:
    raise InputError(f'mesh.data={sizes[0]} over {slices} slices: a multiple '
                     f'of {slices} is needed, for only mesh.data crosses the '
                     'network between slices.')
  return Mesh(mesh_utils.create_hybrid_device_mesh(
      [sizes[0] // slices, *sizes[1:]], [slices, 1, 1], devices), AXES,
              axis_types=kinds)
