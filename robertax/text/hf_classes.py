"""What transformers makes of a tokenizer's files besides tokenizer.json.

Some of its tokenizer classes (in 5.x; in 4.x only their switches) do not take
the normalizer and pre-tokenizer of a tokenizer.json: BertTokenizer,
RobertaTokenizer and others build their own from tokenizer_config.json, and take
only vocabulary, merges and added tokens. CLASSES holds these laws
(models/*/tokenization_*.py). Any other class, such as PreTrainedTokenizerFast,
takes the file as it is.
"""

from collections.abc import Callable
import json
import os
from typing import Any

from robertax import files
from robertax.errors import InputError, reading
from robertax.text import pieces
from robertax.text.layout import Layout
from robertax.text.layout import of as layout_of

State = dict[str, Any]
CONFIG, NAMES = 'tokenizer_config.json', 'special_tokens_map.json'
# The class of a folder that names none, by its config.json's model_type.
_OF_MODEL = {'bert': 'BertTokenizer', 'roberta': 'RobertaTokenizer',
             'distilbert': 'BertTokenizer', 'electra': 'BertTokenizer',
             'longformer': 'RobertaTokenizer', 'bart': 'RobertaTokenizer',
             'xlm-roberta': 'XLMRobertaTokenizer',
             'camembert': 'CamembertTokenizer', 'albert': 'AlbertTokenizer'}
# Classes that take a tokenizer.json as it is.
_AS_THE_FILE = frozenset((
    '', 'PreTrainedTokenizer', 'TokenizersBackend', 'ConvBertTokenizer',
    'EsmTokenizer', 'FNetTokenizer'))
_EXTRA = ('extra_special_tokens', 'additional_special_tokens')


def settings_of(folder: str) -> dict[str, Any]:
  """Returns what a folder's tokenizer_config.json and its kin say.

  'tokenizer_class' is that which AutoTokenizer takes, without Fast; it is empty
  in a folder with neither that file nor a transformers' config.json.
  """
  def read(name):
    path = files.join(folder, name)
    if not files.exists(path):
      return {}
    with reading(path, 'not JSON'), files.open(path) as f:
      found = json.load(f)
    if not isinstance(found, dict):
      raise InputError(f'{path}: not a JSON object.')
    return found
  settings = read(CONFIG)
  if 'added_tokens_decoder' not in settings:
    settings |= read(NAMES)
  name = settings.get('tokenizer_class') or _OF_MODEL.get(
      str(read('config.json').get('model_type')))
  settings['tokenizer_class'] = (
      name.removesuffix('Fast') if isinstance(name, str) else '')
  return settings


def names_of(settings: dict[str, Any]) -> dict[str, str]:
  """Returns the names of special tokens: {'mask_token': '<mask>', ...}."""
  return {key: _content(settings[key]) for keys in pieces.NAME_KEYS.values()
          for key in keys if _content(settings.get(key))}


def _content(token: Any) -> str:
  found = token.get('content') if isinstance(token, dict) else token
  return found if isinstance(found, str) else ''


def as_transformers(state: State, settings: dict[str, Any], source: str
                    ) -> tuple[State, list[str]]:
  """Returns a parsed tokenizer.json as transformers reads it, and notes."""
  state = pieces.checked(state, source)
  state = _with_added(state, settings)
  name = settings.get('tokenizer_class')
  wanted, law = CLASSES.get(name, ('', None))
  if not law or state['model']['type'] != wanted:
    return state, [
        f'{source}: taken as it is; transformers\' {name}, which '
        f'{CONFIG} names, may cut text in another way. `robertax.convert '
        '--verify` compares them.'
    ] if name not in _AS_THE_FILE | CLASSES.keys() and _is_file(source) else []
  ids = pieces.ids_of(state, source)
  usual = 'wordpiece' if wanted == 'WordPiece' else 'others'
  names = {key: value for key, value in (
      _DEFAULT_NAMES[usual] | names_of(settings)).items() if value in ids}
  made = law(state, settings, names, ids)
  if _decisive(made, ids) == _decisive(state, ids):
    return {**state, 'post_processor': made['post_processor']}, []
  notes = []
  if _is_file(source) and any(
      state.get(key) for key in ('normalizer', 'pre_tokenizer')):
    notes.append(
        f'{source}: its {name} cuts text in another way than the file itself: '
        f'as in transformers, the class and {CONFIG} decide. tokenizer.path='
        f'{source} takes the file as it is.')
  return made, notes


def _is_file(source: str) -> bool:
  return os.path.basename(source) == 'tokenizer.json'


