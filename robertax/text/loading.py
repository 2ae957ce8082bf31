"""A path -> the tokenizer that lies there, whichever form it has."""

import json
import os

from robertax import files
from robertax.errors import InputError
from robertax.text import wordpiece
from robertax.text.byte_bpe import MASK, SPECIALS
from robertax.text.tokenizer import Tokenizer

# GPT-2's files with fairseq's dict.txt: RoBERTa's own 50,265 ids.
#
# Two steps in fairseq, one here. `encoder.json` gives a piece its GPT-2 id;
# `dict.txt` lists those ids, written as words, by falling frequency, and a
# word's line number + 4 is the RoBERTa id; three `madeupword` lines fill the
# dictionary up to a multiple of 8; <mask> is appended (fairseq
# data/dictionary.py:168-199, tasks/masked_lm.py:140).


GPT2_FILES = ('encoder.json', 'vocab.bpe', 'dict.txt')


def read_gpt2(folder: str) -> Tokenizer:
  """Reads `encoder.json`, `vocab.bpe` and `dict.txt` from a folder.

  With the official files, 'Hello world!' is 31414 232 328, as in fairseq's
  examples/roberta/README.md.

  Raises:
    InputError: a file is missing, damaged, or does not go with the others.
  """
  paths = [os.path.join(folder, name) for name in GPT2_FILES]
  absent = [n for n, path in zip(GPT2_FILES, paths)
            if not os.path.isfile(path)]
  if absent:
    raise InputError(
        f'{folder}: no {" and no ".join(absent)} in it. A folder with '
        f'{", ".join(GPT2_FILES)}, or a tokenizer.json, would do.')
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


# Hugging Face's vocab.json with merges.txt: a byte-level BPE in two files.
#
# Unlike GPT-2's `encoder.json`, `vocab.json` has RoBERTa's ids already
# (transformers models/roberta/tokenization_roberta.py).


VOCAB_JSON_FILES = ('vocab.json', 'merges.txt')
ADDED = 'added_tokens.json'


def read_vocab_json(folder: str) -> Tokenizer:
  """Reads `vocab.json`, `merges.txt` and, if it is there, `added_tokens.json`.

  Raises:
    InputError: a file is missing, damaged, or does not go with the other.
  """
  vocab = _read_ids(os.path.join(folder, VOCAB_JSON_FILES[0]))
  merges = read_merges(os.path.join(folder, VOCAB_JSON_FILES[1]), vocab)
  path = os.path.join(folder, ADDED)
  added = _read_ids(path) if os.path.isfile(path) else {}
  # <mask> has been one of them.
  vocab |= {token: i for token, i in added.items()
            if token in (MASK, *SPECIALS)}
  tokenizer = Tokenizer.from_bpe(vocab, merges, folder)
  more = sorted(set(added) - set(vocab), key=added.get)
  if [added[token] for token in more] != list(range(
      tokenizer.vocab_size, tokenizer.vocab_size + len(more))):
    raise InputError(f'{path}: its ids do not follow the {len(vocab)} of '
                     f'{VOCAB_JSON_FILES[0]}.')
  return tokenizer.with_added(more) if more else tokenizer


def _read_ids(path: str) -> dict[str, int]:
  try:
    pieces = json.loads(read_text(path))
  except (ValueError, RecursionError) as e:
    raise InputError(f'{path}: not JSON: {e}') from e
  if not isinstance(pieces, dict) or not pieces or not all(
      isinstance(i, int) for i in pieces.values()):
    raise InputError(f'{path}: expected an object of pieces and ids.')
  return pieces


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
  if not files.is_remote(path):
    path = os.path.expanduser(path)
  if files.isdir(path):
    inside = [files.join(path, name) for name in (
        'tokenizer.json', 'vocab.txt')]
    found = [file for file in inside if files.exists(file)]
    if not found and all(files.exists(files.join(path, name))
                         for name in VOCAB_JSON_FILES):
      return read_vocab_json(path)
    if not found:
      return read_gpt2(path)
    path = found[0]
  if not files.exists(path):
    raise InputError(
        f'tokenizer.path: {path} does not exist. A tokenizer.json, a folder '
        f'with {", ".join(GPT2_FILES)}, or BERT\'s vocab.txt would do, or an '
        'empty path to train one.')
  try:
    with files.open(path) as f:
      text = f.read()
  except OSError as e:
    raise InputError(f'cannot read {path}: {e.strerror}') from e
  except UnicodeDecodeError as e:
    raise InputError(f'{path}: not a tokenizer.json: {e}') from e
  if path.endswith('.txt'):
    return Tokenizer.from_wordpiece(
        wordpiece.parse_vocab(text, path, lowercase), lowercase, path)
  return Tokenizer.from_json(text, path)
