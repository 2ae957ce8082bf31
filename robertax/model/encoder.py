"""The encoder: embeddings and N post-LN layers, scanned.

It follows fairseq's models/transformer/transformer_encoder.py and
modules/transformer_layer.py. The chapter also has the parts of every module
(`Dense`, `Norm`), the policies of rematerialization (`POLICIES`), and the
padding of the vocabulary.
"""

from collections.abc import Callable
import math
from typing import Any

from flax import nnx
import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from robertax.config import ModelConfig
from robertax.errors import InputError, unknown
from robertax.kernels import attention, dropout, fold, gelu, layer_norm
from robertax.kernels.dense import add_bias, product

PAD_ID = 1  # fairseq's padding_idx: the id of <pad>, and padding's position.
TYPES = 0x74797065  # 'type': folded into the key of the type table.
# Where dropout happens. A level (0 for embeddings, 1.. for the layers) and,
# within a layer, a site are folded into a row's key, so that no two masks of a
# step are equal.
EMBEDDINGS = 0
PROBABILITIES, ATTENTION, MLP = 0, 1, 2


# Initialization is fairseq's (modules/transformer_sentence_encoder.py,
# `init_bert_params`): all matrices and tables N(0, .02), not truncated, biases
# 0, and LayerNorm 1 and 0.

def gaussian(key, shape: tuple[int, ...], std: float) -> nnx.Param:
  """N(0, std), not truncated, float32."""
  return nnx.Param(std * jax.random.normal(key, shape, jnp.float32))


class Dense(nnx.Module):
  """y = x kernel + bias over one or two dims; float32, cast to x's dtype."""

  def __init__(self, key, inputs: tuple[int, ...], outputs: tuple[int, ...],
               std: float):
    self.kernel = gaussian(key, inputs + outputs, std)
    self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))

  def __call__(self, x):
    kernel, bias = self.kernel[...], self.bias[...]
    return add_bias(product(x, kernel.astype(x.dtype),
                            kernel.ndim - bias.ndim), bias)


class Norm(nnx.Module):
  """LayerNorm in float32."""

  def __init__(self, size: int, eps: float):
    self.scale = nnx.Param(jnp.ones(size, jnp.float32))
    self.bias = nnx.Param(jnp.zeros(size, jnp.float32))
    self.eps = eps

  def __call__(self, x):
    return layer_norm(x, self.scale[...], self.bias[...], self.eps)


# Rematerialization. A policy names what a layer keeps for the backward pass
# beside its own input. Everything else is computed again, to the same numbers.

QUERY, KEY, VALUE = 'query', 'key', 'value'
CONTEXT = 'context'  # Output of attention, before its output product.
ATTENTION_SUM, MLP_SUM = 'attention_sum', 'mlp_sum'  # Inputs of LayerNorms.
MLP_IN = 'mlp_in'  # Input of the GELU.

# `products` keeps the result of each matrix product, and recomputes LayerNorm,
# GELU, dropout and softmax, which are cheap and read the same arrays anyway.
# `attention` also recomputes the MLP's first product, and `full` everything.
POLICIES: dict[str, tuple[str, ...] | None] = {
    'none': None,
    'products': (QUERY, KEY, VALUE, CONTEXT, ATTENTION_SUM, MLP_IN, MLP_SUM),
    'attention': (QUERY, KEY, VALUE, CONTEXT, ATTENTION_SUM, MLP_SUM),
    'full': ()}

keep = checkpoint_name


def rematerialize(body: Callable, name: str) -> Callable:
  """The body of a scan, which keeps what the policy names for backward."""
  if name not in POLICIES:
    raise unknown('model.remat', name, POLICIES)
  if POLICIES[name] is None:
    return body
  # A scan separates the two passes by itself, so CSE need not be prevented.
  return jax.checkpoint(
      body, prevent_cse=False,
      policy=jax.checkpoint_policies.save_only_these_names(*POLICIES[name]))


# Padding of the vocabulary. Tables with a row for each id are padded to a
# multiple of 128 in the TrainState and in checkpoints: matrix units work on
# tiles of 128, and the mesh's `model` axis must divide the rows, which is
# impossible for 50,265 = 3^2 x 5 x 1117. The multiple is the same on any mesh,
# so that a checkpoint can be restored on another. Everywhere else (`create`,
# `load`, other programs' files) tables have only the tokenizer's rows. A padded
# row is 0 and its logit is -inf, so its gradient and every update are 0 too.

_ROW_MULTIPLE = 128
# The tables with a row for each id; a model may lack some.
_VOCABULARY_TABLES = (('embeddings', 'tokens'), ('lm_head', 'bias'),
                      ('lm_head', 'decoder'))


def pad_vocabulary(params: Any) -> Any:
  """Appends rows of 0 up to a multiple of 128, if any are missing. Traceable.

  Other leaves of `params`, a nested dict as from `create`, stay as they are.
  """
  def pad(table):
    more = -len(table) % _ROW_MULTIPLE
    return table if not more else jnp.pad(
        table, [(0, more)] + [(0, 0)] * (table.ndim - 1))
  return map_tables(params, pad)


def unpad_vocabulary(config: ModelConfig, params: Any) -> Any:
  """Cuts params, padded or not, to config.vocab_size rows. Traceable."""
  return map_tables(params, lambda table: (
      table if len(table) == config.vocab_size else table[:config.vocab_size]))


