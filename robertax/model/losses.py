"""Losses as sums: whoever knows the global count divides, once."""

import jax
import jax.numpy as jnp

Sums = dict[str, jax.Array]


def mlm_loss(logits_BMV: jax.Array, targets_BM: jax.Array,
             weights_BM: jax.Array) -> Sums:
  """Cross-entropy over masked tokens (fairseq criterions/masked_lm.py).

  Args:
    logits_BMV: any float; computed in float32. V may lie on several devices.
    targets_BM: int32, the original ids.
    weights_BM: 1 for a masked token, 0 for filler.

  Returns:
    Three float32 scalars: `loss_sum` in nats, `weight_sum`, and `correct_sum`,
    the tokens whose largest logit is the target's.
  """
  return _cross_entropy(logits_BMV, targets_BM, weights_BM, '')


def nsp_loss(logits_BPC: jax.Array, targets_BP: jax.Array,
             weights_BP: jax.Array) -> Sums:
  """Cross-entropy of next-sentence prediction, over examples.

  Args:
    logits_BPC: C = 2; any float, computed in float32.
    targets_BP: int32, BERT's (run_pretraining.py get_next_sentence_output):
      0: B follows A, 1: B is random.
    weights_BP: 1 for an example, 0 for filler.

  Returns:
    As `mlm_loss`: `nsp_loss_sum`, `nsp_weight_sum`, `nsp_correct_sum`.
  """
  return _cross_entropy(logits_BPC, targets_BP, weights_BP, 'nsp_')


def _cross_entropy(logits, targets, weights, prefix: str) -> Sums:
  """Over the last dim of the logits; the sums' names begin with `prefix`.

  Only reductions touch the logits: where the vocabulary lies on the devices of
  the `model` axis, each reduces its part and numbers of size B x M meet.
  Indexing a logit, or argmax, would bring the B x M x V of them together.
  """
  logits = logits.astype(jnp.float32)
  weights = weights.astype(jnp.float32)
  ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
  target = jnp.where(ids == targets[..., None], logits, 0).sum(-1)
  nats = jax.nn.logsumexp(logits, axis=-1) - target
  # argmax: the first of the largest.
  largest = logits.max(-1, keepdims=True)
  best = jnp.where(logits == largest, ids, logits.shape[-1]).min(-1)
  correct = best == targets
  return {f'{prefix}loss_sum': (weights * nats).sum(),
          f'{prefix}weight_sum': weights.sum(),
          f'{prefix}correct_sum': (weights * correct).sum()}
