"""Reads a Hugging Face folder as a Pretrained, and writes one.

This chapter knows config.json (transformers' configuration_roberta.py and
configuration_bert.py), the heads of each architecture, and the model card of an
exported folder; `tokenizer_files` knows the tokenizer's files.
"""

import dataclasses
import json
import os
import re
from typing import Any, NamedTuple

from robertax import files
from robertax.config import ModelConfig, TokenizerConfig, flatten
from robertax.errors import InputError, reading, unknown, writing
from robertax.interop import names, tensors
from robertax.interop.names import Layout
from robertax.interop.pretrained import Pretrained
from robertax.interop.tensors import Tensors
from robertax.interop.tokenizer_files import (
    family_of,
    read_tokenizer,
    reads_lowercase,
    tokenizer_files,
)

# The keys of ModelConfig, and what config.json calls them.
CONFIG_KEYS = {
    'vocab_size': 'vocab_size', 'hidden_size': 'hidden_size',
    'num_layers': 'num_hidden_layers', 'num_heads': 'num_attention_heads',
    'mlp_size': 'intermediate_size', 'dropout_rate': 'hidden_dropout_prob',
    'attention_dropout_rate': 'attention_probs_dropout_prob',
    'layer_norm_eps': 'layer_norm_eps', 'initializer_std': 'initializer_range',
    'tie_embeddings': 'tie_word_embeddings', 'num_types': 'type_vocab_size'}
# Values of keys that config.json does not mention.
CONFIG_DEFAULTS = {
    'vocab_size': 30522, 'hidden_size': 768, 'num_hidden_layers': 12,
    'num_attention_heads': 12, 'intermediate_size': 3072,
    'hidden_dropout_prob': 0.1, 'attention_probs_dropout_prob': 0.1,
    'max_position_embeddings': 512, 'type_vocab_size': 2,
    'initializer_range': 0.02, 'layer_norm_eps': 1e-12, 'pad_token_id': 0,
    'tie_word_embeddings': True}
class Family(NamedTuple):
  """A model_type: a column of `names.ROWS`, its classes' prefix, defaults."""
  column: str
  classes: str
  defaults: dict[str, Any]


# XLM-R and CamemBERT are RoBERTas with tokenizers of their own.
FAMILIES = {
    'bert': Family('bert', 'Bert', {}),
    'roberta': Family('roberta', 'Roberta', {
        'vocab_size': 50265, 'pad_token_id': 1}),
    'xlm-roberta': Family('roberta', 'XLMRoberta', {'pad_token_id': 1}),
    'camembert': Family('roberta', 'Camembert', {'pad_token_id': 1})}
# Keys of other architectures, and the only value that ours supports.
ONLY_VALUES = {'hidden_act': 'gelu', 'position_embedding_type': 'absolute',
               'is_decoder': False, 'add_cross_attention': False,
               'is_encoder_decoder': False}
WHY_ONLY = {'hidden_act': "robertax has the exact GELU, which is 'gelu'; 'gelu_"
                         "new' and 'gelu_pytorch_tanh' approximate it and give "
                         'other logits'}


def read_config(folder: str) -> dict[str, Any]:
  """Reads and checks a folder's config.json, and fills in the defaults."""
  path = os.path.join(folder, 'config.json')
  if not os.path.isfile(path):
    why = 'no config.json in it' if os.path.isdir(folder) else 'no such folder'
    raise InputError(f'hf:{folder}: {why}: a folder that save_pretrained has '
                     'written, or a downloaded one, would do.')
  with reading(path, 'not JSON'):
    values = files.read_json(path)
  if not isinstance(values, dict) or 'model_type' not in values:
    raise InputError(f'{path}: no "model_type" in it: not a config.json of '
                     'transformers.')
  family = values['model_type']
  if not isinstance(family, str) or family not in FAMILIES:
    raise unknown(f'architecture: {path}: model_type', str(family),
                  FAMILIES)
  values = CONFIG_DEFAULTS | FAMILIES[family].defaults | {
      key: value for key, value in values.items() if value is not None}
  for key, wanted in ONLY_VALUES.items():
    if values.get(key, wanted) != wanted:
      reason = WHY_ONLY.get(key, f'only {wanted!r} is supported')
      raise InputError(f'{path}: {key} is {values[key]!r}: {reason}.')
  for key, default in CONFIG_DEFAULTS.items():
    # A rate may be a whole number; a size may not be 8.0 or inf.
    kinds = int | float if isinstance(default, float) else type(default)
    value = values[key]
    if isinstance(value, bool) != isinstance(default, bool) or not (
        isinstance(value, kinds) and -1 < value < 1 << 31):
      raise InputError(f'{path}: {key} is {value!r}: expected a value such as '
                       f'{default!r}.')
  return values


