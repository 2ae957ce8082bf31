"""One update: the same on any mesh and for any split of the batch."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robertax import model
from robertax.config import MeshConfig
from robertax.data.feed import split_micro_batches
from robertax.kernels.dropout import seed_words
from robertax.parallel.mesh import make_mesh
from robertax.train import optimizer, step
from tests.train.tiny_run import (
    CONFIG,
    OPTIM,
    SEED,
    batches,
    compiled,
    loss,
    totals,
    train,
)


def mesh_of(sizes):
  return make_mesh(MeshConfig(*sizes),
                   jax.devices()[:np.prod(sizes)])


@pytest.fixture(scope='module')
def one_device():
  return train(mesh_of((1, 1, 1)))


def test_labels_can_be_learned(one_device):
  losses, _ = one_device
  assert losses[-1, 0] < losses[0, 0] - 1
  # A fresh head has no opinion.
  assert losses[0, 1] == pytest.approx(np.log(2), abs=.01)


@pytest.mark.parametrize('sizes, zero1, micro_batches', [
    ((8, 1, 1), True, 2), ((1, 1, 1), False, 8), ((2, 2, 2), False, 1),
    ((1, 1, 8), False, 2), *(pytest.param(*case, marks=pytest.mark.slow)
                             for case in (
        ((8, 1, 1), False, 1), ((4, 2, 1), False, 2), ((4, 2, 1), True, 1),
        ((2, 2, 2), True, 2)))])
def test_same_losses_on_any_mesh_and_split(one_device, sizes, zero1,
                                           micro_batches):
  losses, params = train(mesh_of(sizes), micro_batches, zero1)
  np.testing.assert_allclose(losses, one_device[0], rtol=1e-5)
  for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(one_device[1])):
    np.testing.assert_allclose(a, b, atol=2e-4)


def reduced_bytes(text):
  """What the reductions of an HLO text bring together, loops expanded.

  Of each, what a device gives: of a reduce-scatter that is what it gets times
  the devices.
  """
  computations, name = {}, None
  for line in text.splitlines():
    if line.endswith('{') and not line.startswith((' ', 'HloModule')):
      name = 'ENTRY' if line.startswith('ENTRY') else (
          line.split()[0].lstrip('%'))
      computations[name] = []
    elif name:
      computations[name].append(line)

  def walk(name):
    total = 0
    for line in computations[name]:
      if found := re.search(r' = (.*?) (all-reduce|reduce-scatter)'
                            r'(-start)?\(', line):
        size = sum(4 * math.prod(map(int, filter(None, dims.split(','))))
                   for dims in re.findall(r'f32\[([\d,]*)\]', found[1]))
        total += size * (8 if found[2] == 'reduce-scatter' else 1)
      if ' while(' in line:
        trips = int(re.search(r'known_trip_count":\{"n":"(\d+)"', line)[1])
        total += trips * walk(re.search(r'body=%?([\w.\-]+)', line)[1])
      elif found := re.search(r' (?:call|fusion)\(.*(?:to_apply|calls)='
                              r'%?([\w.\-]+)', line):
        total += walk(found[1])
    return total
  return walk('ENTRY')


@pytest.mark.parametrize('micro_batches, zero1', [
    (8, False), (8, True),
    *(pytest.param(1, zero1, marks=pytest.mark.slow)
      for zero1 in (False, True))])
def test_gradients_are_reduced_once_a_step(micro_batches, zero1):
  """Not once for each micro-batch, nor for each layer's uses."""
  now, update = compiled(mesh_of((8, 1, 1)), micro_batches, zero1)
  size = sum(x.nbytes for x in jax.tree.leaves(now.params))
  assert size <= reduced_bytes(update.as_text()) <= 1.1 * size


def test_zero1_keeps_a_part_of_the_optimizer():
  now, _ = compiled(mesh_of((8, 1, 1)), 1, zero1=True)

  def here(tree):
    return sum(x.addressable_shards[0].data.nbytes
               for x in jax.tree.leaves(tree))

  assert here(now.params) == sum(x.nbytes for x in jax.tree.leaves(now.params))
  # But for what 8 does not divide.
  assert here(now.opt_state) < 1.1 * 2 * here(now.params) / 8


def first_state(value, tx):
  return step.TrainState(jnp.int32(0), jnp.float32(value),
                         tx.init(jnp.float32(0.0)))


def test_gradient_is_of_the_global_mean():
  """Two micro-batches with 1 and 3 targets weigh 1 : 3, not 1 : 1."""
  def quadratic(params, batch, keys, totals):
    del keys
    error = ((params - batch['x']) ** 2 * batch['w']).sum()
    return error / totals['w'], {'weight_sum': batch['w'].sum()}

  tx = optax.with_extra_args_support(optax.sgd(1.0))
  x = np.array([[[1.0, 0, 0]], [[2.0, 3.0, 4.0]]], np.float32)
  w = np.array([[[1.0, 0, 0]], [[1.0, 1.0, 1.0]]], np.float32)
  update = step.make_train_step(
      quadratic, lambda batch: {'w': batch['w'].sum()}, tx)
  now, sums = update(first_state(0, tx), {'x': x, 'w': w}, SEED, 1.0)
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

  tx = optax.with_extra_args_support(optax.sgd(1.0))
  rows = {'a': np.array([[2., 0], [4, 6], [0, 0], [0, 0], [0, 0], [8, 0]]),
          'b': np.array([[0., 0], [0, 0], [1, 3], [5, 7], [0, 9], [0, 0]])}
  update = step.make_train_step(both, count, tx)
  now, _ = update(first_state(0, tx),
                  split_micro_batches(rows, micro_batches), SEED, 1.0)
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


def test_another_seed_or_rate_compiles_nothing():
  with jax.set_mesh(mesh_of((1, 1, 1))):
    tx, _ = optimizer.create(OPTIM, 100)
    traced = []

    def counted(*args):
      traced.append(1)
      return loss(*args)

    update = jax.jit(step.make_train_step(counted, totals, tx))
    now = step.state_maker(lambda key: model.create(CONFIG, key), tx)(
        jax.random.key(0))
    batch = split_micro_batches(next(batches(1)), 1)
    norms = {(seed, rate): update(now, batch, seed_words(seed),
                                  np.float32(rate))[1]['loss_sum'].item()
             for seed in (0, 1) for rate in (1e-5, 2e-5)}
  assert len(traced) == 1
  # Dropout is another, the loss before the update the same.
  assert norms[0, 1e-5] == norms[0, 2e-5] != norms[1, 1e-5]
