"""Reads a SentencePiece model without that library.

The file is a protocol buffer (sentencepiece_model.proto): pieces with scores
and types, how it was trained, and its map of characters. Ids are those of
transformers' converters (convert_slow_tokenizer.py), not of the file.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
import struct
from typing import Any

from robertax import files
from robertax.errors import InputError, reading

FILES = ('sentencepiece.bpe.model', 'spiece.model', 'sentencepiece.model',
         'tokenizer.model', 'spm.model')
_UNIGRAM = 1
_INSTEAD = ('A tokenizer.json would do: transformers\' AutoTokenizer.from_'
            'pretrained(FOLDER).save_pretrained(FOLDER) writes it.')


def read(path: str, settings: dict[str, Any]) -> dict[str, Any]:
  """Returns a tokenizer.json, parsed, of a model; `settings` of its folder.

  InputError for a model that is no Unigram, or of a class without a rule.
  """
  with reading(path, 'not a SentencePiece model'), files.open(path, 'rb') as f:
    data = f.read()
  found: list[tuple[str, float]] = []
  kind, charsmap = _UNIGRAM, b''
  with reading(path, 'not a SentencePiece model'):
    for field, value in _fields(data):
      if field == 1:
        parts = dict(_fields(value))
        found.append((parts[1].decode(), parts.get(2, 0.)))
      elif field == 2:
        kind = dict(_fields(value)).get(3, _UNIGRAM)
      elif field == 3:
        charsmap = dict(_fields(value)).get(2, b'')
  if not found:
    raise InputError(f'{path}: not a SentencePiece model: it has no pieces.')
  name = settings.get('tokenizer_class', '')
  if kind != _UNIGRAM or name not in _LAWS:
    raise InputError(
        f'{path}: a SentencePiece model of '
        + ('another kind than Unigram. ' if kind != _UNIGRAM else
           f'{name or "an unnamed tokenizer class"}; the ids of '
           f'{", ".join(_LAWS)} are known, by tokenizer_config.json. ')
        + _INSTEAD)
  # As in a tokenizer.json; hf_classes puts the rest around it.
  normalizer = {'type': 'Precompiled', 'precompiled_charsmap':
                base64.b64encode(charsmap).decode()} if charsmap else None
  vocab, unk_id = _LAWS[name](found)
  return {'version': '1.0', 'added_tokens': [], 'normalizer': normalizer,
          'model': {'type': 'Unigram', 'vocab': [list(row) for row in vocab],
                    'unk_id': unk_id}}


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
  """Yields the number and value of each field of a message."""
  at = 0
  while at < len(data):
    key, at = _varint(data, at)
    if key & 7 == 0:
      value, at = _varint(data, at)
    elif key & 7 == 2:
      size, at = _varint(data, at)
      value, at = data[at:at + size], at + size
      if at > len(data):
        raise ValueError('it is cut off')
    elif key & 7 in (1, 5):
      size, form = (8, '<d') if key & 7 == 1 else (4, '<f')
      value, at = struct.unpack_from(form, data, at)[0], at + size
    else:
      raise ValueError(f'field of type {key & 7}')
    yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    if at >= len(data):
      raise ValueError('it is cut off')
    byte, at = data[at], at + 1
    value |= (byte & 127) << shift
    shift += 7
    if byte < 128:
      return value, at


def _xlm_roberta(found):
  specials = [(name, 0.) for name in ('<s>', '<pad>', '</s>', '<unk>')]
  return [*specials, *found[3:], ('<mask>', 0.)], 3


def _camembert(found):
  return [('<s>NOTUSED', 0.), ('<pad>', 0.), ('</s>NOTUSED', 0.),
          ('<unk>', 0.), ('<unk>NOTUSED', -100.), *found[1:],
          ('<mask>', 0.)], 3


_LAWS = {'XLMRobertaTokenizer': _xlm_roberta, 'CamembertTokenizer': _camembert,
         'AlbertTokenizer': lambda found: (found, 1)}