def config_values(pretrained: Pretrained, layout: Layout, architecture: str,
                  family: str) -> dict[str, Any]:
  """Makes the config.json of a model for this class of transformers."""
  config, tokenizer = pretrained.config, pretrained.tokenizer
  values = {'architectures': [architecture], 'model_type': family}
  values |= {theirs: getattr(config, ours)
             for ours, theirs in CONFIG_KEYS.items()}
  values['type_vocab_size'] = config.num_types or names.NO_TYPES[layout.family]
  values |= {'max_position_embeddings': config.max_positions + layout.first,
             'hidden_act': 'gelu', 'position_embedding_type': 'absolute',
             'pad_token_id': tokenizer.pad_id, 'bos_token_id': tokenizer.bos_id,
             'eos_token_id': tokenizer.eos_id, 'dtype': 'float32'}
  if config.num_classes:
    values['classifier_dropout'] = config.classifier_dropout_rate
  labels = pretrained.labels or tuple(
      f'LABEL_{i}' for i in range(config.num_classes))
  if labels and architecture.endswith('ForSequenceClassification'):
    values['id2label'] = {str(i): name for i, name in enumerate(labels)}
    values['label2id'] = {name: i for i, name in enumerate(labels)}
  return values


def class_names(values: dict[str, Any]) -> tuple[str, ...]:
  """Returns the names of the classes, in order; empty if there are none."""
  labels = values.get('id2label')
  if not isinstance(labels, dict):
    return ()
  try:
    return tuple(str(labels[key]) for key in sorted(labels, key=int))
  except ValueError:
    return ()


# The endings of class names, and the heads that their weights must have.
ARCHITECTURES = {
    'ForMaskedLM': ('lm_head',), 'ForPreTraining': ('lm_head', 'nsp_head'),
    'ForSequenceClassification': ('classifier',),
    'ForMultipleChoice': ('choice',), 'ForQuestionAnswering': ('span_head',),
    'Model': ()}
# The tensor whose presence shows that there is a head.
_SIGNS = {
    'roberta': {'lm_head': 'lm_head.dense.weight',
                'classifier': 'classifier.out_proj.weight',
                'choice': 'classifier.weight',
                'span_head': 'qa_outputs.weight'},
    'bert': {'lm_head': 'cls.predictions.transform.dense.weight',
             'nsp_head': 'cls.seq_relationship.weight',
             'classifier': 'classifier.weight', 'choice': 'classifier.weight',
             'span_head': 'qa_outputs.weight'}}


def heads_of_tensors(found: Tensors, values: dict[str, Any], folder: str
                     ) -> tuple[dict[str, Any], bool]:
  """Returns keys of our config, and whether this is for multiple choice.

  The weights decide which heads there are, because many files have more heads
  than their architecture; those of the architecture must be among them.
  """
  family = FAMILIES[values['model_type']]
  prefix = family.classes
  listed = values.get('architectures')
  name = str(listed[0]) if isinstance(listed, list) and listed else (
      f'{prefix}Model')
  known = [prefix + end for end in ARCHITECTURES]
  if name not in known:
    raise unknown(f'architecture: {folder}/config.json: architectures', name,
                  known)
  end, signs = name.removeprefix(prefix), _SIGNS[family.column]
  missing = [signs[head] for head in ARCHITECTURES[end]
             if signs[head] not in found]
  if missing:
    raise InputError(
        f'{folder}: its config and its weights disagree: config.json says '
        f'{name}, and the weights have no {", no ".join(missing)}.')
  choice = end == 'ForMultipleChoice'
  keys = {head: signs.get(head) in found
          for head in ('lm_head', 'nsp_head', 'span_head')}
  classifier = found.get(signs['choice' if choice else 'classifier'])
  keys['num_classes'] = classifier.shape[0] if classifier else 0
  if keys['num_classes']:
    dropout = values.get('classifier_dropout')
    keys['classifier_dropout_rate'] = (
        values['hidden_dropout_prob'] if dropout is None else dropout)
  return keys, choice


def _architecture_ending(config: ModelConfig, choice: bool) -> str:
  """Returns the row of ARCHITECTURES as which our model is exported."""
  if config.span_head:
    return 'ForQuestionAnswering'
  if config.num_classes:
    return 'ForMultipleChoice' if choice else 'ForSequenceClassification'
  if config.nsp_head:
    return 'ForPreTraining'
  return 'ForMaskedLM' if config.lm_head else 'Model'


# README.md of an exported folder says what the model is and how it was made.
_TAGS = {'ForMaskedLM': 'fill-mask', 'ForPreTraining': 'fill-mask',
         'ForSequenceClassification': 'text-classification',
         'ForMultipleChoice': 'multiple-choice',
         'ForQuestionAnswering': 'question-answering',
         'Model': 'feature-extraction'}
