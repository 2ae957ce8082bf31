"""What is read off the encoder's states: masked tokens; does B follow A; a
sequence's class; where a span starts and ends.
"""

import math

from flax import nnx
import jax
import jax.numpy as jnp

from robertax.config import ModelConfig
from robertax.kernels import dropout, fold, gelu
from robertax.model.layers import Dense, Norm, gaussian
from robertax.model.vocabulary import mask_padding


class MLMHead(nnx.Module):
  """dense -> GELU -> LayerNorm -> decoder table -> bias (RobertaLMHead).

  fairseq models/roberta/model.py:470. The decoder is the token table, handed
  in by the caller (one Param held twice would be two leaves), unless
  `tie_embeddings=False`; then it is `decoder`, of the same shape.
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
    """logits_BMV, float32: only masked positions meet the V-wide product.

    V is what the table has; the logits of padded rows are -inf.
    """
    x_BMD = jnp.take_along_axis(x_BTD, mlm_positions_BM[..., None], axis=1)
    x_BMD = self.norm(gelu(self.dense('BMD,DE->BME', x_BMD)))
    table_VD = tokens_VD if self.tied else self.decoder[...]
    logits_BMV = jnp.einsum('BMD,VD->BMV', x_BMD,
                            table_VD.astype(x_BMD.dtype),
                            preferred_element_type=jnp.float32)
    return logits_BMV + mask_padding(self.bias[...], self.vocab_size)


class NSPHead(nnx.Module):
  """Next-sentence prediction: BERT's pooler and a two-way linear layer.

  The state of an example's <s>, dense, tanh (BERT modeling.py, `pooler`), then
  two logits (run_pretraining.py get_next_sentence_output). No dropout in
  either.
  """

  def __init__(self, config: ModelConfig, key):
    size, std = config.hidden_size, config.initializer_std
    pooler_key, output_key = jax.random.split(key)
    self.pooler = Dense(pooler_key, (size,), (size,), std)
    self.output = Dense(output_key, (size,), (2,), std)

  def __call__(self, x_BTD, nsp_positions_BP):
    """logits_BPC, float32, C = 2: B follows A, B is random."""
    x_BPD = jnp.take_along_axis(x_BTD, nsp_positions_BP[..., None], axis=1)
    x_BPD = self.pooler('BPD,DE->BPE', x_BPD)
    # So few that float32 costs nothing.
    return self.output('BPD,DC->BPC', jnp.tanh(x_BPD.astype(jnp.float32)))


class ClassifierHead(nnx.Module):
  """dropout -> dense -> tanh -> dropout -> output (RobertaClassificationHead).

  fairseq models/roberta/model.py:498. The head is made after the encoder was
  initialized (model.py:343), so it keeps PyTorch's law for linear layers:
  kernels and biases uniform within 1 / sqrt(inputs).
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
    # So few that float32 costs nothing.
    x_BPD = jnp.take_along_axis(
        x_BTD, positions_BP[..., None], axis=1).astype(jnp.float32)
    # Behind the levels of the encoder: 0 for embeddings, 1.. for the blocks.
    keys = None if keys_B2 is None else fold(keys_B2, 1 + self.level)
    for site, layer in enumerate((self.dense, self.output)):
      x_BPD = dropout(x_BPD, None if keys is None else fold(keys, site),
                      self.rate)
      x_BPD = layer('BPD,DC->BPC', x_BPD)
      if layer is self.dense:
        x_BPD = jnp.tanh(x_BPD)
    return x_BPD


def _torch_linear(key, inputs: int, outputs: int) -> Dense:
  """A Dense filled as torch.nn.Linear.reset_parameters fills it."""
  layer, bound = Dense(key, (inputs,), (outputs,), 0.0), 1 / math.sqrt(inputs)
  for parameter, sub in zip((layer.kernel, layer.bias), jax.random.split(key)):
    parameter[...] = jax.random.uniform(
        sub, parameter.shape, jnp.float32, -bound, bound)
  return layer


class SpanHead(nnx.Module):
  """Two logits a token: a span starts here, it ends here.

  BERT run_squad.py create_model: one linear layer, N(0, .02) and bias 0.
  """

  def __init__(self, config: ModelConfig, key):
    self.output = Dense(key, (config.hidden_size,), (2,),
                        config.initializer_std)

  def __call__(self, x_BTD):
    """(start_BT, end_BT), float32."""
    logits_BTC = jnp.einsum(
        'BTD,DC->BTC', x_BTD, self.output.kernel[...].astype(x_BTD.dtype),
        preferred_element_type=jnp.float32) + self.output.bias[...]
    return logits_BTC[..., 0], logits_BTC[..., 1]
