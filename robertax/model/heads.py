"""The heads on the encoder's states, and their losses.

They predict masked tokens, whether B follows A, a sequence's class, and where a
span starts and ends. A loss is a sum, which the caller divides once by the
count of all targets.
"""

import math

from flax import nnx
import jax
import jax.numpy as jnp

from robertax.config import ModelConfig
from robertax.kernels import dropout, fold, gelu
from robertax.model.encoder import Dense, Norm, gaussian, mask_padding

Sums = dict[str, jax.Array]
# The logit of what cannot be chosen. With -inf, a softmax over only such logits
# would have a gradient of NaN.
OUTSIDE = -1e30


def mlm_loss(logits_BMV: jax.Array, targets_BM: jax.Array,
             weights_BM: jax.Array) -> Sums:
  """Cross-entropy over masked tokens (fairseq criterions/masked_lm.py).

  Weights are 1 for a masked token and 0 for filler; V may be sharded. It gives
  float32 scalars: `loss_sum` in nats, `weight_sum`, and `correct_sum`, the
  weight of the targets with the largest logit.
  """
  return _cross_entropy(logits_BMV, targets_BM, weights_BM, '')


def nsp_loss(logits_BPC: jax.Array, targets_BP: jax.Array,
             weights_BP: jax.Array) -> Sums:
  """Like `mlm_loss`, for next-sentence prediction; its names begin with `nsp_`.

  C is 2. Targets are 0 if B follows A and 1 if B is random, as in BERT
  (run_pretraining.py get_next_sentence_output).
  """
  return _cross_entropy(logits_BPC, targets_BP, weights_BP, 'nsp_')


def class_loss(logits_BPC: jax.Array, targets_BP: jax.Array,
               weights_BP: jax.Array) -> Sums:
  """As `mlm_loss`, over the classes of sequences or the members of a group.

  What cannot be chosen has the logit `OUTSIDE`, not -inf.
  """
  return _cross_entropy(logits_BPC, targets_BP, weights_BP, '')


def multi_label_loss(logits_BPC: jax.Array, targets_BPC: jax.Array,
                     weights_BP: jax.Array) -> Sums:
  """As `class_loss`, where any number of classes is right: a sigmoid for each.

  Targets are 0 or 1. A sequence's loss is the mean over its classes (torch's
  BCEWithLogitsLoss); it is correct if all of them are.
  """
  logits = logits_BPC.astype(jnp.float32)
  # -log sigmoid(x) is softplus(-x); for 0, softplus(x).
  nats_BP = (jax.nn.softplus(logits) - targets_BPC * logits).mean(-1)
  right_BP = ((logits > 0) == (targets_BPC > .5)).all(-1)
  return {'loss_sum': (nats_BP * weights_BP).sum(),
          'weight_sum': weights_BP.sum(),
          'correct_sum': (right_BP * weights_BP).sum()}


