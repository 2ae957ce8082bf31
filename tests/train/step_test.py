"""One update: the same on any mesh and for any split of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robertax import model, parallel
from robertax.data import split_micro_batches
from robertax.train import optimizer, state, step
from robertax.train.config import OptimConfig

B, T, M, V = 16, 32, 6, 67
CONFIG = model.ModelConfig(
    vocab_size=V, hidden_size=32, num_layers=2, num_heads=4, mlp_size=64,
    max_positions=T)


def loss(params, batch, keys):
  encoder = model.bind(CONFIG, params)
  x = encoder.encode(batch['input_ids'], batch['segment_ids'],
                     dropout_key=keys)
  sums = model.mlm_loss(encoder.mlm_logits(x, batch['mlm_positions']),
                        batch['mlm_targets'], batch['mlm_weights'])
  sums['token_sum'] = (batch['segment_ids'] > 0).sum(dtype=jnp.float32)
  return sums['loss_sum'], sums


def batches(count):
  """Cyclic text of six tokens, soon learned; uneven counts of masks."""
  rng = np.random.default_rng(5)
  for _ in range(count):
    starts = rng.integers(0, 6, (B, 1))
    ids = (starts + np.arange(T)) % 6 + 4
    lengths = rng.integers(8, T + 1, (B, 1))
    segment = (np.arange(T) < lengths).astype(np.int32)
    positions = np.sort(np.stack([
        rng.permutation(8)[:M] for _ in range(B)])).astype(np.int32)
    # Rows of the first shards have many targets, the last none.
    weights = (np.arange(M) < np.linspace(M, 0, B).round()[:, None]
               ).astype(np.float32)
    targets = np.take_along_axis(ids, positions, 1)
    inputs = ids.copy()
    np.put_along_axis(inputs, positions, V - 1, 1)
    yield {'input_ids': np.where(segment, inputs, 1).astype(np.int32),
           'segment_ids': segment, 'mlm_positions': positions,
           'mlm_targets': targets.astype(np.int32), 'mlm_weights': weights}


def train(devices, micro_batches, steps=20, batch_sizes=None, config=None):
  mesh = parallel.make_mesh(
      parallel.MeshConfig(**(config or {})), jax.devices()[:devices])
  tx, _ = optimizer.create(
      OptimConfig(learning_rate=1e-2, warmup_steps=2), 100)
  with jax.set_mesh(mesh):
    make = state.create(lambda key: model.create(CONFIG, key), tx, seed=3)
    shardings = jax.tree.map(lambda x: x.sharding, state.abstract(make, mesh))
    now = jax.jit(make, out_shardings=shardings)()
    update = jax.jit(step.make_train_step(loss, tx, seed=3), donate_argnums=0,
                     out_shardings=(shardings, None))
    sharding = parallel.batch_sharding(mesh, micro_batches=True)
    losses = []
    for batch in batches(steps):
      batch = split_micro_batches(batch, micro_batches)
      now, sums = update(now, jax.device_put(batch, sharding))
      losses.append(float(sums['loss_sum'] / sums['weight_sum']))
  return np.array(losses), jax.device_get(now.params)


@pytest.fixture(scope='module')
def one_device():
  return train(devices=1, micro_batches=1)


def test_labels_can_be_learned(one_device):
  losses, _ = one_device
  assert losses[-1] < losses[0] - 1


@pytest.mark.parametrize('devices, micro_batches', [(8, 1), (1, 8), (2, 4)])
def test_same_losses_on_any_mesh_and_split(one_device, devices, micro_batches):
  losses, params = train(devices, micro_batches)
  np.testing.assert_allclose(losses, one_device[0], rtol=1e-5)
  for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(one_device[1])):
    np.testing.assert_allclose(a, b, atol=2e-4)


def test_gradient_is_of_the_global_mean():
  """Two micro-batches with 1 and 3 targets weigh 1 : 3, not 1 : 1."""
  def quadratic(params, batch, keys):
    del keys
    error = ((params - batch['x']) ** 2 * batch['w']).sum()
    return error, {'loss_sum': error, 'weight_sum': batch['w'].sum()}

  tx = optax.sgd(1.0)
  x = np.array([[[1.0, 0, 0]], [[2.0, 3.0, 4.0]]], np.float32)
  w = np.array([[[1.0, 0, 0]], [[1.0, 1.0, 1.0]]], np.float32)
  first = state.TrainState(jnp.int32(0), jnp.float32(0.0),
                           tx.init(jnp.float32(0.0)))
  now, sums = step.make_train_step(quadratic, tx, 0)(first, {'x': x, 'w': w})
  # d/dp of the mean of (p - x)^2 at 0 is -2 mean(x) = -2 * 10 / 4.
  assert float(now.params) == pytest.approx(5.0)
  assert float(sums['weight_sum']) == 4.0
  assert float(sums['gradient_norm']) == pytest.approx(5.0)


def test_no_target_leaves_parameters_finite():
  def zero(params, batch, keys):
    del keys
    error = (params * batch['x'] * 0).sum()
    return error, {'loss_sum': error, 'weight_sum': jnp.float32(0)}

  tx = optax.sgd(1.0)
  first = state.TrainState(jnp.int32(0), jnp.float32(2.0),
                           tx.init(jnp.float32(0.0)))
  now, _ = step.make_train_step(zero, tx, 0)(
      first, {'x': np.ones((1, 2), np.float32)})
  assert float(now.params) == 2.0
