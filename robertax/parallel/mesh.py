"""The device mesh, and the one table that says where an array lies on it.

Its axes are `data` (replicas), `fsdp` (replicas that shard the parameters) and
`model` (devices that share the work of one layer).
"""

from collections.abc import Sequence
import math
import re
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from robertax.config import AXES, MeshConfig
from robertax.errors import InputError, first_line

# The rows of a batch are sharded along data and fsdp together.
BATCH_AXES = ('data', 'fsdp')

# Regular expression on the whole 'a/b/c' path of a parameter -> its axes. Each
# parameter has exactly one rule. Layers have a leading dim N, which is scanned
# and never sharded. `model` shards heads, MLP and vocabulary as Megatron does
# (one all-reduce after `output` and one after `mlp_out`); `fsdp` shards D.
RULES = (
    (r'embeddings/tokens', P('model', 'fsdp')),
    (r'embeddings/(positions|types)', P(None, 'fsdp')),
    (r'embeddings/norm/(scale|bias)', P()),
    (r'layers/attention/(query|key|value)/kernel',
     P(None, 'fsdp', 'model', None)),
    (r'layers/attention/(query|key|value)/bias', P(None, 'model', None)),
    (r'layers/attention/output/kernel', P(None, 'model', None, 'fsdp')),
    (r'layers/(attention/output|mlp_out)/bias', P()),
    (r'layers/(attention|mlp)_norm/(scale|bias)', P()),
    (r'layers/mlp_in/kernel', P(None, 'fsdp', 'model')),
    (r'layers/mlp_in/bias', P(None, 'model')),
    (r'layers/mlp_out/kernel', P(None, 'model', 'fsdp')),
    (r'lm_head/norm/(scale|bias)', P()), (r'lm_head/bias', P('model')),
    (r'lm_head/decoder', P('model', 'fsdp')),
    *((f'{dense}/{part}', axes) for dense in (
        r'lm_head/dense', r'nsp_head/(pooler|output)',
        r'classifier/(dense|output)', r'span_head/output')
      for part, axes in (('kernel', P('fsdp', None)), ('bias', P()))))


def steps_ahead(mesh: Mesh, most: int = 2) -> int:
  """How many steps the host may be ahead of the devices."""
  # Devices that are threads of one CPU share a pool, in which collectives of
  # two steps could take all threads and wait for each other forever.
  threads = mesh.size > 1 and jax.devices()[0].platform == 'cpu'
  return 0 if threads else most


# JAX 0.10 asserts where an optional platform has no plugin at all.
NO_DEVICES = (RuntimeError, AssertionError)


def no_devices(error: BaseException) -> InputError:
  """The error for JAX_PLATFORMS that names what is not here."""
  return InputError(
      f'JAX_PLATFORMS={jax.config.jax_platforms}: JAX finds no such device '
      f'here ({first_line(error)}). Unset it to take what is here; GPUs need a '
      'driver and pip install "jax[cuda12]", TPUs pip install "jax[tpu]".')


def find_devices() -> list[jax.Device]:
  """jax.devices(); InputError where JAX_PLATFORMS names what is not here."""
  try:
    return jax.devices()
  except NO_DEVICES as e:
    raise no_devices(e) from e


