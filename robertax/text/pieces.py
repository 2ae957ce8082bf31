"""What a tokenizer.json says of its pieces: kind, roles, spelling, words.

A file of any model of the `tokenizers` library is read. Its special tokens are
found by what they are for, and may have any ids; its pieces are spelled in one
of a few ways, which decide how ids become text and where words begin.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import numpy as np

from robertax.errors import InputError

# RoBERTa's layout of ids is fairseq's (data/dictionary.py, tasks/masked_lm.py):
# these four, then the pieces, and <mask> last (Hugging Face's training recipe
# puts it at 4).
SPECIALS = ('<s>', '<pad>', '</s>', '<unk>')
MASK = '<mask>'


def _byte_letters() -> dict[str, int]:
  """Maps GPT-2's letters to bytes (fairseq data/encoders/gpt2_bpe_utils.py)."""
  plain = [*range(ord('!'), ord('~') + 1), *range(ord('¡'), ord('¬') + 1),
           *range(ord('®'), ord('ÿ') + 1)]
  others = [b for b in range(256) if b not in plain]
  return {**{chr(b): b for b in plain},
          **{chr(256 + i): b for i, b in enumerate(others)}}


BYTE_OF = _byte_letters()
# What the five special tokens are for, in the order of error messages, and the
# names that they have where nothing else tells. RoBERTa's come first.
NAMES = {
    'bos': ('<s>', '[CLS]', '<cls>', '<bos>', '[BOS]'),
    'pad': ('<pad>', '[PAD]'),
    'eos': ('</s>', '[SEP]', '<sep>', '<eos>', '[EOS]'),
    'unk': ('<unk>', '[UNK]'),
    'mask': ('<mask>', '[MASK]')}
# What tokenizer_config.json and special_tokens_map.json call them.
NAME_KEYS = {'bos': ('cls_token', 'bos_token'), 'pad': ('pad_token',),
             'eos': ('sep_token', 'eos_token'), 'unk': ('unk_token',),
             'mask': ('mask_token',)}
_UNUSED = re.compile(r'\[unused\d+\]|madeupword\d+|.+NOTUSED')
_BYTE = re.compile(r'<0x([0-9A-Fa-f]{2})>')
# Pre-tokenizers that cut at white space and drop it.
_SPLITS_WORDS = ('"Whitespace"', '"WhitespaceSplit"', '"BertPreTokenizer"',
                 '"CharDelimiterSplit"')
# Of the ids, those without a piece: a few are rows that no text uses.
_MOST_HOLES = .1
MODELS = ('BPE', 'WordPiece', 'Unigram', 'WordLevel')


def model_type(model: dict) -> str:
  """Returns the type of a model; very old files do not say it."""
  if 'type' in model:
    return str(model['type'])
  if isinstance(model.get('vocab'), list):
    return 'Unigram'
  return 'BPE' if 'merges' in model or 'continuing_subword_prefix' not in (
      model) else 'WordPiece'


def checked(state: Any, source: str) -> dict:
  """Returns a parsed tokenizer.json with the parts that all readers need."""
  model = state.get('model') if isinstance(state, dict) else None
  if not isinstance(model, dict):
    raise InputError(f'{source}: not a tokenizer.json: it has no "model".')
  kind = model_type(model)
  if kind not in MODELS:
    raise InputError(f'{source}: its model is {kind}: one of '
                     f'{", ".join(MODELS)} would do.')
  vocab = model.get('vocab')
  if not vocab or not isinstance(vocab, list if kind == 'Unigram' else dict):
    raise InputError(f'{source}: its model has no "vocab".')
  if kind == 'BPE' and not isinstance(model.get('merges'), list):
    raise InputError(f'{source}: its model has no "merges".')
  if kind == 'Unigram' and not all(
      isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)
      for row in vocab):
    raise InputError(f'{source}: its "vocab" is not pairs of piece and score.')
  for key in ('continuing_subword_prefix', 'end_of_word_suffix', 'unk_token'):
    if not isinstance(model.get(key) or '', str):
      raise InputError(f'{source}: its {key} is not a string.')
  prefix = model.get('continuing_subword_prefix')
  ends = [pair.partition(' ')[2] if isinstance(pair, str) else pair[-1]
          for pair in model['merges'] if pair and isinstance(
              pair, str | list)] if kind == 'BPE' and prefix else []
  if not all(isinstance(end, str) and end.startswith(prefix) for end in ends):
    # The library would cut the prefix off all the same, and end the process.
    raise InputError(f'{source}: a merge does not continue with the prefix '
                     f'{prefix!r} of its pieces.')
  for key in ('normalizer', 'pre_tokenizer', 'post_processor'):
    if not isinstance(state.get(key) or {}, dict):
      raise InputError(f'{source}: its "{key}" is not an object.')
  added = state.get('added_tokens') or []
  if not (isinstance(added, list) and all(
      isinstance(token, dict) and isinstance(token.get('content'), str)
      for token in added)):
    raise InputError(f'{source}: its "added_tokens" are not objects with '
                     '"content".')
  return {**state, 'model': {**model, 'type': kind}, 'added_tokens': added}


