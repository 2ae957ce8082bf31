"""Attention against plain float64 loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax.errors import InputError
from robertax.kernels import IMPLEMENTATIONS, attention, key_words, row_keys

SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 2, 0, 0], [1] * 9, [1, 2] + [0] * 7])


def reference(q, k, v, segments, keep=None, rate=0.):
  """One query at a time, in float64, over the allowed keys only."""
  out = np.zeros(q.shape)
  for b, t, h in np.ndindex(q.shape[:3]):
    allowed = np.flatnonzero(segments[b] == segments[b, t])
    scores = k[b, allowed, h] @ q[b, t, h] / np.sqrt(q.shape[-1])
    probs = np.exp(scores - scores.max())
    probs /= probs.sum()
    if keep is not None:
      probs = probs * keep[b, h, t, allowed] / (1 - rate)
    out[b, t, h] = probs @ v[b, allowed, h]
  return out


def arrays(heads=2, head_dim=8, seed=0):
  random = np.random.RandomState(seed)
  shape = SEGMENTS.shape + (heads, head_dim)
  return [random.randn(*shape) * 2 for _ in range(3)]


@pytest.mark.parametrize('name', sorted(IMPLEMENTATIONS))
@pytest.mark.parametrize('head_dim', [8, 80])
def test_equals_plain_loops(name, head_dim):
  q, k, v = arrays(head_dim=head_dim)
  got = attention(*(jnp.float32(a) for a in (q, k, v)),
                  segment_ids=jnp.asarray(SEGMENTS), implementation=name)
  np.testing.assert_allclose(got, reference(q, k, v, SEGMENTS), atol=2e-5)


@pytest.mark.parametrize('name', sorted(IMPLEMENTATIONS))
def test_dropout_is_the_hash_of_head_query_and_key(name, oracle):
  q, k, v = arrays(heads=3)
  rows, tokens = SEGMENTS.shape
  keep = np.stack([
      oracle.keep(oracle.fold(oracle.key(5, 7), row), (3, tokens, tokens), .3)
      for row in range(rows)])
  got = attention(*(jnp.float32(a) for a in (q, k, v)),
                  segment_ids=jnp.asarray(SEGMENTS),
                  dropout_key=row_keys(key_words(5, 7), jnp.arange(rows)),
                  dropout_rate=.3, implementation=name)
  np.testing.assert_allclose(
      got, reference(q, k, v, SEGMENTS, keep, .3), atol=2e-5)


def test_padding_and_other_segments_are_never_seen_even_nan_large():
  q, k, v = (jnp.float32(a) for a in arrays())
  own = jnp.asarray(SEGMENTS[0] == 2)[None, :, None, None]
  loud_k, loud_v = jnp.where(own, k, 1e18), jnp.where(own, v, -1e18)
  segment_ids = jnp.asarray(SEGMENTS)
  quiet = attention(q, k, v, segment_ids=segment_ids)
  loud = attention(q, loud_k, loud_v, segment_ids=segment_ids)
  np.testing.assert_array_equal(loud[0, 3:7], quiet[0, 3:7])


def test_a_row_of_padding_alone_is_finite_with_finite_gradient():
  q, k, v = (jnp.float32(a) for a in arrays())
  def total(q):
    return attention(q, k, v, segment_ids=jnp.zeros_like(SEGMENTS)).sum()
  value, gradient = jax.value_and_grad(total)(q)
  assert np.isfinite(value) and np.isfinite(gradient).all()


def test_bfloat16_keeps_its_dtype_and_is_close():
  q, k, v = arrays()
  got = attention(*(jnp.bfloat16(a) for a in (q, k, v)),
                  segment_ids=jnp.asarray(SEGMENTS))
  assert got.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(got, np.float32),
                             reference(q, k, v, SEGMENTS), atol=.1)


def test_unknown_implementation_says_what_is_known():
  q, k, v = (jnp.float32(a) for a in arrays())
  with pytest.raises(InputError, match='Known are: .*xla'):
    attention(q, k, v, segment_ids=jnp.asarray(SEGMENTS), implementation='xal')
