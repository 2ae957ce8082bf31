"""The whole model, and the two doors between it and nested dicts of arrays."""

import functools

from flax import nnx
import jax

from robertax.config import ModelConfig
from robertax.errors import InputError
from robertax.model import encoder
from robertax.model.heads import ClassifierHead, MLMHead, NSPHead, SpanHead

# What a model's arithmetic costs, as MFU counts it.


def training_flops(config: ModelConfig, tokens: float, targets: float,
                   length: int) -> float:
  """Of forward and backward pass: products of matrices alone, 1 MAC = 2 FLOP.

  6 for each parameter of the blocks and token, 12 L H T a token for attention,
  6 (H V + H^2) for each position that goes through the head (PaLM, appendix B;
  backward is twice forward).

  Args:
    config: its vocab_size filled in.
    tokens: without padding.
    targets: masked positions that are predicted.
    length: of a row, T.
  """
  layers, hidden = config.num_layers, config.hidden_size
  blocks = layers * (4 * hidden**2 + 2 * hidden * config.mlp_size)
  return (tokens * (6 * blocks + 12 * layers * hidden * length)
          + 6 * targets * (hidden * config.vocab_size + hidden**2))


# 'nsp', 'cls', 'span': what the keys of those heads are folded with, so that
# all other parameters are those of a model without.
NSP, CLASSIFIER, SPAN = 0x6e7370, 0x636c73, 0x7370616e


class Roberta(nnx.Module):
  """Encoder, and the heads that the config asks for.

  Holds no generator: dropout keys are given. Positions are those of a row; with
  fewer rows of them than of tokens, each row of them is of so many consecutive
  rows of tokens, read as one (data.examples: blocks).
  """

  def __init__(self, config: ModelConfig, key):
    keys = jax.random.split(key, 3)
    self.embeddings = encoder.Embeddings(config, keys[0])
    self.layers = encoder.stack(config, keys[1])
    if config.lm_head:
      self.lm_head = MLMHead(config, keys[2])
    if config.nsp_head:
      self.nsp_head = NSPHead(config, jax.random.fold_in(key, NSP))
    if config.num_classes:
      self.classifier = ClassifierHead(
          config, jax.random.fold_in(key, CLASSIFIER))
    if config.span_head:
      self.span_head = SpanHead(config, jax.random.fold_in(key, SPAN))

  def encode(self, input_ids_BT, segment_ids_BT, type_ids_BT=None, *,
             dropout_key=None):
    """The last block's states.

    Args:
      input_ids_BT: int32.
      segment_ids_BT: int32, 1.. for the packed examples of a row, 0 padding.
      type_ids_BT: int32, below config.num_types; None where that is 0.
      dropout_key: uint32[B, 2] from kernels.row_keys, or None: no dropout.

    Returns:
      x_BTD in config.dtype; what stands at padding has no meaning.

    Raises:
      InputError: more tokens than positions; types for a model without, or
        none for a model with them.
    """
    return encoder.encode(self.embeddings, self.layers, input_ids_BT,
                          segment_ids_BT, type_ids_BT, dropout_key)

  __call__ = encode

  def encode_layers(self, input_ids_BT, segment_ids_BT, type_ids_BT=None):
    """As `encode`, without dropout: the embeddings and each block's states.

    Returns:
      [N + 1, B, T, D] in config.dtype.
    """
    return encoder.encode(self.embeddings, self.layers, input_ids_BT,
                          segment_ids_BT, type_ids_BT, None, all_layers=True)

  def mlm_logits(self, x_BTD, mlm_positions_BM):
    """logits_BMV, float32, at `mlm_positions_BM` (int32, 0 as filler).

    Of padded parameters (`pad_vocabulary`) they have padded ids too, which are
    -inf: of probability 0.

    Raises:
      InputError: the model has no such head.
    """
    if not self.embeddings.config.lm_head:
      raise InputError('model.lm_head=False: this model predicts no tokens. '
                       'One that was pretrained does.')
    return self.lm_head(_blocks(x_BTD, mlm_positions_BM), mlm_positions_BM,
                        self.embeddings.tokens[...])

  def nsp_logits(self, x_BTD, nsp_positions_BP):
    """Whether B follows A (0) or is random (1), BERT's order.

    Args:
      x_BTD: from `encode`.
      nsp_positions_BP: int32, where each packed example's <s> stands, 0 as
        filler.

    Returns:
      float32[B, P, 2].

    Raises:
      InputError: the model has no such head.
    """
    if not self.embeddings.config.nsp_head:
      raise InputError('model.nsp_head=False: this model predicts no next '
                       'sentence. One that is trained on pairs does.')
    return self.nsp_head(x_BTD, nsp_positions_BP)

  def class_logits(self, x_BTD, positions_BP, *, dropout_key=None):
    """The classes of sequences.

    Args:
      x_BTD: from `encode`.
      positions_BP: int32, where each sequence's <s> stands, 0 as filler.
      dropout_key: as for `encode`.

    Returns:
      float32[B, P, C].

    Raises:
      InputError: the model has no such head.
    """
    if not self.embeddings.config.num_classes:
      raise InputError('model.num_classes=0: this model has no classifier. '
                       'One that is fine-tuned for classes has.')
    return self.classifier(_blocks(x_BTD, positions_BP), positions_BP,
                           dropout_key)

  def span_logits(self, x_BTD):
    """Where spans start and end.

    Args:
      x_BTD: from `encode`.

    Returns:
      (start_BT, end_BT), float32, padding included.

    Raises:
      InputError: the model has no such head.
    """
    if not self.embeddings.config.span_head:
      raise InputError('model.span_head=False: this model finds no spans. One '
                       'that is fine-tuned for answers does.')
    return self.span_head(x_BTD)


