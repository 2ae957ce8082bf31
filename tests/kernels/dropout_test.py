"""The hash is fair, free of correlations, and the same everywhere."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from robertax import kernels as d
from robertax.errors import InputError
from robertax.kernels.dropout import GOLDEN, bits

# Compiled whole: eagerly, each small operation is a compilation of its own.
fold, row_keys = jax.jit(d.fold), jax.jit(d.row_keys)
keep_mask = jax.jit(d.keep_mask, static_argnums=(1, 2))
keep_bits = jax.jit(lambda keys, elements: bits(
    keys[..., 0] + elements * GOLDEN, keys[..., 1]))
KEY = d.key_words(17, 3)
SIGMAS = 5


def rows(count, start=0):
  return row_keys(KEY, jnp.arange(start, start + count))


def planes(keys, size):
  """Bits of `size` elements for each of G keys: int8[32, G, size], +-1."""
  found = np.asarray(keep_bits(
      keys[:, None], jnp.arange(size, dtype=jnp.uint32)))
  return np.stack([((found >> np.uint32(b)) & 1).astype(np.int8) * 2 - 1
                   for b in range(32)])


def assert_uncorrelated(keys, size=8192):
  """No bit of any two keys agrees more often than chance, nor does a mask."""
  count = keys.shape[0]
  upper = np.triu_indices(count, 1)
  # One mask in a thousand pairs reaches 5 sigmas by chance at a few 1e-4.
  limit = 5.5 / size**.5
  for plane in planes(keys, size):
    plane = plane.astype(np.float32)
    assert np.abs(np.einsum('gs,hs', plane, plane)[upper] / size).max() < limit
  keep = np.asarray(keep_mask(keys, (size,), .1), np.float32)
  keep = (keep - .9) / .3
  assert np.abs(np.einsum('gs,hs', keep, keep)[upper] / size).max() < limit


def test_numpy_twin_gives_equal_masks(oracle):
  for seed, step in [(0, 0), (17, 3), (2**40 + 5, 499_999)]:
    key = d.key_words(seed, step)
    assert tuple(np.asarray(key).tolist()) == oracle.key(seed, step)
    keys = fold(fold(row_keys(key, jnp.array([0, 1, 8191])), 24), 2)
    mask = np.asarray(keep_mask(keys, (3, 5, 7), .1))
    for mine, row in zip(mask, [0, 1, 8191]):
      key_of_row = oracle.key(seed, step)
      for data in (row, 24, 2):
        key_of_row = oracle.fold(key_of_row, data)
      np.testing.assert_array_equal(
          mine, oracle.keep(key_of_row, (3, 5, 7), .1))


def test_each_bit_is_balanced():
  bits = planes(rows(2048), 512).reshape(32, -1)
  assert bits.shape[1] > 1e6
  assert np.abs(bits.mean(1, dtype=np.float64)).max() < (
      SIGMAS / bits.shape[1]**.5)


@pytest.mark.parametrize('rate', [.1, .5, .01])
def test_keep_rate_overall_and_its_spread_over_rows(rate):
  keep = np.asarray(keep_mask(rows(2048), (16, 32), rate))
  sigma = (rate * (1 - rate) / keep.size)**.5
  assert abs(keep.mean() - (1 - rate)) < SIGMAS * sigma
  counts = keep.reshape(2048, -1).sum(1)
  # Sample variance of 2048 binomials: relative error sqrt(2 / 2047).
  assert abs(counts.var() / (512 * rate * (1 - rate)) - 1) < (
      SIGMAS * (2 / 2047)**.5)


def test_rows_are_uncorrelated():
  assert_uncorrelated(rows(32))


def test_distant_rows_are_uncorrelated():
  assert_uncorrelated(row_keys(KEY, 2**jnp.arange(31, dtype=jnp.uint32)))


def test_layers_are_uncorrelated():
  assert_uncorrelated(fold(rows(1)[0][None], jnp.arange(24)))


def test_sites_of_layers_are_uncorrelated():
  layers = fold(rows(1)[0][None], jnp.arange(8)[:, None])
  assert_uncorrelated(fold(layers, jnp.arange(3)).reshape(-1, 2))


def test_steps_and_seeds_are_uncorrelated():
  steps = [d.key_words(0, step) for step in range(20)]
  seeds = [d.key_words(seed, 0) for seed in (1, 2, 3, 1 << 32, 1 << 33)]
  assert_uncorrelated(fold(jnp.stack(steps + seeds), 0))


@pytest.mark.parametrize('lag', [1, 2, 3, 16, 64, 512, 768, 1024, 4096])
def test_elements_are_uncorrelated(lag):
  for plane in planes(rows(4), 32768):
    product = plane[:, lag:] * plane[:, :-lag]
    assert abs(product.mean(dtype=np.float64)) < (
        5.5 / product.size**.5)


def test_a_row_and_its_layer_do_not_commute():
  # fold(row 1, layer 2) must not be fold(row 2, layer 1).
  table = np.asarray(fold(rows(64)[:, None], jnp.arange(64)))
  assert len({tuple(key) for key in table.reshape(-1, 2).tolist()}) == 4096


def test_same_mask_under_jit_vmap_traced_step_and_eight_devices():
  def mask(step, index):
    keys = row_keys(d.key_words(17, step), index)
    return keep_mask(fold(keys, 5), (8, 16), .1)
  index = jnp.arange(16)
  expected = np.asarray(mask(3, index))
  traced = jax.jit(mask)(jnp.int32(3), index)
  np.testing.assert_array_equal(traced, expected)
  alone = jax.vmap(lambda i: mask(3, i[None])[0])(index)
  np.testing.assert_array_equal(alone, expected)
  mesh = jax.make_mesh((4, 2), ('data', 'model'),
                       axis_types=(AxisType.Auto,) * 2)
  sharded = jax.jit(mask, out_shardings=NamedSharding(
      mesh, P('data', None, 'model')))(jnp.int32(3), jax.device_put(
          index, NamedSharding(mesh, P('data'))))
  assert len(sharded.sharding.device_set) == 8
  np.testing.assert_array_equal(sharded, expected)


def test_same_mask_in_any_micro_batch():
  whole = keep_mask(rows(8), (4, 4), .3)
  parts = [keep_mask(rows(2, start), (4, 4), .3) for start in range(0, 8, 2)]
  np.testing.assert_array_equal(whole, jnp.concatenate(parts))


def test_dropout_scales_what_it_keeps_and_its_gradient():
  x = jax.random.normal(jax.random.key(0), (4, 64, 8)) + 5
  keep = np.asarray(keep_mask(rows(4), (64, 8), .1))
  y = d.dropout(x, rows(4), .1)
  np.testing.assert_allclose(y, np.where(keep, x / .9, 0), rtol=1e-6)
  gradient = jax.grad(lambda x: d.dropout(x, rows(4), .1).sum())(x)
  np.testing.assert_allclose(gradient, np.where(keep, 1 / .9, 0), rtol=1e-6)


def test_bfloat16_is_scaled_in_float32():
  x = jnp.full((1, 4096), 3., jnp.bfloat16)
  y = np.asarray(d.dropout(x, rows(1), .1), np.float32)
  assert set(np.unique(y)) == {0., float(jnp.bfloat16(3 / .9))}


def test_no_key_or_no_rate_is_no_dropout():
  x = jnp.ones((2, 3))
  assert d.dropout(x, None, .5) is x
  assert d.dropout(x, rows(2), 0.) is x
  assert np.asarray(keep_mask(rows(2), (3,), 0.)).all()


def test_bad_rates_and_too_large_rows_are_refused():
  for rate in (-.1, 1., 2.):
    with pytest.raises(InputError, match=str(rate)):
      keep_mask(rows(1), (2,), rate)
  with pytest.raises(InputError, match='2\\^32'):
    keep_mask(rows(1), (2**17, 2**17), .1)
