"""The GPU's kernels lower to Triton and compile for a chip, without one.

Their numbers are in attention_fused_test.py, interpreted.
"""

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

from robertax.config import MeshConfig
from robertax.kernels import attention
from robertax.parallel import chips
from robertax.parallel.mesh import batch_sharding, make_mesh

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
    not chips.plugin(),
    reason='no jax_cuda12_plugin or jax_cuda13_plugin: no compiler for GPUs')
@pytest.mark.parametrize('chip', sorted(chips.TARGETS))
@pytest.mark.parametrize('shape', SHAPES)
def test_compiles_for_hopper(shape, chip):
  mesh = make_mesh(MeshConfig(),
                   chips.cuda_devices(chip, '1x1x8'))
  with jax.set_mesh(mesh):
    compiled = jax.jit(run).lower(*abstract(
        16, *shape, sharding=batch_sharding(mesh))).compile()
  # jax 0.10 leaves Triton to XLA, 0.11 calls it.
  assert len(re.findall(
      r'custom_call_target="(?:__gpu\$xla.gpu.triton|triton_kernel_call)"',
      compiled.as_text())) == 3