def _blocks(x_BTD, positions):
  """Consecutive rows as one, as many as a row of positions is of."""
  return x_BTD.reshape(len(positions), -1, x_BTD.shape[-1])


def create(config: ModelConfig, key: jax.Array) -> dict:
  """Fresh parameters: a nested dict of float32 arrays. Traceable.

  Args:
    config: with vocab_size resolved.
    key: a jax.random key.

  Returns:
    embeddings/{tokens, positions, norm}, layers/{attention/{query, key, value,
    output}, attention_norm, mlp_in, mlp_out, mlp_norm}, each with a leading
    dim N, and lm_head/{dense, norm, bias} (+ decoder when not tied). With
    num_types, embeddings/types; with nsp_head, nsp_head/{pooler, output}; with
    num_classes, classifier/{dense, output}; with span_head, span_head/output;
    without lm_head, none of that: the others are the same with and without.
    Kernels are [inputs, outputs], with heads visible: [N, D, H, K] and
    [N, H, K, D].

  Raises:
    InputError: config.vocab_size is not resolved.
  """
  _check_length(config)
  return _create(config, key)


# One compilation instead of one for each small operation.
@functools.partial(jax.jit, static_argnums=0)
def _create(config, key):
  return nnx.to_pure_dict(nnx.state(Roberta(config, key)))


def bind(config: ModelConfig, params: dict) -> Roberta:
  """The module over these parameters. Cheap: call it inside the traced loss.

  Args:
    config: the one that `params` were created with.
    params: as from `create`, or padded; the leaves may be tracers.

  Raises:
    InputError: config.vocab_size is not resolved, or the names in `params` are
      not this config's.
  """
  graph, names, structure = _skeleton(config)
  leaves, given = jax.tree.flatten(params)
  if given != structure:
    paths = {jax.tree_util.keystr(path, simple=True, separator='/')
             for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    raise InputError(
        'parameters do not fit the model: missing '
        f'{sorted(set(names) - paths)}, too many '
        f'{sorted(paths - set(names))}.')
  return nnx.merge(graph, jax.tree.unflatten(structure, leaves))


@functools.lru_cache(maxsize=32)
def _skeleton(config):
  """The module's structure, made from shapes alone and once per config."""
  _check_length(config)
  shapes = jax.eval_shape(lambda: Roberta(config, jax.random.key(0)))
  graph, state = nnx.split(shapes)
  pure = nnx.to_pure_dict(state)
  names = [jax.tree_util.keystr(path, simple=True, separator='/')
           for path, _ in jax.tree_util.tree_leaves_with_path(pure)]
  return graph, names, jax.tree.structure(pure)


def _check_length(config):
  if config.vocab_size < 1:
    raise InputError(
        f'model.vocab_size={config.vocab_size}: not resolved; it takes the '
        'tokenizer\'s, or give the number of ids.')
