"""What the losses of fine-tuning tasks share: a body, and rows to count."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from robertax import model
from robertax.config import ModelConfig
from robertax.tasks.objective import new_params

Batch = dict[str, jax.Array]
Sums = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Tuning:
  """A loss and its outputs; two that are equal share one compiled step.

  A subclass has `loss` and `outputs`, and `totals` where targets are not
  counted by class_weights.

  Attributes:
    model: the ModelConfig, complete, with the heads that the task needs.
    pad_id: the tokenizer's.
    token_outputs: which of the outputs are of tokens, [B, T, ...]; the others
      are of slots, [B / K, Q, ...] (data.tuning).
  """
  model: ModelConfig
  pad_id: int
  token_outputs: ClassVar[frozenset[str]] = frozenset()

  def init(self, key: jax.Array) -> Any:
    """Random parameters."""
    return new_params(self.model, self.pad_id, key)

  def totals(self, batch: Batch) -> Sums:
    """What the loss is divided by: weight_sum, the batch's examples."""
    return {'weight_sum': batch['class_weights'].sum(dtype=jnp.float32)}

  def loss(self, params: Any, batch: Batch, dropout_keys: jax.Array | None,
           totals: Sums) -> tuple[jax.Array, Sums]:
    """(objective, sums), as train.step.make_train_step asks for.

    Args:
      params: of the model.
      batch: fields as in data.tuning; all of a batch, or a part of it.
      dropout_keys: uint32[B,2], None: no dropout.
      totals: of the whole batch.

    Returns:
      The part that these rows have of the whole batch's loss, and sums, among
      them loss_sum and weight_sum and those of `places`.
    """
    raise NotImplementedError

  def outputs(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
    """What is asked of the model at evaluation, without dropout."""
    raise NotImplementedError

  def body(self, params: Any, batch: Batch,
           dropout_keys: jax.Array | None = None
           ) -> tuple[model.Roberta, jax.Array]:
    """(the module, x_BTD of the batch)."""
    encoder = model.bind(self.model, params)
    type_ids = batch.get('type_ids')
    if type_ids is None and self.model.num_types:  # One type, of all tokens.
      type_ids = jnp.zeros_like(batch['input_ids'])
    return encoder, encoder.encode(
        batch['input_ids'], batch['segment_ids'], type_ids,
        dropout_key=dropout_keys)

  def places(self, batch: Batch) -> Sums:
    """token_sum, tokens without padding, and place_sum, with it."""
    real = batch['segment_ids'] > 0
    return {'token_sum': real.sum(dtype=jnp.float32),
            'place_sum': jnp.float32(real.size)}


@dataclasses.dataclass(frozen=True)
class Classification(Tuning):
  """A class of each sequence; with one class, a score (regression).

  Fields: class_targets, int32, or of a score float32.
  """

  def loss(self, params, batch, dropout_keys, totals):
    """Cross-entropy in nats; of a score the squared error of the raw logit
    (fairseq criterions/sentence_prediction.py, regression_target).
    """
    logits_BPC = self._logits(params, batch, dropout_keys)
    targets, weights = batch['class_targets'], batch['class_weights']
    if self.model.num_classes == 1:
      errors = jnp.square(logits_BPC[..., 0] - targets)
      sums = {'loss_sum': (errors * weights).sum(),
              'weight_sum': weights.sum()}
    else:
      sums = model.class_loss(logits_BPC, targets, weights)
    objective = sums['loss_sum'] / jnp.maximum(totals['weight_sum'], 1.0)
    return objective, sums | self.places(batch)

  def outputs(self, params, batch):
    """logits [B / K, Q, C]."""
    return {'logits': self._logits(params, batch, None)}

  def _logits(self, params, batch, keys):
    encoder, x_BTD = self.body(params, batch, keys)
    return encoder.class_logits(x_BTD, batch['class_positions'],
                                dropout_key=keys)
