"""A Hugging Face folder <-> a Pretrained."""

import dataclasses
import json
import os

from robertax.config import ModelConfig
from robertax.errors import InputError, writing
from robertax.interop import hf_config, hf_heads, hf_tokenizer, mapping
from robertax.interop import tensors as files
from robertax.interop.mapping import NO_TYPES, Layout
from robertax.interop.model_card import model_card
from robertax.interop.pretrained import Pretrained

POOLERS = {'roberta': 'roberta.pooler.dense.', 'bert': 'bert.pooler.dense.'}


class Folder:
  """A folder that `save_pretrained` has written; weights are read when asked.

  Attributes:
    config: the ModelConfig.
    layout: of its weights.
    labels: names of the classes.
  """

  def __init__(self, path: str):
    """Looks at config.json and the names of the weights.

    Raises:
      InputError: not a folder of a RoBERTa or BERT, or a damaged one.
    """
    self.path = os.path.expanduser(path)
    values = hf_config.read(self.path)
    self._tensors = _named(files.read_folder(self.path), values['model_type'])
    heads, choice = hf_heads.of_tensors(self._tensors, values, self.path)
    self.layout = hf_config.layout(values)._replace(choice=choice)
    self.labels = hf_config.labels(values) if heads['num_classes'] else ()
    config = hf_config.to_model(values, self.path, **heads)
    self.config = _without_idle_types(config, self._tensors, self.layout)

  def read(self) -> Pretrained:
    """All of it.

    Raises:
      InputError: weights, config and tokenizer do not belong together.
    """
    tokenizer = hf_tokenizer.read(self.path)
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
    pooler = POOLERS[self.layout.family]
    unused = ()
    if not (self.config.nsp_head or self.config.num_classes and (
        self.layout.family == 'bert' or self.layout.choice)):
      unused = (f'{pooler}weight', f'{pooler}bias')
    params, lines = mapping.read_params(
        self._tensors, self.config, self.layout, self.path, unused)
    return Pretrained(params, self.config, tokenizer, f'hf:{self.path}',
                      labels=self.labels, family=self.layout.family,
                      choice=self.layout.choice, lines=tuple(lines))


def write(pretrained: Pretrained, folder: str):
  """Writes weights, config, tokenizer and a model card.

  AutoModelForMaskedLM (or the class of its head), AutoTokenizer and pipeline
  read it.

  Args:
    pretrained: what to write.
    folder: made if it is not there.

  Raises:
    InputError: it cannot be written.
  """
  config, tokenizer = pretrained.config, pretrained.tokenizer
  layout = layout_of(pretrained)
  arrays = mapping.write_params(pretrained.params, config, layout)
  architecture = hf_heads.architecture(config, layout.family,
                                       pretrained.choice)
  if architecture.endswith('Model'):  # A bare encoder's names are bare too.
    arrays = {name.removeprefix(f'{layout.family}.'): x
              for name, x in arrays.items()}
  labels = pretrained.labels or tuple(
      f'LABEL_{i}' for i in range(config.num_classes))
  values = hf_config.from_model(
      config, layout, tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id,
      architecture, labels if architecture.endswith(
          'ForSequenceClassification') else ())
  texts = hf_tokenizer.files(tokenizer, config.max_positions)
  texts['config.json'] = json.dumps(values, indent=2) + '\n'
  texts['README.md'] = model_card(pretrained, architecture)
  with writing(folder):
    os.makedirs(folder, exist_ok=True)
    for name, text in texts.items():
      with open(os.path.join(folder, name), 'w', encoding='utf-8') as f:
        f.write(text)
  files.write_safetensors(os.path.join(folder, files.WHOLE), arrays)


def layout_of(pretrained: Pretrained) -> Layout:
  """Whether a model becomes a RoBERTa or a BERT.

  What it was before, if it was either. Else a BERT is what has BERT's pieces or
  its NSP head; the others are RoBERTas, with whatever types they have.
  """
  config, tokenizer = pretrained.config, pretrained.tokenizer
  family = pretrained.family or (
      'bert' if tokenizer.kind == 'wordpiece' else 'roberta')
  if config.nsp_head:
    family = 'bert'
  return Layout(family, 0 if family == 'bert' else tokenizer.pad_id + 1,
                choice=pretrained.choice and family == 'roberta')


def _named(tensors: files.Tensors, family: str) -> files.Tensors:
  """By the names of the table: old files and bare encoders have others."""
  body = f'{family}.'
  bare = not any(name.startswith(body) for name in tensors)
  found = {}
  for name, tensor in tensors.items():
    # Google's BERT, converted: TensorFlow's names for LayerNorm's.
    for old, new in (('LayerNorm.gamma', 'LayerNorm.weight'),
                     ('LayerNorm.beta', 'LayerNorm.bias')):
      if name.endswith(old):
        name = name.removesuffix(old) + new
    if bare and name.startswith(('embeddings.', 'encoder.', 'pooler.')):
      name = body + name
    found[name] = tensor
  return found


def _without_idle_types(config: ModelConfig, tensors: files.Tensors,
                        layout: Layout) -> ModelConfig:
  """num_types=0 where their table is all zeros.

  fairseq's RoBERTa has none; its conversions have a row of zeros. One that is
  not zero is kept, row by row, for every token has row 0 added to it.
  """
  table = tensors.get(mapping.types_name(layout))
  if table is None or table.shape[0] != NO_TYPES[layout.family] or (
      table.read().any()):
    return config
  return dataclasses.replace(config, num_types=0)
