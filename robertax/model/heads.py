"""What is read off the encoder's states: masked tokens; does B follow A?"""

from flax import nnx
import jax
import jax.numpy as jnp

from robertax.kernels import gelu
from robertax.model.config import ModelConfig
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
