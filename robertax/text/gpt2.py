"""GPT-2's files with fairseq's dict.txt: RoBERTa's own 50,265 ids.

Two steps in fairseq, one here. `encoder.json` gives a piece its GPT-2 id;
`dict.txt` lists those ids, written as words, by falling frequency, and a word's
line number + 4 is the RoBERTa id; three `madeupword` lines fill the dictionary
up to a multiple of 8; <mask> is appended (fairseq data/dictionary.py:168-199,
tasks/masked_lm.py:140).
"""

import json
import os

from robertax.errors import InputError
from robertax.text.byte_bpe import MASK, SPECIALS
from robertax.text.tokenizer import Tokenizer

FILES = ('encoder.json', 'vocab.bpe', 'dict.txt')


def read(folder: str) -> Tokenizer:
  """Reads `encoder.json`, `vocab.bpe` and `dict.txt` from a folder.

  With the official files, 'Hello world!' is 31414 232 328, as in fairseq's
  examples/roberta/README.md.

  Raises:
    InputError: a file is missing, damaged, or does not go with the others.
  """
  paths = [os.path.join(folder, name) for name in FILES]
  absent = [n for n, path in zip(FILES, paths)
            if not os.path.isfile(path)]
  if absent:
    raise InputError(
        f'{folder}: no {" and no ".join(absent)} in it. A folder with '
        f'{", ".join(FILES)}, or a tokenizer.json, would do.')
  encoder_path, merges_path, dict_path = paths
  try:
    encoder = json.loads(read_text(encoder_path))
  except (ValueError, RecursionError) as e:
    raise InputError(f'{encoder_path}: not JSON: {e}') from e
  if not isinstance(encoder, dict) or not encoder:
    raise InputError(f'{encoder_path}: expected an object of pieces and ids.')
  piece_of = {str(i): piece for piece, i in encoder.items()}
  vocab = {token: i for i, token in enumerate(SPECIALS)}
  used = set()
  for number, line in enumerate(read_text(dict_path).splitlines(), 1):
    word, _, count = line.rpartition(' ')
    if not word or not count.isdigit():
      raise InputError(f'{dict_path}: line {number}: expected "word count", '
                       f'found {line[:40]!r}.')
    if word.startswith('madeupword'):
      piece = word
    elif word in piece_of:
      piece = piece_of[word]
      used.add(word)
    else:
      raise InputError(
          f'{dict_path}: line {number}: {word!r} is not an id of '
          f'{encoder_path}: the two do not belong together.')
    if piece in vocab:
      raise InputError(f'{dict_path}: line {number}: {word!r} stands there '
                       'twice.')
    vocab[piece] = len(vocab)
  if len(used) != len(piece_of):
    raise InputError(
        f'{dict_path}: has {len(used)} of the {len(piece_of)} pieces of '
        f'{encoder_path}. RoBERTa\'s own has 50260 lines.')
  vocab[MASK] = len(vocab)
  return Tokenizer.from_bpe(vocab, read_merges(merges_path, vocab), folder)


def read_merges(path: str, vocab: dict[str, int]) -> list[tuple[str, str]]:
  """Merges in order of their rank, held against the pieces."""
  merges = []
  for number, line in enumerate(read_text(path).split('\n'), 1):
    if not line or number == 1 and line.startswith('#version'):
      continue
    pair = tuple(line.rstrip('\r').split(' '))
    if len(pair) != 2 or ''.join(pair) not in vocab:
      raise InputError(
          f'{path}: line {number}: expected two pieces whose union has '
          f'an id, found {line[:40]!r}.')
    merges.append(pair)
  # Every piece but the 256 bytes and <|endoftext|> is somebody's union; a
  # short file would tokenize, and wrongly.
  unions = {a + b for a, b in merges}
  orphans = [piece for piece in vocab
             if len(piece) > 1 and piece not in unions
             and not piece.startswith(('madeupword', '<'))]
  if orphans:
    raise InputError(
        f'{path}: {len(merges)} merges; those for {len(orphans)} pieces '
        f'are missing, such as {orphans[0]!r}.')
  return merges


def read_text(path: str) -> str:
  """A file as UTF-8, its line ends as they are."""
  try:
    with open(path, encoding='utf-8', newline='\n') as f:
      return f.read()
  except OSError as e:
    raise InputError(f'cannot read {path}: {e.strerror}') from e
  except UnicodeDecodeError as e:
    raise InputError(f'{path}: not UTF-8: {e}') from e
