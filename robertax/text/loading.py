"""Reads a tokenizer from any of four kinds of files.

These are tokenizer.json, BERT's vocab.txt, GPT-2's files with fairseq's
dict.txt, and Hugging Face's vocab.json with merges.txt.
"""

import json
import os
from typing import Any

from robertax import files
from robertax.errors import InputError, reading
from robertax.text import wordpiece
from robertax.text.byte_bpe import MASK, SPECIALS
from robertax.text.tokenizer import Tokenizer

GPT2_FILES = ('encoder.json', 'vocab.bpe', 'dict.txt')
VOCAB_JSON_FILES = ('vocab.json', 'merges.txt')
ADDED_TOKENS = 'added_tokens.json'


def read_gpt2(folder: str) -> Tokenizer:
  """Reads GPT-2's files and fairseq's dict.txt: RoBERTa's own 50,265 ids.

  `encoder.json` maps a piece to its GPT-2 id. `dict.txt` lists those ids as
  words, by falling frequency; the RoBERTa id of a word is the index of its line
  + 4. Three `madeupword` lines pad the dictionary to a multiple of 8, and
  <mask> is appended (fairseq data/dictionary.py:168-199,
  tasks/masked_lm.py:140). With the official files, 'Hello world!' is 31414 232
  328, as in fairseq's examples/roberta/README.md.
  """
  paths = [files.join(folder, name) for name in GPT2_FILES]
  absent = [n for n, path in zip(GPT2_FILES, paths) if not files.exists(path)]
  if absent:
    raise InputError(
        f'{folder}: it has no {" and no ".join(absent)}. A folder with '
        f'{", ".join(GPT2_FILES)}, or a tokenizer.json, would do.')
  encoder_path, merges_path, dict_path = paths
  encoder = _read_object(encoder_path)
  piece_of = {str(i): piece for piece, i in encoder.items()}
  vocab = {token: i for i, token in enumerate(SPECIALS)}
  used = set()
  for number, line in enumerate(_read_text(dict_path).splitlines(), 1):
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
          f'{encoder_path}: the two files do not belong together.')
    if piece in vocab:
      raise InputError(f'{dict_path}: line {number}: {word!r} occurs twice.')
    vocab[piece] = len(vocab)
  if len(used) != len(piece_of):
    raise InputError(
        f'{dict_path}: has {len(used)} of the {len(piece_of)} pieces of '
        f'{encoder_path}. RoBERTa\'s own dict.txt has 50260 lines.')
  vocab[MASK] = len(vocab)
  return Tokenizer.from_bpe(vocab, read_merges(merges_path, vocab), folder)


def read_merges(path: str, vocab: dict[str, int]) -> list[tuple[str, str]]:
  """Reads merges in order of rank; the union of each must have an id."""
  merges = []
  for number, line in enumerate(_read_text(path).split('\n'), 1):
    if not line or number == 1 and line.startswith('#version'):
      continue
    pair = tuple(line.rstrip('\r').split(' '))
    if len(pair) != 2 or ''.join(pair) not in vocab:
      raise InputError(
          f'{path}: line {number}: expected two pieces whose union has '
          f'an id, found {line[:40]!r}.')
    merges.append(pair)
  # Every piece but the 256 bytes and <|endoftext|> is the union of a merge. A
  # truncated file would tokenize without an error, but wrongly.
  unions = {a + b for a, b in merges}
  orphans = [piece for piece in vocab
             if len(piece) > 1 and piece not in unions
             and not piece.startswith(('madeupword', '<'))]
  if orphans:
    raise InputError(
        f'{path}: has {len(merges)} merges; those for {len(orphans)} pieces '
        f'are missing, such as {orphans[0]!r}.')
  return merges


def _read_text(path: str) -> str:
  """Decodes a file as UTF-8 and keeps its line ends."""
  with reading(path, 'not UTF-8'), files.open(path, 'rb') as f:
    return f.read().decode()


def read_vocab_json(folder: str) -> Tokenizer:
  """Reads vocab.json, merges.txt and, where there is one, added_tokens.json.

  Unlike GPT-2's encoder.json, vocab.json has RoBERTa's ids already
  (transformers models/roberta/tokenization_roberta.py).
  """
  vocab_path, merges_path = (files.join(folder, n) for n in VOCAB_JSON_FILES)
  vocab = _read_ids(vocab_path)
  merges = read_merges(merges_path, vocab)
  path = files.join(folder, ADDED_TOKENS)
  added = _read_ids(path) if files.exists(path) else {}
  # Some files list <mask> among the added tokens.
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
  vocab = _read_object(path)
  if not all(isinstance(i, int) for i in vocab.values()):
    raise InputError(f'{path}: expected an object of pieces and ids.')
  return vocab


def _read_object(path: str) -> dict[str, Any]:
  with reading(path, 'not JSON'):
    vocab = json.loads(_read_text(path))
  if not isinstance(vocab, dict) or not vocab:
    raise InputError(f'{path}: expected an object of pieces and ids.')
  return vocab


def load(path: str, lowercase: bool = True) -> Tokenizer:
  """Reads a tokenizer.

  Args:
    path: a tokenizer.json (byte-level BPE or WordPiece), BERT's vocab.txt, or a
      folder that holds one of these or the files of another kind.
    lowercase: whether a vocab.txt is lower case, which the file does not say.

  Raises:
    InputError: a file is missing, unreadable, of an unknown kind, or does not
      match the others.
  """
  path = os.fspath(path)
  if not files.is_remote(path):
    path = os.path.expanduser(path)
  if files.isdir(path):
    def has(name):
      return files.exists(files.join(path, name))
    whole = next(filter(has, ('tokenizer.json', 'vocab.txt')), None)
    if not whole:
      return (read_vocab_json if all(map(has, VOCAB_JSON_FILES))
              else read_gpt2)(path)
    path = files.join(path, whole)
  if not files.exists(path):
    raise InputError(
        f'tokenizer.path: {path} does not exist. A tokenizer.json, a folder '
        f'with {", ".join(GPT2_FILES)}, or BERT\'s vocab.txt would do; an '
        'empty path trains one.')
  with reading(path, 'not a tokenizer.json'), files.open(path) as f:
    text = f.read()
  if path.endswith('.txt'):
    return Tokenizer.from_wordpiece(
        wordpiece.parse_vocab(text, path, lowercase), lowercase, path)
  return Tokenizer.from_json(text, path)
