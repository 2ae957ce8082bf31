"""A path -> the tokenizer that lies there, whichever form it has."""

import os

from robertax import paths
from robertax.errors import InputError
from robertax.text import gpt2, vocab_json, wordpiece
from robertax.text.tokenizer import Tokenizer


def load(path: str, lowercase: bool = True) -> Tokenizer:
  """Reads a tokenizer.

  Args:
    path: a `tokenizer.json` (byte-level BPE or WordPiece); BERT's
      `vocab.txt`; a folder that holds either; or a folder with Hugging Face's
      `vocab.json` and `merges.txt`, or with GPT-2's `encoder.json` and
      `vocab.bpe` and fairseq's `dict.txt`.
    lowercase: what a vocab.txt does not say: whether its pieces are lower case.

  Raises:
    InputError: missing, unreadable, or another kind of tokenizer.
  """
  path = os.fspath(path)
  if not paths.is_remote(path):
    path = os.path.expanduser(path)
  if paths.isdir(path):
    inside = [paths.join(path, name) for name in (
        'tokenizer.json', 'vocab.txt')]
    found = [file for file in inside if paths.exists(file)]
    if not found and all(paths.exists(paths.join(path, name))
                         for name in vocab_json.FILES):
      return vocab_json.read(path)
    if not found:
      return gpt2.read(path)
    path = found[0]
  if not paths.exists(path):
    raise InputError(
        f'tokenizer.path: {path} does not exist. A tokenizer.json, a folder '
        f'with {", ".join(gpt2.FILES)}, or BERT\'s vocab.txt would do, or an '
        'empty path to train one.')
  try:
    with paths.open(path) as f:
      text = f.read()
  except OSError as e:
    raise InputError(f'cannot read {path}: {e.strerror}') from e
  except UnicodeDecodeError as e:
    raise InputError(f'{path}: not a tokenizer.json: {e}') from e
  if path.endswith('.txt'):
    return Tokenizer.from_wordpiece(
        wordpiece.parse_vocab(text, path, lowercase), lowercase, path)
  return Tokenizer.from_json(text, path)
