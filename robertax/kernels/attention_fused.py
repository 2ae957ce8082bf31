"""Attention by kernels of our own, for any platform and mesh."""

import functools

import jax
import numpy as np

from robertax.errors import InputError
from robertax.kernels.attention_sharding import platform, shards


def fused(q_BTHK, k_BTHK, v_BTHK, *, segment_ids, dropout_key, dropout_rate):
  """As kernels.attention.xla, with scores in fast memory only.

  The dropout mask is the same bit for bit: it is made inside the kernel, from
  the row's key and the head's index among all heads, whatever device it is on.
  On a CPU the TPU's kernel is interpreted: right, and very slow.

  Raises:
    InputError: a row has more than 2^32 probabilities.
  """
  rows, tokens, heads, head_dim = q_BTHK.shape
  if dropout_rate == 0:
    dropout_key = None
  if dropout_key is None:
    dropout_rate = 0.0
  elif heads * tokens**2 > 2**32:
    raise InputError(f'dropout over {heads} x {tokens} x {tokens} '
                     'probabilities: more than 2^32 elements, the index would '
                     'wrap.')
  out = _fused(*(x.reshape(rows, tokens, heads * head_dim)
                 for x in (q_BTHK, k_BTHK, v_BTHK)),
               segment_ids, dropout_key, dropout_rate, head_dim,
               shards(rows, heads), platform())
  return out.reshape(q_BTHK.shape)


def _kernels(where):
  # Imported when used: Pallas takes a while, and `xla` needs none of it.
  if where == 'gpu':
    from robertax.kernels import attention_gpu
    return attention_gpu
  from robertax.kernels import attention_tpu
  return attention_tpu


# Heads side by side, [B, T, H K]: what is kept for the backward pass must not
# have a last dim of 64, which XLA for TPU fills up to 128, or lays out with
# tokens last and then transposes.
@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7, 8))
def _fused(q, k, v, segment_ids, keys, rate, head_dim, layout, where):
  return _forward(q, k, v, segment_ids, keys, rate, head_dim, layout, where)[0]


def _split(arrays, head_dim):
  return [x.reshape(*x.shape[:2], -1, head_dim) for x in arrays]


def _join(arrays):
  return tuple(x.reshape(*x.shape[:2], -1) for x in arrays)


def _forward(q, k, v, segment_ids, keys, rate, head_dim, layout, where):
  def local(q, k, v, segment_ids, keys):
    q, k, v = _split((q, k, v), head_dim)
    out, kept = _kernels(where).forward(
        q, k, v, segment_ids, keys, layout.first_head(q.shape[2]), rate=rate,
        interpret=where == 'cpu')
    return *_join([out]), kept

  wide, rows = layout.joined, layout.batch
  out, kept = layout.map(
      local, (wide, wide, wide, rows, rows), (wide, layout.by_head))(
          q, k, v, segment_ids, keys)
  if kept is not None:
    kept = out, kept
  return out, (q, k, v, segment_ids, keys, kept)


def _backward(rate, head_dim, layout, where, residuals, do):
  def local(q, k, v, segment_ids, keys, kept, do):
    q, k, v, do = _split((q, k, v, do), head_dim)
    if kept is not None:
      kept = *_split(kept[:1], head_dim), kept[1]
    return _join(_kernels(where).backward(
        q, k, v, segment_ids, keys, layout.first_head(q.shape[2]), kept, do,
        rate=rate, interpret=where == 'cpu'))

  wide, rows = layout.joined, layout.batch
  kept = None if residuals[-1] is None else (wide, layout.by_head)
  dq, dk, dv = layout.map(
      local, (wide, wide, wide, rows, rows, kept, wide), (wide,) * 3)(
          *residuals, do)
  _, _, _, segment_ids, keys, _ = residuals
  return dq, dk, dv, _no_gradient(segment_ids), _no_gradient(keys)


def _no_gradient(integers):
  return None if integers is None else np.zeros(integers.shape,
                                                jax.dtypes.float0)


_fused.defvjp(_forward, _backward)
