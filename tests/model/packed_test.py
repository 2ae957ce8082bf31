"""A packed row is its examples alone: positions and attention begin anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax import model
from robertax.config import ModelConfig

LENGTH = 24
CONFIG = ModelConfig(
    vocab_size=48, hidden_size=32, num_layers=2, num_heads=4, mlp_size=64,
    max_positions=LENGTH, dropout_rate=0., attention_dropout_rate=0.)
# Lengths of the examples of each row; the rest is padding.
ROWS = [(5, 9, 1, 7), (24,), (12, 12), (3,) * 8, (1, 1, 20), (2, 6)]


@pytest.fixture(scope='module')
def params():
  """Parameters that all matter: biases and scales too."""
  random = np.random.default_rng(0)
  fresh = model.create(CONFIG, jax.random.key(0))
  return jax.tree.map(
      lambda x: x + .1 * random.normal(size=x.shape).astype(np.float32), fresh)


@pytest.fixture(scope='module')
def both():
  """({'ids', 'segments', 'targets', 'weights'} packed, the same alone).

  [R,T] and [E,T]; an example alone begins its row and has the segment id 1.
  """
  random = np.random.default_rng(1)
  # What stands at padding must not matter: not even a constant.
  packed = {'ids': random.integers(4, 48, (len(ROWS), LENGTH)),
            'segments': np.zeros((len(ROWS), LENGTH), int),
            'targets': random.integers(4, 48, (len(ROWS), LENGTH)),
            'weights': np.zeros((len(ROWS), LENGTH))}
  alone = []
  for row, lengths in enumerate(ROWS):
    start = 0
    for number, length in enumerate(lengths, 1):
      here = slice(start, start + length)
      packed['segments'][row, here] = number
      packed['weights'][row, here] = random.random(length) < .4
      example = {'ids': random.integers(4, 48, LENGTH),
                 'segments': np.zeros(LENGTH, int),
                 'targets': np.zeros(LENGTH, int), 'weights': np.zeros(LENGTH)}
      example['segments'][:length] = 1
      for name in ('ids', 'targets', 'weights'):
        example[name][:length] = packed[name][row, here]
      alone.append(example)
      start += length
  return packed, {name: np.stack([e[name] for e in alone]) for name in packed}


@jax.jit
def run(params, batch):
  """((summed loss, logits_BTV at all positions), gradients)."""

  def loss(params):
    module = model.bind(CONFIG, params)
    x_BTD = module.encode(batch['ids'], batch['segments'])
    everywhere = jnp.broadcast_to(jnp.arange(LENGTH), batch['ids'].shape)
    logits_BTV = module.mlm_logits(x_BTD, everywhere)
    sums = model.mlm_loss(logits_BTV, batch['targets'], batch['weights'])
    return sums['loss_sum'], logits_BTV

  return jax.value_and_grad(loss, has_aux=True)(params)


def one(batch, number):
  return {name: x[number:number + 1] for name, x in batch.items()}


def test_logits_are_those_of_the_example_alone(params, both):
  packed, alone = both
  (_, found), _ = run(params, packed)
  number = 0
  for row, lengths in enumerate(ROWS):
    start = 0
    for length in lengths:
      (_, expected), _ = run(params, one(alone, number))
      np.testing.assert_allclose(
          found[row, start:start + length], expected[0, :length],
          rtol=1e-5, atol=1e-5)
      number, start = number + 1, start + length
  assert number == len(alone['ids'])


def test_a_neighbour_changes_nothing(params, both):
  """Bit for bit: what is masked weighs exactly 0."""
  packed, _ = both
  other = {name: x.copy() for name, x in packed.items()}
  changed = packed['segments'] == 2
  other['ids'][changed] = 4 + (packed['ids'][changed] + 9) % 44
  (_, before), _ = run(params, packed)
  (_, after), _ = run(params, other)
  kept = (packed['segments'] != 2) & (packed['segments'] > 0)
  np.testing.assert_array_equal(before[kept], after[kept])
  assert (np.abs(before - after)[changed].max(-1) > 1e-3).all()


def test_gradients_are_the_sum_of_those_alone(params, both):
  packed, alone = both
  assert alone['weights'].sum() == packed['weights'].sum() > 20
  (_, _), whole = run(params, packed)
  # One example a call; their gradients are added outside of JAX.
  parts = [run(params, one(alone, i))[1] for i in range(len(alone['ids']))]
  total = jax.tree.map(
      lambda *x: np.sum(x, axis=0, dtype=np.float64), *parts)
  for (path, found), expected in zip(
      jax.tree_util.tree_leaves_with_path(whole), jax.tree.leaves(total)):
    np.testing.assert_allclose(
        found, expected, rtol=1e-5, atol=1e-5,
        err_msg=jax.tree_util.keystr(path))
  # The largest are far above the tolerance.
  assert np.abs(total['embeddings']['tokens']).max() > .1
