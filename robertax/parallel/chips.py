"""What a chip can do, which slices of TPUs there are, GPUs to compile for."""

import contextlib
import dataclasses
import functools
import importlib.util
import math
import operator
import os
import re
from typing import Any

import jax

from robertax.errors import InputError

GIB = 2**30


def cpu_threads() -> int:
  """Threads of XLA's CPU client (xla/pjrt/utils.cc), which share out sums."""
  cores = (len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity')
           else os.cpu_count() or 1)
  for name in ('NPROC', 'PJRT_NPROC'):  # The last one wins.
    with contextlib.suppress(ValueError):
      cores = int(os.environ.get(name, ''))
  return max(cores, jax.local_device_count())

# Bytes a second that a device sends to another slice: a host's 100 Gbit/s,
# which its four devices share. An assumption: no data sheet says it of all.
NETWORK = 100e9 / 8 / 4


@dataclasses.dataclass(frozen=True)
class Chip:
  """Limits of one device, as JAX counts devices.

  clock, vector and links are 0 where it is not a TPU.
  """
  kind: str  # The beginning of its `device.device_kind`.
  flops: float  # Dense bf16 FLOP a second of the matrix units.
  memory: float  # Bytes that a program may use.
  bandwidth: float  # Of that memory, bytes a second.
  clock: float = 0  # Of a TPU's core, 1 / second.
  vector: float = 0  # Elementwise 32-bit operations a second.
  tile: int = 128  # Side of a TPU's matrix unit.
  links: float = 0  # Bytes a second from one device to those of its slice.


def _tpu_chip(kind: str, flops: float, memory: float, bandwidth: float,
              clock: float, links: float, tile: int = 128) -> Chip:
  # The vector unit has 8 x 128 lanes x 4 slots a cycle.
  return Chip(kind, flops, memory * GIB, bandwidth, clock,
              8 * 128 * 4 * clock, tile, links)


# The name that people use -> the chip. TPU clocks: FLOP/s over those that the
# matrix units do in a cycle (v5e 197e12 / (4 x 128^2 x 2)). v4 and v5p have two
# cores, which JAX shows as one device. The memory of v5e and v6e is the
# compiler's limit, that of the others the data sheet's.
CHIPS = {
    'v4': _tpu_chip('TPU v4', 275e12, 32, 1200e9, 1.05e9, 270e9),
    'v5e': _tpu_chip('TPU v5 lite', 197e12, 15.75, 819e9, 1.5e9, 180e9),
    'v5p': _tpu_chip('TPU v5', 459e12, 95.74, 2765e9, 1.75e9, 540e9),
    'v6e': _tpu_chip('TPU v6 lite', 918e12, 31.25, 1640e9, 1.75e9, 360e9, 256),
    'a100': Chip('NVIDIA A100', 312e12, 79 * GIB, 2039e9),
    'h100': Chip('NVIDIA H100', 989e12, 79 * GIB, 3350e9),
    'h200': Chip('NVIDIA H200', 989e12, 139 * GIB, 4800e9)}


def chip_of(device_kind: str) -> Chip | None:
  """The chip whose kind begins the device's; None: not known."""
  found = [chip for chip in CHIPS.values() if device_kind.startswith(chip.kind)]
  return max(found, key=lambda chip: len(chip.kind), default=None)


# The v5e and v6e slices of cloud.google.com/tpu/docs/v5e and /v6e.
_FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
# v4 and v5p (/tpu/docs/v4, /v5p, /types-topologies): these, and A x B x C in
# multiples of 4 with A <= B <= C, of so many chips: a v4 pod has 4096, and no
# v5p slice is larger than 16x16x24 along any side.
_BELOW_A_CUBE = ('2x2x1', '2x2x2', '2x2x4', '2x4x4')
_MOST_CHIPS = {'v4': 4096, 'v5p': 6144}
_LARGEST = {'v5p': (16, 16, 24)}


