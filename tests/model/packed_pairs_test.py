"""Pairs in packed rows: each is asked, and answered, as if alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax import model
from robertax.config import ModelConfig

LENGTH, SLOTS = 24, 4
CONFIG = ModelConfig(
    vocab_size=48, hidden_size=32, num_layers=2, num_heads=4, mlp_size=64,
    max_positions=LENGTH, dropout_rate=0., attention_dropout_rate=0.,
    num_types=2, nsp_head=True)
# Lengths of A and B of the examples of each row; the rest is padding.
ROWS = [((4, 3), (2, 7), (5, 2)), ((14, 10),), ((6, 6), (3, 9)),
        ((3, 2),) * 4, ((2, 3), (10, 4))]


@pytest.fixture(scope='module')
def params():
  """Parameters that all matter: biases and scales too."""
  random = np.random.default_rng(0)
  fresh = model.create(CONFIG, jax.random.key(0))
  return jax.tree.map(
      lambda x: x + .1 * random.normal(size=x.shape).astype(np.float32), fresh)


def empty(rows):
  # What stands at padding must not matter: not even a constant.
  random = np.random.default_rng(rows)
  return {'input_ids': random.integers(4, 48, (rows, LENGTH)),
          'segment_ids': np.zeros((rows, LENGTH), int),
          'type_ids': np.zeros((rows, LENGTH), int),
          'nsp_positions': np.zeros((rows, SLOTS), int),
          'nsp_targets': np.zeros((rows, SLOTS), int),
          'nsp_weights': np.zeros((rows, SLOTS), np.float32)}


@pytest.fixture(scope='module')
def both():
  """The same pairs, packed into ROWS and each in a row of its own."""
  random = np.random.default_rng(1)
  packed, alone = empty(len(ROWS)), empty(sum(map(len, ROWS)))
  number = 0
  for row, pairs in enumerate(ROWS):
    start = 0
    for slot, (a, b) in enumerate(pairs):
      ids, target = random.integers(4, 48, a + b), random.integers(2)
      types = np.arange(a + b) >= a
      for batch, r, s, begin in ((packed, row, slot, start),
                                 (alone, number, 0, 0)):
        here = slice(begin, begin + a + b)
        batch['input_ids'][r, here] = ids
        batch['segment_ids'][r, here] = s + 1
        batch['type_ids'][r, here] = types
        batch['nsp_positions'][r, s] = begin
        batch['nsp_targets'][r, s] = target
        batch['nsp_weights'][r, s] = 1
      start, number = start + a + b, number + 1
  return packed, alone


@jax.jit
def run(params, batch):
  """((mean NSP loss, (logits_BPC, logits_BTV)), gradients)."""

  def loss(params):
    module = model.bind(CONFIG, params)
    x_BTD = module.encode(batch['input_ids'], batch['segment_ids'],
                          batch['type_ids'])
    logits_BPC = module.nsp_logits(x_BTD, batch['nsp_positions'])
    sums = model.nsp_loss(logits_BPC, batch['nsp_targets'],
                          batch['nsp_weights'])
    everywhere = jnp.broadcast_to(jnp.arange(LENGTH),
                                  batch['input_ids'].shape)
    return (sums['nsp_loss_sum'] / sums['nsp_weight_sum'],
            (logits_BPC, module.mlm_logits(x_BTD, everywhere)))

  return jax.value_and_grad(loss, has_aux=True)(params)


def test_packed_pairs_are_the_pairs_alone(params, both):
  packed, alone = both
  (loss, (nsp, mlm)), gradients = run(params, packed)
  (loss_alone, (nsp_alone, mlm_alone)), gradients_alone = run(params, alone)
  np.testing.assert_allclose(loss, loss_alone, rtol=1e-5)
  answers = np.asarray(nsp)[packed['nsp_weights'] > 0]
  np.testing.assert_allclose(answers, nsp_alone[:, 0], rtol=1e-5, atol=1e-5)
  assert answers.std(0).min() > .05  # They are not all the same answer.
  np.testing.assert_allclose(
      np.asarray(mlm)[packed['segment_ids'] > 0],
      np.asarray(mlm_alone)[alone['segment_ids'] > 0], rtol=1e-5, atol=1e-5)
  for (path, found), expected in zip(
      jax.tree_util.tree_leaves_with_path(gradients),
      jax.tree.leaves(gradients_alone)):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5,
                               err_msg=jax.tree_util.keystr(path))
  for name in ('pooler', 'output'):
    assert np.abs(gradients['nsp_head'][name]['kernel']).max() > .01
  assert np.abs(gradients['embeddings']['types']).max(1).min() > 1e-3


def test_types_and_the_place_of_b_change_the_answer(params, both):
  packed, _ = both
  (_, (before, _)), _ = run(params, packed)
  # The second pair of each row: its B begins one token later.
  other = {name: x.copy() for name, x in packed.items()}
  second = packed['segment_ids'] == 2
  first_b = second & (packed['type_ids'] == 1) & (
      np.roll(packed['type_ids'], 1, 1) == 0)
  assert first_b.sum() == sum(len(pairs) > 1 for pairs in ROWS)
  other['type_ids'][first_b] = 0
  (_, (after, _)), _ = run(params, other)
  change = np.abs(np.asarray(after) - before).max(-1)
  asked = np.arange(SLOTS) == 1
  real = packed['nsp_weights'] > 0
  assert (change[real & asked] > 1e-4).all()
  # The other pairs do not see it, bit for bit.
  assert (change[real & ~asked] == 0).all()