def builds(name: str, state: State, settings: dict[str, Any], layout: Layout
           ) -> bool:
  """Whether this class builds this tokenizer.json's pipeline and layout."""
  wanted, law = CLASSES[name]
  if state['model']['type'] != wanted:
    return False
  ids = pieces.ids_of(state, name)
  made = law(state, settings, names_of(settings), ids)
  return (_decisive(made, ids) == _decisive(state, ids)
          and layout == layout_of(made['post_processor'], len(ids), name))


_DEFAULT_NAMES = {
    'wordpiece': {'cls_token': '[CLS]', 'sep_token': '[SEP]',
                  'unk_token': '[UNK]'},
    'others': {'cls_token': '<s>', 'sep_token': '</s>', 'bos_token': '<s>',
               'eos_token': '</s>', 'unk_token': '<unk>'}}


def _decisive(state: State, ids: dict[str, int]) -> dict[str, Any]:
  """Returns what decides ids, in a form in which equal laws are equal."""
  cuts = dict(state.get('pre_tokenizer') or {})
  if cuts.get('type') == 'ByteLevel':
    cuts = {'use_regex': True, **cuts, 'trim_offsets': True}
  cleans = dict(state.get('normalizer') or {})
  if cleans.get('type') == 'BertNormalizer' and cleans.get(
      'strip_accents') is None:
    cleans['strip_accents'] = cleans.get('lowercase')
  model = {key: value for key, value in state['model'].items()
           if value and key not in ('vocab', 'merges', 'dropout')}
  if all(c in ids for c in pieces.BYTE_OF):  # No byte is unknown.
    model = {key: value for key, value in model.items()
             if key not in ('unk_token', 'fuse_unk')}
  return {'cuts': cuts, 'cleans': cleans, 'model': model}


def _template(first: str, last: str, pair: str, ids: dict[str, int]) -> State:
  from tokenizers import processors
  single = f'{first}:0 $A:0 {last}:0'
  return json.loads(processors.TemplateProcessing(
      single=single, pair=f'{single} {pair}', special_tokens=[
          (name, ids[name]) for name in {first, last}]).__getstate__())


def _ends(names: dict[str, str], ids: dict[str, int]) -> dict | None:
  """Whether the class finds the tokens that it puts around a text."""
  return True if {'cls_token', 'sep_token'} <= set(names) else None


def _bert(state: State, settings: dict, names: dict, ids: dict) -> State:
  accents = settings.get('strip_accents')
  post = _ends(names, ids) and _template(
      names['cls_token'], names['sep_token'], f'$B:1 {names["sep_token"]}:1',
      ids)
  return {
      **state, 'post_processor': post,
      'normalizer': {
          'type': 'BertNormalizer', 'clean_text': True,
          'handle_chinese_chars': bool(
              settings.get('tokenize_chinese_chars', True)),
          'strip_accents': accents,
          'lowercase': bool(settings.get('do_lower_case', True))},
      'pre_tokenizer': {'type': 'BertPreTokenizer'},
      'model': {'type': 'WordPiece', 'vocab': state['model']['vocab'],
                'unk_token': names.get('unk_token', '[UNK]'),
                'continuing_subword_prefix': '##',
                'max_input_chars_per_word': 100}}


def _roberta(state: State, settings: dict, names: dict, ids: dict) -> State:
  prefix = bool(settings.get('add_prefix_space', False))
  post = _ends(names, ids) and {
      'type': 'RobertaProcessing', 'trim_offsets': True,
      'add_prefix_space': prefix,
      'sep': [names['sep_token'], ids[names['sep_token']]],
      'cls': [names['cls_token'], ids[names['cls_token']]]}
  return {
      **state, 'post_processor': post, 'normalizer': None,
      'pre_tokenizer': {'type': 'ByteLevel', 'add_prefix_space': prefix,
                        'trim_offsets': True, 'use_regex': True},
      'model': {'type': 'BPE', 'vocab': state['model']['vocab'],
                'merges': state['model']['merges']}}


def _metaspace(state: State, settings: dict, normalizers: list) -> State:
  """Builds what is common to the classes with SentencePiece's Unigram."""
  normalizers = [*normalizers, *_charsmap(state.get('normalizer'))]
  scheme = 'always' if settings.get('add_prefix_space', True) else 'never'
  mark = {'type': 'Metaspace', 'replacement': '▁', 'prepend_scheme': scheme,
          'split': True}
  return {
      **state, 'decoder': mark,
      'normalizer': normalizers[0] if len(normalizers) == 1 else {
          'type': 'Sequence', 'normalizers': normalizers} if (
              normalizers) else None,
      'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [
          {'type': 'WhitespaceSplit'}, mark]}}