# The keys of `data` that describe what was learned from.
_DATA_KEYS = (
    'corpora', 'mixture', 'format', 'sentences', 'sequence_length',
    'batch_size', 'masks', 'masking_law', 'masking_unit', 'mask_rate',
    'specials')
# The keys of any section that describe machines and paths.
_MACHINE_KEYS = {
    'cache_dir', 'workers', 'prefetch', 'backend', 'masking_ops', 'path',
    'init_from', 'remote_cache_dir', 'remote_cache_gib', 'remote_threads',
    'tfds_dir', 'keep_tokens', 'bad_records'}


def model_card(pretrained: Pretrained, family: str, end: str) -> str:
  """Writes the model card in Markdown; `end` is a row of ARCHITECTURES."""
  config, history = pretrained.config, pretrained.history
  lines = ['---', 'library_name: transformers', f'pipeline_tag: {_TAGS[end]}',
           'tags:', '- robertax', f'- {family}']
  if _TAGS[end] == 'fill-mask':
    mask = pretrained.tokenizer.mask_texts[-1]
    lines += [f'mask_token: "{mask}"', 'widget:',
              f'- text: "The {mask} of the model."']
  heads = [name for name, there in (
      ('masked LM', config.lm_head), ('next sentence', config.nsp_head),
      (f'{config.num_classes} classes', config.num_classes),
      ('spans', config.span_head)) if there]
  lines += ['---', '', f'# {FAMILIES[family].classes}{end}', '',
            f'{config.num_layers} layers x {config.hidden_size}, '
            f'{config.num_heads} heads, MLP of {config.mlp_size}, '
            f'{config.vocab_size:,} ids, {config.max_positions} positions; '
            f'heads: {", ".join(heads) or "none"}. '
            'Exported by robertax, which pretrains RoBERTa-style encoders in '
            'JAX.']
  if pretrained.labels:
    lines += ['', 'Classes: ' + ', '.join(
        f'{i} {name}' for i, name in enumerate(pretrained.labels)) + '.']
  # AutoModelForPreTraining exists as well, but fill-mask needs this one.
  auto = {'Model': 'AutoModel', 'ForPreTraining': 'AutoModelForMaskedLM'}.get(
      end, f'AutoModel{end}')
  lines += ['', '```python', f'from transformers import AutoTokenizer, {auto}',
            f'model = {auto}.from_pretrained(folder)',
            'tokenizer = AutoTokenizer.from_pretrained(folder)', '```']
  made = history.get('config')
  if made:
    lines += _history(made, history.get('metrics', {}), pretrained.step)
  else:
    lines += ['', '## How it was made', '', 'Converted from '
              f'`{pretrained.source}`; how it was trained is not known.']
  return '\n'.join(lines) + '\n'


def _history(made: dict[str, Any], metrics: dict[str, Any], step: int
             ) -> list[str]:
  data, steps = made.get('data', {}), made.get('train', {}).get('steps')
  lines = ['', '## Data', '']
  lines += [f'- {key}: `{data[key]}`' for key in _DATA_KEYS
            if data.get(key) not in (None, '')]
  lines += ['', '## Training', '',
            f'{step:,} of {steps:,} updates' if steps else f'{step:,} updates',
            '']
  losses = {key: value for key, value in metrics.items()
            if isinstance(value, int | float)
            and key.startswith(('eval/', 'train/loss', 'train/accuracy'))}
  if losses:
    lines += ['| metric (losses in nats per target) | at the end |',
              '|---|---|']
    lines += [f'| {key} | {value:.6g} |' for key, value in losses.items()]
    lines += ['']
  lines += ['## Config', '', '```']
  lines += [f'{key} = {value!r}' for key, value in flatten(made).items()
            if key.rpartition('.')[2] not in _MACHINE_KEYS]
  return [*lines, '```']


