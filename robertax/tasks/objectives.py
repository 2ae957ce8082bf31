"""Losses, each an Objective of task.py: of masked tokens, classes and groups.

`Tuning` is what those of fine-tuning share. A group's sequences are scored
together: scores are [B / K, Q] of Q slots, of which a group has M consecutive
ones (data.finetuning), or [B / K, G, M] with the groups apart.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from robertax import model
from robertax.config import DataConfig, ModelConfig
from robertax.corpus.formats import FORMATS
from robertax.data.feed import DeviceBatch
from robertax.data.masking import num_masked
from robertax.model.encoder import PAD_ID
from robertax.model.heads import (
    OUTSIDE,
    Sums,
    multi_label_loss,
    token_log_probs,
)

CHUNK = 256  # Masked tokens whose logits are made at once.


@dataclasses.dataclass(frozen=True)
class _Loss:
  """A complete model, and the id that its tokenizer pads with."""
  model: ModelConfig
  pad_id: int = PAD_ID

  def init(self, key: jax.Array) -> Any:
    """Makes random parameters, zeros for the padding token (fairseq)."""
    params = model.create(self.model, key)
    # The model has zeros at id 1, where RoBERTa has its <pad>.
    rows = np.array([PAD_ID, self.pad_id])
    if rows[0] != rows[1]:
      tokens = params['embeddings']['tokens']
      params['embeddings']['tokens'] = tokens.at[rows].set(tokens[rows[::-1]])
    return params

  def encode(self, params: Any, batch: DeviceBatch,
             dropout_keys: jax.Array | None) -> tuple[model.Roberta, jax.Array]:
    """Returns the bound module and x_BTD; missing type_ids are 0."""
    encoder = model.bind(self.model, params)
    type_ids = batch.get('type_ids')
    if type_ids is None and self.model.num_types:
      type_ids = jnp.zeros_like(batch['input_ids'])
    return encoder, encoder.encode(batch['input_ids'], batch['segment_ids'],
                                   type_ids, dropout_key=dropout_keys)


@dataclasses.dataclass(frozen=True)
class MaskedLM(_Loss):
  """Masked language modelling, for pairs with next-sentence prediction.

  Fields: mlm_* [B,M]; for pairs type_ids int32[B,T] and nsp_* [B,P].
  """

  def totals(self, batch: DeviceBatch) -> Sums:
    return {total: batch[weights].sum(dtype=jnp.float32)
            for total, weights in (('weight_sum', 'mlm_weights'),
                                   ('nsp_weight_sum', 'nsp_weights'))
            if weights in batch}

  def loss(self, params: Any, batch: DeviceBatch,
           dropout_keys: jax.Array | None, totals: Sums
           ) -> tuple[jax.Array, Sums]:
    """Returns the mean cross-entropy in nats over the batch's masked tokens.

    For pairs it is BERT's: plus the mean over examples of next-sentence
    prediction (run_pretraining.py, `total_loss`), whose sums are nsp_loss_sum,
    nsp_weight_sum (examples) and nsp_correct_sum.
    """
    encoder, x_BTD = self.encode(params, batch, dropout_keys)
    sums = model.mlm_loss(encoder.mlm_logits(x_BTD, batch['mlm_positions']),
                          batch['mlm_targets'], batch['mlm_weights'])
    sums['token_sum'] = (batch['segment_ids'] > 0).sum(dtype=jnp.float32)
    # A batch without a target has a gradient of zero instead of NaN.
    objective = sums['loss_sum'] / jnp.maximum(totals['weight_sum'], 1.0)
    if 'nsp_weights' in batch:
      sums |= model.nsp_loss(encoder.nsp_logits(x_BTD, batch['nsp_positions']),
                             batch['nsp_targets'], batch['nsp_weights'])
      objective += sums['nsp_loss_sum'] / jnp.maximum(
          totals['nsp_weight_sum'], 1.0)
    return objective, sums


def batch_shapes(config: DataConfig) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns the shapes of the last phase's batches, for compiling ahead."""
  rows, length = config.batch_size, config.sequence_length
  kind = FORMATS[config.format]
  packed = kind.examples_per_row(length)
  masked = num_masked(
      max(config.mask_rate, config.mask_rate_end), length, packed,
      config.span_length if config.masking_unit == 'span' else 1)

  def fields(width: int, **dtypes: Any) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct((rows, width), dtype)
            for name, dtype in dtypes.items()}

  shapes = fields(length, input_ids=np.int32, segment_ids=np.int32)
  shapes |= fields(masked, mlm_positions=np.int32, mlm_targets=np.int32,
                   mlm_weights=np.float32)
  if kind.pairs:
    shapes |= fields(length, type_ids=np.int32)
    shapes |= fields(packed, nsp_positions=np.int32, nsp_targets=np.int32,
                     nsp_weights=np.float32)
  return shapes


