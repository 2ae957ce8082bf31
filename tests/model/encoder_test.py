"""Positions, and the layers as one scan."""

import dataclasses
import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax import model
from robertax.config import ModelConfig
from robertax.errors import InputError
from robertax.kernels import fold, key_words, row_keys
from robertax.model import encoder

CONFIG = ModelConfig(vocab_size=50, hidden_size=32, num_layers=3,
                           num_heads=4, mlp_size=48, max_positions=16)
# Two examples and padding; one full row; one short row; padding alone.
SEGMENTS = jnp.array([[1] * 5 + [2] * 7 + [0] * 4, [1] * 16,
                      [1] * 3 + [0] * 13, [0] * 16])
IDS = jnp.asarray(np.random.RandomState(0).randint(4, 50, (4, 16)))
KEYS = row_keys(key_words(0, 0), jnp.arange(4))


@pytest.fixture(scope='module')
def params():
  params = model.create(CONFIG, jax.random.key(0))
  # Larger than at the start, so that attention is far from uniform.
  return jax.tree.map(lambda x: x * 4 if x.ndim > 1 else x, params)


@functools.partial(jax.jit, static_argnums=0)
def compiled(config, params, ids, segment_ids, keys):
  return model.bind(config, params).encode(ids, segment_ids, dropout_key=keys)


def encode(config, params, ids=IDS, segment_ids=SEGMENTS, keys=None):
  return compiled(config, params, ids, segment_ids, keys)


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(st.lists(st.integers(1, 9), max_size=6), st.integers(0, 5))
def test_positions_start_at_two_in_every_segment(lengths, padding):
  width, segments, expected = 64, [], []
  for number, length in enumerate(lengths, 1):
    segments += [number] * length
    expected += range(2, 2 + length)
  fill = width - len(segments)
  got = encoder.positions(jnp.array([segments + [0] * fill,
                                     [0] * padding + [1] * (width - padding)]))
  assert got[0].tolist() == expected + [1] * fill
  assert got[1].tolist() == [1] * padding + list(range(2, 2 + width - padding))


def test_scan_equals_a_loop_over_the_layers(params):
  module = model.bind(CONFIG, params)
  x = jax.jit(lambda module: module.embeddings(
      IDS, SEGMENTS, None, KEYS))(module)
  apply = jax.jit(lambda layer, x, keys: layer(x, SEGMENTS, keys))
  for n in range(CONFIG.num_layers):
    layer = jax.tree.map(lambda leaf: leaf[n], module.layers)  # noqa: B023
    x = apply(layer, x, fold(KEYS, 1 + n))
  got = encode(CONFIG, params, keys=KEYS)
  np.testing.assert_allclose(got, x, atol=2e-5)


def test_padding_changes_nothing_bit_for_bit(params):
  other = jnp.where(SEGMENTS == 0, (IDS * 7 + 3) % 50, IDS)
  assert (other != IDS).any()
  for keys in (None, KEYS):
    quiet = np.asarray(encode(CONFIG, params, keys=keys))
    loud = np.asarray(encode(CONFIG, params, other, keys=keys))
    real = np.asarray(SEGMENTS) > 0
    np.testing.assert_array_equal(loud[real], quiet[real])


def test_packed_examples_are_encoded_as_if_alone(params):
  packed = encode(CONFIG, params)
  for start, length in [(0, 5), (5, 7)]:
    ids = jnp.zeros((1, 16), int).at[0, :length].set(
        IDS[0, start:start + length])
    alone = encode(CONFIG, params, ids,
                   (jnp.arange(16)[None] < length).astype(int))
    np.testing.assert_allclose(packed[0, start:start + length],
                               alone[0, :length], atol=2e-5)


def test_segment_numbers_and_row_places_do_not_matter(params):
  x = encode(CONFIG, params)
  renamed = jnp.where(SEGMENTS > 0, 9 - SEGMENTS, 0)
  np.testing.assert_array_equal(encode(CONFIG, params, IDS, renamed), x)
  np.testing.assert_allclose(
      encode(CONFIG, params, IDS[::-1], SEGMENTS[::-1])[::-1], x, atol=1e-6)