def ids_of(state: dict, source: str) -> dict[str, int]:
  """Returns the id of each piece and added token; each id occurs once."""
  vocab = state['model']['vocab']
  ids = (dict(vocab) if isinstance(vocab, dict) else
         {row[0]: i for i, row in enumerate(vocab)})
  for token in state['added_tokens']:
    ids.setdefault(token['content'], token.get('id'))
  found = list(ids.values())
  whole = all(type(i) is int and i >= 0 for i in found)
  size = 1 + max(found) if whole else 0
  if not whole or len(set(found)) < len(found) or (
      size - len(found) > _MOST_HOLES * len(found)):
    last = len(found) - 1
    raise InputError(f'{source}: its {last + 1} ids are not 0 to {last}, each '
                     'once' + (f': the last one is {size - 1}, and a model '
                               'would have rows for all between.'
                               if whole and size > last + 1 else '.'))
  return ids


class Roles(NamedTuple):
  """The ids of the special tokens; `unk` is -1 where there is none."""
  bos: int
  pad: int
  eos: int
  unk: int
  mask: int


def roles_of(state: dict, ids: dict[str, int], names: dict[str, str],
             ends: tuple[int | None, int | None], source: str) -> Roles:
  """Finds the special tokens.

  `ends` are the ids that the post-processor puts first and last, `names` what
  files beside a tokenizer.json call the tokens (`NAME_KEYS`). Without these the
  usual names decide.
  """
  model, found = state['model'], {}
  unk = model.get('unk_id' if model['type'] == 'Unigram' else 'unk_token')
  if isinstance(unk, str):
    unk = ids.get(unk)
  own = {'bos': ends[0], 'eos': ends[1],
         'unk': unk if unk in ids.values() else None}
  for role, usual in NAMES.items():
    named = [names.get(key) for key in NAME_KEYS[role]]
    options = [own.get(role), *(ids.get(n) for n in (*named, *usual) if n)]
    found[role] = next((i for i in options if i is not None), None)
  if found['unk'] is None and not model.get('unk_token'):
    found['unk'] = -1  # Bytes and bytes as a fallback need none.
  for role, i in found.items():
    if i is None:
      keys = ' or '.join(f'"{key}"' for key in NAME_KEYS[role])
      usual = next(u for u in NAMES[role] if u[0] == (
          '[' if model['type'] == 'WordPiece' else '<'))
      raise InputError(
          f'{source}: the special token {usual} is missing: one of '
          f'{", ".join(NAMES[role])}, or a token that a tokenizer_config.json '
          f'in its folder calls {keys}, would do.')
  if found['mask'] in [found[r] for r in found if r != 'mask']:
    raise InputError(f'{source}: its mask is another special token too (id '
                     f'{found["mask"]}): a mask of its own would do.')
  return Roles(**found)


class Spelling(NamedTuple):
  """How pieces spell text.

  Attributes:
    letters: GPT-2's letters stand for bytes.
    space: this character stands for a space, such as SentencePiece's '▁'.
    prefix: begins the pieces inside a word, such as BERT's '##'.
    suffix: ends the last piece of a word, such as '</w>'.
    apart: pieces are words with spaces between.
  """
  letters: bool = False
  space: str = ''
  prefix: str = ''
  suffix: str = ''
  apart: bool = False

  def bytes(self, piece: str) -> bytes:
    """Returns a piece's UTF-8 text; ' the' for one that begins a word."""
    if self.letters:
      return (bytes(BYTE_OF[c] for c in piece)
              if all(c in BYTE_OF for c in piece) else piece.encode())
    if byte := _BYTE.fullmatch(piece):
      return bytes([int(byte[1], 16)])
    if self.space:
      return piece.replace(self.space, ' ').encode()
    if self.suffix:
      cut = piece.removesuffix(self.suffix)
      return (cut if cut == piece else f'{cut} ').encode()
    if self.prefix and piece.startswith(self.prefix) and piece != self.prefix:
      return piece.removeprefix(self.prefix).encode()
    return (f' {piece}' if self.prefix or self.apart else piece).encode()


