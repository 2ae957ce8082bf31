"""Our kernels, interpreted: the numbers and the masks of `xla`."""

import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax import model
from robertax.config import MeshConfig, ModelConfig
from robertax.errors import InputError
from robertax.kernels import (
    attention,
    attention_gpu,
    attention_tpu,
    fold,
    key_words,
    row_keys,
)
from robertax.parallel.mesh import make_mesh

# The module; robertax.kernels.attention is the function.
attention_module = importlib.import_module('robertax.kernels.attention')
BACKENDS = {'tpu': attention_tpu, 'gpu': attention_gpu}
KEY = key_words(17, 3)


@pytest.fixture(params=sorted(BACKENDS))
def backend(request, monkeypatch):
  """Each platform's kernels, run by Pallas's interpreter on this CPU."""
  monkeypatch.setattr(attention_module, '_kernels',
                      lambda where: BACKENDS[request.param])
  return request.param


def make(rows, tokens, heads, head_dim, dtype='float32', segments=True, seed=0):
  """q, k, v, a direction, and segment ids with padding at the end."""
  random = np.random.RandomState(seed)
  arrays = [jnp.asarray(random.randn(rows, tokens, heads, head_dim), dtype)
            for _ in range(4)]
  ids = np.ones((rows, tokens), np.int32)
  if segments:
    ids[:, tokens // 3:] = 2
    ids[:, tokens - tokens // 5:] = 0
    ids[-1] = 1
  return arrays, ids


def both(name, arrays, segment_ids, rate, first_row=0):
  """The output and the gradients along a direction, as float32."""
  *qkv, direction = arrays
  keys = row_keys(KEY, first_row + jnp.arange(len(segment_ids)))

  def run(q, k, v, direction, segment_ids, keys):
    out, vjp = jax.vjp(lambda *qkv: attention(
        *qkv, segment_ids=segment_ids, dropout_key=keys, dropout_rate=rate,
        implementation=name), q, k, v)
    return out, *vjp(direction)

  found = jax.jit(run)(*qkv, direction, segment_ids, keys)
  return [np.asarray(x, np.float32) for x in found]


def assert_close(got, expected, tolerance):
  for x, y in zip(got, expected):
    np.testing.assert_allclose(x, y, rtol=0,
                               atol=tolerance * max(1, np.abs(y).max()))


SHAPES = [(2, 128, 2, 64), (2, 200, 1, 80), (1, 512, 1, 64)]


@pytest.mark.parametrize('segments, rate', [
    (True, .1), pytest.param(False, 0., marks=pytest.mark.slow)])
@pytest.mark.parametrize('shape', SHAPES)
def test_equals_xla(backend, shape, segments, rate):
  inputs = make(*shape, segments=segments)
  assert_close(both('fused', *inputs, rate), both('xla', *inputs, rate), 2e-5)


@pytest.mark.parametrize('segments, rate', [(True, 0.), (False, .1)])
def test_equals_xla_where_only_one_is_asked(backend, segments, rate):
  inputs = make(2, 40, 2, 16, segments=segments)
  assert_close(both('fused', *inputs, rate), both('xla', *inputs, rate), 2e-5)


@pytest.mark.parametrize('rate', [0., .1])
def test_equals_xla_in_bfloat16(backend, rate):
  inputs = make(2, 128, 2, 64, 'bfloat16')
  assert_close(both('fused', *inputs, rate), both('xla', *inputs, rate), 1e-2)


# Several blocks of queries a row; three heads of 64, which do not pair; five,
# which do not fit either; a register and more a head; heads that share one.
@pytest.mark.parametrize('shape', [
    (2, 640, 1, 16), (1, 40, 3, 64), (1, 40, 5, 64), (1, 40, 2, 136),
    (1, 40, 16, 8)])
def test_equals_xla_for_every_way_to_lay_out_heads(shape):
  inputs = make(*shape)
  assert_close(both('fused', *inputs, .1), both('xla', *inputs, .1), 2e-5)


@pytest.mark.parametrize('tokens, heads', [(16, 3), (96, 2)])
def test_masks_are_the_hash_bit_for_bit(backend, oracle, tokens, heads):
  # With v the identity, the output is the dropped-out probabilities. They are
  # all above 0 before.
  (q, k, _, _), _ = make(2, tokens, heads, tokens)
  v = jnp.broadcast_to(jnp.eye(tokens)[None, :, None],
                       (2, tokens, heads, tokens))
  segment_ids = jnp.ones((2, tokens), jnp.int32)
  rows = jnp.array([4, 8191])

  def probs(name):
    return np.asarray(attention(
        q * .1, k, v, segment_ids=segment_ids, implementation=name,
        dropout_key=fold(row_keys(KEY, rows), 7), dropout_rate=.1))

  fused = probs('fused').transpose(0, 2, 1, 3)
  for row, number in enumerate(rows.tolist()):
    key = oracle.fold(oracle.fold(oracle.key(17, 3), number), 7)
    keep = oracle.keep(key, (heads, tokens, tokens), .1)
    np.testing.assert_array_equal(fused[row] != 0, keep)
  np.testing.assert_array_equal(fused != 0,
                                probs('xla').transpose(0, 2, 1, 3) != 0)


def test_gradients_are_finite_differences_in_float64(backend, oracle):
  (q, k, v, direction), segment_ids = make(2, 7, 2, 8)
  keep = np.stack([oracle.keep(oracle.fold(oracle.key(17, 3), row), (2, 7, 7),
                               .3) for row in range(2)])
  same = (segment_ids[:, :, None] == segment_ids[:, None])[:, None]

  def loss(q, k, v):
    scores = np.einsum('bthk,bshk->bhts', q, k) / 8**.5
    probs = np.where(same, np.exp(scores), 0)
    probs /= probs.sum(-1, keepdims=True)
    out = np.einsum('bhts,bshk->bthk', probs * keep / .7, v)
    return (out * np.asarray(direction, np.float64)).sum()

  arrays = [np.asarray(x, np.float64) for x in (q, k, v)]
  gradients = both('fused', (q, k, v, direction), segment_ids, .3)[1:]
  random = np.random.RandomState(1)
  for number, gradient in enumerate(gradients):
    step = random.randn(*gradient.shape)
    up, down = ([x + sign * (i == number) * step
                 for i, x in enumerate(arrays)] for sign in (1e-5, -1e-5))
    slope = (loss(*up) - loss(*down)) / 2e-5
    assert (gradient * step).sum() == pytest.approx(slope, abs=2e-4)


def test_a_head_of_padding_blocks_is_not_seen(backend):
  """A first block of keys of another segment leaves no trace."""
  (q, k, v, g), _ = make(1, 192, 1, 16)
  segment_ids = np.repeat(np.array([[1, 2, 3]], np.int32), 64, 1)
  inputs = (q, k.at[:, :64].multiply(50), v, g), segment_ids
  assert_close(both('fused', *inputs, .1), both('xla', *inputs, .1), 2e-5)


def test_remat_and_repeat_give_the_same_bits(backend):
  (q, k, v, g), segment_ids = make(2, 24, 2, 8)
  keys = row_keys(KEY, jnp.arange(2))

  def loss(q):
    return (attention(q, k, v, segment_ids=segment_ids, dropout_key=keys,
                      dropout_rate=.1, implementation='fused') * g).sum()

  plain = jax.jit(jax.grad(loss))
  np.testing.assert_array_equal(plain(q), plain(q))
  np.testing.assert_array_equal(
      plain(q), jax.jit(jax.grad(jax.checkpoint(loss)))(q))


# Axes that divide neither rows nor heads do the same work side by side.
@pytest.mark.parametrize('rows, heads, platform', [
    (8, 4, 'tpu'), (8, 4, 'gpu'), (6, 2, 'tpu'), (8, 3, 'tpu')])
def test_one_device_equals_eight(monkeypatch, rows, heads, platform):
  monkeypatch.setattr(attention_module, '_kernels',
                      lambda where: BACKENDS[platform])
  inputs = make(rows, 24, heads, 16)
  alone = both('fused', *inputs, .1, first_row=5)
  mesh = make_mesh(MeshConfig(2, 2, 2))
  with jax.set_mesh(mesh):
    assert 'shard_map' in str(jax.make_jaxpr(lambda q: attention(
        q, q, q, segment_ids=inputs[1], implementation='fused'))(inputs[0][0]))
    shared = both('fused', *inputs, .1, first_row=5)
  for x, y in zip(shared, alone):
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(x == 0, y == 0)


def test_axes_are_those_of_the_partitioning():
  from robertax import config
  from robertax.kernels.attention import HEADS, ROWS
  from robertax.parallel import mesh
  assert ROWS == mesh.BATCH_AXES
  assert {*ROWS, HEADS} == set(config.AXES)


def test_too_many_probabilities_are_refused():
  q = jax.ShapeDtypeStruct((1, 2**15, 8, 8), jnp.float32)
  keys = jax.ShapeDtypeStruct((1, 2), jnp.uint32)
  ids = jax.ShapeDtypeStruct((1, 2**15), jnp.int32)
  with pytest.raises(InputError, match='2\\^32'):
    jax.eval_shape(lambda q, ids, keys: attention(
        q, q, q, segment_ids=ids, dropout_key=keys, dropout_rate=.1,
        implementation='fused'), q, ids, keys)


def test_the_model_is_the_same_with_either():
  ids = jnp.asarray(np.random.RandomState(0).randint(5, 60, (2, 24)))
  segment_ids = jnp.asarray(np.repeat([[1, 2, 0], [1, 1, 1]], 8, 1))

  def gradients(name):
    config = ModelConfig(
        vocab_size=64, hidden_size=32, num_layers=2, num_heads=4, mlp_size=64,
        max_positions=24, attention=name)

    def loss(params):
      x = model.bind(config, params).encode(
          ids, segment_ids, dropout_key=row_keys(KEY, jnp.arange(2)))
      return (jnp.where(segment_ids[..., None] > 0, x, 0)**3).mean()
    params = model.create(config, jax.random.key(0))
    return jax.jit(jax.value_and_grad(loss))(params)

  found, expected = (jax.tree.leaves(gradients(name))
                     for name in ('fused', 'xla'))
  assert len(found) > 10
  for x, y in itertools.zip_longest(found, expected):
    np.testing.assert_allclose(x, y, rtol=0, atol=2e-5)
