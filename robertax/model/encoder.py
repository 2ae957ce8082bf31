"""x_BTD through embeddings and N post-LN blocks.

fairseq models/transformer/transformer_encoder.py and
modules/transformer_layer.py.
"""

from flax import nnx
import jax
from jax import lax
import jax.numpy as jnp

from robertax.config import ModelConfig
from robertax.errors import InputError
from robertax.kernels import attention, dropout, fold, gelu
from robertax.model import remat
from robertax.model.layers import Dense, Norm, gaussian

PAD_ID = 1  # of <pad>, and the position of padding: fairseq's padding_idx
TYPES = 0x74797065  # 'type': what the key of that table is folded with.
# Where dropout happens: folded into a row's key, so that no two masks of a
# step are alike. The first level is 0 for embeddings and 1.. for the blocks.
EMBEDDINGS = 0
PROBABILITIES, ATTENTION, MLP = 0, 1, 2


def _fold(keys, data):
  return None if keys is None else fold(keys, data)


def positions(segment_ids_BT):
  """Positions from 2 upwards, anew in every segment; padding has 1.

  fairseq utils.py make_positions, with the count restarted where the segment
  id changes, so that packed examples see the positions they would see alone.

  >>> positions(jnp.array([[1, 1, 2, 2, 2, 0]]))
  Array([[2, 3, 2, 3, 4, 1]], dtype=int32)
  """
  index_BT = lax.broadcasted_iota(jnp.int32, segment_ids_BT.shape, 1)
  before_BT = jnp.roll(segment_ids_BT, 1, axis=1)
  starts_BT = (segment_ids_BT != before_BT) | (index_BT == 0)
  start_BT = lax.cummax(jnp.where(starts_BT, index_BT, 0), axis=1)
  return jnp.where(segment_ids_BT == 0, PAD_ID,
                   index_BT - start_BT + PAD_ID + 1)


class Embeddings(nnx.Module):
  """Tokens plus learned positions, LayerNorm, dropout; padding becomes 0.

  With `num_types`, plus types too (BERT modeling.py embedding_postprocessor).
  """

  def __init__(self, config: ModelConfig, key):
    size, std = config.hidden_size, config.initializer_std
    rows = config.max_positions + PAD_ID + 1
    token_key, position_key = jax.random.split(key)
    tokens_VD = gaussian(token_key, (config.vocab_size, size), std)
    positions_PD = gaussian(position_key, (rows, size), std)
    self.tokens = nnx.Param(tokens_VD[...].at[PAD_ID].set(0))
    # Row 0 is no token's position either (fairseq leaves it random, unused).
    self.positions = nnx.Param(positions_PD[...].at[:PAD_ID + 1].set(0))
    if config.num_types:
      # A key of its own: the other parameters are those of a model without.
      self.types = gaussian(jax.random.fold_in(key, TYPES),
                            (config.num_types, size), std)
    self.norm = Norm(size, config.layer_norm_eps)
    self.config = config

  def __call__(self, input_ids_BT, segment_ids_BT, type_ids_BT, keys_B2):
    # All lookups and the norm in float32: the cast to bfloat16 comes after.
    x_BTD = (self.tokens[...][input_ids_BT]
             + self.positions[...][positions(segment_ids_BT)])
    if self.config.num_types:
      # A product, as in BERT: a lookup's gradient would add all tokens to the
      # same two rows, one after another. In full precision it is the lookup.
      types_BTC = jax.nn.one_hot(type_ids_BT, self.config.num_types)
      x_BTD += jnp.einsum('BTC,CD->BTD', types_BTC, self.types[...],
                          precision=lax.Precision.HIGHEST)
    x_BTD = self.norm(x_BTD).astype(self.config.dtype)
    x_BTD = dropout(x_BTD, _fold(keys_B2, EMBEDDINGS),
                    self.config.dropout_rate)
    return jnp.where(segment_ids_BT[..., None] == 0, 0, x_BTD)


