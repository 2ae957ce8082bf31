"""The heads: gather first; decode with the table; does B follow A; classes and
spans.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax import kernels, model
from robertax.config import ModelConfig
from robertax.errors import InputError

CONFIG = ModelConfig(vocab_size=40, hidden_size=16, num_layers=1,
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
  with pytest.raises(InputError, match='model.num_classes=0'):
    module.class_logits(X, SOME)
  with pytest.raises(InputError, match='model.span_head=False'):
    module.span_logits(X)


TUNED = dataclasses.replace(CONFIG, lm_head=False, num_classes=3,
                            span_head=True)


def test_other_parameters_are_those_of_a_model_without():
  key = jax.random.key(0)
  plain, tuned = model.create(CONFIG, key), model.create(TUNED, key)
  assert set(tuned) == {'embeddings', 'layers', 'classifier', 'span_head'}
  jax.tree.map(np.testing.assert_array_equal,
               {k: plain[k] for k in ('embeddings', 'layers')},
               {k: tuned[k] for k in ('embeddings', 'layers')})
  with pytest.raises(InputError, match='model.lm_head=False'):
    model.bind(TUNED, tuned).mlm_logits(X, SOME)


def test_a_new_classifier_is_filled_as_torch_fills_a_linear_layer():
  config = dataclasses.replace(TUNED, hidden_size=64)
  head = model.create(config, jax.random.key(3))['classifier']
  for leaf in jax.tree.leaves(head):
    assert np.abs(leaf).max() <= 1 / 8 and np.abs(leaf).max() > .03
  # Uniform: its standard deviation is the bound / sqrt(3).
  assert np.std(head['dense']['kernel']) == pytest.approx(
      1 / 8 / np.sqrt(3), rel=.05)


def test_class_logits_are_fairseqs_formula():
  params = model.create(TUNED, jax.random.key(0))
  got = model.bind(TUNED, params).class_logits(X, SOME)
  assert got.shape == (3, 2, 3) and got.dtype == jnp.float32
  head = jax.tree.map(np.float64, params['classifier'])
  for row, slot in np.ndindex(3, 2):
    dense = np.tanh(np.float64(X[row, SOME[row, slot]])
                    @ head['dense']['kernel'] + head['dense']['bias'])
    np.testing.assert_allclose(
        got[row, slot], dense @ head['output']['kernel']
        + head['output']['bias'], atol=1e-5)


def test_a_row_of_positions_may_be_of_several_rows_of_tokens():
  module = model.bind(TUNED, model.create(TUNED, jax.random.key(0)))
  flat = jnp.array([[1, 5, 8, 15, 18, 16]])  # In the three rows end to end.
  np.testing.assert_array_equal(
      module.class_logits(X, flat)[0],
      module.class_logits(X, flat.reshape(3, 2) % 8).reshape(6, 3))


def test_dropout_in_the_classifier():
  config = dataclasses.replace(TUNED, classifier_dropout_rate=.5)
  module = model.bind(config, model.create(config, jax.random.key(0)))
  keys = kernels.row_keys(kernels.key_words(0, 0), jnp.arange(3))
  drop = jax.jit(lambda keys: module.class_logits(X, SOME, dropout_key=keys))
  plain = module.class_logits(X, SOME)
  mean = np.mean([drop(keys + n) for n in range(400)], 0)
  assert np.abs(drop(keys) - plain).max() > .05
  np.testing.assert_allclose(mean, plain, atol=.1)


def test_span_logits_are_linear():
  params = model.create(TUNED, jax.random.key(0))
  start, end = model.bind(TUNED, params).span_logits(X)
  kernel = np.float64(params['span_head']['output']['kernel'])
  np.testing.assert_allclose(np.stack([start, end], -1), X @ kernel, atol=1e-6)
