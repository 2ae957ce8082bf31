"""Reads a tokenizer from the files that people have of it.

These are a tokenizer.json of any kind, BERT's vocab.txt, GPT-2's files with
fairseq's dict.txt, dict.txt alone, Hugging Face's vocab.json with merges.txt,
and SentencePiece's models of XLM-R, CamemBERT and ALBERT. A folder's
tokenizer_config.json decides as it does in transformers (`hf_classes`).
"""

from collections.abc import Callable
import json
import os
from typing import Any

from robertax import files
from robertax.errors import InputError, reading
from robertax.text import hf_classes, pieces, sentencepiece, wordpiece
from robertax.text.pieces import MASK, SPECIALS
from robertax.text.tokenizer import Tokenizer, byte_bpe_state, refusals

GPT2_FILES = ('encoder.json', 'vocab.bpe', 'dict.txt')
VOCAB_JSON_FILES = ('vocab.json', 'merges.txt')
ADDED_TOKENS = 'added_tokens.json'


def _gpt2(folder: str) -> dict[str, Any]:
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
  return byte_bpe_state(vocab, read_merges(merges_path, vocab), folder)


def _dictionary(folder: str) -> dict[str, Any]:
  """Reads fairseq's dict.txt of letters or words, without a BPE.

  fairseq cuts such text at white space. If all entries are single letters, they
  are also found where no white space is between them.
  """
  path = files.join(folder, 'dict.txt')
  vocab = {token: i for i, token in enumerate(SPECIALS)}
  for number, line in enumerate(_read_text(path).splitlines(), 1):
    word, _, count = line.removesuffix(' #fairseq:overwrite').rpartition(' ')
    if not word or not count.isdigit() or word in vocab:
      raise InputError(
          f'{path}: line {number}: '
          + (f'{word!r} occurs twice.' if word in vocab else
             f'expected "word count", found {line[:40]!r}.'))
    vocab[word] = len(vocab)
  if len(vocab) > 100 and sum(w.isdigit() for w in vocab) > .9 * len(vocab):
    raise InputError(
        f'{path}: its words are the numbers of GPT-2\'s pieces: encoder.json '
        'and vocab.bpe beside it would do.')
  if any(word.endswith('@@') for word in vocab):
    raise InputError(
        f'{path}: its words end in @@, so a BPE of whole words (bpe.codes) has '
        'cut them, which the tokenizers library cannot do with this '
        'dictionary. A tokenizer.json, or text that is cut already and a '
        'dict.txt of its pieces without @@, would do.')
  vocab.setdefault(MASK, len(vocab))
  return _words(vocab, '<unk>', folder)


def _words(vocab: dict[str, int], unk: str, source: str) -> dict[str, Any]:
  """Makes a tokenizer of whole words, or of letters if all are."""
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers
  with refusals(source):
    core = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token=unk))
  core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  if pieces.kind_of(pieces.checked(json.loads(core.to_str()), source)) == (
      'char'):
    core.decoder = decoders.Fuse()
    core.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split('', 'isolated')])
  return json.loads(core.to_str())


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
  # Every piece but letters and special tokens is the union of a merge. A
  # truncated file would tokenize without an error, but wrongly.
  unions = {a + b for a, b in merges}
  orphans = [piece for piece in vocab
             if len(piece) > 1 and piece not in unions
             and not piece.startswith(('madeupword', '<', '['))]
  if orphans:
    raise InputError(
        f'{path}: has {len(merges)} merges; those for {len(orphans)} pieces '
        f'are missing, such as {orphans[0]!r}.')
  return merges


def _read_text(path: str) -> str:
  """Decodes a file as UTF-8 and keeps its line ends."""
  with reading(path, 'not UTF-8'), files.open(path, 'rb') as f:
    return f.read().decode()


