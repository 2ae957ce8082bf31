"""Attention compiles for every TPU that a run may meet, without a TPU."""

import json
import os
import re
import subprocess
import sys

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import pytest

from robertax.config import MeshConfig
from robertax.kernels import attention
from robertax.parallel.mesh import make_mesh

pytestmark = pytest.mark.tpu_aot

TOPOLOGIES = {'v4': ('v4:2x2x1', {'chip_config_name': 'megacore'}),
              'v5e': ('v5e:2x2', {}), 'v5p': ('v5p:2x2x1', {}),
              'v6e': ('v6e:2x2', {})}
WIDE = P(('data', 'fsdp'), None, 'model', None)
ROWS = P(('data', 'fsdp'))


def mesh_of(chip, model=1):
  pytest.importorskip('libtpu', reason='pip install -r requirements-tpu.txt')
  # Two test processes may hold the library at once.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  from jax.experimental import topologies
  name, options = TOPOLOGIES[chip]
  devices = topologies.get_topology_desc(
      platform='tpu', topology_name=name, **options).devices
  return make_mesh(MeshConfig(model=model), devices)


def compile_for(mesh, shape, dtype, name, rate, wrap=lambda f: f):
  """The compiled text of the sum of the output, and its gradients."""
  def field(shape, dtype, spec):
    return jax.ShapeDtypeStruct(shape, dtype,
                                sharding=NamedSharding(mesh, spec))

  def run(q, k, v, segment_ids, keys):
    def loss(q, k, v):
      out = attention(q * 2, k, v, segment_ids=segment_ids, dropout_key=keys,
                      dropout_rate=rate, implementation=name)
      return (checkpoint_name(out, 'attention').astype(jnp.float32)**2).sum()
    return jax.value_and_grad(wrap(loss), argnums=(0, 1, 2))(q, k, v)

  x = field(shape, dtype, WIDE)
  with jax.set_mesh(mesh):
    compiled = jax.jit(run).lower(
        x, x, x, field(shape[:2], jnp.int32, ROWS),
        field((shape[0], 2), jnp.uint32, ROWS)).compile()
  return compiled


def kernels(compiled):
  return compiled.as_text().count('custom_call_target="tpu_custom_call"')


# RoBERTa-large and, on two chips of a `model` axis, base with three heads a
# chip, which do not pair; lengths that are no multiple of a block, longer than
# a block, and head sizes that are no power of two.
@pytest.mark.parametrize('tokens, heads, head_dim, dtype, model, rate', [
    (512, 16, 64, 'bfloat16', 1, .1), (512, 16, 64, 'float32', 1, 0.),
    (512, 12, 64, 'bfloat16', 4, .1), (200, 4, 80, 'float32', 2, .1),
    (2048, 2, 64, 'bfloat16', 1, .1)])
@pytest.mark.parametrize('chip', sorted(TOPOLOGIES))
def test_fused_compiles(chip, tokens, heads, head_dim, dtype, model, rate):
  mesh = mesh_of(chip, model)
  compiled = compile_for(mesh, (8, tokens, heads, head_dim), dtype, 'fused',
                         rate)
  text = compiled.as_text()
  assert kernels(compiled) == 2
  assert not re.search(rf'\[(\d+,)*{tokens},{tokens}\]', text)
  assert not re.search(r'all-(gather|to-all)|collective-permute', text)


def test_auto_is_fused_on_a_tpu(capsys):
  compiled = compile_for(mesh_of('v5e'), (8, 128, 2, 64), 'bfloat16', 'auto',
                         .1)
  assert kernels(compiled) == 2
  assert 'attention: fused on tpu' in capsys.readouterr().err


@pytest.mark.parametrize('policy, expected', [
    (jax.checkpoint_policies.save_only_these_names('attention'), 2),
    (jax.checkpoint_policies.nothing_saveable, 3)])
def test_a_kept_output_spares_the_second_forward_pass(policy, expected):
  compiled = compile_for(
      mesh_of('v5e'), (8, 128, 2, 64), 'bfloat16', 'fused', .1,
      wrap=lambda loss: jax.checkpoint(loss, policy=policy))
  assert kernels(compiled) == expected


def test_splash_compiles():
  compiled = compile_for(mesh_of('v5e', 2), (8, 200, 4, 64), 'bfloat16',
                         'splash', 0.)
  assert kernels(compiled) == 3


def test_dropout_costs_little_of_a_step_on_v5e():
  pytest.importorskip('libtpu', reason='pip install -r requirements-tpu.txt')
  # A process of its own: it asks libtpu for dumps before it is loaded.
  done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.attention_schedule', '--chip=v5e'],
      capture_output=True, text=True, timeout=280, check=False,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
  assert done.returncode == 0, done.stderr[-3000:]
  found = json.loads(done.stdout.splitlines()[-1])['milliseconds_a_layer']
  extra = sum(found[f'{part}, dropout 0.1'] - found[f'{part}, dropout 0.0']
              for part in ('forward', 'backward'))
  # 24 layers. 32 x 512 tokens at 2.01 GFLOP each are 32.9 TFLOP: 334 ms at
  # half of 197 TFLOP/s.
  assert 0 < 24 * extra < .06 * 334