def grouped(scores_BQ: jax.Array, weights_BQ: jax.Array, groups: int
            ) -> jax.Array:
  """Reshapes [B, G M] to float32[B, G, M]; an empty slot never wins."""
  scores = jnp.where(weights_BQ > 0, scores_BQ.astype(jnp.float32), OUTSIDE)
  return scores.reshape(len(scores), groups, -1)


def margin_loss(scores_BGM: jax.Array, weights_BG: jax.Array,
                alpha: float = 1.0, beta: float = 0.0) -> Sums:
  """Returns the margin ranking loss of the query, slot 0, over the candidates.

  -lq + alpha * max(0, lc - lq + beta), summed over a group's candidates c
  (Kocijan et al. 2019; fairseq examples/roberta/wsc/wsc_criterion.py, where a
  group without candidates has no loss, as here). Scores are `grouped`; weights
  are 1 for a group that counts, 0 for filler. The sums are loss_sum, weight_sum
  (groups) and correct_sum (the query is below no candidate).
  """
  query = scores_BGM[..., :1]
  there = scores_BGM[..., 1:] > OUTSIDE / 2
  # An empty slot's difference could be anything; its gradient must be 0.
  others = jnp.where(there, scores_BGM[..., 1:], query)
  loss = -query + alpha * jnp.maximum(0.0, others - query + beta)
  loss = jnp.where(there, loss, 0.0).sum(axis=-1)
  wins = jnp.all(query >= scores_BGM, axis=-1)
  return {'loss_sum': (weights_BG * loss).sum(),
          'weight_sum': weights_BG.sum(dtype=jnp.float32),
          'correct_sum': (weights_BG * wins).sum()}


@dataclasses.dataclass(frozen=True)
class Tuning(_Loss):
  """An AnsweringObjective, with the fields that data.finetuning describes."""
  token_outputs: ClassVar[frozenset[str]] = frozenset()

  def totals(self, batch: DeviceBatch) -> Sums:
    return {'weight_sum': batch['class_weights'].sum(dtype=jnp.float32)}

  def mean_loss(self, sums: Sums, totals: Sums, batch: DeviceBatch
                ) -> tuple[jax.Array, Sums]:
    """Returns what `loss` does, from loss_sum and other sums.

    Adds token_sum (without padding), place_sum (with it), and of what
    model.roberta.training_flops counts attended_sum and sequence_sum. Predicted
    tokens are counted outside: one more sum would change a program's last bits.
    """
    objective = sums['loss_sum'] / jnp.maximum(totals['weight_sum'], 1.0)
    real = batch['segment_ids'] > 0
    tokens = real.sum(dtype=jnp.float32)
    counts = {'token_sum': tokens, 'place_sum': jnp.float32(real.size),
              'attended_sum': tokens * real.shape[1],
              'sequence_sum': batch['class_weights'].sum(dtype=jnp.float32)}
    return objective, sums | counts

  def class_logits(self, params: Any, batch: DeviceBatch, keys: jax.Array | None
                   ) -> jax.Array:
    """Returns float[B / K, Q, C], the logits of each slot."""
    encoder, x_BTD = self.encode(params, batch, keys)
    return encoder.class_logits(x_BTD, batch['class_positions'],
                                dropout_key=keys)


@dataclasses.dataclass(frozen=True)
class Classification(Tuning):
  """A class for each sequence; with one class, a score (regression).

  Fields: class_targets int32[B / K, Q], or float32 for scores; `multi_label`:
  float32[B / K, Q, C], 1 for each class of a sequence.
  """
  multi_label: bool = False

  def loss(self, params, batch, dropout_keys, totals):
    """Returns cross-entropy in nats; for a score the squared error of the raw
    logit (fairseq criterions/sentence_prediction.py, regression_target); for
    several labels the mean of the binary cross-entropies.
    """
    logits_BPC = self.class_logits(params, batch, dropout_keys)
    targets, weights = batch['class_targets'], batch['class_weights']
    if self.multi_label:
      sums = multi_label_loss(logits_BPC, targets, weights)
    elif self.model.num_classes == 1:
      errors = jnp.square(logits_BPC[..., 0] - targets)
      sums = {'loss_sum': (errors * weights).sum(), 'weight_sum': weights.sum()}
    else:
      sums = model.class_loss(logits_BPC, targets, weights)
    return self.mean_loss(sums, totals, batch)

  def outputs(self, params, batch):
    return {'logits': self.class_logits(params, batch, None)}


