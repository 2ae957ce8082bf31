"""Losses over groups: which of several sequences has the highest score.

Scores come as a batch has them, [B, Q] of Q slots, of which a group has M
consecutive ones (data.tuning); [B, G, M] is the same with groups apart.
"""

import jax
import jax.numpy as jnp

from robertax.model.heads import OUTSIDE

Sums = dict[str, jax.Array]


def grouped(scores_BQ: jax.Array, weights_BQ: jax.Array, groups: int
            ) -> jax.Array:
  """Scores with groups apart; where no sequence is, one that never wins.

  Args:
    scores_BQ: any float.
    weights_BQ: 1 for a sequence, 0 for an empty slot.
    groups: G, a divisor of Q.

  Returns:
    float32[B, G, M].
  """
  scores = jnp.where(weights_BQ > 0, scores_BQ.astype(jnp.float32), OUTSIDE)
  return scores.reshape(len(scores), groups, -1)


def margin_loss(scores_BGM: jax.Array, weights_BG: jax.Array,
                alpha: float = 1.0, beta: float = 0.0) -> Sums:
  """The margin ranking loss of the query, place 0, over each candidate.

  -lq + alpha * max(0, lc - lq + beta), summed over a group's candidates c
  (Kocijan et al. 2019; fairseq examples/roberta/wsc/wsc_criterion.py, where a
  group without candidates has no loss, as here).

  Args:
    scores_BGM: of `grouped`; l of the query, then of candidates.
    weights_BG: 1 for a group that counts, 0 for filler.
    alpha, beta: weight of the margin, and the margin.

  Returns:
    Scalars: loss_sum, weight_sum (groups), correct_sum (groups in which no
    candidate is above the query).
  """
  query = scores_BGM[..., :1]
  there = scores_BGM[..., 1:] > OUTSIDE / 2
  # Where none is, the difference could be anything; its gradient must be 0.
  others = jnp.where(there, scores_BGM[..., 1:], query)
  loss = -query + alpha * jnp.maximum(0.0, others - query + beta)
  loss = jnp.where(there, loss, 0.0).sum(axis=-1)
  wins = jnp.all(query >= scores_BGM, axis=-1)
  return {'loss_sum': (weights_BG * loss).sum(),
          'weight_sum': weights_BG.sum(dtype=jnp.float32),
          'correct_sum': (weights_BG * wins).sum()}
