"""Hugging Face's vocab.json with merges.txt: a byte-level BPE in two files.

Unlike GPT-2's `encoder.json`, `vocab.json` has RoBERTa's ids already
(transformers models/roberta/tokenization_roberta.py).
"""

import json
import os

from robertax.errors import InputError
from robertax.text import gpt2
from robertax.text.byte_bpe import MASK, SPECIALS
from robertax.text.tokenizer import Tokenizer

FILES = ('vocab.json', 'merges.txt')
ADDED = 'added_tokens.json'


def read(folder: str) -> Tokenizer:
  """Reads `vocab.json`, `merges.txt` and, if it is there, `added_tokens.json`.

  Raises:
    InputError: a file is missing, damaged, or does not go with the other.
  """
  vocab = _ids(os.path.join(folder, FILES[0]))
  merges = gpt2.read_merges(os.path.join(folder, FILES[1]), vocab)
  path = os.path.join(folder, ADDED)
  added = _ids(path) if os.path.isfile(path) else {}
  # <mask> has been one of them.
  vocab |= {token: i for token, i in added.items()
            if token in (MASK, *SPECIALS)}
  tokenizer = Tokenizer.from_bpe(vocab, merges, folder)
  more = sorted(set(added) - set(vocab), key=added.get)
  if [added[token] for token in more] != list(range(
      tokenizer.vocab_size, tokenizer.vocab_size + len(more))):
    raise InputError(f'{path}: its ids do not follow the {len(vocab)} of '
                     f'{FILES[0]}.')
  return tokenizer.with_added(more) if more else tokenizer


def _ids(path: str) -> dict[str, int]:
  try:
    pieces = json.loads(gpt2.read_text(path))
  except (ValueError, RecursionError) as e:
    raise InputError(f'{path}: not JSON: {e}') from e
  if not isinstance(pieces, dict) or not pieces or not all(
      isinstance(i, int) for i in pieces.values()):
    raise InputError(f'{path}: expected an object of pieces and ids.')
  return pieces
