"""Self-attention as one function with a table of implementations.

`xla` is the reference, `fused` our own Pallas kernels, and `cudnn` and `splash`
are the platforms' own. XLA cannot partition a Pallas kernel, so `jax.shard_map`
maps each over the devices of the mesh that `jax.set_mesh` has entered: each
device computes its own rows and heads.
"""

from collections.abc import Callable
import dataclasses
import functools
import importlib
import math
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
import numpy as np

from robertax.errors import InputError, unknown
from robertax.kernels.dropout import dropout
from robertax.progress import say

# Mesh axes along which rows and heads are sharded, as in parallel.mesh.
ROWS, HEADS = ('data', 'fsdp'), 'model'
# Finite, so that no row of scores is NaN after the softmax, and far below any
# score, so that exp of the difference is exactly 0 in float32.
MASKED = -1e30
NOBODY = -1  # The segment of tokens that fill a row up to whole tiles.
CUDNN_DTYPES = (jnp.bfloat16, jnp.float16)


def dot32(x, y, x_dim, y_dim):
  """The product of two matrices over one dim of each, in float32."""
  return lax.dot_general(x, y, (((x_dim,), (y_dim,)), ((), ())),
                         preferred_element_type=jnp.float32)


def platform() -> str:
  """'cpu', 'gpu' or 'tpu', by the mesh that is set, else the default device."""
  # They differ when a program is compiled for devices that are not present.
  device = getattr(jax.sharding.get_abstract_mesh(), 'abstract_device', None)
  found = getattr(device, 'platform', None) or jax.default_backend()
  return 'gpu' if found in ('cuda', 'rocm') else found


@dataclasses.dataclass(frozen=True)
class SharedAxes:
  """Mesh axes along which rows and heads are sharded."""
  axes: frozenset[str]  # All axes to map over; empty: nothing to map.
  rows: tuple[str, ...]
  heads: str | None

  @property
  def activations(self) -> P:
    """The PartitionSpec of [B, T, H, K]."""
    return P(self.rows or None, None, self.heads, None)

  @property
  def joined(self) -> P:
    """The spec of [B, T, H K]."""
    return P(self.rows or None, None, self.heads)

  @property
  def batch(self) -> P:
    """The spec of [B, ...]."""
    return P(self.rows or None)

  @property
  def by_head(self) -> P:
    """The spec of [B, H, ...]."""
    return P(self.rows or None, self.heads)

  def first_head(self, local_heads: int) -> jax.Array | int:
    """Inside `map`: the index of this device's first head among all heads."""
    return lax.axis_index(self.heads) * local_heads if self.heads else 0

  def map(self, function: Callable[..., Any], in_specs, out_specs):
    """The function that runs on each device's own part."""
    if not self.axes:
      return function
    return jax.shard_map(function, axis_names=self.axes, in_specs=in_specs,
                         out_specs=out_specs, check_vma=False)


def shards(rows: int, heads: int) -> SharedAxes:
  """How the mesh that is set shards an array of [rows, T, heads, K].

  If an axis does not divide its dim, its devices do the same work.
  """
  mesh = jax.sharding.get_abstract_mesh()
  sizes = {name: size for name, size, kind in zip(
      mesh.axis_names, mesh.axis_sizes, mesh.axis_types)
           if kind != AxisType.Manual}
  if math.prod(sizes.values()) == 1:
    return SharedAxes(frozenset(), (), None)
  axes = tuple(name for name in ROWS if name in sizes)
  if rows % math.prod(sizes[name] for name in axes):
    axes = ()
  return SharedAxes(
      frozenset(sizes), axes,
      HEADS if HEADS in sizes and not heads % sizes[HEADS] else None)


# The platforms' own kernels, which have no dropout.

def cudnn_takes(q_BTHK) -> bool:
  """Whether cuDNN has a kernel for this shape and dtype, gradients too."""
  _, tokens, _, head_dim = q_BTHK.shape
  return (q_BTHK.dtype in CUDNN_DTYPES and head_dim % 8 == 0
          and head_dim <= 128 and tokens % 2 == 0)


def cudnn(q_BTHK, k_BTHK, v_BTHK, *, segment_ids, dropout_key, dropout_rate):
  """NVIDIA's kernel, by jax.nn.dot_product_attention; we have not run it yet.

  Segments are a mask [B, 1, T, T], as large as the scores of one head. The
  backward pass may add in any order, so that the last bits of a repeated step
  may differ.
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
  """JAX's own kernel for TPU, with heads before tokens; interpreted on CPU."""
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


# Our own kernels, for any platform and mesh.

