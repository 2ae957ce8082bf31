"""The tokenizer's files of a Hugging Face folder, as AutoTokenizer reads them.
"""

import json
import os
from typing import Any

from robertax.errors import InputError
from robertax.text import Tokenizer, hf_classes, load

_READABLE = ('tokenizer.json', 'vocab.txt', 'vocab.json', 'dict.txt')


def read_tokenizer(folder: str) -> Tokenizer:
  """Reads the tokenizer of a Hugging Face folder; InputError if it has none."""
  names = os.listdir(folder) if os.path.isdir(folder) else []
  if not any(name in _READABLE or name.endswith('.model') for name in names):
    raise InputError(
        f'hf:{folder}: it has no tokenizer: a tokenizer.json, vocab.json with '
        'merges.txt, a vocab.txt or a SentencePiece model would do.')
  return load(folder, lowercase=reads_lowercase(folder))


def reads_lowercase(folder: str) -> bool:
  """Whether tokenizer_config.json, if any, says that vocab.txt is lowercase."""
  return bool(hf_classes.settings_of(folder).get('do_lower_case', True))


def tokenizer_files(tokenizer: Tokenizer, max_length: int,
                    family: str = '', types: bool = True) -> dict[str, str]:
  """Makes the text of each file.

  Args:
    tokenizer: what is written.
    max_length: how many positions the model has.
    family: transformers' model_type; decides between classes of one kind.
    types: whether the model has more than one token type.
  """
  state = json.loads(tokenizer.to_json())
  name, settings = class_of(tokenizer, state, family)
  own = [token for token in state['added_tokens']
         if token['id'] not in tokenizer.special_ids]
  texts = {'tokenizer.json': tokenizer.to_json()}
  if name == 'RobertaTokenizer':
    merges = [pair if isinstance(pair, str) else ' '.join(pair)
              for pair in state['model']['merges']]
    texts |= {'vocab.json': json.dumps(_vocab(state, own), ensure_ascii=False),
              'merges.txt': '\n'.join(['#version: 0.2', *merges, ''])}
  elif name == 'BertTokenizer':
    vocab = _vocab(state, own)
    texts['vocab.txt'] = ''.join(f'{p}\n' for p in sorted(vocab, key=vocab.get))
  if own:
    texts['added_tokens.json'] = _to_json(
        {token['content']: token['id'] for token in own})
    settings['added_tokens_decoder'] = {
        str(token['id']): {key: token[key] for key in hf_classes.FLAGS}
        for token in state['added_tokens']}
  special = _special_names(tokenizer, state, own)
  texts['special_tokens_map.json'] = _to_json(special)
  mask = {'__type': 'AddedToken', **special['mask_token']}
  if name == 'PreTrainedTokenizerFast':
    # transformers 5 gives types only where they are asked for.
    settings['model_input_names'] = [
        'input_ids', *['token_type_ids'] * (types and tokenizer.layout.typed),
        'attention_mask']
  texts['tokenizer_config.json'] = _to_json(
      special | {'mask_token': mask, 'tokenizer_class': name} | settings
      | {'model_max_length': max_length})
  return texts


def class_of(tokenizer: Tokenizer, state: dict[str, Any], family: str = ''
             ) -> tuple[str, dict[str, Any]]:
  """Chooses transformers' class for a tokenizer, and its settings.

  A class that builds its own pipeline is chosen only if that is this
  tokenizer's, with its layout; PreTrainedTokenizerFast takes any.
  """
  prefix = _prefix_space(state.get('pre_tokenizer'))
  normalizer = state.get('normalizer') or {}
  lower = normalizer.get('lowercase', False)
  options = {
      'byte_bpe': ('RobertaTokenizer', {
          'add_prefix_space': prefix, 'trim_offsets': True}),
      'wordpiece': ('BertTokenizer', {
          'do_lower_case': lower,
          'strip_accents': normalizer.get('strip_accents'),
          'tokenize_chinese_chars': normalizer.get('handle_chinese_chars',
                                                   True)}),
      'unigram': ('CamembertTokenizer' if family == 'camembert' else
                  'XLMRobertaTokenizer', {'add_prefix_space': prefix})}
  name, settings = options.get(tokenizer.kind, ('', {}))
  if name and hf_classes.builds(name, state, {
      **settings, **tokenizer.special_names()}, tokenizer.layout):
    return name, settings
  return 'PreTrainedTokenizerFast', {'add_prefix_space': prefix}


def family_of(tokenizer: Tokenizer) -> str:
  """Returns the model_type of a model that is known by its tokenizer alone."""
  if tokenizer.kind == 'wordpiece':
    return 'bert'
  if tokenizer.kind == 'unigram':
    state = json.loads(tokenizer.to_json())
    family = ('camembert' if state['model']['vocab'][0][0].endswith('NOTUSED')
              else 'xlm-roberta')
    if class_of(tokenizer, state, family)[0] != 'PreTrainedTokenizerFast':
      return family
  return 'roberta'


def _prefix_space(part: Any) -> bool:
  """Whether any part of a pre-tokenizer puts a space in front of a text."""
  if isinstance(part, list):
    return any(map(_prefix_space, part))
  if not isinstance(part, dict):
    return False
  return (part.get('add_prefix_space') is True
          or part.get('prepend_scheme') in ('always', 'first')
          or any(map(_prefix_space, part.values())))


def _vocab(state: dict[str, Any], own: list[dict]) -> dict[str, int]:
  """Returns the ids of pieces and special tokens, without added tokens."""
  names = {token['content'] for token in own}
  return {piece: i for piece, i in (
      state['model']['vocab'] | {token['content']: token['id'] for token in
                                 state['added_tokens']}).items()
          if piece not in names}


def _special_names(tokenizer: Tokenizer, state: dict[str, Any],
                   own: list[dict]) -> dict[str, Any]:
  """Returns the roles of special tokens, and special tokens without a role."""
  roles = tokenizer.special_names()
  if tokenizer.kind == 'wordpiece':
    roles = {key: roles[key] for key in roles
             if key not in ('bos_token', 'eos_token')}
  flags = next(token for token in state['added_tokens']
               if token['id'] == tokenizer.mask_id)
  mask = {key: flags[key] for key in hf_classes.FLAGS if key != 'special'}
  extra = [token['content'] for token in own if token['special']]
  return {**roles, 'mask_token': mask,
          **({'additional_special_tokens': extra} if extra else {})}


def _to_json(values: Any) -> str:
  return json.dumps(values, indent=2, ensure_ascii=False) + '\n'
