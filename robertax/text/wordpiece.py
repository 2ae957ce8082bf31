"""WordPiece: BERT's pieces, for the paper's comparison of text encodings.

Text is cleaned as BERT's uncased models have it (google-research/bert,
tokenization.py): lower case, no accents, spaces around Chinese characters and
punctuation; each word then becomes the longest pieces that begin it, those
after the first with '##'. A word without such pieces is [UNK], so not every
text comes back. This module is a row of `tokenizer.KINDS`; `byte_bpe` has the
same names.

There are two layouts of ids. A trained vocabulary has [PAD] 0, [UNK] 1, [CLS]
2, [SEP] 3, the pieces, [MASK] last. BERT's own vocab.txt has [PAD] 0, [UNK]
100, [CLS] 101, [SEP] 102, [MASK] 103 among [unused] entries, and pieces from
999 on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from robertax.errors import InputError

if TYPE_CHECKING:
  import tokenizers

SPECIALS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]')
MASK = '[MASK]'
MASK_LSTRIP = False
PAD, UNK, BOS, EOS = SPECIALS
PREFIX = '##'
_UNUSED = re.compile(r'\[unused\d+\]')
# Two pieces with capitals may be anything; a cased vocabulary has thousands.
_CASED = 0.01


def core(vocab: dict[str, int], lowercase: bool) -> tokenizers.Tokenizer:
  """The library's tokenizer; raises what the library raises."""
  import tokenizers
  from tokenizers import models, normalizers, pre_tokenizers
  made = tokenizers.Tokenizer(models.WordPiece(
      vocab=vocab, unk_token=UNK, continuing_subword_prefix=PREFIX,
      max_input_chars_per_word=100))
  made.normalizer = normalizers.BertNormalizer(
      clean_text=True, handle_chinese_chars=True, strip_accents=lowercase,
      lowercase=lowercase)
  made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  return made


def parse_vocab(text: str, path: str, lowercase: bool) -> dict[str, int]:
  """Reads a vocab.txt: a piece a line, the first has id 0.

  Raises:
    InputError: an empty line, a piece twice, or pieces that `lowercase` denies.
  """
  lines = text.split('\n')
  if lines and not lines[-1]:
    lines.pop()
  vocab = {}
  for number, line in enumerate(lines, 1):
    piece = line.rstrip('\r')
    if not piece or piece in vocab:
      raise InputError(
          f'{path}: line {number}: '
          + (f'{piece!r} stands there twice.' if piece else 'it is empty.')
          + ' A vocab.txt has one piece a line.')
    vocab[piece] = len(vocab)
  plain = [p for p in vocab if not p.startswith('[')]
  cased = sum(p != p.lower() for p in plain) > _CASED * len(plain)
  if cased == lowercase:
    raise InputError(
        f'{path}: its pieces are {"cased" if cased else "lower case"}, but '
        f'tokenizer.lowercase is {lowercase}: set it to {not lowercase}.')
  return vocab


def check_model(model: dict, source: str) -> None:
  """Refuses another prefix or unknown token."""
  for key, wanted in (('continuing_subword_prefix', PREFIX),
                      ('unk_token', UNK)):
    if model.get(key, wanted) != wanted:
      raise InputError(f'{source}: its {key} is {model[key]!r}: only '
                       f'{wanted!r} is read.')


def check(state: dict, vocab: dict[str, int], source: str) -> None:
  """Refuses a tokenizer in which text could spell a special token."""
  # BERT's cuts '[MASK]' into '[', 'mask', ']'; one that splits at spaces only
  # would find the whole in the vocabulary.
  kind = (state.get('pre_tokenizer') or {}).get('type')
  if kind != 'BertPreTokenizer':
    raise InputError(f'{source}: its pre-tokenizer is {kind}: only '
                     'BertPreTokenizer is read.')


def first_random_id(vocab: dict[str, int], source: str) -> int:
  """The first id from which on there are only pieces, and perhaps [MASK].

  It is 4 in a trained vocabulary, as in fairseq's RoBERTa, and 999 in BERT's
  vocab.txt, behind the last [unused]: a random token that no text holds gives
  itself away. (BERT itself draws from all 30,522.)
  """
  taken = [vocab[token] for token in SPECIALS]
  if vocab[MASK] != len(vocab) - 1:
    taken.append(vocab[MASK])
  taken += [i for piece, i in vocab.items() if _UNUSED.fullmatch(piece)]
  first = max(taken) + 1
  if first > len(vocab) // 2:
    raise InputError(
        f'{source}: a special or [unused] token has id {first - 1} of '
        f'{len(vocab)}: expected them before the pieces; only [MASK] may be '
        'last.')
  return first


def begins_word(piece: str) -> bool:
  return not piece.startswith(PREFIX)


def decoder():
  from tokenizers import decoders
  return decoders.WordPiece(prefix=PREFIX, cleanup=False)


def decode(library: tokenizers.Tokenizer, ids: list[int]) -> str:
  """Words with a space between; encoded, the same ids again, unless [UNK]."""
  return ''.join(token_text(library, i) for i in ids).removeprefix(' ')


def token_text(library: tokenizers.Tokenizer, token_id: int) -> str:
  """' the', 'ing' for ##ing, '[SEP]'; [UNK] stands for a word: ' [UNK]'."""
  piece = library.id_to_token(token_id)
  if piece.startswith(PREFIX) and piece != PREFIX:
    return piece.removeprefix(PREFIX)
  return piece if piece in (PAD, BOS, EOS, MASK) else f' {piece}'


def token_bytes(library: tokenizers.Tokenizer, token_id: int) -> bytes:
  return token_text(library, token_id).encode()


def post_processor(bos_id: int, eos_id: int):
  from tokenizers import processors
  return processors.BertProcessing((EOS, eos_id), (BOS, bos_id))
