"""The vocabulary: padded inside, unseen outside, shared out over devices."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax import model
from robertax.config import MeshConfig, ModelConfig
from robertax.parallel.mesh import (
    BATCH_AXES,
    batch_sharding,
    make_mesh,
    param_shardings,
)

V, ROWS, B, T, M = 200, 256, 16, 8, 20
CONFIG = ModelConfig(vocab_size=V, hidden_size=8, num_layers=1,
                           num_heads=8, mlp_size=8, max_positions=T)
LOOSE = dataclasses.replace(CONFIG, tie_embeddings=False)
X = jax.random.normal(jax.random.key(1), (B, T, 8))
POSITIONS = np.random.RandomState(0).randint(0, T, (B, M))
TARGETS = np.random.RandomState(1).randint(0, V, (B, M))
WEIGHTS = (np.random.RandomState(2).rand(B, M) < .6).astype(np.float32)


def make(config):
  # A bias that varies, so that 0 is not what every row has.
  params = model.create(config, jax.random.key(0))
  params['lm_head']['bias'] = jax.random.normal(jax.random.key(2), (V,))
  return params


def loss(config, params, x=X):
  sums = model.mlm_loss(model.bind(config, params).mlm_logits(x, POSITIONS),
                        TARGETS, WEIGHTS)
  return sums['loss_sum'], sums


@pytest.mark.parametrize('config', [CONFIG, LOOSE], ids=['tied', 'untied'])
def test_rows_are_appended_and_taken_away(config):
  params = make(config)
  padded = model.pad_vocabulary(params)
  tables = [padded['embeddings']['tokens'], padded['lm_head']['bias']]
  if not config.tie_embeddings:
    tables.append(padded['lm_head']['decoder'])
  for table in tables:
    assert len(table) == ROWS and not table[V:].any() and table[:V].any()
  jax.tree.map(np.testing.assert_array_equal, params,
               model.unpad_vocabulary(config, padded))
  # The tables alone; once is enough; nothing to take away.
  jax.tree.map(np.testing.assert_array_equal, padded,
               model.pad_vocabulary(padded))
  jax.tree.map(np.testing.assert_array_equal, params,
               model.unpad_vocabulary(config, params))
  assert padded['layers'] is params['layers']
  assert len(params['lm_head']['bias']) == V  # What was given has not changed.


@pytest.mark.parametrize('size, rows', [(1, 128), (128, 128), (129, 256),
                                        (50265, 50304)])
def test_the_next_multiple_of_128(size, rows):
  params = {'lm_head': {'bias': np.ones(size, np.float32)}}
  assert model.pad_vocabulary(params)['lm_head']['bias'].shape == (rows,)


@pytest.mark.parametrize('config', [CONFIG, LOOSE], ids=['tied', 'untied'])
def test_padding_is_invisible(config):
  """Loss, accuracy and gradient are those without; no padded id is likely."""
  params = make(config)
  both = jax.jit(jax.value_and_grad(
      lambda params: loss(config, params), has_aux=True))
  (value, sums), gradient = both(params)
  (padded_value, padded_sums), padded_gradient = both(
      model.pad_vocabulary(params))
  np.testing.assert_allclose(padded_value, value, rtol=1e-6)
  assert padded_sums['correct_sum'] == sums['correct_sum']
  for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(
      model.unpad_vocabulary(config, padded_gradient))):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)
  # Exactly 0, so that no optimizer ever moves these rows.
  for table in (padded_gradient['embeddings']['tokens'],
                padded_gradient['lm_head']['bias'],
                padded_gradient['lm_head'].get('decoder', jnp.zeros(V))):
    assert not np.asarray(table[V:]).any()


def test_a_padded_id_is_never_the_best():
  """Even where its logit of 0 would be the largest."""
  params = jax.tree.map(jnp.zeros_like, make(CONFIG))
  params['lm_head']['bias'] = jnp.full(V, -50.)
  logits = model.bind(CONFIG, model.pad_vocabulary(params)).mlm_logits(
      X, POSITIONS)
  assert logits.shape == (B, M, ROWS)
  assert (logits.argmax(-1) < V).all()
  probabilities = jax.nn.softmax(logits)
  assert (probabilities[..., V:] == 0).all()
  np.testing.assert_allclose(probabilities[..., :V], 1 / V, rtol=1e-6)


def largest_collective(text):
  """Elements of the largest array that a collective of an HLO text makes."""
  sizes = [0]
  for line in text.splitlines():
    found = re.search(r'= (.*?) (all-gather|all-reduce|reduce-scatter|'
                      r'all-to-all|collective-permute)(-start)?\(', line)
    for shape in re.findall(r'\w\[([\d,]*)\]', found[1]) if found else ():
      sizes.append(math.prod(map(int, filter(None, shape.split(',')))))
  return max(sizes)


def gathered(logits):
  """What the loss must not do: a logit is looked up, one is the argmax."""
  target = jnp.take_along_axis(logits, TARGETS[..., None], -1)[..., 0]
  nats = jax.nn.logsumexp(jax.lax.with_sharding_constraint(
      logits, jax.P(BATCH_AXES)), -1) - target
  return (WEIGHTS * nats).sum()


@pytest.mark.parametrize('sizes', [(2, 2, 2), (1, 1, 8)])
def test_no_device_ever_sees_all_logits(sizes):
  """Read in what the compiler made of loss, accuracy and gradient."""
  mesh = make_mesh(MeshConfig(*sizes))
  params = model.pad_vocabulary(make(CONFIG))
  rows = batch_sharding(mesh)

  def compiled(loss):
    return jax.jit(jax.value_and_grad(
        lambda params, x: loss(model.bind(CONFIG, params).mlm_logits(
            x, POSITIONS)), has_aux=loss is ours)).lower(laid, x).compile()

  def ours(logits):
    sums = model.mlm_loss(logits, TARGETS, WEIGHTS)
    return sums['loss_sum'], sums

  with jax.set_mesh(mesh):
    laid = jax.device_put(params, param_shardings(mesh, params))
    x = jax.device_put(X, rows)
    shared = compiled(ours)
    # One device's part of the logits, which no table and no states reach.
    part = B * M * ROWS // 8
    assert part > ROWS * 8 and part > B * T * 8
    assert 0 < largest_collective(shared.as_text()) < part
    assert largest_collective(compiled(gathered).as_text()) >= part
    (value, sums), gradient = shared(laid, x)
  (alone, alone_sums), alone_gradient = jax.jit(jax.value_and_grad(
      lambda params: loss(CONFIG, params), has_aux=True))(params)
  np.testing.assert_allclose(value, alone, rtol=1e-6)
  assert sums['correct_sum'] == alone_sums['correct_sum']
  for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(alone_gradient)):
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)