class Folder:
  """A ForeignModel: a folder that `save_pretrained` has written."""

  @staticmethod
  def tokenizer_config(path: str) -> TokenizerConfig:
    """Returns the `tokenizer` section that reads this folder's tokenizer."""
    return TokenizerConfig(path=path, lowercase=reads_lowercase(path))

  def __init__(self, path: str):
    """Reads config.json and the shapes; InputError if not a RoBERTa or BERT."""
    self.path = os.path.expanduser(path)
    values = read_config(self.path)
    self._family = values['model_type']
    family = FAMILIES[self._family].column
    self._tensors = _table_names(tensors.read_weights(self.path), family)
    heads, choice = heads_of_tensors(self._tensors, values, self.path)
    self.layout = Layout(
        family, 0 if family == 'bert' else values['pad_token_id'] + 1, choice)
    self.labels = class_names(values) if heads['num_classes'] else ()
    try:
      config = ModelConfig(
          **{ours: values[theirs] for ours, theirs in CONFIG_KEYS.items()},
          max_positions=values['max_position_embeddings'] - self.layout.first,
          **heads)
    except InputError as e:
      raise InputError(f'{self.path}/config.json: {e}') from e
    self.config = _without_idle_types(config, self._tensors, self.layout)

  def read(self) -> Pretrained:
    """Reads the model; InputError if its files do not belong together."""
    tokenizer = read_tokenizer(self.path)
    if tokenizer.vocab_size != self.config.vocab_size:
      raise InputError(
          f'{self.path}: its tokenizer has {tokenizer.vocab_size} ids, its '
          f'config.json says vocab_size {self.config.vocab_size}: put the '
          'tokenizer of these weights there.')
    pad_id = self.layout.first - 1
    if self.layout.family == 'roberta' and pad_id != tokenizer.pad_id:
      raise InputError(
          f'{self.path}: its tokenizer pads with id {tokenizer.pad_id}, its '
          f'config.json says pad_token_id {pad_id}.')
    pooler = f'{self.layout.family}.pooler.dense.'
    unused = ()
    if not (self.config.nsp_head or self.config.num_classes and (
        self.layout.family == 'bert' or self.layout.choice)):
      unused = (f'{pooler}weight', f'{pooler}bias')
    params, lines = names.read_params(
        self._tensors, self.config, self.layout, self.path, unused)
    return Pretrained(params, self.config, tokenizer, f'hf:{self.path}',
                      labels=self.labels, family=self._family,
                      choice=self.layout.choice,
                      lines=(*tokenizer.notes, *lines))


def write_folder(pretrained: Pretrained, folder: str) -> None:
  """Writes weights, config, tokenizer and a model card.

  AutoModelForMaskedLM (or the class of its head), AutoTokenizer and pipeline
  read the folder. If it cannot be written, an InputError is raised.
  """
  config, layout = pretrained.config, layout_of(pretrained)
  arrays = names.write_params(pretrained.params, config, layout)
  end = _architecture_ending(config, pretrained.choice)
  if end == 'Model':  # A bare encoder's names have no prefix.
    arrays = {name.removeprefix(f'{layout.family}.'): x
              for name, x in arrays.items()}
  family = _family_of(pretrained)
  values = config_values(pretrained, layout, FAMILIES[family].classes + end,
                         family)
  texts = tokenizer_files(pretrained.tokenizer, config.max_positions, family,
                          config.num_types > 1)
  texts['config.json'] = json.dumps(values, indent=2) + '\n'
  texts['README.md'] = model_card(pretrained, family, end)
  with writing(folder):
    files.makedirs(folder)
    for name, text in texts.items():
      files.write_text(os.path.join(folder, name), text)
  tensors.write_safetensors(os.path.join(folder, tensors.SAFETENSORS), arrays)


def _family_of(pretrained: Pretrained) -> str:
  """Decides as which row of FAMILIES a model is exported.

  An imported model keeps its family. Otherwise a model with WordPiece or an NSP
  head is a BERT, one with the tokenizer of XLM-R or CamemBERT is one of these,
  and all others are RoBERTas, whatever types they have.
  """
  if pretrained.config.nsp_head:
    return 'bert'
  return pretrained.family or family_of(pretrained.tokenizer)


def layout_of(pretrained: Pretrained) -> Layout:
  """Returns the names of the tensors of a model that is exported."""
  family = FAMILIES[_family_of(pretrained)].column
  return Layout(family, 0 if family == 'bert' else
                pretrained.tokenizer.pad_id + 1,
                choice=pretrained.choice and family == 'roberta')


def _table_names(found: Tensors, family: str) -> Tensors:
  """Gives tensors of old files and bare encoders their names in the table."""
  body = f'{family}.'
  bare = not any(name.startswith(body) for name in found)
  renamed = {}
  for name, tensor in found.items():
    # Conversions of Google's BERT have TensorFlow's names for LayerNorm's.
    name = re.sub(r'(?<=LayerNorm\.)gamma$', 'weight', name)
    name = re.sub(r'(?<=LayerNorm\.)beta$', 'bias', name)
    if bare and name.startswith(('embeddings.', 'encoder.', 'pooler.')):
      name = body + name
    renamed[name] = tensor
  return renamed


def _without_idle_types(config: ModelConfig, found: Tensors, layout: Layout
                        ) -> ModelConfig:
  """Sets num_types=0 if the types are all zeros: fairseq's RoBERTa has none."""
  table = found.get(names.types_name(layout))
  if table is None or table.shape[0] != names.NO_TYPES[layout.family] or (
      table.read().any()):
    return config
  return dataclasses.replace(config, num_types=0)