def _vocab_json(folder: str) -> dict[str, Any]:
  """Reads vocab.json and merges.txt.

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
  return byte_bpe_state(vocab, merges, folder)


def _vocab_txt(folder: str, lowercase: bool, settings: dict) -> dict[str, Any]:
  """Reads a vocab.txt: BERT's, or one of letters with RoBERTa's names."""
  path = folder if folder.endswith('.txt') else files.join(folder, 'vocab.txt')
  sure = 'do_lower_case' in settings
  lowercase = bool(settings.get('do_lower_case', lowercase))
  vocab = wordpiece.parse_vocab(_read_text(path), path, lowercase, sure)
  if wordpiece.UNK not in vocab and '<unk>' in vocab and not any(
      piece.startswith(wordpiece.PREFIX) for piece in vocab):
    return _words(vocab, '<unk>', path)
  with refusals(path):
    return json.loads(wordpiece.core(vocab, lowercase).to_str())


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


# The files that tell a whole tokenizer, and what reads them; the first that are
# all there are read.
_READERS: tuple[tuple[tuple[str, ...], Callable], ...] = (
    (VOCAB_JSON_FILES, _vocab_json), (GPT2_FILES, _gpt2),
    (('dict.txt',), _dictionary))


def load(path: str, lowercase: bool = True) -> Tokenizer:
  """Reads a tokenizer.

  Args:
    path: a tokenizer.json, BERT's vocab.txt, a .model of SentencePiece, or a
      folder that holds one of these or the files of another kind. Of a folder,
      tokenizer_config.json decides as in transformers; a tokenizer.json that is
      named itself is read as it is.
    lowercase: whether a vocab.txt is lower case, if no file says so.

  Raises:
    InputError: a file is missing, unreadable, of an unknown kind, or does not
      match the others.
  """
  path = os.fspath(path)
  if not files.is_remote(path):
    path = os.path.expanduser(path)
  if not files.exists(path):
    raise InputError(
        f'tokenizer.path: {path} does not exist. A tokenizer.json, a folder '
        f'with {", ".join(GPT2_FILES)}, or BERT\'s vocab.txt would do; an '
        'empty path trains one.')
  if files.isdir(path):
    return _folder(path, lowercase)
  settings = hf_classes.settings_of(os.path.dirname(path))
  if path.endswith('.txt'):
    return Tokenizer(_vocab_txt(path, lowercase, {}), path)
  if path.endswith('.model'):
    return Tokenizer(sentencepiece.read(path, settings), path)
  return Tokenizer(_json(path), path, hf_classes.names_of(settings))


def _folder(path: str, lowercase: bool) -> Tokenizer:
  def has(name):
    return files.exists(files.join(path, name))
  settings = hf_classes.settings_of(path)
  models = [name for name in sentencepiece.FILES if has(name)]
  reader = next((reader for names, reader in _READERS
                 if all(map(has, names))), _gpt2)
  if reader is _dictionary and any(map(has, GPT2_FILES[:2])):
    reader = _gpt2  # It names the file that is missing.
  source = path
  if has('tokenizer.json'):
    source = files.join(path, 'tokenizer.json')
    state = _json(source)
  elif has('vocab.txt'):
    source = files.join(path, 'vocab.txt')
    state = _vocab_txt(path, lowercase, settings)
  elif models and reader is _gpt2:
    source = files.join(path, models[0])
    state = sentencepiece.read(source, settings)
  else:
    state = reader(path)
  state, notes = hf_classes.as_transformers(state, settings, source)
  added = files.join(path, ADDED_TOKENS)
  if has(ADDED_TOKENS) and not has('tokenizer.json'):
    state = hf_classes.with_old_added(state, _read_ids(added), settings, added)
  made = Tokenizer(state, source, hf_classes.names_of(settings))
  made.notes = (*notes, *made.notes)
  return made


def _json(path: str) -> dict[str, Any]:
  with reading(path, 'not a tokenizer.json'), files.open(path) as f:
    text = f.read()
  with reading(path, 'not JSON'):
    return json.loads(text)
