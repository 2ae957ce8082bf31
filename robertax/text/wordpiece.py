"""WordPiece: BERT's pieces, for the paper's comparison of text encodings.

Text is cleaned as for BERT's uncased models (google-research/bert,
tokenization.py): it is made lower case, loses its accents, and gets spaces
around Chinese characters and punctuation. Each word is then split greedily into
the longest known pieces; those after the first have the prefix '##'. A word
that cannot be split is [UNK], so decoding does not restore every text.

There are two layouts of ids. A trained vocabulary has [PAD] 0, [UNK] 1, [CLS]
2, [SEP] 3, the pieces, and [MASK] last. BERT's own vocab.txt has [PAD] 0, [UNK]
100, [CLS] 101, [SEP] 102, [MASK] 103 among [unused] entries, and pieces from
999 on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from robertax.errors import InputError

if TYPE_CHECKING:
  import tokenizers

SPECIALS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]')
MASK = '[MASK]'
UNK = '[UNK]'
PREFIX = '##'
_CASED = 0.01  # Of all pieces: a few with capitals prove nothing.
_LOWER = 0.5  # Of all pieces: so many have case in a script that has it.


def core(vocab: dict[str, int], lowercase: bool, accents: bool = False,
         chinese: bool = True) -> tokenizers.Tokenizer:
  """Builds the library's tokenizer; raises whatever the library raises.

  Lower case loses its accents unless `accents`; `chinese` puts spaces around
  Chinese characters.
  """
  import tokenizers
  from tokenizers import models, normalizers, pre_tokenizers
  made = tokenizers.Tokenizer(models.WordPiece(
      vocab=vocab, unk_token=UNK, continuing_subword_prefix=PREFIX,
      max_input_chars_per_word=100))
  made.normalizer = normalizers.BertNormalizer(
      clean_text=True, handle_chinese_chars=chinese, lowercase=lowercase,
      strip_accents=lowercase and not accents)
  made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  return made


def parse_vocab(text: str, path: str, lowercase: bool, sure: bool = False
                ) -> dict[str, int]:
  """Reads a vocab.txt, which has one piece a line; the first has id 0.

  Empty lines and repeated pieces are InputErrors, and so is, unless it is
  `sure`, a `lowercase` that contradicts the pieces: capitals, which would not
  be used, or mostly pieces with letters that have case but no capitals. Many
  scripts have no case.
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
  plain = [p for p in vocab if not p.startswith(('[', '<'))]
  capitals = sum(p != p.lower() for p in plain)
  cased = capitals > _CASED * len(plain)
  if lowercase:
    wrong = cased
  else:
    wrong = not capitals and sum(p != p.upper() for p in plain) > (
        _LOWER * len(plain))
  if wrong and not sure:
    raise InputError(
        f'{path}: its pieces are {"cased" if cased else "lower case"}, but '
        f'tokenizer.lowercase is {lowercase}: set it to {not lowercase}.')
  return vocab
