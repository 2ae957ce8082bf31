"""The model card of an exported folder: what the model is, and how it was made.

It names what was used, and no file of the machine that made it.
"""

import os
from typing import Any

from robertax.config import MASKED_LM, flatten
from robertax.interop.pretrained import Pretrained, unnamed

_TAGS = {'ForMaskedLM': 'fill-mask', 'ForPreTraining': 'fill-mask',
         'ForSequenceClassification': 'text-classification',
         'ForMultipleChoice': 'multiple-choice',
         'ForQuestionAnswering': 'question-answering',
         'Model': 'feature-extraction'}
_KINDS = {'hf': 'Hugging Face', 'fairseq': 'fairseq'}
# The keys of `data` that describe what was learned from.
_DATA_KEYS = (
    'corpora', 'mixture', 'format', 'sentences', 'sequence_length',
    'batch_size', 'masks', 'masking_law', 'masking_unit', 'mask_rate',
    'specials')
# How the keys begin that a task uses, beside those of _ALL.
_ALL = ('seed', 'task', 'model.', 'optim.', 'train.steps')
_TUNING = ('data.sequence_length', 'data.batch_size', 'finetune.epochs',
           'finetune.max_train_examples', 'finetune.subset_seed',
           'finetune.from_scratch', 'finetune.new_parameters')
_SQUAD = ('data.doc_stride', 'data.question_length', 'finetune.n_best',
          'finetune.max_answer_length')
_WSC = ('finetune.chunker', 'finetune.ranking_loss', 'finetune.margin_')
_USED = {'pretrain': ('data.', 'tokenizer.'), 'squad': _SQUAD,
         'squad2': _SQUAD, 'race': ('finetune.max_option_length',),
         'wsc': _WSC, 'wnli_spans': _WSC,
         'text_classification': (
             'finetune.text_columns', 'finetune.label_column',
             'finetune.labels', 'finetune.problem_type')}
# Keys that describe machines and paths, or that pretraining does not use.
_UNUSED = {
    'cache_dir', 'encoder', 'workers', 'prefetch', 'backend', 'masking_ops',
    'path',
    'remote_cache_dir', 'remote_cache_gib', 'remote_threads', 'tfds_dir',
    'keep_tokens', 'bad_records', 'dir', 'train_files', 'eval_files',
    'doc_stride', 'question_length', 'attention', 'remat', 'layers_unrolled',
    'on_divergence', 'spike_loss', 'spike_gradient_norm', 'roll_back_batches'}


def model_card(pretrained: Pretrained, family: str, end: str,
               architecture: str) -> str:
  """Writes the card in Markdown.

  Args:
    pretrained: the model.
    family: its model_type.
    end: a row of ARCHITECTURES, with which the name of `architecture` ends.
    architecture: the class of transformers.
  """
  config, history = pretrained.config, pretrained.history
  lines = ['---', 'library_name: transformers', f'pipeline_tag: {_TAGS[end]}',
           'tags:', '- robertax', f'- {family}']
  if _TAGS[end] == 'fill-mask':
    mask = pretrained.tokenizer.mask_texts[-1]
    lines += [f'mask_token: "{mask}"', 'widget:',
              f'- text: "The {mask} of the model."']
  heads = [name for name, there in (
      ('masked LM', config.lm_head), ('next sentence', config.nsp_head),
      (f'{config.num_classes} outputs', config.num_classes > 1),
      ('a score', config.num_classes == 1), ('spans', config.span_head))
           if there]
  lines += ['---', '', f'# {architecture}', '',
            f'{config.num_layers} layers x {config.hidden_size}, '
            f'{config.num_heads} heads, MLP of {config.mlp_size}, '
            f'{config.vocab_size:,} ids, {config.max_positions} positions; '
            f'heads: {", ".join(heads) or "none"}. '
            'Exported by robertax, which pretrains RoBERTa-style encoders in '
            'JAX.']
  scores = pretrained.problem_type == 'regression'
  if pretrained.labels not in ((), unnamed(1)):
    lines += ['', ('Scores: ' if scores else 'Classes: ') + ', '.join(
        f'{i} {name}' for i, name in enumerate(pretrained.labels)) + '.'
              + ' A text may have several: each has a sigmoid of its own.' * (
                  pretrained.problem_type == 'multi_label_classification')]
  # AutoModelForPreTraining exists as well, but fill-mask needs this one.
  auto = {'Model': 'AutoModel', 'ForPreTraining': 'AutoModelForMaskedLM'}.get(
      end, f'AutoModel{end}')
  lines += ['', '```python', f'from transformers import AutoTokenizer, {auto}',
            f'model = {auto}.from_pretrained(folder)',
            'tokenizer = AutoTokenizer.from_pretrained(folder)', '```']
  made, sources = history.get('config'), history.get('sources', ())
  if made and pretrained.step:
    lines += _history(made, history.get('metrics', {}), pretrained.step,
                      sources)
  else:
    first = (*sources, pretrained.source)[0]
    lines += ['', '## How it was made', '', f'Converted from {_named(first)}; '
              'how it was trained is not known.']
  return '\n'.join(lines) + '\n'


def _history(made: dict[str, Any], metrics: dict[str, Any], step: int,
             sources: list[str]) -> list[str]:
  """What is known of a run of robertax."""
  data, steps = made.get('data', {}), made.get('train', {}).get('steps')
  task, tuned = made.get('task', MASKED_LM), made.get('finetune', {})
  base = ''.join(f'{"," if i else ""} {"itself " if i else ""}from '
                 f'{_named(source)}' for i, source in enumerate(sources))
  scratch = task != MASKED_LM and tuned.get('from_scratch')
  lines = ['', '## How it was made', '',
           ('Pretrained' if task == MASKED_LM else f'Fine-tuned for `{task}`')
           + (' from random weights' if scratch or not base else
              f', beginning{base}') + '.']
  if task == 'glue/stsb':
    lines += ['', 'Its score is from 0 to 1; 5 times that is STS-B\'s.']
  if task == MASKED_LM:
    lines += ['', '## Data', '']
    lines += [f'- {key}: `{_public(data[key])}`' for key in _DATA_KEYS
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
  used = _ALL + _USED.get(task.partition('/')[0], ())
  used += _TUNING * (task != MASKED_LM)
  lines += ['## Config', '', '```']
  lines += [f'{key} = {value if key == "task" else _public(value)!r}'
            for key, value in flatten(made).items() if key.startswith(used)
            and (key in used or key.rpartition('.')[2] not in _UNUSED)
            and (value or not key.startswith('finetune.'))]
  return [*lines, '```']


def _named(source: str) -> str:
  """A source without the path to it: its folder's name, and what it is."""
  kind, colon, path = source.partition(':')
  if not colon or kind not in _KINDS:
    kind, path = '', source
  name = os.path.basename(os.path.abspath(os.path.expanduser(path)))
  if kind == 'fairseq':
    folder = os.path.dirname(os.path.abspath(os.path.expanduser(path)))
    name = f'{os.path.basename(folder)}/{name}'
  return f'`{name}` ({_KINDS.get(kind, "a run of robertax")})'


def _public(value: Any) -> Any:
  """A value of a config without paths: of each, its last name."""
  if not isinstance(value, str) or '/' not in value:
    return value
  return ','.join(one if one.startswith('tfds:') and one[5:6] not in '/~.'
                  else one.rstrip('/').rpartition('/')[2]
                  for one in value.split(','))
