"""The train step compiles for a TPU slice, without a TPU.

Nothing is run: the compiler says that the step is legal there, that it fits,
and which collectives it would use.
"""

import dataclasses
import functools
import os
import re

import jax
from jax.sharding import Mesh
import numpy as np
import pytest

from robertax import kernels, model
from robertax.config import MeshConfig, ModelConfig, OptimConfig
from robertax.errors import InputError
from robertax.kernels.dropout import seed_words
from robertax.parallel.mesh import batch_sharding, make_mesh
from robertax.train import optimizer, step

pytestmark = pytest.mark.tpu_aot

CONFIG = ModelConfig(
    vocab_size=512, hidden_size=256, num_layers=2, num_heads=4, mlp_size=1024,
    max_positions=128, dtype='bfloat16')
PAIRS = dataclasses.replace(CONFIG, num_types=2, nsp_head=True)
ROWS, TOKENS, MASKED, PACKED = 64, 128, 20, 8


def topology(name, **more):
  """Chips that only a compiler sees."""
  pytest.importorskip('libtpu', reason='pip install -r requirements-tpu.txt')
  # Two test processes may hold the library at once.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  from jax.experimental import topologies
  return topologies.get_topology_desc(
      platform='tpu', topology_name=name, **more).devices


@pytest.fixture(scope='module')
def mesh():
  return make_mesh(MeshConfig(), topology('v5e:4x4'))


def test_only_data_crosses_slices():
  """fsdp and model stay inside a slice; and one slice cannot be cut."""
  devices = topology('v5e:2x2', num_slices=2)
  mesh = make_mesh(MeshConfig(-1, 2, 2), devices)
  slices = np.vectorize(lambda device: device.slice_index)(mesh.devices)
  assert slices.shape == (2, 2, 2)
  assert (slices == slices[:, :1, :1]).all() and len(np.unique(slices)) == 2
  with pytest.raises(InputError, match=r'mesh.data=1 over 2 slices'):
    make_mesh(MeshConfig(1, 8, 1), devices)


def totals(batch):
  return {name.replace('weights', 'weight_sum'): x.sum()
          for name, x in batch.items() if name.endswith('weights')}


def loss(config, params, batch, keys, totals):
  encoder = model.bind(config, params)
  x = encoder.encode(batch['input_ids'], batch['segment_ids'],
                     batch.get('type_ids'), dropout_key=keys)
  sums = model.mlm_loss(encoder.mlm_logits(x, batch['mlm_positions']),
                        batch['mlm_targets'], batch['mlm_weights'])
  objective = sums['loss_sum'] / totals['mlm_weight_sum']
  if config.nsp_head:
    sums |= model.nsp_loss(encoder.nsp_logits(x, batch['nsp_positions']),
                           batch['nsp_targets'], batch['nsp_weights'])
    objective += sums['nsp_loss_sum'] / totals['nsp_weight_sum']
  return objective, sums


@pytest.mark.parametrize('config, micro_batches', [
    (CONFIG, 1), (CONFIG, 2), (PAIRS, 2)], ids=['1', '2', 'pairs'])
def test_the_step_compiles_for_v5e(mesh, config, micro_batches):
  assert isinstance(mesh, Mesh) and mesh.size == 16
  tx, _ = optimizer.create(OptimConfig(), 1000)
  sharding = batch_sharding(mesh, micro_batches=True)

  def field(width, dtype):
    return jax.ShapeDtypeStruct(
        (micro_batches, ROWS // micro_batches, width), dtype,
        sharding=sharding)

  batch = {'input_ids': field(TOKENS, np.int32),
           'segment_ids': field(TOKENS, np.int32),
           'mlm_positions': field(MASKED, np.int32),
           'mlm_targets': field(MASKED, np.int32),
           'mlm_weights': field(MASKED, np.float32)}
  if config.nsp_head:
    batch |= {'type_ids': field(TOKENS, np.int32),
              'nsp_positions': field(PACKED, np.int32),
              'nsp_targets': field(PACKED, np.int32),
              'nsp_weights': field(PACKED, np.float32)}
  with jax.set_mesh(mesh):
    make = step.state_maker(lambda key: model.create(config, key), tx)
    abstract = step.abstract_state(make, mesh)
    compiled = jax.jit(
        step.make_train_step(functools.partial(loss, config), totals, tx),
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda x: x.sharding, abstract), None)
    ).lower(abstract, batch, seed_words(0), np.float32(1e-3)).compile()
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
                           sharding=batch_sharding(mesh))
  rows = jax.ShapeDtypeStruct((64,), np.uint32,
                              sharding=batch_sharding(mesh))

  def drop(x, rows):
    keys = kernels.row_keys(kernels.key_words(0, 1), rows)
    return kernels.dropout(x, keys, 0.1)

  with jax.set_mesh(mesh):
    text = jax.jit(drop).lower(x, rows).compile().as_text()
  assert 'rng' not in text.lower()
  assert not re.search(r'all-(gather|reduce|to-all)', text)