def mask_padding(bias_V: jax.Array, vocab_size: int) -> jax.Array:
  """The decoder's bias, -inf from id `vocab_size` on."""
  if len(bias_V) == vocab_size:
    return bias_V
  return jnp.where(jnp.arange(len(bias_V)) < vocab_size, bias_V, -math.inf)


def map_tables(params: Any, change: Callable[[jax.Array], jax.Array]) -> Any:
  """Changes each array that has a row for each token id. Traceable."""
  if not isinstance(params, dict):
    return params
  changed = dict(params)
  for part, name in _VOCABULARY_TABLES:
    if name in changed.get(part, ()):
      changed[part] = {**changed[part], name: change(changed[part][name])}
  return changed


def _fold(keys, data):
  return None if keys is None else fold(keys, data)


def positions(segment_ids_BT):
  """Positions from 2 upwards, which restart in every segment; padding has 1.

  This is make_positions of fairseq's utils.py for packed examples: each has the
  positions that it would have alone.

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

  With `num_types` it adds types (BERT modeling.py embedding_postprocessor).
  """

  def __init__(self, config: ModelConfig, key):
    size, std = config.hidden_size, config.initializer_std
    rows = config.max_positions + PAD_ID + 1
    token_key, position_key = jax.random.split(key)
    tokens_VD = gaussian(token_key, (config.vocab_size, size), std)
    positions_PD = gaussian(position_key, (rows, size), std)
    self.tokens = nnx.Param(tokens_VD[...].at[PAD_ID].set(0))
    # No token has position 0 either (fairseq leaves that row random).
    self.positions = nnx.Param(positions_PD[...].at[:PAD_ID + 1].set(0))
    if config.num_types:
      # Its own key leaves all other parameters as they are.
      self.types = gaussian(jax.random.fold_in(key, TYPES),
                            (config.num_types, size), std)
    self.norm = Norm(size, config.layer_norm_eps)
    self.config = config

  def __call__(self, input_ids_BT, segment_ids_BT, type_ids_BT, keys_B2):
    # Lookups and the norm are in float32; the cast comes afterwards.
    x_BTD = (self.tokens[...][input_ids_BT]
             + self.positions[...][positions(segment_ids_BT)])
    if self.config.num_types:
      # A product instead of a lookup, as in BERT: a lookup's gradient would add
      # all tokens to the same two rows, one after another.
      types_BTC = jax.nn.one_hot(type_ids_BT, self.config.num_types)
      x_BTD += jnp.einsum('BTC,CD->BTD', types_BTC, self.types[...],
                          precision=lax.Precision.HIGHEST)
    x_BTD = self.norm(x_BTD).astype(self.config.dtype)
    x_BTD = dropout(x_BTD, _fold(keys_B2, EMBEDDINGS), self.config.dropout_rate)
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
        keep(self.query(x_BTD), QUERY), keep(self.key(x_BTD), KEY),
        keep(self.value(x_BTD), VALUE),
        segment_ids=segment_ids_BT, dropout_key=_fold(keys_B2, PROBABILITIES),
        dropout_rate=self.config.attention_dropout_rate,
        implementation=self.config.attention)
    return self.output(keep(x_BTHK, CONTEXT))


class Layer(nnx.Module):
  """Post-LN: LN(x + attention(x)), then LN(x + MLP(x)).

  See fairseq modules/transformer_layer.py:194. There is no dropout after the
  GELU, since fairseq's activation_dropout is 0 for RoBERTa.
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
    x_BTD = self.attention_norm(keep(x_BTD + y_BTD, ATTENTION_SUM))
    h_BTF = gelu(keep(self.mlp_in(x_BTD), MLP_IN))
    y_BTD = self.mlp_out(h_BTF)
    y_BTD = dropout(y_BTD, _fold(keys_B2, MLP), self.rate)
    return self.mlp_norm(keep(x_BTD + y_BTD, MLP_SUM))


def stack_layers(config: ModelConfig, key) -> Layer:
  """N layers as one, each parameter with a leading dim N."""
  return jax.vmap(lambda key: Layer(config, key))(
      jax.random.split(key, config.num_layers))


def encode(embeddings: Embeddings, layers: Layer, input_ids_BT,
           segment_ids_BT, type_ids_BT, keys_B2, all_layers: bool = False):
  """Runs embeddings, then the layers in a scan, which compiles one layer only.

  The result is [B, T, D] or, with `all_layers`, [N + 1, B, T, D]: the input of
  each layer, and the output of the last one.
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

  def body(x_BTD, layer_and_keys):
    layer, layer_keys_B2 = layer_and_keys
    return layer(x_BTD, segment_ids_BT, layer_keys_B2), (
        x_BTD if all_layers else None)

  layers_N1 = 1 + jnp.arange(config.num_layers, dtype=jnp.uint32)[:, None]
  x_BTD, x_NBTD = lax.scan(
      rematerialize(body, config.remat), x_BTD,
      (layers, _fold(keys_B2, layers_N1)),
      unroll=min(config.layers_unrolled, config.num_layers))
  if all_layers:
    return jnp.concatenate([x_NBTD, x_BTD[None]])
  return x_BTD
