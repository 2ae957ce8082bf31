"""fairseq's model.pt, with dict.txt and GPT-2's files beside it -> Pretrained.

Read as fairseq/models/roberta/model.py `upgrade_state_dict_named` reads it, of
any age: older files say `decoder` for the encoder, `emb_layer_norm`, and have
query, key and value in one matrix. Ids need no permutation here: `text.load`
gives dict.txt's, which are the rows of these tables.
"""

import argparse
from collections.abc import Mapping
import os
from typing import Any

from robertax import text
from robertax.config import ModelConfig, TokenizerConfig
from robertax.errors import InputError
from robertax.interop import names
from robertax.interop import tensors as files
from robertax.interop.names import Layout
from robertax.interop.pretrained import Pretrained
from robertax.interop.tensors import Tensor, Tensors
from robertax.model.encoder import PAD_ID

EMBED = 'encoder.sentence_encoder.'
# Of fairseq's presets (models/roberta/model.py), where nothing else says it.
HEADS = {'roberta': 12, 'roberta_base': 12, 'roberta_large': 16, 'xlm': 16}
_IN = 'self_attn.in_proj_'
_DEFAULTS = {'dropout': 0.1, 'attention_dropout': 0.1, 'activation_fn': 'gelu',
             'untie_weights_roberta': False, 'pooler_dropout': 0.0}


class Checkpoint:
  """A model.pt that fairseq has written.

  Attributes:
    config: the ModelConfig.
    layout: of its weights.
  """

  @staticmethod
  def tokenizer_config(path: str) -> TokenizerConfig:
    """The `tokenizer` section that reads the files beside this one."""
    return TokenizerConfig(path=os.path.dirname(os.path.abspath(path)))

  def __init__(self, path: str):
    """Reads the file; runs nothing of it.

    Raises:
      InputError: no such file, not a RoBERTa of fairseq, or code in it.
    """
    self.path = os.path.expanduser(path)
    if not os.path.isfile(self.path):
      raise InputError(f'fairseq:{path}: no such file: give the model.pt, with '
                       'dict.txt, encoder.json and vocab.bpe beside it.')
    # What fairseq keeps its flags in; it holds values, and does nothing.
    state = files.load_torch(self.path, (argparse.Namespace,))
    weights = state.get('model') if isinstance(state, Mapping) else None
    if not isinstance(weights, Mapping) or not all(
        hasattr(x, 'shape') for x in weights.values()):
      raise InputError(f'{self.path}: no "model" of tensors in it: not a '
                       'checkpoint of fairseq.')
    self._tensors = _upgraded(files.of_torch(weights))
    said = _said(state)
    heads = sorted({name.split('.')[1] for name in self._tensors
                    if name.startswith('classification_heads.')})
    if len(heads) > 1:
      raise InputError(f'{self.path}: it has {len(heads)} classification heads '
                       f'({", ".join(heads)}); one would do.')
    self.layout = Layout('fairseq', PAD_ID + 1, head=''.join(heads))
    self.config = self._config(said)

  def read(self) -> Pretrained:
    """All of it.

    Raises:
      InputError: weights and dictionary do not belong together, or not all
        tensors are those of a RoBERTa.
    """
    params, lines = names.read_params(self._tensors, self.config,
                                      self.layout, self.path)
    tokenizer = text.load(self.folder)
    if tokenizer.vocab_size != self.config.vocab_size:
      raise InputError(
          f'{self.path}: {self.config.vocab_size} rows of tokens, but the '
          f'tokenizer in {self.folder} has {tokenizer.vocab_size} ids: put the '
          'dict.txt of these weights there.')
    return Pretrained(params, self.config, tokenizer, f'fairseq:{self.path}',
                      lines=tuple(lines))

  @property
  def folder(self) -> str:
    """Where the tokenizer is looked for."""
    return os.path.dirname(os.path.abspath(self.path))

  def _config(self, said: dict[str, Any]) -> ModelConfig:
    prenorm = f'{EMBED}layer_norm.weight'
    if prenorm in self._tensors:
      raise InputError(f'{self.path}: {prenorm} is in it: a pre-LN model '
                       '(roberta_prenorm), which is another architecture.')
    if said['activation_fn'] != 'gelu':
      raise InputError(f'{self.path}: activation_fn={said["activation_fn"]!r}: '
                       "only 'gelu', the exact one, is read.")

    def shape(name, dims=2):
      found = self._tensors.get(name)
      if found is None or len(found.shape) != dims:
        raise InputError(f'{self.path}: no {name}: not a RoBERTa of fairseq.')
      return found.shape

    tokens = shape(f'{EMBED}embed_tokens.weight')
    layers = {name.split('.')[3] for name in self._tensors
              if name.startswith(f'{EMBED}layers.')}
    arch = str(said.get('arch') or '')
    heads = said.get('encoder_attention_heads') or HEADS.get(arch)
    if not heads:
      raise InputError(f'{self.path}: its args do not say encoder_attention_'
                       'heads, which weights alone do not show.')
    classes = f'classification_heads.{self.layout.head}.out_proj.weight'
    try:
      return ModelConfig(
          vocab_size=tokens[0], hidden_size=tokens[1], num_layers=len(layers),
          num_heads=int(heads),
          mlp_size=shape(f'{EMBED}layers.0.fc1.weight')[0],
          max_positions=(shape(f'{EMBED}embed_positions.weight')[0]
                         - self.layout.first),
          dropout_rate=float(said['dropout']),
          attention_dropout_rate=float(said['attention_dropout']),
          tie_embeddings=not said['untie_weights_roberta'],
          lm_head='encoder.lm_head.bias' in self._tensors,
          num_classes=shape(classes)[0] if self.layout.head else 0,
          classifier_dropout_rate=(float(said['pooler_dropout'])
                                   if self.layout.head else 0.0))
    except (TypeError, InputError) as e:
      raise InputError(f'{self.path}: {e}') from e


def _said(state: Mapping[str, Any]) -> dict[str, Any]:
  """The flags of the run: `args`, or of newer versions `cfg`'s `model`."""
  said: dict[str, Any] = {}
  config = state.get('cfg')
  parts = [state.get('args')]
  if isinstance(config, Mapping):
    parts += [config.get('model')]
  for part in parts:
    if isinstance(part, argparse.Namespace):
      said |= vars(part)
    elif isinstance(part, Mapping):
      said |= part
  return _DEFAULTS | {key: value for key, value in said.items()
                      if value is not None}


def _upgraded(tensors: Tensors) -> Tensors:
  """By the names that fairseq gives them today."""
  found: Tensors = {}
  for name, tensor in tensors.items():
    if name.startswith('decoder.'):
      name = 'encoder.' + name.removeprefix('decoder.')
    name = name.replace('.emb_layer_norm.', '.layernorm_embedding.')
    if _IN not in name:
      found[name] = tensor
      continue
    # [3 D, D] or [3 D]: query, key, value.
    head, _, kind = name.partition(_IN)
    size = tensor.shape[0] // 3
    for part, letter in enumerate('qkv'):
      found[f'{head}self_attn.{letter}_proj.{kind}'] = Tensor(
          (size, *tensor.shape[1:]),
          lambda x=tensor, at=part * size, size=size: x.read()[at:at + size])
  return found
