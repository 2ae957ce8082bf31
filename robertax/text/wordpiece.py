"""WordPiece: BERT's pieces, for the paper's comparison of text encodings.

Text is cleaned as for BERT's uncased models (google-research/bert,
tokenization.py): it is made lower case, loses its accents, and gets spaces
around Chinese characters and punctuation. Each word is then split greedily into
the longest known pieces; those after the first have the prefix '##'. A word
that cannot be split is [UNK], so decoding does not restore every text. This
module is a row of `tokenizer.KINDS`; `byte_bpe` defines the same names.

There are two layouts of ids. A trained vocabulary has [PAD] 0, [UNK] 1, [CLS]
2, [SEP] 3, the pieces, and [MASK] last. BERT's own vocab.txt has [PAD] 0, [UNK]
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
_CASED = 0.01  # Of all pieces: a few with capitals prove nothing.


def core(vocab: dict[str, int], lowercase: bool) -> tokenizers.Tokenizer:
  """Builds the library's tokenizer; raises whatever the library raises."""
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
  """Reads a vocab.txt, which has one piece a line; the first has id 0.

  Empty lines, repeated pieces and a wrong `lowercase` are InputErrors.
  """
  vocab = {}
  for number, line in enumerate(text.removesuffix('\n').split('\n'), 1):
    piece = line.rstrip('\r')
    if not piece or piece in vocab:
      raise InputError(
          f'{path}: line {number}: '
          + (f'{piece!r} occurs twice.' if piece else 'it is empty.')
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
  """Refuses any other prefix and any other unknown token."""
  for key, wanted in (('continuing_subword_prefix', PREFIX),
                      ('unk_token', UNK)):
    if model.get(key, wanted) != wanted:
      raise InputError(f'{source}: its {key} is {model[key]!r}: only '
                       f'{wanted!r} is read.')


def check(state: dict, vocab: dict[str, int], source: str) -> None:
  """Refuses a tokenizer in which text could spell a special token."""
  # BERT's pre-tokenizer cuts '[MASK]' into '[', 'mask', ']'. One that splits at
  # spaces only would find the whole word in the vocabulary.
  kind = (state.get('pre_tokenizer') or {}).get('type')
  if kind != 'BertPreTokenizer':
    raise InputError(f'{source}: its pre-tokenizer is {kind}: only '
                     'BertPreTokenizer is read.')


def first_random_id(vocab: dict[str, int], source: str) -> int:
  """Returns the first id after the special and [unused] tokens.

  It is 4 in a trained vocabulary, as in fairseq's RoBERTa, and 999 in BERT's
  vocab.txt, because a random token that occurs in no text would give itself
  away. (BERT itself draws from all 30,522 ids.)
  """
  taken = [vocab[token] for token in SPECIALS]
  if vocab[MASK] != len(vocab) - 1:
    taken.append(vocab[MASK])
  taken += [i for piece, i in vocab.items() if _UNUSED.fullmatch(piece)]
  first = max(taken) + 1
  if first > len(vocab) // 2:
    raise InputError(
        f'{source}: a special or [unused] token has id {first - 1} of '
        f'{len(vocab)}: they should come before the pieces; only [MASK] may be '
        'last.')
  return first


def begins_word(piece: str) -> bool:
  return not piece.startswith(PREFIX)


def decoder():
  from tokenizers import decoders
  return decoders.WordPiece(prefix=PREFIX, cleanup=False)


def decode(library: tokenizers.Tokenizer, ids: list[int]) -> str:
  """Joins words with spaces; encoding that gives the same ids, except [UNK]."""
  return ''.join(token_text(library, i) for i in ids).removeprefix(' ')


def token_text(library: tokenizers.Tokenizer, token_id: int) -> str:
  """Returns ' the', 'ing' for ##ing, '[SEP]', or ' [UNK]' (it is a word)."""
  piece = library.id_to_token(token_id)
  if piece.startswith(PREFIX) and piece != PREFIX:
    return piece.removeprefix(PREFIX)
  return piece if piece in (PAD, BOS, EOS, MASK) else f' {piece}'


def token_bytes(library: tokenizers.Tokenizer, token_id: int) -> bytes:
  return token_text(library, token_id).encode()


def post_processor(bos_id: int, eos_id: int):
  from tokenizers import processors
  return processors.BertProcessing((EOS, eos_id), (BOS, bos_id))
