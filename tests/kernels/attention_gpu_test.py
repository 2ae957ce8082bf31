"""The GPU's kernels lower to Triton and compile for a chip, without one.

Their numbers are in attention_fused_test.py, interpreted.
"""

import importlib.util
import re

import jax
import jax.numpy as jnp
from jax.sharding import (
    AbstractDevice,
    AbstractMesh,
    AxisType,
    use_abstract_mesh,
)
import pytest

from robertax import parallel
from robertax.kernels import attention

# From openxla/xla xla/backends/gpu/target_config/specs/h100_sxm.txtpb.
H100 = '''
gpu_device_info {
  threads_per_block_limit: 1024  threads_per_warp: 32
  threads_per_core_limit: 2048  core_count: 132  fpus_per_core: 128
  shared_memory_per_block: 49152  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535
  block_dim_limit_z: 65535  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800  clock_rate_ghz: 1.98
  device_memory_size: 84942979072  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
'''
SHAPES = [(512, 16, 64, 'bfloat16'), (200, 2, 80, 'bfloat16'),
          (128, 4, 64, 'float32')]


def abstract(rows, tokens, heads, head_dim, dtype, **sharding):
  """q, segment ids and keys."""
  return (jax.ShapeDtypeStruct((rows, tokens, heads, head_dim), dtype,
                               **sharding),
          jax.ShapeDtypeStruct((rows, tokens), jnp.int32, **sharding),
          jax.ShapeDtypeStruct((rows, 2), jnp.uint32, **sharding))


def run(q, segment_ids, keys):
  """A step of attention."""
  out, vjp = jax.vjp(lambda q: attention(
      q, q, q, segment_ids=segment_ids, dropout_key=keys, dropout_rate=.1,
      implementation='fused'), q)
  return out, vjp(out)


@pytest.mark.parametrize('shape', SHAPES)
def test_lowers_to_triton(shape):
  mesh = AbstractMesh((1,), ('data',), (AxisType.Auto,), abstract_device=(
      AbstractDevice('NVIDIA H100 80GB HBM3', 132, 'gpu')))
  with use_abstract_mesh(mesh):
    text = jax.jit(run).trace(*abstract(2, *shape)).lower(
        lowering_platforms=('cuda',)).as_text()
  # jax 0.10 leaves Triton to XLA, 0.11 calls it.
  assert len(re.findall('xla.gpu.triton|triton_kernel_call', text)) == 3


@pytest.mark.skipif(
    not any(importlib.util.find_spec(f'jax_cuda{n}_plugin')
            for n in (12, 13)), reason='no jax_cuda12_plugin: no compiler')
@pytest.mark.parametrize('shape', SHAPES)
def test_compiles_for_hopper(shape):
  from jax.experimental import topologies
  devices = topologies.get_topology_desc(
      platform='cuda', target_config=H100, topology='1x1x8').devices
  mesh = parallel.make_mesh(parallel.MeshConfig(), devices)
  with jax.set_mesh(mesh):
    text = jax.jit(run).lower(*abstract(
        16, *shape, sharding=parallel.batch_sharding(mesh))).compile().as_text()
  assert text.count('custom_call_target="__gpu$xla.gpu.triton"') == 3
