"""Reads fairseq's model.pt, with dict.txt and GPT-2's files beside it.

Files of any age are read, as in fairseq's models/roberta/model.py
`upgrade_state_dict_named`: older ones call the encoder `decoder` and the norm
`emb_layer_norm`, and have query, key and value in one matrix. Ids need no
permutation, because `text.load` gives those of dict.txt, as these tables have.
"""

import argparse
from collections.abc import Collection, Mapping
import contextlib
import dataclasses
import os
from typing import Any

from robertax import text
from robertax.config import ModelConfig, TokenizerConfig
from robertax.errors import InputError, reading
from robertax.interop.names import Naming, cut_vocabulary, read_params
from robertax.interop.pretrained import Pretrained
from robertax.interop.tensors import (
    Tensor,
    Tensors,
    from_torch,
    load_torch,
    unwrapped,
)
from robertax.model.encoder import PAD_ID

_ENCODER = 'encoder.sentence_encoder.'
# fairseq's presets (models/roberta/model.py), for files without the number.
_HEADS = {'roberta': 12, 'roberta_base': 12, 'roberta_large': 16, 'xlm': 16}
_IN_PROJECTION = 'self_attn.in_proj_'
_DEFAULTS = {'dropout': 0.1, 'attention_dropout': 0.1, 'activation_fn': 'gelu',
             'untie_weights_roberta': False, 'pooler_dropout': 0.0}


class Checkpoint:
  """A ForeignModel: a model.pt that fairseq has written."""

  @staticmethod
  def tokenizer_config(path: str) -> TokenizerConfig:
    """Returns the `tokenizer` section that reads the files beside `path`."""
    return TokenizerConfig(path=os.path.dirname(os.path.abspath(path)))

  def __init__(self, path: str):
    """Reads the file; InputError if it is not a RoBERTa, or contains code."""
    self.path = os.path.expanduser(path)
    if not os.path.isfile(self.path):
      raise InputError(f'fairseq:{path}: no such file: give the model.pt, with '
                       'dict.txt, encoder.json and vocab.bpe beside it.')
    # fairseq keeps its flags in a Namespace, which is harmless.
    state = load_torch(self.path, (argparse.Namespace,))
    weights = state.get('model') if isinstance(state, Mapping) else None
    if not isinstance(weights, Mapping) or not all(
        hasattr(x, 'shape') for x in weights.values()):
      raise InputError(f'{self.path}: it has no "model" of tensors: not a '
                       'checkpoint of fairseq.')
    found, self._lines = unwrapped(from_torch(weights), self.path)
    self._tensors = _upgraded(found)
    heads = sorted({name.split('.')[1] for name in self._tensors
                    if name.startswith('classification_heads.')})
    if len(heads) > 1:
      raise InputError(f'{self.path}: it has {len(heads)} classification heads '
                       f'({", ".join(heads)}); one would do.')
    self.layout = Naming('fairseq', PAD_ID + 1, head=''.join(heads))
    flags = _flags(state)
    self._scores = bool(flags.get('regression_target'))
    config, self._tokenizer = self._config(flags), None
    self._folder = self.tokenizer_config(self.path).path
    with contextlib.suppress(InputError):  # Without one, `read` says so.
      self._tokenizer = text.load(self._folder)
    if self._tokenizer:
      ids = self._tokenizer.vocab_size
      self._tensors, more = cut_vocabulary(
          self._tensors, self.layout, config.vocab_size, ids, self.path)
      self._lines += more
      config = dataclasses.replace(config, vocab_size=ids)
    self.config = config

  def read(self, dropped: Collection[str] | None = None) -> Pretrained:
    """Reads the model; InputError if it and the dictionary do not match."""
    params, lines = read_params(self._tensors, self.config, self.layout,
                                self.path, dropped=dropped or ())
    tokenizer = self._tokenizer or text.load(self._folder)
    return Pretrained(
        params, self.config, tokenizer, f'fairseq:{self.path}',
        labels=() if 'classifier' in (dropped or ()) else self._labels(),
        problem_type='regression' if self._scores and self.config.num_classes
        else '', lines=(*self._lines, *lines))

  def _labels(self) -> tuple[str, ...]:
    """Reads label/dict.txt, if fairseq's folder of labels is there."""
    path = os.path.join(self._folder, 'label', 'dict.txt')
    if self._scores or not self.config.num_classes or not os.path.isfile(path):
      return ()
    with reading(path), open(path, encoding='utf-8') as f:
      # fairseq fills a dictionary up to a multiple of 8.
      labels = [line.rpartition(' ')[0] for line in f
                if line.strip() and not line.startswith('madeupword')]
    if len(labels) != self.config.num_classes:
      raise InputError(f'{path}: it names {len(labels)} classes, and the head '
                       f'{self.layout.head!r} has {self.config.num_classes} '
                       'outputs.')
    return tuple(labels)

  def _config(self, flags: dict[str, Any]) -> ModelConfig:
    prenorm = f'{_ENCODER}layer_norm.weight'
    if prenorm in self._tensors:
      raise InputError(f'{self.path}: it has {prenorm}, so it is a pre-LN '
                       'model (roberta_prenorm), another architecture.')
    if flags['activation_fn'] != 'gelu':
      raise InputError(f"{self.path}: activation_fn={flags['activation_fn']!r}:"
                       " only 'gelu', the exact one, is supported.")

    def shape(name):
      found = self._tensors.get(name)
      if found is None or len(found.shape) != 2:
        raise InputError(f'{self.path}: no {name}: not a RoBERTa of fairseq.')
      return found.shape
    vocab_size, hidden_size = shape(f'{_ENCODER}embed_tokens.weight')
    layers = {name.split('.')[3] for name in self._tensors
              if name.startswith(f'{_ENCODER}layers.')}
    heads = flags.get('encoder_attention_heads') or _HEADS.get(
        str(flags.get('arch') or ''))
    if not heads:
      raise InputError(f'{self.path}: its args have no encoder_attention_heads,'
                       ' which weights alone do not show.')
    classes = f'classification_heads.{self.layout.head}.out_proj.weight'
    try:
      return ModelConfig(
          vocab_size=vocab_size, hidden_size=hidden_size,
          num_layers=len(layers), num_heads=int(heads),
          mlp_size=shape(f'{_ENCODER}layers.0.fc1.weight')[0],
          max_positions=(shape(f'{_ENCODER}embed_positions.weight')[0]
                         - self.layout.first),
          dropout_rate=float(flags['dropout']),
          attention_dropout_rate=float(flags['attention_dropout']),
          tie_embeddings=not flags['untie_weights_roberta'],
          lm_head='encoder.lm_head.bias' in self._tensors,
          num_classes=shape(classes)[0] if self.layout.head else 0,
          classifier_dropout_rate=(float(flags['pooler_dropout'])
                                   if self.layout.head else 0.0))
    except (TypeError, InputError) as e:
      raise InputError(f'{self.path}: {e}') from e


