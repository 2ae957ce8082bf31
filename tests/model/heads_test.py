"""The heads: gather first; decode with the table; does B follow A?"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax import model
from robertax.errors import InputError

CONFIG = model.ModelConfig(vocab_size=40, hidden_size=16, num_layers=1,
                           num_heads=2, mlp_size=16, max_positions=8)
X = jax.random.normal(jax.random.key(1), (3, 8, 16))
EVERYWHERE = jnp.broadcast_to(jnp.arange(8), (3, 8))
SOME = jnp.array([[1, 5], [0, 7], [2, 0]])


@functools.partial(jax.jit, static_argnums=0)
def logits(config, params, positions, x=X):
  return model.bind(config, params).mlm_logits(x, positions)


def test_gathering_first_equals_gathering_last():
  params = model.create(CONFIG, jax.random.key(0))
  everywhere = logits(CONFIG, params, EVERYWHERE)
  got = logits(CONFIG, params, SOME)
  assert got.shape == (3, 2, 40) and got.dtype == jnp.float32
  np.testing.assert_allclose(
      got, jnp.take_along_axis(everywhere, SOME[..., None], 1), atol=1e-6)


def test_only_masked_positions_meet_the_vocabulary():
  params = jax.eval_shape(lambda: model.create(CONFIG, jax.random.key(0)))
  text = str(jax.make_jaxpr(lambda p: model.bind(CONFIG, p).mlm_logits(
      X, SOME))(params))
  assert 'f32[3,2,40]' in text and 'f32[3,8,40]' not in text


def test_tied_decoder_is_the_table_and_untied_its_own():
  key = jax.random.key(0)
  loose = dataclasses.replace(CONFIG, tie_embeddings=False)
  tied, untied = model.create(CONFIG, key), model.create(loose, key)
  assert set(untied['lm_head']) - set(tied['lm_head']) == {'decoder'}
  table = tied['embeddings']['tokens']
  same = {**tied, 'lm_head': {**tied['lm_head'], 'decoder': table}}
  np.testing.assert_array_equal(
      logits(CONFIG, tied, SOME), logits(loose, same, SOME))
  assert (untied['lm_head']['decoder'] != table).any()


def test_bfloat16_states_give_float32_logits():
  narrow = dataclasses.replace(CONFIG, dtype='bfloat16')
  params = model.create(CONFIG, jax.random.key(0))
  got = logits(narrow, params, SOME, X.astype(jnp.bfloat16))
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, logits(CONFIG, params, SOME), atol=.01)


PAIRS = dataclasses.replace(CONFIG, num_types=2, nsp_head=True)


@pytest.mark.parametrize('dtype, atol', [('float32', 1e-5), ('bfloat16', .05)])
def test_next_sentence_logits_are_berts_formula(dtype, atol):
  config = dataclasses.replace(PAIRS, dtype=dtype)
  random = np.random.RandomState(2)
  params = jax.tree.map(lambda x: x + .3 * random.randn(*x.shape).astype('f'),
                        model.create(config, jax.random.key(0)))
  got = jax.jit(lambda x: model.bind(config, params).nsp_logits(x, SOME))(
      X.astype(dtype))
  assert got.shape == (3, 2, 2) and got.dtype == jnp.float32
  head = jax.tree.map(np.float64, params['nsp_head'])
  for row in range(3):
    for slot in range(2):
      first = np.float64(X[row, SOME[row, slot]])
      pooled = np.tanh(first @ head['pooler']['kernel']
                       + head['pooler']['bias'])
      np.testing.assert_allclose(
          got[row, slot],
          pooled @ head['output']['kernel'] + head['output']['bias'],
          atol=atol)


def test_a_model_without_the_head_says_so():
  module = model.bind(CONFIG, model.create(CONFIG, jax.random.key(0)))
  with pytest.raises(InputError, match='model.nsp_head=False'):
    module.nsp_logits(X, SOME)