def test_all_padding_is_finite_with_finite_gradients(params):
  def loss(params):
    return jnp.square(model.bind(CONFIG, params)(IDS, SEGMENTS)).sum()
  gradients = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
  assert all(np.isfinite(g).all() for g in gradients)


def test_no_key_and_no_rate_are_the_same(params):
  still = dataclasses.replace(CONFIG, dropout_rate=0.,
                              attention_dropout_rate=0.)
  x = encode(CONFIG, params)
  np.testing.assert_array_equal(encode(still, params, keys=KEYS), x)
  assert np.abs(encode(CONFIG, params, keys=KEYS) - x).max() > .1


@pytest.mark.parametrize('site', ['dropout_rate', 'attention_dropout_rate'])
def test_each_rate_does_something(params, site):
  rates = {'dropout_rate': 0., 'attention_dropout_rate': 0., site: .1}
  one = encode(dataclasses.replace(CONFIG, **rates), params, keys=KEYS)
  assert np.abs(one - encode(CONFIG, params))[0].max() > .01


def test_rows_of_a_micro_batch_drop_what_the_batch_drops(params):
  whole = encode(CONFIG, params, keys=KEYS)
  half = encode(CONFIG, params, IDS[1:3], SEGMENTS[1:3], KEYS[1:3])
  np.testing.assert_allclose(half, whole[1:3], atol=1e-5)


def test_bfloat16_is_close_and_its_parameters_stay_float32(params):
  narrow = dataclasses.replace(CONFIG, dtype='bfloat16')
  x = encode(narrow, params)
  assert x.dtype == jnp.bfloat16
  real = np.asarray(SEGMENTS) > 0
  difference = np.asarray(x, np.float32) - encode(CONFIG, params)
  assert np.abs(difference[real]).max() < .12
  assert np.sqrt(np.square(difference[real]).mean()) < .02
  gradients = jax.eval_shape(jax.grad(lambda p: model.bind(narrow, p)(
      IDS, SEGMENTS).astype(jnp.float32)[0].sum()), params)
  assert {g.dtype for g in jax.tree.leaves(gradients)} == {
      jnp.dtype('float32')}


def test_sequence_longer_than_the_positions_is_refused(params):
  ids = jnp.zeros((1, 17), int)
  with pytest.raises(InputError, match='17 tokens.*16 positions.*'
                     'model.max_positions=17'):
    encode(CONFIG, params, ids, ids + 1)


def test_types_are_added_as_a_lookup_would():
  config = dataclasses.replace(CONFIG, num_types=2)
  params = model.create(config, jax.random.key(0))['embeddings']
  types = jnp.asarray(np.random.RandomState(1).randint(0, 2, IDS.shape))
  both = jnp.concatenate([params['tokens'] + row for row in params['types']])

  def embed(params, ids, type_ids):
    whole = model.create(config, jax.random.key(0)) | {'embeddings': params}
    wide = dataclasses.replace(config, vocab_size=len(params['tokens']),
                               num_types=0 if type_ids is None else 2)
    whole['lm_head']['bias'] = jnp.zeros(wide.vocab_size)
    return model.bind(wide, whole).embeddings(ids, SEGMENTS, type_ids, None)

  got = embed(params, IDS, types)
  plain = {n: x for n, x in params.items() if n != 'types'}
  np.testing.assert_allclose(
      got, embed(plain | {'tokens': both}, IDS + 50 * types, None), atol=1e-5)
  # Another type changes every token of text, and nothing at padding.
  changed = np.abs(embed(params, IDS, 1 - types) - got).max(-1)
  real = np.asarray(SEGMENTS) > 0
  assert (changed[real] > 1e-3).all() and (changed[~real] == 0).all()


@pytest.mark.parametrize('num_types, type_ids, message', [
    (2, None, 'model.num_types=2, and no type_ids'),
    (0, jnp.zeros_like(IDS), 'model.num_types=0, and type_ids')])
def test_types_without_a_table_or_a_table_without_types(
    num_types, type_ids, message):
  config = dataclasses.replace(CONFIG, num_types=num_types)
  params = model.create(config, jax.random.key(0))
  with pytest.raises(InputError, match=message):
    model.bind(config, params).encode(IDS, SEGMENTS, type_ids)
