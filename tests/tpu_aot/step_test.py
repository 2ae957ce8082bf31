"""The train step compiles for a TPU slice, without a TPU.

Nothing is run: the compiler says that the step is legal there, that it fits,
and which collectives it would use.
"""

import os
import re

import jax
from jax.sharding import Mesh
import numpy as np
import pytest

from robertax import kernels, model, parallel
from robertax.train import optimizer, state, step
from robertax.train.config import OptimConfig

pytestmark = pytest.mark.tpu_aot

CONFIG = model.ModelConfig(
    vocab_size=512, hidden_size=256, num_layers=2, num_heads=4, mlp_size=1024,
    max_positions=128, dtype='bfloat16')
ROWS, TOKENS, MASKED = 64, 128, 20


@pytest.fixture(scope='module')
def mesh():
  """16 chips of v5e, which only a compiler sees."""
  pytest.importorskip('libtpu', reason='pip install -r requirements-tpu.txt')
  # Two test processes may hold the library at once.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  from jax.experimental import topologies
  devices = topologies.get_topology_desc(
      platform='tpu', topology_name='v5e:4x4').devices
  return parallel.make_mesh(parallel.MeshConfig(), devices)


def totals(batch):
  return {'weight_sum': batch['mlm_weights'].sum()}


def loss(params, batch, keys, totals):
  encoder = model.bind(CONFIG, params)
  x = encoder.encode(batch['input_ids'], batch['segment_ids'],
                     dropout_key=keys)
  sums = model.mlm_loss(encoder.mlm_logits(x, batch['mlm_positions']),
                        batch['mlm_targets'], batch['mlm_weights'])
  return sums['loss_sum'] / totals['weight_sum'], sums


@pytest.mark.parametrize('micro_batches', [1, 2])
def test_the_step_compiles_for_v5e(mesh, micro_batches):
  assert isinstance(mesh, Mesh) and mesh.size == 16
  tx, _ = optimizer.create(OptimConfig(), 1000)
  sharding = parallel.batch_sharding(mesh, micro_batches=True)

  def field(width, dtype):
    return jax.ShapeDtypeStruct(
        (micro_batches, ROWS // micro_batches, width), dtype,
        sharding=sharding)

  batch = {'input_ids': field(TOKENS, np.int32),
           'segment_ids': field(TOKENS, np.int32),
           'mlm_positions': field(MASKED, np.int32),
           'mlm_targets': field(MASKED, np.int32),
           'mlm_weights': field(MASKED, np.float32)}
  with jax.set_mesh(mesh):
    make = state.create(lambda key: model.create(CONFIG, key), tx, seed=0)
    abstract = state.abstract(make, mesh)
    compiled = jax.jit(
        step.make_train_step(loss, totals, tx, seed=0), donate_argnums=0,
        out_shardings=(jax.tree.map(lambda x: x.sharding, abstract), None)
    ).lower(abstract, batch).compile()
  # Gradients of a batch that is shared out must meet somewhere.
  assert re.search(r'all-reduce|reduce-scatter', compiled.as_text())
  memory = compiled.memory_analysis()
  assert 0 < memory.peak_memory_in_bytes < 2**30
  # Donated: the new state lies where the old one lay.
  bytes_of_state = sum(x.size * x.dtype.itemsize
                       for x in jax.tree.leaves(abstract))
  assert memory.alias_size_in_bytes >= 0.9 * bytes_of_state


def test_dropout_bits_compile_without_a_generator(mesh):
  """A generator's bits would be drawn for the whole batch on every chip."""
  x = jax.ShapeDtypeStruct((64, 128, 256), np.float32,
                           sharding=parallel.batch_sharding(mesh))
  rows = jax.ShapeDtypeStruct((64,), np.uint32,
                              sharding=parallel.batch_sharding(mesh))

  def drop(x, rows):
    keys = kernels.row_keys(kernels.key_words(0, 1), rows)
    return kernels.dropout(x, keys, 0.1)

  with jax.set_mesh(mesh):
    text = jax.jit(drop).lower(x, rows).compile().as_text()
  assert 'rng' not in text.lower()
  assert not re.search(r'all-(gather|reduce|to-all)', text)
