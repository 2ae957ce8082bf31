"""The whole model, and its conversion to nested dicts of arrays and back."""

import functools

from flax import nnx
import jax

from robertax.config import ModelConfig
from robertax.errors import InputError
from robertax.model import encoder
from robertax.model.heads import ClassifierHead, MLMHead, NSPHead, SpanHead

# 'nsp', 'cls', 'span': folded into the keys of these heads, so that a model
# without them has the same other parameters.
NSP, CLASSIFIER, SPAN = 0x6e7370, 0x636c73, 0x7370616e


def training_flops(config: ModelConfig, tokens: float, attended: float,
                   masked: float = 0.0, sequences: float = 0.0) -> float:
  """FLOP of forward and backward pass, as MFU counts them (PaLM, appendix B).

  Only matrix products count, with 1 MAC = 2 FLOP and backward twice forward: 6
  for each parameter of the layers and token, 12 L H for each pair of tokens
  that attention compares, and 6 for each parameter of a head and position.

  Args:
    config: its vocab_size and heads must be filled in.
    tokens: without padding.
    attended: the sum of the row lengths T over these tokens.
    masked: predicted positions.
    sequences: classified sequences, or pairs.
  """
  layers, hidden = config.num_layers, config.hidden_size
  parameters = layers * (4 * hidden**2 + 2 * hidden * config.mlp_size)
  if config.span_head:
    parameters += 2 * hidden
  classes = config.num_classes or 2 * config.nsp_head
  head = hidden**2 + hidden * classes if classes else 0
  return (6 * tokens * parameters + 12 * layers * hidden * attended
          + 6 * masked * (hidden * config.vocab_size + hidden**2)
          + 6 * sequences * head)


class Roberta(nnx.Module):
  """The encoder, and the heads that the config asks for.

  It holds no random generator; dropout keys are passed. If the positions for a
  head have fewer rows than the tokens, each of their rows belongs to a row
  group: consecutive rows of tokens, read as one (data.finetuning). The method
  of a missing head raises an InputError.
  """

  def __init__(self, config: ModelConfig, key):
    keys = jax.random.split(key, 3)
    self.embeddings = encoder.Embeddings(config, keys[0])
    self.layers = encoder.stack_layers(config, keys[1])
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
             dropout_key=None, all_layers=False):
    """The last layer's states: x_BTD in config.dtype, meaningless at padding.

    With `all_layers` the embeddings and each layer's, [N + 1, B, T, D].
    InputError if there are more tokens than positions.

    Args:
      input_ids_BT: int32.
      segment_ids_BT: int32, 1.. for the packed examples of a row, 0 padding.
      type_ids_BT: int32, below config.num_types; None if that is 0.
      dropout_key: uint32[B, 2] from kernels.row_keys; None: no dropout.
    """
    return encoder.encode(self.embeddings, self.layers, input_ids_BT,
                          segment_ids_BT, type_ids_BT, dropout_key, all_layers)

  __call__ = encode

  def mlm_logits(self, x_BTD, mlm_positions_BM):
    """logits_BMV, float32, at `mlm_positions_BM` (int32, 0 as filler).

    With padded parameters (`pad_vocabulary`), padded ids have logits of -inf.
    """
    if not self.embeddings.config.lm_head:
      raise InputError('model.lm_head=False: this model predicts no tokens. '
                       'One that was pretrained does.')
    return self.lm_head(_row_groups(x_BTD, mlm_positions_BM), mlm_positions_BM,
                        self.embeddings.tokens[...])

  def nsp_logits(self, x_BTD, nsp_positions_BP):
    """float32[B, P, 2], B follows A and B is random, at the examples' <s>."""
    if not self.embeddings.config.nsp_head:
      raise InputError('model.nsp_head=False: this model predicts no next '
                       'sentence. One that is trained on pairs does.')
    return self.nsp_head(x_BTD, nsp_positions_BP)

  def class_logits(self, x_BTD, positions_BP, *, dropout_key=None):
    """float32[B, P, C]: logits of classes, at the sequences' <s>."""
    if not self.embeddings.config.num_classes:
      raise InputError('model.num_classes=0: this model has no classifier. '
                       'One that is fine-tuned for classes has.')
    return self.classifier(_row_groups(x_BTD, positions_BP), positions_BP,
                           dropout_key)

  def span_logits(self, x_BTD):
    """(start_BT, end_BT), float32: where spans start and end."""
    if not self.embeddings.config.span_head:
      raise InputError('model.span_head=False: this model finds no spans. One '
                       'that is fine-tuned for answers does.')
    return self.span_head(x_BTD)


def _row_groups(x_BTD, positions):
  """Joins consecutive rows, so that there is one per row of positions."""
  return x_BTD.reshape(len(positions), -1, x_BTD.shape[-1])


def create(config: ModelConfig, key: jax.Array) -> dict:
  """Fresh parameters: a nested dict of float32 arrays. Traceable.

  It has embeddings/{tokens, positions, norm}; layers/{attention/{query, key,
  value, output}, attention_norm, mlp_in, mlp_out, mlp_norm}, each with a
  leading dim N; and, if the config asks for them, embeddings/types,
  lm_head/{dense, norm, bias} (+ decoder if not tied), nsp_head/{pooler,
  output}, classifier/{dense, output}, span_head/output. The values of a part do
  not depend on the other parts. Kernels are [inputs, outputs] with separate
  heads: [N, D, H, K] and [N, H, K, D]. InputError if config.vocab_size is 0.
  """
  _check_vocabulary(config)
  return _create(config, key)


# One compilation instead of one for each small operation.
@functools.partial(jax.jit, static_argnums=0)
def _create(config: ModelConfig, key: jax.Array) -> dict:
  return nnx.to_pure_dict(nnx.state(Roberta(config, key)))


def bind(config: ModelConfig, params: dict) -> Roberta:
  """The module over these parameters. Cheap: call it inside the traced loss.

  `params` are as from `create`, or padded, and may be tracers. InputError if
  their names do not fit the config, or if config.vocab_size is 0.
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
def _skeleton(config: ModelConfig):
  """The module's structure, made once per config and from shapes alone."""
  _check_vocabulary(config)
  shapes = jax.eval_shape(lambda: Roberta(config, jax.random.key(0)))
  graph, state = nnx.split(shapes)
  pure = nnx.to_pure_dict(state)
  names = [jax.tree_util.keystr(path, simple=True, separator='/')
           for path, _ in jax.tree_util.tree_leaves_with_path(pure)]
  return graph, names, jax.tree.structure(pure)


def _check_vocabulary(config: ModelConfig) -> None:
  if config.vocab_size < 1:
    raise InputError(
        f'model.vocab_size={config.vocab_size}: not resolved; it takes the '
        "tokenizer's, or give the number of ids.")