def _charsmap(normalizer: dict | None) -> list[dict]:
  """Returns SentencePiece's map of characters, if a normalizer has one."""
  found = (normalizer or {}).get('normalizers', [normalizer])
  return [part for part in found if isinstance(part, dict)
          and part.get('type') == 'Precompiled'][:1] if isinstance(
              found, list) else []


def _xlm_roberta(state: State, settings: dict, names: dict, ids: dict) -> State:
  bos, eos = (names.get(key) for key in ('bos_token', 'eos_token'))
  unk = ids.get(names.get('unk_token'), 3)
  return {
      **_metaspace(state, settings, []),
      'post_processor': bos and eos and _template(
          bos, eos, f'{eos}:0 $B:0 {eos}:0', ids),
      'model': {'type': 'Unigram', 'vocab': state['model']['vocab'],
                'unk_id': unk, 'byte_fallback': False}}


def _albert(state: State, settings: dict, names: dict, ids: dict) -> State:
  cleans = [{'type': 'Replace', 'pattern': {'String': quotes}, 'content': '"'}
            for quotes in ('``', "''")]
  if not settings.get('keep_accents', False):
    cleans += [{'type': 'NFKD'}, {'type': 'StripAccents'}]
  if settings.get('do_lower_case', True):
    cleans.append({'type': 'Lowercase'})
  return {
      **_metaspace(state, settings, cleans),
      'post_processor': {'[CLS]', '[SEP]'} <= set(ids) and _template(
          '[CLS]', '[SEP]', '$B:1 [SEP]:1', ids) or None,
      'model': {'type': 'Unigram', 'vocab': state['model']['vocab'],
                'unk_id': 1, 'byte_fallback': False}}


# The model of each class that builds its own pipeline, and that pipeline.
CLASSES: dict[str, tuple[str, Callable[..., State]]] = {
    'BertTokenizer': ('WordPiece', _bert),
    'DistilBertTokenizer': ('WordPiece', _bert),
    **dict.fromkeys((f'{name}Tokenizer' for name in (
        'Electra', 'MobileBert', 'LayoutLM', 'Lxmert', 'SqueezeBert')),
                    ('WordPiece', _bert)),
    'RobertaTokenizer': ('BPE', _roberta),
    # transformers 5 has these under the names of others.
    **dict.fromkeys((f'{name}Tokenizer' for name in (
        'Bart', 'Longformer', 'LED')), ('BPE', _roberta)),
    'XLMRobertaTokenizer': ('Unigram', _xlm_roberta),
    'CamembertTokenizer': ('Unigram', _xlm_roberta),
    'AlbertTokenizer': ('Unigram', _albert)}


def _with_added(state: State, settings: dict[str, Any]) -> State:
  """Adds the tokens, and their flags, that tokenizer_config.json names."""
  added = {token['content']: token for token in state['added_tokens']}
  decoder = settings.get('added_tokens_decoder')
  for number, token in (decoder if isinstance(decoder, dict) else {}).items():
    if _content(token) and isinstance(token, dict) and number.isdecimal():
      added[_content(token)] = {**FLAGS, **token, 'id': int(number)}
  extra = next((settings[key] for key in _EXTRA if settings.get(key)), [])
  extra = list(extra.values()) if isinstance(extra, dict) else extra
  ids = pieces.ids_of({**state, 'added_tokens': list(added.values())}, 'ids')
  for token in extra if isinstance(extra, list) else []:
    content = _content(token)
    if content and content not in added:
      flags = token if isinstance(token, dict) else {}
      ids.setdefault(content, 1 + max(ids.values()))
      added[content] = {**FLAGS, **flags, 'content': content,
                        'id': ids[content], 'special': True}
  return {**state, 'added_tokens': [
      {key: value for key, value in token.items() if key in (*FLAGS, 'id')}
      for token in added.values()]}


FLAGS = {'content': '', 'single_word': False, 'lstrip': False, 'rstrip': False,
         'normalized': False, 'special': False}


def with_old_added(state: State, added: dict[str, int],
                   settings: dict[str, Any], source: str) -> State:
  """Adds the tokens of an added_tokens.json, with the flags they have there."""
  known = pieces.ids_of(state, source)
  special = set(names_of(settings).values())
  more = sorted(set(added) - set(known), key=added.get)
  free = 1 + max(known.values())
  if [added[token] for token in more] != list(range(free, free + len(more))):
    raise InputError(f'{source}: its ids do not follow the {free} of the '
                     'vocabulary.')
  return {**state, 'added_tokens': [*state['added_tokens'], *(
      {**FLAGS, 'content': token, 'id': added[token],
       'special': token in special, 'normalized': token not in special}
      for token in more)]}
