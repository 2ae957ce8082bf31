"""Losses of the tasks that score several sequences together, as Tunings."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from robertax import model
from robertax.model.losses import token_log_probs
from robertax.tasks.ranking import grouped, margin_loss
from robertax.tasks.tuning import Tuning


@dataclasses.dataclass(frozen=True)
class Choice(Tuning):
  """Which of a group's sequences is right: a softmax over their scores.

  fairseq criterions/sentence_ranking.py, on a classifier of one class. A group
  of one is asked by itself: whether its score is above 0, by a softmax over the
  score and 0.

  Fields: group_targets int32[B / K, G], the member that is right, in a group of
  one 0 (it is) or 1 (it is not).
  """

  def totals(self, batch):
    """weight_sum, the batch's groups."""
    return {'weight_sum': _weights(batch).sum(dtype=jnp.float32)}

  def loss(self, params, batch, dropout_keys, totals):
    """Cross-entropy in nats, the mean over groups."""
    weights_BG = _weights(batch)
    there_BQ = batch['class_weights']
    scores_BGM = grouped(self._scores(params, batch, dropout_keys), there_BQ,
                         weights_BG.shape[1])
    # 0 in the place behind the last member, where only the first is there.
    sizes_BG = there_BQ.reshape(scores_BGM.shape).sum(-1)
    if scores_BGM.shape[-1] == 1:
      scores_BGM = jnp.pad(scores_BGM, ((0, 0), (0, 0), (0, 1)))
    second = jnp.arange(scores_BGM.shape[-1]) == 1
    scores_BGM = jnp.where((sizes_BG == 1)[..., None] & second, 0.0, scores_BGM)
    sums = model.class_loss(scores_BGM, batch['group_targets'], weights_BG)
    objective = sums['loss_sum'] / jnp.maximum(totals['weight_sum'], 1.0)
    return objective, sums | self.places(batch)

  def outputs(self, params, batch):
    """scores [B / K, Q]."""
    return {'scores': self._scores(params, batch, None)}

  def _scores(self, params, batch, keys):
    encoder, x_BTD = self.body(params, batch, keys)
    return encoder.class_logits(x_BTD, batch['class_positions'],
                                dropout_key=keys)[..., 0]


@dataclasses.dataclass(frozen=True)
class SpanRanking(Tuning):
  """Which phrase fits in a masked span, by the masked-LM head: WSC.

  The score of a sequence is the mean log-probability of its span's tokens. Of a
  group the first, the query, is right.

  Fields: span_targets int32[B / K, Q, S], span_positions likewise, span_weights
  float32.

  Attributes:
    loss_name: a row of LOSSES: 'margin' (the paper) or 'cross_entropy'
      (fairseq's later and better one).
    alpha, beta: of the margin loss.
  """
  LOSSES: ClassVar[tuple[str, ...]] = ('margin', 'cross_entropy')

  loss_name: str = 'margin'
  alpha: float = 1.0
  beta: float = 0.0

  def totals(self, batch):
    """weight_sum, the batch's groups."""
    return {'weight_sum': _weights(batch).sum(dtype=jnp.float32)}

  def loss(self, params, batch, dropout_keys, totals):
    """The mean over groups of `loss_name`."""
    weights_BG = _weights(batch)
    scores_BGM = grouped(self._scores(params, batch, dropout_keys),
                         batch['class_weights'], weights_BG.shape[1])
    if self.loss_name == 'margin':
      sums = margin_loss(scores_BGM, weights_BG, self.alpha, self.beta)
    else:
      sums = model.class_loss(
          scores_BGM, jnp.zeros(weights_BG.shape, jnp.int32), weights_BG)
    objective = sums['loss_sum'] / jnp.maximum(totals['weight_sum'], 1.0)
    return objective, sums | self.places(batch)

  def outputs(self, params, batch):
    """scores [B / K, Q], in nats a token."""
    return {'scores': self._scores(params, batch, None)}

  def _scores(self, params, batch, keys):
    encoder, x_BTD = self.body(params, batch, keys)
    shape = batch['span_positions'].shape
    positions_BM = batch['span_positions'].reshape(shape[0], -1)
    log_probs = token_log_probs(
        encoder.mlm_logits(x_BTD, positions_BM),
        batch['span_targets'].reshape(positions_BM.shape)).reshape(shape)
    weights = batch['span_weights']
    return (log_probs * weights).sum(-1) / jnp.maximum(weights.sum(-1), 1.0)


def _weights(batch):
  """float32[B / K, G]: 1 for a group; of groups of one, those of examples."""
  return batch.get('group_weights', batch['class_weights'])
