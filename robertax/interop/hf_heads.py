"""Which heads a Hugging Face architecture has."""

from typing import Any

from robertax.config import ModelConfig
from robertax.errors import InputError, unknown
from robertax.interop.tensors import Tensors

# What the name of the class ends with: the heads that its weights must have.
ARCHITECTURES = {
    'ForMaskedLM': ('lm_head',), 'ForPreTraining': ('lm_head', 'nsp_head'),
    'ForSequenceClassification': ('classifier',),
    'ForMultipleChoice': ('choice',), 'ForQuestionAnswering': ('span_head',),
    'Model': ()}
# A tensor that says that a head is there.
_SIGNS = {
    'roberta': {'lm_head': 'lm_head.dense.weight',
                'classifier': 'classifier.out_proj.weight',
                'choice': 'classifier.weight',
                'span_head': 'qa_outputs.weight'},
    'bert': {'lm_head': 'cls.predictions.transform.dense.weight',
             'nsp_head': 'cls.seq_relationship.weight',
             'classifier': 'classifier.weight',
             'choice': 'classifier.weight',
             'span_head': 'qa_outputs.weight'}}
_CLASSES = {'roberta': 'Roberta', 'bert': 'Bert'}


def ending(values: dict[str, Any], folder: str) -> str:
  """A row of ARCHITECTURES, 'Model' where config.json names none.

  Raises:
    InputError: the class is not in that table.
  """
  found = values.get('architectures')
  name = str(found[0]) if isinstance(found, list) and found else (
      f'{_CLASSES[values["model_type"]]}Model')
  known = [_CLASSES[values['model_type']] + row for row in ARCHITECTURES]
  if name not in known:
    raise unknown(f'architecture: {folder}/config.json: architectures', name,
                  known)
  return name.removeprefix(_CLASSES[values['model_type']])


def of_tensors(tensors: Tensors, values: dict[str, Any], folder: str
               ) -> tuple[dict[str, Any], bool]:
  """(keys of our config, whether the classifier is of multiple choice).

  The weights decide which heads there are, for many files hold more than their
  architecture's; that one's must be among them.

  Raises:
    InputError: one is missing, or of a kind that we do not have.
  """
  end = ending(values, folder)
  signs = _SIGNS[values['model_type']]
  wanted = ARCHITECTURES[end]
  missing = [signs[head] for head in wanted if signs[head] not in tensors]
  if missing:
    raise InputError(
        f'{folder}: its config and its weights disagree: config.json says '
        f'{_CLASSES[values["model_type"]]}{end}, and the weights have no '
        f'{", no ".join(missing)}.')
  has = {head: sign in tensors for head, sign in signs.items()}
  choice = end == 'ForMultipleChoice'
  keys = {'lm_head': has['lm_head'], 'nsp_head': has.get('nsp_head', False),
          'span_head': has['span_head'], 'num_classes': 0}
  sign = signs['choice' if choice else 'classifier']
  if sign in tensors:
    keys['num_classes'] = tensors[sign].shape[0]
  dropout = values.get('classifier_dropout')
  if keys['num_classes']:
    keys['classifier_dropout_rate'] = (
        values['hidden_dropout_prob'] if dropout is None else dropout)
  return keys, choice


def architecture(config: ModelConfig, family: str, choice: bool) -> str:
  """The class in transformers for a model of ours."""
  end = 'Model'
  if config.span_head:
    end = 'ForQuestionAnswering'
  elif config.num_classes:
    end = 'ForMultipleChoice' if choice else 'ForSequenceClassification'
  elif config.nsp_head:
    end = 'ForPreTraining'
  elif config.lm_head:
    end = 'ForMaskedLM'
  return _CLASSES[family] + end