def _flags(state: Mapping[str, Any]) -> dict[str, Any]:
  """The flags, from `args` or, in newer versions, from parts of `cfg`."""
  config, flags = state.get('cfg'), {}
  parts = [config.get(name) for name in ('criterion', 'task', 'model')
           ] if isinstance(config, Mapping) else []
  for part in (state.get('args'), *parts):
    if isinstance(part, argparse.Namespace):
      flags |= vars(part)
    elif isinstance(part, Mapping):
      flags |= part
  return _DEFAULTS | {key: value for key, value in flags.items()
                      if value is not None}


def _upgraded(tensors: Tensors) -> Tensors:
  """Renames tensors to what fairseq calls them today."""
  found: Tensors = {}
  for name, tensor in tensors.items():
    if name.startswith('decoder.'):
      name = 'encoder.' + name.removeprefix('decoder.')
    name = name.replace('.emb_layer_norm.', '.layernorm_embedding.')
    if _IN_PROJECTION not in name:
      found[name] = tensor
      continue
    # [3 D, D] or [3 D]: query, key, value.
    head, _, kind = name.partition(_IN_PROJECTION)
    size = tensor.shape[0] // 3
    for part, letter in enumerate('qkv'):
      found[f'{head}self_attn.{letter}_proj.{kind}'] = Tensor(
          (size, *tensor.shape[1:]),
          lambda x=tensor, at=part * size, size=size: x.read()[at:at + size])
  return found