def make_mesh(config: MeshConfig | None = None,
              devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh with axes data, fsdp, model over all devices.

  Its axes are Auto. With Explicit, jax.make_mesh's own default, plain indexing
  of a sharded table raises.

  `config` has the sizes (None: all devices along `data`), and `devices` are
  jax.devices() by default. InputError if the product of the sizes is not the
  number of devices, or if the number of slices does not divide `data`.
  """
  config = config or MeshConfig()
  devices = list(find_devices() if devices is None else devices)
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
                     f'of {slices} is needed, since only mesh.data crosses the '
                     'network between slices.')
  return Mesh(mesh_utils.create_hybrid_device_mesh(
      [sizes[0] // slices, *sizes[1:]], [slices, 1, 1], devices), AXES,
              axis_types=kinds)


def parameter_spec(path: str) -> P:
  """The PartitionSpec of the parameter at 'a/b/c', which must have one rule."""
  found = [(rule, axes) for rule, axes in RULES if re.fullmatch(rule, path)]
  if len(found) != 1:
    raise InputError(
        f'parameter {path}: {len(found)} rules in parallel.mesh.RULES '
        f'({", ".join(rule for rule, _ in found) or "none"}), exactly one '
        'is needed.')
  return found[0][1]


def param_shardings(mesh: Mesh, params: Any) -> Any:
  """A NamedSharding for each array or ShapeDtypeStruct in a nested dict.

  InputError, with the path, if a parameter does not have exactly one rule or if
  its mesh axes do not divide its size.
  """
  def sharding(path: tuple, leaf: Any) -> NamedSharding:
    name = _path_name(path)
    return _named(mesh, name, leaf, parameter_spec(name))
  return jax.tree_util.tree_map_with_path(sharding, params)


def state_shardings(mesh: Mesh, tree: Any, zero1: bool = False) -> Any:
  """Shardings for parameters or for an optimizer's state.

  A leaf whose path ends in a parameter's path (`0/mu/` and then
  `embeddings/tokens`) is sharded like the parameter. Scalars are replicated,
  and so is what `guard/` keeps of the last updates. With `zero1` each leaf is
  sharded along `data` too if a dim allows it. Errors are as in
  `param_shardings`.
  """
  roots = tuple(dict.fromkeys(rule.split('/')[0] for rule, _ in RULES))

  def sharding(path: tuple, leaf: Any) -> NamedSharding:
    parts = _path_name(path).split('/')
    if not leaf.shape or 'guard' in parts[:-1]:
      return NamedSharding(mesh, P())
    start = max((i for i, part in enumerate(parts) if part in roots), default=0)
    axes = parameter_spec('/'.join(parts[start:]))
    if zero1 and (dim := _zero1_dim(mesh, leaf, axes)) >= 0:
      entries = [*axes] + [None] * (len(leaf.shape) - len(axes))
      entries[dim] = ('data',)
      axes = P(*entries)
    return _named(mesh, '/'.join(parts), leaf, axes)
  return jax.tree_util.tree_map_with_path(sharding, tree)


def _zero1_dim(mesh: Mesh, leaf: Any, axes: P) -> int:
  """The largest unsharded dim that the devices divide, or -1."""
  free = [(-size, dim) for dim, size in enumerate(leaf.shape)
          if size % mesh.shape['data'] == 0
          and (dim >= len(axes) or axes[dim] is None
               or mesh.shape[axes[dim]] == 1)]
  return min(free)[1] if free and mesh.shape['data'] > 1 else -1


def batch_sharding(mesh: Mesh, micro_batches: bool = False) -> NamedSharding:
  """The sharding of every batch field, [B, ...] or [micro-batches, B, ...]."""
  return NamedSharding(mesh,
                       P(None, BATCH_AXES) if micro_batches else P(BATCH_AXES))


def _path_name(path: tuple) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')


def _named(mesh: Mesh, name: str, leaf: Any, axes: P) -> NamedSharding:
  if len(axes) > len(leaf.shape):
    raise InputError(f'parameter {name}: shape {tuple(leaf.shape)} has fewer '
                     f'dims than its rule {axes}.')
  for dim, entry in enumerate(axes):
    names = entry if isinstance(entry, tuple) else (entry,)
    size = math.prod(mesh.shape[axis] for axis in names if axis)
    if leaf.shape[dim] % size:
      raise InputError(
          f'parameter {name}: dim {dim} of shape {tuple(leaf.shape)} is not a '
          f'multiple of {size}, its devices along '
          f'{" and ".join(f"mesh.{axis}" for axis in names if axis)}.')
  return NamedSharding(mesh, axes)
