"""Losses as sums: whoever knows the global count divides, once."""

import jax
import jax.numpy as jnp

Sums = dict[str, jax.Array]
# The logit of what is no choice: -inf would make the gradient of a softmax in
# which nothing is one NaN.
OUTSIDE = -1e30


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


def class_loss(logits_BPC: jax.Array, targets_BP: jax.Array,
               weights_BP: jax.Array) -> Sums:
  """Cross-entropy over the classes of sequences, or the members of a group.

  Args:
    logits_BPC: any float; computed in float32. A class that is none has a
      large negative logit, not -inf, whose gradient would be NaN.
    targets_BP: int32.
    weights_BP: 1 for a target, 0 for filler.

  Returns:
    As `mlm_loss`.
  """
  return _cross_entropy(logits_BPC, targets_BP, weights_BP, '')


def span_loss(start_BT: jax.Array, end_BT: jax.Array,
              segment_ids_BT: jax.Array, starts_BP: jax.Array,
              ends_BP: jax.Array, weights_BP: jax.Array) -> Sums:
  """Where a span starts, where it ends: a softmax each over its sequence.

  Half the sum of the two cross-entropies (BERT run_squad.py, `total_loss`).
  Sequence p of a row is where segment_ids == p + 1, whatever is packed beside.

  Args:
    start_BT, end_BT: float32 logits.
    segment_ids_BT: int32.
    starts_BP, ends_BP: int32 positions in the row, inside their sequence.
    weights_BP: 1 for a sequence, 0 for filler.

  Returns:
    As `mlm_loss`; correct are those with both ends right.
  """
  slots_P = jnp.arange(1, starts_BP.shape[1] + 1)
  inside_BPT = segment_ids_BT[:, None, :] == slots_P[:, None]
  sums, right = {}, weights_BP
  for logits_BT, targets_BP in ((start_BT, starts_BP), (end_BT, ends_BP)):
    logits_BPT = jnp.where(inside_BPT, logits_BT[:, None, :], OUTSIDE)
    one = _cross_entropy(logits_BPT, targets_BP, weights_BP, '')
    sums['loss_sum'] = sums.get('loss_sum', 0.0) + one['loss_sum'] / 2
    right = right * (logits_BPT.argmax(-1) == targets_BP)
  return sums | {'weight_sum': weights_BP.sum(), 'correct_sum': right.sum()}


def token_log_probs(logits_BMV: jax.Array, targets_BM: jax.Array) -> jax.Array:
  """The log-probability, in nats, of each target: float32[B, M].

  Args:
    logits_BMV: any float; computed in float32. V may lie on several devices.
    targets_BM: int32.
  """
  return -_nats(logits_BMV.astype(jnp.float32), targets_BM)


def _nats(logits, targets):
  ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
  target = jnp.where(ids == targets[..., None], logits, 0).sum(-1)
  return jax.nn.logsumexp(logits, axis=-1) - target


def _cross_entropy(logits, targets, weights, prefix: str) -> Sums:
  """Over the last dim of the logits; the sums' names begin with `prefix`.

  Only reductions touch the logits: where the vocabulary lies on the devices of
  the `model` axis, each reduces its part and numbers of size B x M meet.
  Indexing a logit, or argmax, would bring the B x M x V of them together.
  """
  logits = logits.astype(jnp.float32)
  weights = weights.astype(jnp.float32)
  ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
  nats = _nats(logits, targets)
  # argmax: the first of the largest.
  largest = logits.max(-1, keepdims=True)
  best = jnp.where(logits == largest, ids, logits.shape[-1]).min(-1)
  correct = best == targets
  return {f'{prefix}loss_sum': (weights * nats).sum(),
          f'{prefix}weight_sum': weights.sum(),
          f'{prefix}correct_sum': (weights * correct).sum()}
