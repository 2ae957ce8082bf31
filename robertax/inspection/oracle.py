"""transformers, in a process of its own: what it makes of a folder.

`ask` starts the process, which loads the folder's tokenizer and model by
AutoTokenizer and the classes that are named, and answers. Neither this process
nor its JAX sees torch, and nothing of robertax reads the folder there.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from robertax import files
from robertax.errors import InputError, reading

Outputs = dict[str, np.ndarray]
MOST_ADDED = 24  # Added tokens that are put into texts.
# Texts and pairs whose classes are asked for; any model has room for them.
QUESTIONS = ('No.', 'a man sleeps', ('a man sleeps', 'he is awake'),
             ('one', 'two three'))
# transformers 5.23 begins these at zero where a file has only the original.
_COPIES = {'lm_head.decoder.bias': 'lm_head.bias',
           'cls.predictions.decoder.bias': 'cls.predictions.bias'}


@dataclasses.dataclass(frozen=True)
class Account:
  """What transformers says of a folder."""
  tokenizer: str  # Its class; '': it cannot be loaded.
  why: str  # The error, where something cannot be loaded.
  size: int  # The number of its tokens.
  roles: dict[str, int | None]  # Ids of cls, sep, pad, unk, mask.
  texts: list[str]  # Those asked, and some with each added token.
  ids: list[list[int]]  # Of each text, without special tokens.
  single: list[list[list[int]]]  # The ids and types of each text, laid out.
  pairs: list[list[list[int]]]  # Likewise of the pairs.
  decoded: list[str]  # Of the rows of ids that were asked.
  labels: list[str]  # config.id2label.
  # What its pipeline for classes says of QUESTIONS.
  answers: list[dict[str, float]]
  missing: dict[str, list[str]]  # By class: tensors that it did not find.
  outputs: dict[str, Outputs]  # By the name of a batch.


def is_installed() -> bool:
  """Whether PyTorch and transformers are installed."""
  return all(map(importlib.util.find_spec, ('torch', 'transformers')))


def ask(folder: str, texts: list[str], pairs: list[tuple[str, str]],
        rows: list[list[int]], classes: list[str],
        batches: dict[str, Outputs]) -> Account:
  """Asks transformers about a folder.

  Args:
    folder: one that save_pretrained, or robertax, has written.
    texts, pairs: are encoded.
    rows: ids that are decoded.
    classes: of transformers, whose outputs are wanted.
    batches: input_ids, segment_ids and type_ids, int32[B, T], by name.

  Raises:
    InputError: the process ends before it has answered.
  """
  with tempfile.TemporaryDirectory(prefix='robertax-verify-') as work:
    files.write_text(f'{work}/asked.json', json.dumps({
        'folder': os.path.abspath(folder), 'texts': texts, 'pairs': pairs,
        'rows': rows, 'classes': classes}))
    np.savez(f'{work}/batches.npz', **{
        f'{name}/{key}': x for name, batch in batches.items()
        for key, x in batch.items()})
    # With its parent's sys.path the process finds the same modules.
    code = (f'import sys; sys.path[:] = {sys.path!r}; from robertax.inspection '
            'import oracle; oracle.answer(sys.argv[1])')
    done = subprocess.run(
        [sys.executable, '-c', code, work], capture_output=True, text=True,
        env={**os.environ, 'HF_HUB_OFFLINE': '1', 'XLA_FLAGS': '',
             'TOKENIZERS_PARALLELISM': 'false'})
    if done.returncode:
      last = (done.stderr.strip().splitlines() or ['no message'])[-1]
      raise InputError(f'{folder}: transformers, in a process of its own, '
                       f'ended with exit code {done.returncode}: {last}')
    with reading(work):
      found = files.read_json(f'{work}/answers.json')
      outputs: dict[str, Outputs] = {name: {} for name in batches}
      with np.load(f'{work}/outputs.npz') as arrays:
        for name in arrays.files:
          batch, _, key = name.partition('/')
          outputs[batch][key] = arrays[name]
    return Account(**found, outputs=outputs)


def answer(work: str) -> None:
  """The process: answers what `ask` has written, in the same folder."""
  import transformers
  transformers.logging.set_verbosity_error()
  transformers.logging.disable_progress_bar()
  asked = files.read_json(f'{work}/asked.json')
  found = {'tokenizer': '', 'why': '', 'size': 0, 'roles': {}, 'texts': [],
           'ids': [], 'single': [], 'pairs': [], 'decoded': [], 'labels': [],
           'answers': [], 'missing': {}}
  try:
    tokenizer = transformers.AutoTokenizer.from_pretrained(asked['folder'])
  except Exception as e:  # It may raise anything.
    found['why'] = f'AutoTokenizer: {" ".join(str(e).split())[:200]}'
  else:
    found |= _of_tokenizer(tokenizer, asked)
  with np.load(f'{work}/batches.npz') as arrays:
    batches: dict[str, Outputs] = {}
    for name in arrays.files:
      batch, _, key = name.partition('/')
      batches.setdefault(batch, {})[key] = arrays[name]
  outputs: Outputs = {}
  for name in asked['classes']:
    try:
      of_class = class_outputs(name, asked['folder'], batches, found)
    except Exception as e:
      found['why'] = f'{name}: {" ".join(str(e).split())[:200]}'
      found['missing'][name] = ['config.json']
    else:
      outputs |= of_class
      if found['labels'] and found['tokenizer'] and not found['answers']:
        found['answers'] = _of_pipeline(asked['folder'])
  np.savez(f'{work}/outputs.npz', **outputs)
  files.write_text(f'{work}/answers.json', json.dumps(found))


def _of_tokenizer(tokenizer, asked: dict[str, Any]) -> dict[str, Any]:
  roles = {role: getattr(tokenizer, f'{role}_token_id')
           for role in ('cls', 'sep', 'pad', 'unk', 'mask')}
  own = [token.content for i, token in sorted(
      tokenizer.added_tokens_decoder.items()) if i not in (
          *roles.values(), tokenizer.bos_token_id, tokenizer.eos_token_id)]
  texts = asked['texts'] + [text for t in own[:MOST_ADDED] for text in (
      t, f'one {t} two', f'one{t}two', f'({t}).', f'  {t.upper()}  {t}')]
  plain = tokenizer(texts, add_special_tokens=False)['input_ids']

  def laid_out(*texts):
    found = tokenizer(*texts, return_token_type_ids=True)
    return [[ids, types] for ids, types in zip(
        found['input_ids'], found['token_type_ids'])]
  return {'tokenizer': type(tokenizer).__name__, 'size': len(tokenizer),
          'roles': roles, 'texts': texts, 'ids': plain,
          'single': laid_out(texts),
          'pairs': laid_out(*map(list, zip(*asked['pairs']))),
          'decoded': [tokenizer.decode(
              row, skip_special_tokens=False,
              clean_up_tokenization_spaces=False) for row in asked['rows']]}


def _of_pipeline(folder: str) -> list[dict[str, float]]:
  import transformers
  classify = transformers.pipeline(
      'text-classification', folder, tokenizer=folder, top_k=None,
      device='cpu', dtype='float32')
  said = [classify([text if isinstance(text, str) else {
      'text': text[0], 'text_pair': text[1]}])[0] for text in QUESTIONS]
  return [{row['label']: row['score'] for row in rows} for rows in said]


def class_outputs(name: str, folder: str, batches: dict[str, Outputs],
                  found: dict[str, Any]) -> Outputs:
  """Returns what a class of transformers gives for batches.

  Args:
    name: of the class.
    folder: of save_pretrained.
    batches: as in `ask`.
    found: its keys `missing` and `labels`, as in Account, are filled in.

  Returns:
    float32 arrays by `<batch>/<head>`; `states` are the last layer's.
  """
  import torch
  import transformers
  module, info = getattr(transformers, name).from_pretrained(
      folder, dtype=torch.float32, output_loading_info=True)
  module.eval()
  missing = set(info['missing_keys'])
  for copy, original in _COPIES.items():
    if copy in missing and original not in missing:
      with contextlib.suppress(AttributeError), torch.no_grad():
        module.get_parameter(copy).copy_(module.get_parameter(original))
        missing.discard(copy)
  found['missing'][name] = sorted(  # Nobody asks a bare encoder's pooler.
      m for m in missing if 'pooler' not in m or not name.endswith('Model'))
  if name.endswith('ForSequenceClassification'):
    labels = module.config.id2label
    found['labels'] = [str(labels[i]) for i in sorted(labels)]
  outputs = {}
  for batch_name, batch in batches.items():
    inputs = {key: torch.tensor(batch[ours], dtype=torch.long)
              for key, ours in (('input_ids', 'input_ids'),
                                ('attention_mask', 'segment_ids'),
                                ('token_type_ids', 'type_ids'))}
    if name.endswith('ForMultipleChoice'):
      inputs = {key: value[:, None] for key, value in inputs.items()}
    with torch.no_grad():
      seen = module(**inputs, output_hidden_states=True)
    heads = {'states': seen.hidden_states[-1]}
    for key, ours in (('prediction_logits', 'lm_head'),
                      ('seq_relationship_logits', 'nsp_head'),
                      ('start_logits', 'start'), ('end_logits', 'end')):
      if key in seen:
        heads[ours] = seen[key]
    if 'logits' in seen:
      heads['lm_head' if name.endswith('ForMaskedLM') else
            'classifier'] = seen.logits
    outputs |= {f'{batch_name}/{key}': x.numpy() for key, x in heads.items()}
  return outputs
