"""One update: the same on any mesh and for any split of the batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robertax import model, parallel
from robertax.data import split_micro_batches
from robertax.train import optimizer, state, step
from robertax.train.config import OptimConfig

B, T, M, P, V = 16, 32, 6, 3, 67
CONFIG = model.ModelConfig(
    vocab_size=V, hidden_size=32, num_layers=2, num_heads=8, mlp_size=64,
    max_positions=T, num_types=2, nsp_head=True)


def totals(batch):
  return {'weight_sum': batch['mlm_weights'].sum(),
          'nsp_weight_sum': batch['nsp_weights'].sum()}


def loss(params, batch, keys, totals, config=CONFIG):
  encoder = model.bind(config, params)
  x = encoder.encode(batch['input_ids'], batch['segment_ids'],
                     batch['type_ids'], dropout_key=keys)
  sums = model.mlm_loss(encoder.mlm_logits(x, batch['mlm_positions']),
                        batch['mlm_targets'], batch['mlm_weights'])
  sums |= model.nsp_loss(encoder.nsp_logits(x, batch['nsp_positions']),
                         batch['nsp_targets'], batch['nsp_weights'])
  return sum(sums[f'{of}loss_sum'] / totals[f'{of}weight_sum']
             for of in ('', 'nsp_')), sums


def batches(count):
  """Cyclic text of six tokens, soon learned; B is random if it jumps.

  Uneven counts of masks and of examples: one device and one micro-batch have
  many, another has none.
  """
  rng = np.random.default_rng(5)
  for _ in range(count):
    starts = rng.integers(0, 6, (B, 1))
    # From the middle on B; in every third row it goes on three tokens later.
    jumps = (np.arange(B) % 3 == 0)[:, None]
    types = np.tile((np.arange(T) >= T // 2).astype(np.int32), (B, 1))
    ids = (starts + np.arange(T) + 3 * jumps * types) % 6 + 4
    lengths = rng.integers(T - 8, T + 1, (B, 1))
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
           'mlm_targets': targets.astype(np.int32), 'mlm_weights': weights,
           'type_ids': types * segment,
           # A row's slots ask of one <s> here: their number is what counts.
           'nsp_positions': np.zeros((B, P), np.int32),
           'nsp_targets': np.broadcast_to(jumps, (B, P)).astype(np.int32),
           'nsp_weights': (np.arange(P) < np.linspace(0, P, B).round()[:, None]
                           ).astype(np.float32)}


def train(devices, micro_batches, steps=20, batch_sizes=None, config=None):
  mesh = parallel.make_mesh(
      parallel.MeshConfig(**(config or {})), jax.devices()[:devices])
  tx, _ = optimizer.create(
      OptimConfig(learning_rate=1e-2, warmup_steps=2), 100)
  with jax.set_mesh(mesh):
    make = state.create(lambda key: model.create(CONFIG, key), tx, seed=3)
    shardings = jax.tree.map(lambda x: x.sharding, state.abstract(make, mesh))
    now = jax.jit(make, out_shardings=shardings)()
    update = jax.jit(step.make_train_step(loss, totals, tx, seed=3),
                     donate_argnums=0, out_shardings=(shardings, None))
    sharding = parallel.batch_sharding(mesh, micro_batches=True)
    losses = []
    for batch in batches(steps):
      batch = split_micro_batches(batch, micro_batches)
      now, sums = update(now, jax.device_put(batch, sharding))
      losses.append([float(sums[f'{of}loss_sum'] / sums[f'{of}weight_sum'])
                     for of in ('', 'nsp_')])
  return np.array(losses), jax.device_get(now.params)


@pytest.fixture(scope='module')
def one_device():
  return train(devices=1, micro_batches=1)


def test_labels_can_be_learned(one_device):
  losses, _ = one_device
  assert losses[-1, 0] < losses[0, 0] - 1
  # A fresh head has no opinion.
  assert losses[0, 1] == pytest.approx(np.log(2), abs=.01)


@pytest.mark.parametrize('devices, micro_batches', [(8, 1), (1, 8), (2, 4)])
def test_same_losses_on_any_mesh_and_split(one_device, devices, micro_batches):
  losses, params = train(devices, micro_batches)
  np.testing.assert_allclose(losses, one_device[0], rtol=1e-5)
  for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(one_device[1])):
    np.testing.assert_allclose(a, b, atol=2e-4)


def first_state(value, tx):
  return state.TrainState(jnp.int32(0), jnp.float32(value),
                          tx.init(jnp.float32(0.0)))


def test_gradient_is_of_the_global_mean():
  """Two micro-batches with 1 and 3 targets weigh 1 : 3, not 1 : 1."""
  def quadratic(params, batch, keys, totals):
    del keys
    error = ((params - batch['x']) ** 2 * batch['w']).sum()
    return error / totals['w'], {'weight_sum': batch['w'].sum()}

  tx = optax.sgd(1.0)
  x = np.array([[[1.0, 0, 0]], [[2.0, 3.0, 4.0]]], np.float32)
  w = np.array([[[1.0, 0, 0]], [[1.0, 1.0, 1.0]]], np.float32)
  update = step.make_train_step(
      quadratic, lambda batch: {'w': batch['w'].sum()}, tx, 0)
  now, sums = update(first_state(0, tx), {'x': x, 'w': w})
  # d/dp of the mean of (p - x)^2 at 0 is -2 mean(x) = -2 * 10 / 4.
  assert float(now.params) == pytest.approx(5.0)
  assert float(sums['weight_sum']) == 4.0
  assert float(sums['gradient_norm']) == pytest.approx(5.0)


@pytest.mark.parametrize('micro_batches', [1, 2, 3])
def test_two_means_have_two_divisors(micro_batches):
  """Mean of a and mean of b, however both lie among the micro-batches."""
  def both(params, batch, keys, totals):
    del keys
    objective = sum((params * batch[n]).sum() / totals[n] for n in ('a', 'b'))
    return objective, {'count': (batch['a'] != 0).sum()}

  def count(batch):
    return {name: (batch[name] != 0).sum() for name in ('a', 'b')}

  tx = optax.sgd(1.0)
  rows = {'a': np.array([[2., 0], [4, 6], [0, 0], [0, 0], [0, 0], [8, 0]]),
          'b': np.array([[0., 0], [0, 0], [1, 3], [5, 7], [0, 9], [0, 0]])}
  update = step.make_train_step(both, count, tx, 0)
  now, _ = update(first_state(0, tx),
                  split_micro_batches(rows, micro_batches))
  assert float(now.params) == pytest.approx(-(20 / 4 + 25 / 5))


def test_bfloat16_loses_nothing_by_dividing_first():
  """2^20 is more targets than any batch has: bit for bit, but for exponents.

  Only what is smaller than 2^-106 would be rounded otherwise.
  """
  config = dataclasses.replace(CONFIG, dtype='bfloat16')
  params = model.create(config, jax.random.key(0))
  batch = next(batches(1))

  @jax.jit
  def gradient(divisor):
    totals = dict.fromkeys(('weight_sum', 'nsp_weight_sum'), divisor)
    return jax.grad(lambda params: loss(
        params, batch, None, totals, config)[0])(params)

  whole, divided = gradient(1.0), gradient(2.0**20)
  for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(divided)):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64) * 2**20
    assert np.abs(a).max() > 0
    np.testing.assert_array_equal(a[np.abs(a) > 1e-25], b[np.abs(a) > 1e-25])
