"""Losses of the tasks that score several sequences together, as Tunings."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from robertax import model
from robertax.model.heads import token_log_probs
from robertax.tasks.ranking import grouped, margin_loss
from robertax.tasks.tuning import Tuning

CHUNK = 256  # Masked tokens whose logits are made at once.


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
    weights = batch['span_weights']
    log_probs = masked_log_probs(
        encoder, x_BTD, batch['span_positions'], batch['span_targets'], weights)
    return (log_probs * weights).sum(-1) / jnp.maximum(weights.sum(-1), 1.0)


def masked_log_probs(encoder: model.Roberta, x_BTD: jax.Array,
                     positions: jax.Array, targets: jax.Array,
                     weights: jax.Array) -> jax.Array:
  """The log-probability of each target, by the masked-LM head.

  Most places of these fields are empty (spans differ in length, groups in
  size), and a place costs V logits: those that are not empty come first, CHUNK
  of them at a time, and a chunk without any is left out.

  Args:
    encoder: the module.
    x_BTD: from its `encode`.
    positions, targets: int32[B / K, ...], as in data.tuning.
    weights: float32, 0 where a place is empty.

  Returns:
    float32, of the shape of `positions`; 0 where `weights` is.
  """
  rows, width = len(positions), x_BTD.shape[-1]
  places = x_BTD.size // (rows * width)  # Of a block.
  starts = jnp.arange(rows) * places
  flat = (positions.reshape(rows, -1) + starts[:, None]).reshape(-1)
  real = weights.reshape(-1) > 0
  order = jnp.argsort(~real, stable=True)
  chunks = -(-len(order) // CHUNK)
  # Filled up with numbers outside, which are read as 0 and written nowhere.
  order = jnp.pad(order, (0, chunks * CHUNK - len(order)),
                  constant_values=len(order))

  def chosen(values):
    return jnp.asarray(values).at[order].get(mode='fill', fill_value=0).reshape(
        chunks, CHUNK, *values.shape[1:])

  def log_probs(x_CD, targets_C):
    here = jnp.arange(CHUNK)[None]
    return token_log_probs(encoder.mlm_logits(x_CD[None], here),
                           targets_C[None])[0]

  def one(_, chunk):
    x_CD, targets_C, real_C = chunk
    found = jax.lax.cond(real_C.any(), log_probs,
                         lambda *_: jnp.zeros(CHUNK, jnp.float32),
                         x_CD, targets_C)
    return None, jnp.where(real_C, found, 0.0)

  x_ND = x_BTD.reshape(-1, width)[flat]
  # The logits of a chunk are made again for its gradient instead of kept.
  _, found = jax.lax.scan(jax.checkpoint(one), None, (
      chosen(x_ND), chosen(targets.reshape(-1)), chosen(real)))
  return jnp.zeros(positions.size, jnp.float32).at[order].set(
      found.reshape(-1), mode='drop').reshape(positions.shape)


def _weights(batch):
  """float32[B / K, G]: 1 for a group; of groups of one, those of examples."""
  return batch.get('group_weights', batch['class_weights'])
