"""README.md of an exported folder: what the model is and how it was made."""

from typing import Any

from robertax.config import flatten
from robertax.interop.pretrained import Pretrained

_TAGS = {'ForMaskedLM': 'fill-mask', 'ForPreTraining': 'fill-mask',
         'ForSequenceClassification': 'text-classification',
         'ForMultipleChoice': 'multiple-choice',
         'ForQuestionAnswering': 'question-answering',
         'Model': 'feature-extraction'}
# What the data were and how they were seen; the rest of their section is about
# machines.
_DATA = ('corpora', 'mixture', 'format', 'sentences', 'sequence_length',
         'batch_size', 'masks', 'masking_law', 'masking_unit', 'mask_rate',
         'specials')
_HERE = {'cache_dir', 'workers', 'prefetch', 'backend', 'masking_ops', 'path',
         'init_from', 'remote_cache_dir', 'remote_cache_gib', 'remote_threads',
         'tfds_dir', 'keep_tokens', 'bad_records'}


def model_card(pretrained: Pretrained, architecture: str) -> str:
  """The text, in Markdown.

  Args:
    pretrained: what is exported.
    architecture: the class in transformers.
  """
  end = next(end for end in _TAGS if architecture.endswith(end))
  config, history = pretrained.config, pretrained.history
  lines = ['---', 'library_name: transformers', f'pipeline_tag: {_TAGS[end]}',
           'tags:', '- robertax', f'- {architecture.removesuffix(end).lower()}']
  if _TAGS[end] == 'fill-mask':
    mask = pretrained.tokenizer.mask_texts[-1]
    lines += [f'mask_token: "{mask}"', 'widget:',
              f'- text: "The {mask} of the model."']
  heads = [name for name, there in (
      ('masked LM', config.lm_head), ('next sentence', config.nsp_head),
      (f'{config.num_classes} classes', config.num_classes),
      ('spans', config.span_head)) if there]
  lines += ['---', '', f'# {architecture}', '',
            f'{config.num_layers} layers x {config.hidden_size}, '
            f'{config.num_heads} heads, MLP of {config.mlp_size}, '
            f'{config.vocab_size:,} ids, {config.max_positions} positions; '
            f'heads: {", ".join(heads) or "none"}. '
            'Exported by robertax, which pretrains RoBERTa-style encoders in '
            'JAX.']
  if pretrained.labels:
    lines += ['', 'Classes: ' + ', '.join(
        f'{i} {name}' for i, name in enumerate(pretrained.labels)) + '.']
  lines += ['', '```python', 'from transformers import AutoTokenizer, '
            f'{_auto(end)}', f'model = {_auto(end)}.from_pretrained(folder)',
            'tokenizer = AutoTokenizer.from_pretrained(folder)', '```']
  made = history.get('config')
  if made:
    lines += _history(made, history.get('metrics', {}), pretrained.step)
  else:
    lines += ['', '## How it was made', '', 'Converted from '
              f'`{pretrained.source}`; its training is not known here.']
  return '\n'.join(lines) + '\n'


def _auto(end: str) -> str:
  # There is an AutoModelForPreTraining too, but masks are what one fills.
  return f'Auto{"ModelForMaskedLM" if end == "ForPreTraining" else end}' if (
      end in ('Model', 'ForPreTraining')) else f'AutoModel{end}'


def _history(made: dict[str, Any], metrics: dict[str, Any], step: int
             ) -> list[str]:
  data, steps = made.get('data', {}), made.get('train', {}).get('steps')
  lines = ['', '## Data', '']
  lines += [f'- {key}: `{data[key]}`' for key in _DATA
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
            if key.rpartition('.')[2] not in _HERE]
  return [*lines, '```']