def fused(q_BTHK, k_BTHK, v_BTHK, *, segment_ids, dropout_key, dropout_rate):
  """Computes what `xla` does, with scores in fast memory only.

  The dropout mask is the same bit for bit, because the kernel makes it from the
  row's key and the head's index among all heads. On a CPU the TPU's kernel is
  interpreted, which is correct and very slow.
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
  # Imported on use, since Pallas is slow to import and `xla` does not need it.
  return importlib.import_module('robertax.kernels.' + (
      'attention_gpu' if where == 'gpu' else 'attention_tpu'))


# Heads are side by side, [B, T, H K]: XLA for TPU would pad a last dim of 64
# that is kept for the backward pass to 128, or lay it out with tokens last and
# transpose it.
@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7, 8))
def _fused(q, k, v, segment_ids, keys, rate, head_dim, layout, where):
  return _fused_forward(q, k, v, segment_ids, keys, rate, head_dim, layout,
                        where)[0]


def _split_arrays(arrays, head_dim):
  return [x.reshape(*x.shape[:2], -1, head_dim) for x in arrays]


def _join_arrays(arrays):
  return tuple(x.reshape(*x.shape[:2], -1) for x in arrays)


def _fused_forward(q, k, v, segment_ids, keys, rate, head_dim, layout, where):
  def local(q, k, v, segment_ids, keys):
    q, k, v = _split_arrays((q, k, v), head_dim)
    out, kept = _kernels(where).forward(
        q, k, v, segment_ids, keys, layout.first_head(q.shape[2]), rate=rate,
        interpret=where == 'cpu')
    return *_join_arrays([out]), kept

  wide, rows = layout.joined, layout.batch
  out, kept = layout.map(
      local, (wide, wide, wide, rows, rows), (wide, layout.by_head))(
          q, k, v, segment_ids, keys)
  if kept is not None:
    kept = out, kept
  return out, (q, k, v, segment_ids, keys, kept)


def _fused_backward(rate, head_dim, layout, where, residuals, do):
  def local(q, k, v, segment_ids, keys, kept, do):
    q, k, v, do = _split_arrays((q, k, v, do), head_dim)
    if kept is not None:
      kept = *_split_arrays(kept[:1], head_dim), kept[1]
    return _join_arrays(_kernels(where).backward(
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


_fused.defvjp(_fused_forward, _fused_backward)


def xla(q_BTHK, k_BSHK, v_BSHK, *, segment_ids, dropout_key, dropout_rate):
  """The reference: scores and probabilities as whole float32 arrays."""
  dtype, head_dim = q_BTHK.dtype, q_BTHK.shape[-1]
  q_BTHK = (q_BTHK.astype(jnp.float32) * head_dim**-.5).astype(dtype)
  scores_BHTS = jnp.einsum('BTHK,BSHK->BHTS', q_BTHK, k_BSHK,
                           preferred_element_type=jnp.float32)
  same_B1TS = (segment_ids[:, :, None] == segment_ids[:, None, :])[:, None]
  scores_BHTS = jnp.where(same_B1TS, scores_BHTS, MASKED)
  probs_BHTS = jax.nn.softmax(scores_BHTS, axis=-1)
  probs_BHTS = dropout(probs_BHTS, dropout_key, dropout_rate)
  return jnp.einsum('BHTS,BSHK->BTHK', probs_BHTS.astype(dtype), v_BSHK)


def auto(q_BTHK, k_BSHK, v_BSHK, *, segment_ids, dropout_key, dropout_rate):
  """The best known one for the platform, which it names once on stderr.

  On a TPU it is `fused`. On a GPU it is `cudnn` without dropout, if that has a
  kernel for the shape; `fused` has not been measured there. Else it is `xla`.
  """
  where, name = platform(), 'xla'
  if where == 'tpu':
    name = 'fused'
  elif where == 'gpu' and cudnn_takes(q_BTHK) and not (
      dropout_rate and dropout_key is not None):
    name = 'cudnn'
  _say_choice(name, where)
  return IMPLEMENTATIONS[name](
      q_BTHK, k_BSHK, v_BSHK, segment_ids=segment_ids,
      dropout_key=dropout_key, dropout_rate=dropout_rate)


@functools.cache
def _say_choice(name, where):
  say(f'attention: {name} on {where}')


IMPLEMENTATIONS = {'auto': auto, 'cudnn': cudnn, 'fused': fused,
                   'splash': splash, 'xla': xla}


def attention(q_BTHK: jax.Array, k_BSHK: jax.Array, v_BSHK: jax.Array, *,
              segment_ids: jax.Array, dropout_key: jax.Array | None = None,
              dropout_rate: float = 0.0,
              implementation: str = 'xla') -> jax.Array:
  """Scaled dot-product self-attention (fairseq multihead_attention.py).

  A token attends to the tokens with its own segment id. So no token of a
  segment (1, 2, ...) sees padding (0) or another segment; padding sees padding,
  which gives finite values that are never read. The numbers are the same on any
  mesh. q is scaled by K^-.5; softmax and dropout are in float32.

  Args:
    q_BTHK, k_BSHK, v_BSHK: unscaled; S = T.
    segment_ids: int32[B, T].
    dropout_key: uint32[B, 2], a key per row; None: no dropout.
    dropout_rate: on probabilities. In every implementation, element (h, t, s)
      of a row has the index (h T + t) S + s in the hash.
    implementation: a name in IMPLEMENTATIONS.

  Returns:
    [B, T, H, K] in q's dtype. InputError if the implementation is unknown or
    does not support the platform, dtype, shape or dropout.
  """
  if implementation not in IMPLEMENTATIONS:
    raise unknown('attention', implementation, IMPLEMENTATIONS)
  return IMPLEMENTATIONS[implementation](
      q_BTHK, k_BSHK, v_BSHK, segment_ids=segment_ids,
      dropout_key=dropout_key, dropout_rate=dropout_rate)
