"""A tokenizer as the files that transformers' AutoTokenizer reads."""

import json
import os
from typing import Any

from robertax.errors import InputError
from robertax.text import Tokenizer, load


def read(folder: str) -> Tokenizer:
  """The tokenizer of a Hugging Face folder.

  Raises:
    InputError: none is there, or of another kind.
  """
  names = ('tokenizer.json', 'vocab.txt', 'vocab.json')
  if not any(os.path.isfile(os.path.join(folder, name)) for name in names):
    raise InputError(
        f'hf:{folder}: no tokenizer in it: a tokenizer.json, vocab.json with '
        'merges.txt, or a vocab.txt would do.')
  return load(folder, lowercase=lowercase(folder))


def lowercase(folder: str) -> bool:
  """What tokenizer_config.json says of a vocab.txt; it may be missing."""
  path = os.path.join(folder, 'tokenizer_config.json')
  if not os.path.isfile(path):
    return True
  try:
    with open(path, encoding='utf-8') as f:
      return bool(json.load(f).get('do_lower_case', True))
  except (ValueError, AttributeError, RecursionError) as e:
    raise InputError(f'{path}: not an object in JSON: {e}') from e


def files(tokenizer: Tokenizer, max_length: int) -> dict[str, str]:
  """The text of each file, by its name.

  Args:
    tokenizer: byte-level BPE or WordPiece.
    max_length: positions of the model.
  """
  state = json.loads(tokenizer.to_json())
  own, added = dict(state['model']['vocab']), {}
  for token in state['added_tokens']:
    if not token['special']:
      added[token['content']] = token['id']
      own.pop(token['content'], None)
  texts = {'tokenizer.json': tokenizer.to_json()}
  if tokenizer.kind == 'byte_bpe':
    merges = [pair if isinstance(pair, str) else ' '.join(pair)
              for pair in state['model']['merges']]
    texts |= {'vocab.json': json.dumps(own, ensure_ascii=False),
              'merges.txt': '\n'.join(['#version: 0.2', *merges, ''])}
  else:
    texts['vocab.txt'] = ''.join(f'{piece}\n' for piece in sorted(
        own, key=own.get))
  if added:
    texts['added_tokens.json'] = _json(added)
  special = _special(tokenizer, state)
  texts['special_tokens_map.json'] = _json(special)
  mask = special['mask_token']
  texts['tokenizer_config.json'] = _json(
      special | {'mask_token': {'__type': 'AddedToken', **mask}}
      | _settings(tokenizer, state) | {'model_max_length': max_length})
  return texts


def _special(tokenizer: Tokenizer, state: dict[str, Any]) -> dict[str, Any]:
  """Names of special tokens by what transformers calls their roles."""
  name = {token['id']: token['content'] for token in state['added_tokens']}
  bos, eos = name[tokenizer.bos_id], name[tokenizer.eos_id]
  roles = {'cls_token': bos, 'sep_token': eos,
           'pad_token': name[tokenizer.pad_id],
           'unk_token': name[tokenizer.unk_id]}
  if tokenizer.kind == 'byte_bpe':
    roles |= {'bos_token': bos, 'eos_token': eos}
  # lstrip: the space before a mask belongs to the word predicted there.
  return roles | {'mask_token': {
      'content': name[tokenizer.mask_id], 'single_word': False,
      'lstrip': tokenizer.kind == 'byte_bpe', 'rstrip': False,
      'normalized': False}}


def _settings(tokenizer: Tokenizer, state: dict[str, Any]) -> dict[str, Any]:
  if tokenizer.kind == 'byte_bpe':
    prefix = (state['pre_tokenizer'] or {}).get('add_prefix_space', False)
    return {'tokenizer_class': 'RobertaTokenizer', 'add_prefix_space': prefix,
            'trim_offsets': True}
  normalizer = state['normalizer'] or {}
  return {'tokenizer_class': 'BertTokenizer',
          'do_lower_case': normalizer.get('lowercase', False),
          'strip_accents': normalizer.get('strip_accents'),
          'tokenize_chinese_chars': normalizer.get('handle_chinese_chars',
                                                   True)}


def _json(values: Any) -> str:
  return json.dumps(values, indent=2, ensure_ascii=False) + '\n'