def span_loss(start_BT: jax.Array, end_BT: jax.Array,
              segment_ids_BT: jax.Array, starts_BP: jax.Array,
              ends_BP: jax.Array, weights_BP: jax.Array) -> Sums:
  """Half the sum of the cross-entropies of a span's start and its end.

  Each softmax is over one sequence (BERT run_squad.py, `total_loss`); sequence
  p of a row is where segment_ids == p + 1. Starts and ends are int32 positions
  in the row. The result is like that of `mlm_loss`; a span is correct if both
  of its ends are.
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
  """float32[B, M]: the log-probability of each target, in nats."""
  return -_nats(logits_BMV.astype(jnp.float32), targets_BM)


def _nats(logits, targets):
  ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
  target = jnp.where(ids == targets[..., None], logits, 0).sum(-1)
  return jax.nn.logsumexp(logits, axis=-1) - target


def _cross_entropy(logits, targets, weights, prefix: str) -> Sums:
  # The logits are only reduced. So where the vocabulary is sharded along the
  # `model` axis, each device reduces its part and B x M numbers are exchanged;
  # indexing a logit, or argmax, would gather all B x M x V of them.
  logits = logits.astype(jnp.float32)
  weights = weights.astype(jnp.float32)
  ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
  nats = _nats(logits, targets)
  # This is argmax: the first of the largest logits.
  largest = logits.max(-1, keepdims=True)
  best = jnp.where(logits == largest, ids, logits.shape[-1]).min(-1)
  correct = best == targets
  return {f'{prefix}loss_sum': (weights * nats).sum(),
          f'{prefix}weight_sum': weights.sum(),
          f'{prefix}correct_sum': (weights * correct).sum()}


class MLMHead(nnx.Module):
  """dense -> GELU -> LayerNorm -> decoder table -> bias (RobertaLMHead).

  See fairseq models/roberta/model.py:470. A tied decoder is the token table,
  which the caller passes, because a Param held twice would be two leaves.
  """

  def __init__(self, config: ModelConfig, key):
    size, std = config.hidden_size, config.initializer_std
    dense_key, decoder_key = jax.random.split(key)
    self.dense = Dense(dense_key, (size,), (size,), std)
    self.norm = Norm(size, config.layer_norm_eps)
    self.bias = nnx.Param(jnp.zeros(config.vocab_size, jnp.float32))
    if not config.tie_embeddings:
      self.decoder = gaussian(decoder_key, (config.vocab_size, size), std)
    self.tied, self.vocab_size = config.tie_embeddings, config.vocab_size

  def __call__(self, x_BTD, mlm_positions_BM, tokens_VD):
    """logits_BMV, float32; the logits of padded rows of the table are -inf."""
    # Only masked positions enter the V-wide product.
    x_BMD = jnp.take_along_axis(x_BTD, mlm_positions_BM[..., None], axis=1)
    x_BMD = self.norm(gelu(self.dense(x_BMD)))
    table_VD = tokens_VD if self.tied else self.decoder[...]
    logits_BMV = jnp.einsum('BMD,VD->BMV', x_BMD, table_VD.astype(x_BMD.dtype),
                            preferred_element_type=jnp.float32)
    return logits_BMV + mask_padding(self.bias[...], self.vocab_size)


class NSPHead(nnx.Module):
  """BERT's pooler (dense, tanh) on the state of <s>, then two logits.

  See BERT modeling.py `pooler` and run_pretraining.py get_next_sentence_output,
  neither of which has dropout.
  """

  def __init__(self, config: ModelConfig, key):
    size, std = config.hidden_size, config.initializer_std
    pooler_key, output_key = jax.random.split(key)
    self.pooler = Dense(pooler_key, (size,), (size,), std)
    self.output = Dense(output_key, (size,), (2,), std)

  def __call__(self, x_BTD, nsp_positions_BP):
    """logits_BPC, float32, C = 2: B follows A, B is random."""
    x_BPD = jnp.take_along_axis(x_BTD, nsp_positions_BP[..., None], axis=1)
    x_BPD = self.pooler(x_BPD)
    # There are so few that float32 costs nothing.
    return self.output(jnp.tanh(x_BPD.astype(jnp.float32)))


class ClassifierHead(nnx.Module):
  """dropout -> dense -> tanh -> dropout -> output (RobertaClassificationHead).

  See fairseq models/roberta/model.py:498. fairseq makes it after initializing
  the encoder (model.py:343), so it keeps PyTorch's initialization of linear
  layers: kernels and biases uniform within 1 / sqrt(inputs).
  """

  def __init__(self, config: ModelConfig, key):
    size = config.hidden_size
    dense_key, output_key = jax.random.split(key)
    self.dense = _torch_linear(dense_key, size, size)
    self.output = _torch_linear(output_key, size, config.num_classes)
    self.rate, self.level = config.classifier_dropout_rate, config.num_layers

  def __call__(self, x_BTD, positions_BP, keys_B2):
    """logits_BPC, float32, of the states at `positions_BP`."""
    if keys_B2 is not None:
      keys_B2 = keys_B2[::len(keys_B2) // len(positions_BP)]
    x_BPD = jnp.take_along_axis(
        x_BTD, positions_BP[..., None], axis=1).astype(jnp.float32)
    # The dropout level after those of the encoder's layers.
    keys = None if keys_B2 is None else fold(keys_B2, 1 + self.level)
    for site, layer in enumerate((self.dense, self.output)):
      x_BPD = dropout(x_BPD, None if keys is None else fold(keys, site),
                      self.rate)
      x_BPD = layer(x_BPD)
      if layer is self.dense:
        x_BPD = jnp.tanh(x_BPD)
    return x_BPD


def _torch_linear(key, inputs: int, outputs: int) -> Dense:
  """A Dense initialized as torch.nn.Linear.reset_parameters does."""
  layer, bound = Dense(key, (inputs,), (outputs,), 0.0), 1 / math.sqrt(inputs)
  for parameter, sub in zip((layer.kernel, layer.bias), jax.random.split(key)):
    parameter[...] = jax.random.uniform(
        sub, parameter.shape, jnp.float32, -bound, bound)
  return layer


class SpanHead(nnx.Module):
  """A linear layer to two logits per token (BERT run_squad.py create_model)."""

  def __init__(self, config: ModelConfig, key):
    self.output = Dense(key, (config.hidden_size,), (2,),
                        config.initializer_std)

  def __call__(self, x_BTD):
    """(start_BT, end_BT), float32."""
    logits_BTC = jnp.einsum(
        'BTD,DC->BTC', x_BTD, self.output.kernel[...].astype(x_BTD.dtype),
        preferred_element_type=jnp.float32) + self.output.bias[...]
    return logits_BTC[..., 0], logits_BTC[..., 1]
