"""Hugging Face's config.json <-> our ModelConfig.

The keys are those of transformers' configuration_roberta.py and
configuration_bert.py.
"""

import json
import os
from typing import Any

from robertax.config import ModelConfig
from robertax.errors import InputError, unknown
from robertax.interop.mapping import NO_TYPES, Layout

# ours: theirs.
KEYS = {
    'vocab_size': 'vocab_size', 'hidden_size': 'hidden_size',
    'num_layers': 'num_hidden_layers', 'num_heads': 'num_attention_heads',
    'mlp_size': 'intermediate_size', 'dropout_rate': 'hidden_dropout_prob',
    'attention_dropout_rate': 'attention_probs_dropout_prob',
    'layer_norm_eps': 'layer_norm_eps',
    'initializer_std': 'initializer_range',
    'tie_embeddings': 'tie_word_embeddings', 'num_types': 'type_vocab_size'}
# What theirs are where config.json is silent.
DEFAULTS = {
    'vocab_size': 30522, 'hidden_size': 768, 'num_hidden_layers': 12,
    'num_attention_heads': 12, 'intermediate_size': 3072,
    'hidden_dropout_prob': 0.1, 'attention_probs_dropout_prob': 0.1,
    'max_position_embeddings': 512, 'type_vocab_size': 2,
    'initializer_range': 0.02, 'layer_norm_eps': 1e-12, 'pad_token_id': 0,
    'tie_word_embeddings': True}
FAMILY_DEFAULTS = {'bert': {},
                   'roberta': {'vocab_size': 50265, 'pad_token_id': 1}}
# Keys that make another architecture of it, and the one value that does not.
ONLY = {'hidden_act': 'gelu', 'position_embedding_type': 'absolute',
        'is_decoder': False, 'add_cross_attention': False,
        'is_encoder_decoder': False}
REASONS = {'hidden_act': "robertax has the exact GELU, which is 'gelu'; 'gelu_"
                         "new' and 'gelu_pytorch_tanh' approximate it and give "
                         'other logits'}


def read(folder: str) -> dict[str, Any]:
  """The config.json of a folder, with the defaults filled in.

  Raises:
    InputError: none there, damaged, or of an architecture that is not ours.
  """
  path = os.path.join(folder, 'config.json')
  if not os.path.isfile(path):
    why = 'no such folder' if not os.path.isdir(folder) else (
        'no config.json in it')
    raise InputError(f'hf:{folder}: {why}: a folder that save_pretrained has '
                     'written, or a downloaded one, would do.')
  try:
    with open(path, encoding='utf-8') as f:
      values = json.load(f)
  except (OSError, ValueError, RecursionError) as e:
    raise InputError(f'{path}: not JSON: {e}') from e
  if not isinstance(values, dict) or 'model_type' not in values:
    raise InputError(f'{path}: no "model_type" in it: not a config.json of '
                     'transformers.')
  family = values['model_type']
  if not isinstance(family, str) or family not in FAMILY_DEFAULTS:
    raise unknown(f'architecture: {path}: model_type', str(family),
                  FAMILY_DEFAULTS)
  values = DEFAULTS | FAMILY_DEFAULTS[family] | {
      key: value for key, value in values.items() if value is not None}
  for key, wanted in ONLY.items():
    if values.get(key, wanted) != wanted:
      reason = REASONS.get(key, f'only {wanted!r} is read')
      raise InputError(f'{path}: {key} is {values[key]!r}: {reason}.')
  for key, default in DEFAULTS.items():
    # A size is no 8.0, nor inf; a rate may be 0.
    kinds = int | float if isinstance(default, float) else type(default)
    if isinstance(values[key], bool) != isinstance(default, bool) or (
        not isinstance(values[key], kinds)) or not (
            -1 < values[key] < 1 << 31):
      raise InputError(f'{path}: {key} is {values[key]!r}: expected such as '
                       f'{default!r}.')
  return values


def layout(values: dict[str, Any]) -> Layout:
  """Which names the weights have, and where positions begin."""
  family = values['model_type']
  return Layout(family, 0 if family == 'bert' else values['pad_token_id'] + 1)


def to_model(values: dict[str, Any], folder: str, **heads: Any) -> ModelConfig:
  """Our config.

  Args:
    values: from `read`.
    folder: names it in errors.
    **heads: what their config does not say, such as `nsp_head`.

  Raises:
    InputError: values that no model can have.
  """
  positions = values['max_position_embeddings'] - layout(values).first
  try:
    return ModelConfig(
        **{ours: values[theirs] for ours, theirs in KEYS.items()},
        max_positions=positions, **heads)
  except InputError as e:
    raise InputError(f'{folder}/config.json: {e}') from e


def from_model(config: ModelConfig, layout: Layout, pad_id: int, bos_id: int,
               eos_id: int, architecture: str, labels: tuple[str, ...] = ()
               ) -> dict[str, Any]:
  """Their config.

  Args:
    config: ours.
    layout: which family it becomes.
    pad_id, bos_id, eos_id: the tokenizer's.
    architecture: the class in transformers, such as 'RobertaForMaskedLM'.
    labels: names of the classes, if there are any.
  """
  values = {'architectures': [architecture], 'model_type': layout.family}
  values |= {theirs: getattr(config, ours) for ours, theirs in KEYS.items()}
  values['type_vocab_size'] = config.num_types or NO_TYPES[layout.family]
  values |= {'max_position_embeddings': config.max_positions + layout.first,
             'hidden_act': 'gelu', 'position_embedding_type': 'absolute',
             'pad_token_id': pad_id, 'bos_token_id': bos_id,
             'eos_token_id': eos_id, 'dtype': 'float32'}
  if config.num_classes:
    values['classifier_dropout'] = config.classifier_dropout_rate
  if labels:
    values['id2label'] = {str(i): name for i, name in enumerate(labels)}
    values['label2id'] = {name: i for i, name in enumerate(labels)}
  return values


def labels(values: dict[str, Any]) -> tuple[str, ...]:
  """Names of the classes, in order; empty where config.json has none."""
  names = values.get('id2label')
  if not isinstance(names, dict):
    return ()
  try:
    return tuple(str(names[key]) for key in sorted(names, key=int))
  except ValueError:
    return ()