def is_byte(piece: str) -> bool:
  """Whether a piece is a byte as a fallback, such as '<0xE2>'."""
  return bool(_BYTE.fullmatch(piece))


def spelling_of(state: dict) -> Spelling:
  """Reads how a file's pieces spell text from its parts."""
  model = state['model']
  parts = json.dumps([state.get(key) for key in (
      'normalizer', 'pre_tokenizer', 'decoder')], ensure_ascii=False)
  if '"ByteLevel"' in parts:
    return Spelling(letters=True)
  if '"Metaspace"' in parts or '"▁"' in parts:
    marks = re.findall(r'"replacement": "([^"]+)"', parts)
    return Spelling(space=marks[0] if marks else '▁')
  if model['type'] == 'WordPiece':
    return Spelling(prefix=model.get('continuing_subword_prefix', '##'))
  if model['type'] == 'BPE' and model.get('end_of_word_suffix'):
    return Spelling(suffix=model['end_of_word_suffix'])
  if model['type'] == 'BPE' and model.get('continuing_subword_prefix'):
    return Spelling(prefix=model['continuing_subword_prefix'])
  return Spelling(apart=any(name in parts for name in _SPLITS_WORDS)
                  and kind_of(state) != 'char')


def kind_of(state: dict) -> str:
  """Names a file's kind: 'byte_bpe', 'bpe', 'wordpiece', 'unigram', 'char', ...

  A WordLevel vocabulary of single characters is 'char', any other 'word_level'.
  """
  model = state['model']
  if model['type'] == 'BPE':
    parts = json.dumps([state.get('normalizer'), state.get('pre_tokenizer')])
    return 'byte_bpe' if '"ByteLevel"' in parts else 'bpe'
  if model['type'] == 'WordLevel':
    special = {token['content'] for token in state['added_tokens']}
    special |= {name for usual in NAMES.values() for name in usual}
    # A letter with its combining marks is one character to a reader.
    return 'char' if all(
        len(piece) < 2 or piece in special or _UNUSED.fullmatch(piece)
        or piece.startswith(('<', '[')) or _is_one_letter(piece)
        for piece in model['vocab']) else 'word_level'
  return model['type'].lower()


def _is_one_letter(piece: str) -> bool:
  import unicodedata
  return all(unicodedata.category(c)[0] == 'M' for c in piece[1:])


def word_starts(pieces: list[str], spelling: Spelling, kind: str) -> np.ndarray:
  """bool[V]: whether a piece begins a word.

  Words of a vocabulary of characters begin at a space; without one each
  character is a word, as is each piece of a WordLevel.
  """
  if kind == 'byte_bpe':
    begins = [piece.startswith('Ġ') for piece in pieces]
  elif spelling.space:
    begins = [piece.startswith(spelling.space) for piece in pieces]
  elif spelling.prefix:
    begins = [not piece.startswith(spelling.prefix) for piece in pieces]
  elif kind in ('char', 'bpe') and ' ' in pieces:
    begins = [piece.startswith(' ') for piece in pieces]
  else:
    begins = [True] * len(pieces)
  return np.array(begins) & np.array([piece != '' for piece in pieces])


def random_ids(pieces: list[str], roles: Roles, kind: str, ordinary: bool,
               added: set[str]) -> np.ndarray:
  """int32[R]: the ids that masking draws as random tokens.

  They are those that a text can have: a random token that occurs in no text
  would give itself away. In the `ordinary` layouts of RoBERTa and BERT, whose
  special and [unused] tokens come first, they are all later ids, as in
  fairseq, which draws from all but its first four: a <mask> at the end and
  `added` words are among them. (BERT itself draws from all 30,522 ids.)
  """
  last = max(i for i, piece in enumerate(pieces) if piece not in added)
  idle = {i for i in roles[:-1] if i >= 0}
  if kind != 'byte_bpe' and roles.mask != last:
    idle.add(roles.mask)
  idle |= {i for i, piece in enumerate(pieces)
           if not piece or piece.startswith('[') and _UNUSED.fullmatch(piece)}
  if not ordinary or sorted(idle) != list(range(len(idle))):
    idle |= {i for i, piece in enumerate(pieces)
             if i == roles.mask or _UNUSED.fullmatch(piece)}
  return np.array([i for i in range(len(pieces)) if i not in idle], np.int32)
