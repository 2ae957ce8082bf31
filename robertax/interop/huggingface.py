"""Reads a Hugging Face folder as a Pretrained, and writes one.

This chapter knows config.json (transformers' configuration_roberta.py and
configuration_bert.py) and the heads of each architecture. `tokenizer_files`
knows the tokenizer's files, and `card` the model card of an exported folder.
"""

from collections.abc import Collection
import contextlib
import dataclasses
import json
import os
import re
from typing import Any, NamedTuple

from robertax import files
from robertax.config import PROBLEM_TYPES, ModelConfig, TokenizerConfig
from robertax.errors import InputError, reading, unknown, writing
from robertax.interop import names, tensors
from robertax.interop.card import model_card
from robertax.interop.names import Naming
from robertax.interop.pretrained import Pretrained, unnamed
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


def config_values(pretrained: Pretrained, layout: Naming, architecture: str,
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
  labels = pretrained.labels or unnamed(config.num_classes)
  if labels and architecture.endswith('ForSequenceClassification'):
    values['id2label'] = {str(i): name for i, name in enumerate(labels)}
    values['label2id'] = {name: i for i, name in enumerate(labels)}
    if pretrained.problem_type:
      values['problem_type'] = pretrained.problem_type
  return values


def class_names(values: dict[str, Any], outputs: int, path: str
                ) -> tuple[str, ...]:
  """Returns the names of a head's outputs, in order.

  They are those of id2label, an object or a list, or else of label2id, or
  transformers' LABEL_0, LABEL_1, ... InputError, naming config.json, if they
  are not as many as the outputs, or not different.
  """
  found, key = values.get('id2label'), 'id2label'
  if found is None and isinstance(values.get('label2id'), dict):
    key, names_of = 'label2id', values['label2id']
    found = {i: name for name, i in names_of.items()}
  if found is None:
    return unnamed(outputs)
  try:
    numbered = dict(enumerate(found)) if isinstance(found, list) else {
        int(number): name for number, name in found.items()}
  except (AttributeError, TypeError, ValueError) as e:
    raise InputError(f'{path}: {key} is {str(found)[:60]}: an object such as '
                     '{"0": "no", "1": "yes"} is needed.') from e
  labels = tuple(str(numbered[n]) for n in sorted(numbered))
  if sorted(numbered) != list(range(outputs)) or len(set(labels)) != outputs:
    raise InputError(
        f'{path}: {key} has {len(set(labels))} different names '
        f'({", ".join(labels[:8])}{", ..." if labels[8:] else ""}) with the '
        f'numbers {", ".join(map(str, sorted(numbered)[:8]))}, and the head '
        f'has {outputs} outputs: a name for each of 0 to {outputs - 1} is '
        'needed.')
  return labels


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


class Heads(NamedTuple):
  """The heads of a folder."""
  keys: dict[str, Any]  # Of our config.
  end: str  # A row of ARCHITECTURES; '': an architecture that we lack.
  name: str  # Of the architecture.


def heads_of_tensors(found: Tensors, values: dict[str, Any], folder: str
                     ) -> Heads:
  """Finds the heads.

  The weights decide which heads there are, because many files have more heads
  than their architecture; those of the architecture must be among them. Of an
  architecture that we lack, the classifier is not ours either.
  """
  family = FAMILIES[values['model_type']]
  prefix, signs = family.classes, _SIGNS[family.column]
  listed = values.get('architectures')
  name = str(listed[0]) if isinstance(listed, list) and listed else (
      f'{prefix}Model')
  if name not in [prefix + end for end in ARCHITECTURES]:
    return Heads({head: signs.get(head) in found
                  for head in ('lm_head', 'nsp_head')}, '', name)
  end = name.removeprefix(prefix)
  missing = [signs[head] for head in ARCHITECTURES[end]
             if signs[head] not in found]
  if missing:
    raise InputError(
        f'{folder}: its config and its weights disagree: config.json says '
        f'{name}, and the weights have no {", no ".join(missing)}.')
  choice = end == 'ForMultipleChoice'
  keys: dict[str, Any] = {head: signs.get(head) in found
          for head in ('lm_head', 'nsp_head', 'span_head')}
  classifier = found.get(signs['choice' if choice else 'classifier'])
  keys['num_classes'] = classifier.shape[0] if classifier else 0
  if keys['num_classes']:
    dropout = values.get('classifier_dropout')
    keys['classifier_dropout_rate'] = (
        values['hidden_dropout_prob'] if dropout is None else dropout)
  return Heads(keys, end, name)


def _architecture_ending(config: ModelConfig, choice: bool) -> str:
  """Returns the row of ARCHITECTURES as which our model is exported."""
  if config.span_head:
    return 'ForQuestionAnswering'
  if config.num_classes:
    return 'ForMultipleChoice' if choice else 'ForSequenceClassification'
  if config.nsp_head:
    return 'ForPreTraining'
  return 'ForMaskedLM' if config.lm_head else 'Model'




class Folder:
  """A ForeignModel: a folder that `save_pretrained` has written."""

  @staticmethod
  def tokenizer_config(path: str) -> TokenizerConfig:
    """Returns the `tokenizer` section that reads this folder's tokenizer."""
    return TokenizerConfig(path=path, lowercase=reads_lowercase(path))

  def __init__(self, path: str):
    """Reads config.json and the shapes; InputError if not a RoBERTa or BERT."""
    self.path = os.path.expanduser(path)
    values = self._values = read_config(self.path)
    self._family, source = values['model_type'], self.path
    family = FAMILIES[self._family].column
    found, self._lines = tensors.unwrapped(
        tensors.read_weights(self.path), source)
    found = _table_names(found, family)
    self._heads = heads_of_tensors(found, values, self.path)
    self.layout = Naming(
        family, 0 if family == 'bert' else values['pad_token_id'] + 1,
        self._heads.end == 'ForMultipleChoice')
    self._tokenizer = None  # Without one, `read` says so.
    with contextlib.suppress(InputError):
      self._tokenizer = read_tokenizer(self.path)
    if self._tokenizer:
      ids = self._tokenizer.vocab_size
      found, more = names.cut_vocabulary(
          found, self.layout, values['vocab_size'], ids, source)
      self._lines, values = self._lines + more, {**values, 'vocab_size': ids}
    self._tensors = found
    try:
      config = ModelConfig(
          **{ours: values[theirs] for ours, theirs in CONFIG_KEYS.items()},
          max_positions=values['max_position_embeddings'] - self.layout.first,
          **self._heads.keys)
    except InputError as e:
      raise InputError(f'{self.path}/config.json: {e}') from e
    config = _without_idle_types(config, self._tensors, self.layout)
    if self._tokenizer and (
        self._tokenizer.laid_out(config) is not self._tokenizer):
      config = dataclasses.replace(config, pair_layout='tokenizer')
    self.config = config

  def read(self, dropped: Collection[str] | None = None) -> Pretrained:
    """Reads the model; InputError if its files do not belong together."""
    heads, lines = self._heads, list(self._lines)
    if not heads.end and dropped is None:
      parts = {name.partition('.')[0] for name in self._tensors
               if not name.startswith(self.layout.family)}
      raise InputError(
          f'{self.path}/config.json: the architecture {heads.name} is none of '
          f'robertax\'s ({", ".join(ARCHITECTURES)}). To go on from its body: '
          'init_from with finetune.unused_parameters='
          f'{",".join(sorted({"lm_head", "nsp_head", *parts}))}.')
    if not heads.end:
      lines.append(f'{self.path}: of its {heads.name}, the parts that robertax '
                   'has are read')
    dropped = dropped or ()
    tokenizer = self._tokenizer or read_tokenizer(self.path)
    pad_id = self.layout.first - 1
    if self.layout.family == 'roberta' and pad_id != tokenizer.pad_id:
      raise InputError(
          f'{self.path}: its tokenizer pads with id {tokenizer.pad_id}, its '
          f'config.json says pad_token_id {pad_id}.')
    labels, problem_type = self._classes(dropped)
    pooler = f'{self.layout.family}.pooler.dense.'
    unused = ()
    if not (self.config.nsp_head or self.config.num_classes and (
        self.layout.family == 'bert' or self.layout.choice)):
      unused = (f'{pooler}weight', f'{pooler}bias')
    params, more = names.read_params(self._tensors, self.config, self.layout,
                                     self.path, unused, dropped)
    return Pretrained(params, self.config, tokenizer, f'hf:{self.path}',
                      labels=labels, problem_type=problem_type,
                      family=self._family, choice=self.layout.choice,
                      lines=(*tokenizer.notes, *lines, *more))

  def _classes(self, dropped: Collection[str]) -> tuple[tuple[str, ...], str]:
    """Returns the names of a classifier's outputs, and the problem type."""
    outputs, where = self.config.num_classes, f'{self.path}/config.json'
    if not outputs or 'classifier' in dropped or self.layout.choice:
      return (), ''
    problem_type = self._values.get('problem_type', '')
    if problem_type and problem_type not in PROBLEM_TYPES:
      raise unknown(f'{where}: problem_type', str(problem_type), PROBLEM_TYPES)
    if self._heads.end != 'ForSequenceClassification' and not (
        {'id2label', 'label2id'} & self._values.keys()):
      return (), problem_type  # Such as that of answers or none beside spans.
    try:
      return class_names(self._values, outputs, where), problem_type
    except InputError:
      if self._heads.end == 'ForSequenceClassification':
        raise
      return unnamed(outputs), problem_type  # They were of no use so far.


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
  architecture = FAMILIES[family].classes + end
  values = config_values(pretrained, layout, architecture, family)
  texts = tokenizer_files(pretrained.tokenizer.laid_out(config),
                          config.max_positions, family, config.num_types > 1)
  texts['config.json'] = json.dumps(values, indent=2) + '\n'
  texts['README.md'] = model_card(pretrained, family, end, architecture)
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


def layout_of(pretrained: Pretrained) -> Naming:
  """Returns the names of the tensors of a model that is exported."""
  family = FAMILIES[_family_of(pretrained)].column
  return Naming(family, 0 if family == 'bert' else
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


def _without_idle_types(config: ModelConfig, found: Tensors, layout: Naming
                        ) -> ModelConfig:
  """Sets num_types=0 if the types are all zeros: fairseq's RoBERTa has none."""
  table = found.get(names.types_name(layout))
  if table is None or table.shape[0] != names.NO_TYPES[layout.family] or (
      table.read().any()):
    return config
  return dataclasses.replace(config, num_types=0)
