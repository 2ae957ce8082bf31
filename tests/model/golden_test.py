"""Golden numbers of transformers and torch (tests/oracle/make_golden.py)."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robertax import model
from robertax.config import ModelConfig

FILES = sorted((pathlib.Path(__file__).parent / 'golden').glob('*.npz'))


@pytest.fixture(scope='module', params=FILES, ids=lambda path: path.stem)
def golden(request):
  with np.load(request.param, allow_pickle=False) as file:
    arrays = dict(file)
  params = {}
  for name, value in arrays.items():
    if name.startswith('params/'):
      *folders, leaf = name.split('/')[1:]
      node = params
      for folder in folders:
        node = node.setdefault(folder, {})
      node[leaf] = value.astype(np.float32)
  batches = {name.removeprefix('batches/'): value.astype(np.int32)
             for name, value in arrays.items() if name.startswith('batches/')}
  config = ModelConfig(**json.loads(arrays['config'].item()))
  return config, params, batches, arrays


def test_there_are_golden_files():
  assert len(FILES) == 3


def test_logits_are_theirs(golden):
  config, params, batches, arrays = golden
  ids, segment_ids = batches['input_ids'][0], batches['segment_ids'][0]
  everywhere = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)

  @jax.jit
  def logits(params):
    module = model.bind(config, params)
    return module.mlm_logits(module(ids, segment_ids), everywhere)
  real = segment_ids > 0
  assert not real.all()
  np.testing.assert_allclose(np.asarray(logits(params))[real],
                             arrays['logits'][real], atol=1e-4)


def test_twenty_adamw_steps_are_theirs(golden):
  config, params, batches, arrays = golden
  tx = optax.adamw(float(arrays['learning_rate']), b1=.9, b2=.98, eps=1e-6,
                   weight_decay=.01)

  def loss(params, batch):
    module = model.bind(config, params)
    x = module(batch['input_ids'], batch['segment_ids'])
    sums = model.mlm_loss(module.mlm_logits(x, batch['mlm_positions']),
                          batch['mlm_targets'], batch['mlm_weights'])
    return sums['loss_sum'] / sums['weight_sum']

  @jax.jit
  def run(params, order):
    def step(carry, number):
      params, state = carry
      batch = jax.tree.map(lambda x: jnp.asarray(x)[number], batches)
      value, gradient = jax.value_and_grad(loss)(params, batch)
      updates, state = tx.update(gradient, state, params)
      return (optax.apply_updates(params, updates), state), value
    return jax.lax.scan(step, (params, tx.init(params)), order)[1]

  order = np.arange(20) % len(batches['input_ids'])
  np.testing.assert_allclose(run(params, order), arrays['losses'], atol=1e-4,
                             rtol=0)