@functools.cache
def slices(chip: str) -> tuple[str, ...]:
  """The shapes of a TPU's slices, the smallest first; of CHIPS, not a GPU."""
  if chip not in _MOST_CHIPS:
    return _FLAT
  most = _MOST_CHIPS[chip]
  cubes = [(a, b, c) for a in range(4, most, 4) if a**3 <= most
           for b in range(a, most, 4) if a * b * b <= most
           for c in range(b, most // (a * b) + 1, 4)
           if all(map(operator.le, (a, b, c), _LARGEST.get(chip, (most,) * 3)))]
  return (*_BELOW_A_CUBE, *('x'.join(map(str, sides))
                            for sides in sorted(cubes, key=math.prod)))


def check_slice(chip: str, shape: str) -> None:
  """Raises an InputError, with close ones, for a shape that no slice has."""
  if shape in slices(chip):
    return

  def sizes(shape: str) -> list[float]:
    return sorted(math.log(int(side)) for side in shape.split('x'))

  def far(other: str) -> tuple[float, float]:
    return (round(abs(sum(sizes(other)) - sum(sizes(shape))), 6),
            sum(abs(a - b) for a, b in zip(sizes(other), sizes(shape))))

  close = sorted(slices(chip), key=far)[:3]
  raise InputError(
      f'topology {chip}:{shape}: no slice of {chip} has this shape. Close ones '
      f'are {", ".join(f"{chip}:{other}" for other in close)}.')


# GPUs to compile for where there is none: a GpuTargetConfigProto by the name in
# CHIPS. Figures: openxla/xla, xla/backends/gpu/target_config/specs/*.txtpb.
_HOPPER = '''
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_core_limit: 2048
  threads_per_warp: 32 core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472 l2_cache_size: 52428800
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 registers_per_core_limit: 65536
  registers_per_block_limit: 65536 memory_bandwidth: {bandwidth}
  device_memory_size: {memory} cuda_compute_capability {{ {capability} }}
}}
platform_name: "CUDA" device_description_str: "{name}"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
'''

TARGETS = {
    'h100': _HOPPER.format(
        bandwidth=3352320000000, memory=84942979072, capability='major: 9',
        name='NVIDIA H100 80GB HBM3'),
    'h200': _HOPPER.format(
        bandwidth=4800000000000, memory=151397597184,
        capability='major: 9 feature_extension: ACCELERATED_FEATURES',
        name='NVIDIA H200 141GB HBM3e')}


def plugin() -> str | None:
  """The installed CUDA plugin, whose compiler needs no GPU and no driver."""
  return next((name for name in ('jax_cuda13_plugin', 'jax_cuda12_plugin')
               if importlib.util.find_spec(name)), None)


def cuda_devices(chip: str, shape: str = '1x1x1') -> list[Any]:
  """GPUs that are not here; programs compiled for them cannot run.

  Args:
    chip: a row of TARGETS.
    shape: slices x hosts x GPUs of a host, such as 1x1x8.

  Raises:
    InputError: an unknown chip, another shape, or no compiler for it here.
  """
  if chip not in TARGETS:
    raise InputError(f'no CUDA target {chip!r}: known are '
                     f'{", ".join(sorted(TARGETS))}.')
  if not re.fullmatch(r'[1-9]\d*(x[1-9]\d*){2}', shape):
    raise InputError(f'CUDA topology {shape!r}: slices x hosts x GPUs of a '
                     'host, such as 1x1x8.')
  if not plugin():
    raise InputError(
        'compiling for NVIDIA GPUs needs their compiler, in JAX\'s CUDA '
        'plugin: pip install "jax[cuda13]" of your jax\'s version (no GPU is '
        'needed), and JAX_PLATFORMS=cpu where there is none.')
  from jax.experimental import topologies
  try:
    return topologies.get_topology_desc(
        platform='cuda', target_config=TARGETS[chip], topology=shape).devices
  except (NotImplementedError, RuntimeError) as e:
    raise InputError(f'CUDA topology {chip}:{shape}: {e} (is JAX_PLATFORMS=cpu '
                     'set, as it must be where there is no GPU?)') from e
