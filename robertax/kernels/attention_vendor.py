"""Attention by the platform's own kernels. They have no dropout."""

import jax
import jax.numpy as jnp

from robertax.errors import InputError
from robertax.kernels.attention_sharding import platform, shards

NOBODY = -1  # the segment of tokens that fill a row up to whole blocks
CUDNN_DTYPES = (jnp.bfloat16, jnp.float16)


def cudnn_takes(q_BTHK) -> bool:
  """Whether cuDNN has a kernel for this shape and dtype, gradients too."""
  _, tokens, _, head_dim = q_BTHK.shape
  return (q_BTHK.dtype in CUDNN_DTYPES and head_dim % 8 == 0
          and head_dim <= 128 and tokens % 2 == 0)


def cudnn(q_BTHK, k_BTHK, v_BTHK, *, segment_ids, dropout_key, dropout_rate):
  """NVIDIA's, through jax.nn.dot_product_attention; not yet run here.

  Segments go in as a mask [B, 1, T, T]: one head's scores in memory, not all
  heads'. Its backward pass may add in any order, so a step need not be
  repeated bit for bit.

  Raises:
    InputError: with dropout, not on a GPU, or a shape or dtype it has not.
  """
  _no_dropout('cudnn', dropout_key, dropout_rate)
  if platform() != 'gpu':
    raise InputError(f"model.attention='cudnn' on {platform()}: it is for "
                     "NVIDIA GPUs; 'auto' chooses what the platform has.")
  if not cudnn_takes(q_BTHK):
    raise InputError(
        f"model.attention='cudnn' with {q_BTHK.dtype} {q_BTHK.shape[1:]} "
        '(tokens, heads, head size): it needs bfloat16, an even number of '
        'tokens, and a head size that is a multiple of 8 up to 128.')
  layout = shards(q_BTHK.shape[0], q_BTHK.shape[2])

  def local(q, k, v, segment_ids):
    same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
    return jax.nn.dot_product_attention(q, k, v, mask=same,
                                        implementation='cudnn')

  wide = layout.activations
  return layout.map(local, (wide, wide, wide, layout.batch), wide)(
      q_BTHK, k_BTHK, v_BTHK, segment_ids)


def splash(q_BTHK, k_BTHK, v_BTHK, *, segment_ids, dropout_key, dropout_rate):
  """JAX's own for TPU; on a CPU it is interpreted.

  It wants heads before tokens, so each array is transposed on its way.

  Raises:
    InputError: with dropout, or on a GPU.
  """
  _no_dropout('splash', dropout_key, dropout_rate)
  where = platform()
  if where == 'gpu':
    raise InputError("model.attention='splash' on gpu: it is for TPUs; 'auto' "
                     'chooses what the platform has.')
  from jax.experimental.pallas.ops.tpu import splash_attention as own
  rows, tokens, heads, head_dim = q_BTHK.shape
  layout = shards(rows, heads)
  padded = -(-tokens // 128) * 128
  block = next(size for size in (512, 256, 128) if not padded % size)
  sizes = own.BlockSizes(**dict.fromkeys((
      'block_q', 'block_kv', 'block_kv_compute', 'block_q_dkv', 'block_kv_dkv',
      'block_kv_dkv_compute', 'block_q_dq', 'block_kv_dq'), block))

  def local(q, k, v, segment_ids):
    fill = ((0, 0), (0, padded - tokens))
    q, k, v = (jnp.pad(x, (*fill, (0, 0), (0, 0))).transpose(0, 2, 1, 3)
               for x in (q, k, v))
    q = (q.astype(jnp.float32) * head_dim**-.5).astype(q.dtype)
    segment_ids = jnp.pad(segment_ids, fill, constant_values=NOBODY)
    kernel = own.make_splash_mha_single_device(
        own.MultiHeadMask([own.FullMask((padded, padded))] * q.shape[1]),
        block_sizes=sizes, interpret=where == 'cpu')
    out = jax.vmap(lambda q, k, v, s: kernel(q, k, v, own.SegmentIds(s, s)))(
        q, k, v, segment_ids)
    return out.transpose(0, 2, 1, 3)[:, :tokens].astype(q.dtype)

  wide = layout.activations
  return layout.map(local, (wide, wide, wide, layout.batch), wide)(
      q_BTHK, k_BTHK, v_BTHK, segment_ids)


def _no_dropout(name, dropout_key, dropout_rate):
  if dropout_key is not None and dropout_rate:
    raise InputError(
        f'model.attention={name!r} with model.attention_dropout_rate='
        f"{dropout_rate}: it has no dropout; use 'fused' or 'xla', or set the "
        'rate to 0.')
