"""The device mesh and its three axes."""

import math

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from robertax.config import AXES, MeshConfig
from robertax.errors import InputError


def make_mesh(config: MeshConfig | None = None, devices=None) -> Mesh:
  """A mesh with axes data, fsdp, model over all devices.

  Args:
    config: sizes, whose product is the number of devices; None: all of them
      along `data`.
    devices: jax.devices() if None.

  Returns:
    A Mesh with Auto axes (jax.make_mesh's own default is Explicit, in which
    plain indexing of a sharded table raises).

  Raises:
    InputError: the sizes do not multiply to the number of devices, or `data`
      to the number of slices.
  """
  config = config or MeshConfig()
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