@dataclasses.dataclass(frozen=True)
class _Ranking(Tuning):
  """A loss over groups: a subclass has `_scores` of sequences, [B / K, Q]."""

  def totals(self, batch: DeviceBatch) -> Sums:
    return {'weight_sum': _group_weights(batch).sum(dtype=jnp.float32)}

  def outputs(self, params, batch):
    return {'scores': self._scores(params, batch, None)}


@dataclasses.dataclass(frozen=True)
class Choice(_Ranking):
  """Chooses the right sequence of a group: a softmax over their scores.

  fairseq criterions/sentence_ranking.py, on a classifier of one class. A group
  of one has the softmax over its score and 0.

  Fields: group_targets int32[B / K, G], the member that is right; in a group of
  one 0 (it is right) or 1 (it is not).
  """

  def loss(self, params, batch, dropout_keys, totals):
    weights_BG = _group_weights(batch)
    there_BQ = batch['class_weights']
    scores_BGM = grouped(self._scores(params, batch, dropout_keys), there_BQ,
                         weights_BG.shape[1])
    # A group of one has a second score of 0.
    sizes_BG = there_BQ.reshape(scores_BGM.shape).sum(-1)
    if scores_BGM.shape[-1] == 1:
      scores_BGM = jnp.pad(scores_BGM, ((0, 0), (0, 0), (0, 1)))
    second = jnp.arange(scores_BGM.shape[-1]) == 1
    scores_BGM = jnp.where((sizes_BG == 1)[..., None] & second, 0.0, scores_BGM)
    targets_BG = batch.get('group_targets', weights_BG.astype(jnp.int32) * 0)
    sums = model.class_loss(scores_BGM, targets_BG, weights_BG)
    return self.mean_loss(sums, totals, batch)

  def _scores(self, params, batch, keys):
    return self.class_logits(params, batch, keys)[..., 0]


@dataclasses.dataclass(frozen=True)
class SpanRanking(_Ranking):
  """Chooses the phrase for a masked span, by the masked-LM head: WSC.

  The score of a sequence is the mean log-probability of its span's tokens, in
  nats. The first of a group, the query, is right. `loss_name` is one of
  config.RANKING_LOSSES; alpha and beta are the margin loss's.

  Fields: span_targets, span_positions int32[B / K, Q, S], span_weights float32.
  """
  loss_name: str = 'margin'
  alpha: float = 1.0
  beta: float = 0.0

  def loss(self, params, batch, dropout_keys, totals):
    weights_BG = _group_weights(batch)
    scores_BGM = grouped(self._scores(params, batch, dropout_keys),
                         batch['class_weights'], weights_BG.shape[1])
    if self.loss_name == 'margin':
      sums = margin_loss(scores_BGM, weights_BG, self.alpha, self.beta)
    else:
      sums = model.class_loss(
          scores_BGM, jnp.zeros(weights_BG.shape, jnp.int32), weights_BG)
    return self.mean_loss(sums, totals, batch)

  def _scores(self, params, batch, keys):
    encoder, x_BTD = self.encode(params, batch, keys)
    weights = batch['span_weights']
    log_probs = masked_log_probs(
        encoder, x_BTD, batch['span_positions'], batch['span_targets'], weights)
    return (log_probs * weights).sum(-1) / jnp.maximum(weights.sum(-1), 1.0)


def masked_log_probs(encoder: model.Roberta, x_BTD: jax.Array,
                     positions: jax.Array, targets: jax.Array,
                     weights: jax.Array) -> jax.Array:
  """Returns float32[B / K, ...], log-probabilities, 0 where `weights` are.

  Most slots of these fields are empty (spans differ in length, groups in size),
  and each costs V logits. So the others come first, CHUNK of them at a time,
  and a chunk without any is skipped.
  """
  rows, width = len(positions), x_BTD.shape[-1]
  starts = jnp.arange(rows) * (x_BTD.size // (rows * width))  # Of row groups.
  flat = (positions.reshape(rows, -1) + starts[:, None]).reshape(-1)
  real = weights.reshape(-1) > 0
  order = jnp.argsort(~real, stable=True)
  chunks = -(-len(order) // CHUNK)
  # The padding is out of range, so it is read as 0 and written nowhere.
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
  # For its gradient the logits of a chunk are computed again, not kept.
  _, found = jax.lax.scan(jax.checkpoint(one), None, (
      chosen(x_ND), chosen(targets.reshape(-1)), chosen(real)))
  return jnp.zeros(positions.size, jnp.float32).at[order].set(
      found.reshape(-1), mode='drop').reshape(positions.shape)


def _group_weights(batch: DeviceBatch) -> jax.Array:
  """Returns float32[B / K, G], 1 for a group; groups of one are examples."""
  return batch.get('group_weights', batch['class_weights'])
