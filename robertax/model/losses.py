"""Losses as sums: whoever knows the global count divides, once."""

import jax
import jax.numpy as jnp


def mlm_loss(logits_BMV: jax.Array, targets_BM: jax.Array,
             weights_BM: jax.Array) -> dict[str, jax.Array]:
  """Cross-entropy over masked tokens (fairseq criterions/masked_lm.py).

  Args:
    logits_BMV: any float; computed in float32.
    targets_BM: int32, the original ids.
    weights_BM: 1 for a masked token, 0 for filler.

  Returns:
    Three float32 scalars: `loss_sum` in nats, `weight_sum`, and `correct_sum`,
    the tokens whose largest logit is the target's.
  """
  logits_BMV = logits_BMV.astype(jnp.float32)
  weights_BM = weights_BM.astype(jnp.float32)
  target_BM = jnp.take_along_axis(
      logits_BMV, targets_BM[..., None], axis=-1)[..., 0]
  nats_BM = jax.nn.logsumexp(logits_BMV, axis=-1) - target_BM
  correct_BM = logits_BMV.argmax(-1) == targets_BM
  return {'loss_sum': (weights_BM * nats_BM).sum(),
          'weight_sum': weights_BM.sum(),
          'correct_sum': (weights_BM * correct_BM).sum()}
