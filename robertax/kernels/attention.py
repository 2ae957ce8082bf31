"""Self-attention behind one function, by a table of implementations."""

import jax
import jax.numpy as jnp

from robertax.kernels.dropout import dropout
from robertax.sections import unknown

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


IMPLEMENTATIONS = {'xla': xla}


def attention(q_BTHK: jax.Array, k_BSHK: jax.Array, v_BSHK: jax.Array, *,
              segment_ids: jax.Array, dropout_key: jax.Array | None = None,
              dropout_rate: float = 0.0,
              implementation: str = 'xla') -> jax.Array:
  """Scaled dot-product self-attention (fairseq multihead_attention.py).

  A token attends where the segment id equals its own. So no token of a segment
  (1, 2, ...) sees padding (0) or another segment, whatever stands there;
  padding sees padding, which gives finite values that nobody reads.

  Args:
    q_BTHK, k_BSHK, v_BSHK: unscaled; S = T.
    segment_ids: int32[B, T].
    dropout_key: uint32[B, 2], a key per row; None: no dropout.
    dropout_rate: on probabilities. Element (h, t, s) of a row has the index
      (h T + t) S + s in the hash, for every implementation.
    implementation: a name in IMPLEMENTATIONS.

  Returns:
    [B, T, H, K] in q's dtype; q is scaled by K^-.5, softmax and dropout are in
    float32.

  Raises:
    InputError: unknown implementation.
  """
  if implementation not in IMPLEMENTATIONS:
    raise unknown('attention', implementation, IMPLEMENTATIONS)
  return IMPLEMENTATIONS[implementation](
      q_BTHK, k_BSHK, v_BSHK, segment_ids=segment_ids,
      dropout_key=dropout_key, dropout_rate=dropout_rate)