class Attention(nnx.Module):
  """Multi-head self-attention; heads are a dim of their own in the kernels."""

  def __init__(self, config: ModelConfig, key):
    size, heads = config.hidden_size, config.num_heads
    split, std = (heads, size // heads), config.initializer_std
    keys = jax.random.split(key, 4)
    self.query = Dense(keys[0], (size,), split, std)
    self.key = Dense(keys[1], (size,), split, std)
    self.value = Dense(keys[2], (size,), split, std)
    self.output = Dense(keys[3], split, (size,), std)
    self.config = config

  def __call__(self, x_BTD, segment_ids_BT, keys_B2):
    x_BTHK = attention(
        remat.keep(self.query('BTD,DHK->BTHK', x_BTD), remat.QUERY),
        remat.keep(self.key('BTD,DHK->BTHK', x_BTD), remat.KEY),
        remat.keep(self.value('BTD,DHK->BTHK', x_BTD), remat.VALUE),
        segment_ids=segment_ids_BT,
        dropout_key=_fold(keys_B2, PROBABILITIES),
        dropout_rate=self.config.attention_dropout_rate,
        implementation=self.config.attention)
    return self.output('BTHK,HKD->BTD', remat.keep(x_BTHK, remat.CONTEXT))


class Block(nnx.Module):
  """Post-LN: LN(x + attention(x)), then LN(x + MLP(x)).

  fairseq modules/transformer_layer.py:194. No dropout after the GELU: fairseq's
  activation_dropout is 0 for RoBERTa.
  """

  def __init__(self, config: ModelConfig, key):
    size, std = config.hidden_size, config.initializer_std
    keys = jax.random.split(key, 3)
    self.attention = Attention(config, keys[0])
    self.attention_norm = Norm(size, config.layer_norm_eps)
    self.mlp_in = Dense(keys[1], (size,), (config.mlp_size,), std)
    self.mlp_out = Dense(keys[2], (config.mlp_size,), (size,), std)
    self.mlp_norm = Norm(size, config.layer_norm_eps)
    self.rate = config.dropout_rate

  def __call__(self, x_BTD, segment_ids_BT, keys_B2):
    y_BTD = self.attention(x_BTD, segment_ids_BT, keys_B2)
    y_BTD = dropout(y_BTD, _fold(keys_B2, ATTENTION), self.rate)
    x_BTD = self.attention_norm(
        remat.keep(x_BTD + y_BTD, remat.ATTENTION_SUM))
    h_BTF = gelu(remat.keep(self.mlp_in('BTD,DF->BTF', x_BTD), remat.MLP_IN))
    y_BTD = self.mlp_out('BTF,FD->BTD', h_BTF)
    y_BTD = dropout(y_BTD, _fold(keys_B2, MLP), self.rate)
    return self.mlp_norm(remat.keep(x_BTD + y_BTD, remat.MLP_SUM))


def stack(config: ModelConfig, key) -> Block:
  """N blocks as one, each parameter with a leading dim N."""
  return jax.vmap(lambda key: Block(config, key))(
      jax.random.split(key, config.num_layers))


def layer_keys(keys_B2, num_layers: int):
  """uint32[N, B, 2], a key for each block and row; None stays None."""
  layers_N1 = 1 + jnp.arange(num_layers, dtype=jnp.uint32)[:, None]
  return _fold(keys_B2, layers_N1)


def encode(embeddings: Embeddings, layers: Block, input_ids_BT,
           segment_ids_BT, type_ids_BT, keys_B2, all_layers: bool = False):
  """Embeddings, then the blocks in one scan: compiled once, not N times.

  With `all_layers`, [N + 1, B, T, D]: what goes into each block, and out of the
  last one.
  """
  config = embeddings.config
  if (type_ids_BT is None) != (not config.num_types):
    raise InputError(
        f'model.num_types={config.num_types}, and '
        f'{"no type_ids" if type_ids_BT is None else "type_ids"} are given: '
        'a model with types needs them (zeros, where there are no pairs), one '
        'without has no use for them.')
  if input_ids_BT.shape[1] > config.max_positions:
    raise InputError(
        f'a sequence of {input_ids_BT.shape[1]} tokens, but the model has '
        f'{config.max_positions} positions: shorten the sequences, or set '
        f'model.max_positions={input_ids_BT.shape[1]}.')
  x_BTD = embeddings(input_ids_BT, segment_ids_BT, type_ids_BT, keys_B2)

  def body(x_BTD, layer):
    block, layer_keys_B2 = layer
    return block(x_BTD, segment_ids_BT, layer_keys_B2), (
        x_BTD if all_layers else None)

  x_BTD, x_NBTD = lax.scan(remat.rematerialize(body, config.remat), x_BTD,
                      (layers, layer_keys(keys_B2, config.num_layers)),
                      unroll=min(config.layers_unrolled, config.num_layers))
  if all_layers:
    return jnp.concatenate([x_NBTD, x_BTD[None]])
  return x_BTD
