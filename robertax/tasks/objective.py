"""The loss of pretraining, which needs a model and no data."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robertax import model
from robertax.config import DataConfig, ModelConfig
from robertax.corpus.formats import FORMATS
from robertax.data.masking_laws import num_masked
from robertax.model.encoder import PAD_ID


def new_params(config: ModelConfig, pad_id: int, key: jax.Array) -> Any:
  """Random parameters, zeros for the padding token (fairseq). Traceable."""
  params = model.create(config, key)
  # The model has those at id 1, where RoBERTa has its <pad>.
  rows = np.array([PAD_ID, pad_id])
  if rows[0] != rows[1]:
    tokens = params['embeddings']['tokens']
    params['embeddings']['tokens'] = tokens.at[rows].set(tokens[rows[::-1]])
  return params


@dataclasses.dataclass(frozen=True)
class MaskedLM:
  """Masked language modelling; of pairs, next-sentence prediction beside it.

  Attributes:
    model: the ModelConfig, complete.
    pad_id: the tokenizer's.
  """
  model: ModelConfig
  pad_id: int = PAD_ID

  def init(self, key: jax.Array) -> Any:
    """Random parameters."""
    return new_params(self.model, self.pad_id, key)

  def totals(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """What the loss is divided by.

    Returns:
      weight_sum, the batch's masked tokens, and, of pairs, nsp_weight_sum, its
      examples.
    """
    return {total: batch[weights].sum(dtype=jnp.float32)
            for total, weights in (('weight_sum', 'mlm_weights'),
                                   ('nsp_weight_sum', 'nsp_weights'))
            if weights in batch}

  def loss(self, params: Any, batch: dict[str, jax.Array],
           dropout_keys: jax.Array | None, totals: dict[str, jax.Array]
           ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Cross-entropy of the masked tokens, in nats.

    Of pairs, BERT's loss: the mean over masked tokens plus the mean over
    examples of next-sentence prediction (run_pretraining.py, `total_loss`).

    Args:
      params: of the model.
      batch: input_ids, segment_ids int32[B,T]; mlm_* [B,M]; of pairs, type_ids
        int32[B,T] and nsp_* [B,P]. All of a batch, or a micro-batch.
      dropout_keys: uint32[B,2], None: no dropout.
      totals: of the whole batch.

    Returns:
      The part that these rows have of the whole batch's loss, and the sums
      loss_sum, weight_sum (masked tokens), correct_sum, token_sum (without
      padding); of pairs, nsp_loss_sum, nsp_weight_sum (examples) and
      nsp_correct_sum.
    """
    encoder = model.bind(self.model, params)
    type_ids = batch.get('type_ids')
    if type_ids is None and self.model.num_types:
      type_ids = jnp.zeros_like(batch['input_ids'])
    x_BTD = encoder.encode(batch['input_ids'], batch['segment_ids'], type_ids,
                           dropout_key=dropout_keys)
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
  """Of the batches that `config` makes: what a step can be compiled for.

  Args:
    config: the `data` section. The rows of its last phase.
  """
  rows, length = config.batch_size, config.sequence_length
  kind = FORMATS[config.format]
  packed = kind.examples_per_row(length)
  masked = num_masked(
      max(config.mask_rate, config.mask_rate_end), length, packed,
      config.span_length if config.masking_unit == 'span' else 1)

  def fields(width, **dtypes):
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
