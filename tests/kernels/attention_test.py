"""Attention against plain float64 loops."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax.errors import InputError
from robertax.kernels import IMPLEMENTATIONS, attention, key_words, row_keys
from robertax.kernels.attention import _say_choice

SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 2, 0, 0], [1] * 9, [1, 2] + [0] * 7])
# cudnn needs a GPU, and auto is another by name.
HERE = sorted(set(IMPLEMENTATIONS) - {'auto', 'cudnn'})
WITH_DROPOUT = sorted(set(HERE) - {'splash'})


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


@pytest.mark.parametrize('name', HERE)
@pytest.mark.parametrize('head_dim', [8, 80])
def test_equals_plain_loops(name, head_dim):
  q, k, v = arrays(head_dim=head_dim)
  got = attention(*(jnp.float32(a) for a in (q, k, v)),
                  segment_ids=jnp.asarray(SEGMENTS), implementation=name)
  np.testing.assert_allclose(got, reference(q, k, v, SEGMENTS), atol=2e-5)


@pytest.mark.parametrize('name', WITH_DROPOUT)
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


@pytest.mark.parametrize('name', HERE)
def test_padding_and_other_segments_are_never_seen_even_nan_large(name):
  q, k, v = (jnp.float32(a) for a in arrays())
  own = jnp.asarray(SEGMENTS[0] == 2)[None, :, None, None]
  loud_k, loud_v = jnp.where(own, k, 1e18), jnp.where(own, v, -1e18)
  segment_ids = jnp.asarray(SEGMENTS)
  quiet, loud = (
      attention(q, k, v, segment_ids=segment_ids, implementation=name)
      for k, v in ((k, v), (loud_k, loud_v)))
  np.testing.assert_array_equal(loud[0, 3:7], quiet[0, 3:7])


@pytest.mark.parametrize('name', WITH_DROPOUT)
def test_a_row_of_padding_alone_is_finite_with_finite_gradient(name):
  q, k, v = (jnp.float32(a) for a in arrays())
  def total(q):
    return attention(q, k, v, segment_ids=jnp.zeros_like(SEGMENTS),
                     implementation=name).sum()
  value, gradient = jax.value_and_grad(total)(q)
  assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize('name', HERE)
def test_bfloat16_keeps_its_dtype_and_is_close(name):
  q, k, v = arrays()
  got = attention(*(jnp.bfloat16(a) for a in (q, k, v)),
                  segment_ids=jnp.asarray(SEGMENTS), implementation=name)
  assert got.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(got, np.float32),
                             reference(q, k, v, SEGMENTS), atol=.1)


def test_unknown_implementation_says_what_is_known():
  q, k, v = (jnp.float32(a) for a in arrays())
  with pytest.raises(InputError, match='Known are: .*xla'):
    attention(q, k, v, segment_ids=jnp.asarray(SEGMENTS), implementation='xal')


@pytest.mark.parametrize('name, says', [
    ('cudnn', 'NVIDIA'), ('splash', 'no dropout'), ('cudnn', 'no dropout')])
def test_what_an_implementation_lacks_is_said(name, says):
  q, k, v = (jnp.float32(a) for a in arrays())
  dropout = {}
  if 'dropout' in says:
    dropout = {'dropout_key': row_keys(key_words(0, 0), jnp.arange(3)),
               'dropout_rate': .1}
  with pytest.raises(InputError, match=says):
    attention(q, k, v, segment_ids=jnp.asarray(SEGMENTS), implementation=name,
              **dropout)


def test_auto_is_xla_on_a_cpu_and_says_so_once(capsys):
  q, k, v = (jnp.float32(a) for a in arrays())
  def text(name):
    return str(jax.make_jaxpr(lambda *qkv: attention(
        *qkv, segment_ids=jnp.asarray(SEGMENTS),
        dropout_key=row_keys(key_words(0, 0), jnp.arange(3)), dropout_rate=.1,
        implementation=name))(q, k, v))
  _say_choice.cache_clear()
  assert text('auto') == text('auto') == text('xla')
  assert capsys.readouterr().err == 'attention: xla on cpu\n'


@pytest.mark.parametrize('where, dtype, rate, expected', [
    ('tpu', 'bfloat16', .1, 'fused'), ('tpu', 'float32', 0., 'fused'),
    ('gpu', 'bfloat16', .1, 'xla'), ('gpu', 'bfloat16', 0., 'cudnn'),
    ('gpu', 'float32', 0., 'xla'), ('cpu', 'bfloat16', 0., 'xla')])
def test_auto_chooses_by_platform(monkeypatch, where, dtype, rate, expected):
  called = []
  for name in HERE + ['cudnn']:
    monkeypatch.setitem(IMPLEMENTATIONS, name,
                        lambda q, *_, name=name, **__: called.append(name))
  monkeypatch.setattr(sys.modules[attention.__module__], 'platform',
                      lambda: where)
  q = jnp.zeros((1, 8, 2, 8), dtype)
  attention(q, q, q, segment_ids=jnp.ones((1, 8)), implementation='auto',
            dropout_key=jnp.zeros((1, 2), jnp.uint32), dropout_rate=rate)
  assert called == [expected]
