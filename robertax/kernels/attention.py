"""Self-attention behind one function, by a table of implementations."""

import functools
import sys

import jax
import jax.numpy as jnp

from robertax.errors import unknown
from robertax.kernels.attention_fused import fused
from robertax.kernels.attention_sharding import platform
from robertax.kernels.attention_vendor import cudnn, cudnn_takes, splash
from robertax.kernels.dropout import dropout

# Finite, so that no row of scores is NaN after the softmax, and far below any
# score, so that exp of the difference is exactly 0 in float32.
MASKED = -1e30


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
  """The platform's best, as far as known; says once on stderr which.

  On a TPU `fused`. On a GPU `cudnn` without dropout, where it has a kernel for
  the shape, else `xla`: `fused` has not been measured there. Else `xla`.
  """
  where, name = platform(), 'xla'
  if where == 'tpu':
    name = 'fused'
  elif where == 'gpu' and cudnn_takes(q_BTHK) and not (
      dropout_rate and dropout_key is not None):
    name = 'cudnn'
  _say(name, where)
  return IMPLEMENTATIONS[name](
      q_BTHK, k_BSHK, v_BSHK, segment_ids=segment_ids,
      dropout_key=dropout_key, dropout_rate=dropout_rate)


@functools.cache
def _say(name, where):
  print(f'attention: {name} on {where}', file=sys.stderr, flush=True)


IMPLEMENTATIONS = {'auto': auto, 'cudnn': cudnn, 'fused': fused,
                   'splash': splash, 'xla': xla}


def attention(q_BTHK: jax.Array, k_BSHK: jax.Array, v_BSHK: jax.Array, *,
              segment_ids: jax.Array, dropout_key: jax.Array | None = None,
              dropout_rate: float = 0.0,
              implementation: str = 'xla') -> jax.Array:
  """Scaled dot-product self-attention (fairseq multihead_attention.py).

  Under a mesh entered by `jax.set_mesh`, rows lie along `data` and `fsdp` and
  heads along `model`; the numbers are those of one device.

  A token attends where the segment id equals its own. So no token of a segment
  (1, 2, ...) sees padding (0) or another segment, whatever stands there;
  padding sees padding, which gives finite values that nobody reads.

  Args:
    q_BTHK, k_BSHK, v_BSHK: unscaled; S = T.
    segment_ids: int32[B, T].
    dropout_key: uint32[B, 2], a key per row; None: no dropout.
    dropout_rate: on probabilities. Element (h, t, s) of a row has the index
      (h T + t) S + s in the hash, for every implementation.
    implementation: a name in IMPLEMENTATIONS. `xla` is the reference, `fused`
      our kernels, `cudnn` and `splash` the platforms' own, without dropout.

  Returns:
    [B, T, H, K] in q's dtype; q is scaled by K^-.5, softmax and dropout are in
    float32.

  Raises:
    InputError: unknown implementation, or one that lacks what is asked.
  """
  if implementation not in IMPLEMENTATIONS:
    raise unknown('attention', implementation, IMPLEMENTATIONS)
  return IMPLEMENTATIONS[implementation](
      q_BTHK, k_BSHK, v_BSHK, segment_ids=segment_ids,
      dropout_key=dropout_key, dropout_rate=dropout_rate)
