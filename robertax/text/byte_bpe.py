"""Byte-level BPE: GPT-2's pieces in RoBERTa's layout of ids.

The layout is fairseq's (data/dictionary.py, tasks/masked_lm.py): <s> 0, <pad>
1, </s> 2, <unk> 3, then the pieces, and <mask> last (Hugging Face's training
recipe puts it at 4). Every byte is a piece, so every text can be encoded, and
decoding restores it unchanged. This module is a row of `tokenizer.KINDS`;
`wordpiece` defines the same names.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from robertax.errors import InputError

if TYPE_CHECKING:
  import tokenizers

SPECIALS = ('<s>', '<pad>', '</s>', '<unk>')
MASK = '<mask>'
# The space before a mask is part of the word that the model predicts there.
MASK_LSTRIP = True
BOS, PAD, EOS, UNK = SPECIALS


def core(vocab: dict[str, int], merges: list) -> tokenizers.Tokenizer:
  """Builds the library's tokenizer; raises whatever the library raises."""
  import tokenizers
  from tokenizers import models, pre_tokenizers
  made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  return made


def check_model(model: dict, source: str) -> None:
  """Refuses a model without merges."""
  if not isinstance(model.get('merges'), list):
    raise InputError(f'{source}: its model has no "merges".')


def check(state: dict, vocab: dict[str, int], source: str) -> None:
  """Refuses any other layout of ids, and a BPE that is not byte-level."""
  for wanted, token in enumerate(SPECIALS):
    if vocab[token] != wanted:
      raise InputError(
          f'{source}: {token} has id {vocab[token]}, but RoBERTa\'s layout is '
          '<s> 0, <pad> 1, </s> 2, <unk> 3; <mask> may have any later id.')
  missing = [c for c in BYTE_OF if c not in vocab]
  if 'ByteLevel' not in json.dumps(state.get('pre_tokenizer')) or missing:
    raise InputError(
        f'{source}: not a byte-level BPE'
        + (f': {len(missing)} of the 256 bytes have no id.' if missing else
           ': its pre-tokenizer is not ByteLevel.'))


def first_random_id(vocab: dict[str, int], source: str) -> int:
  """As in fairseq, random tokens are drawn from all but the first four ids."""
  return len(SPECIALS)


def begins_word(piece: str) -> bool:
  """Whether a piece begins with a space (fairseq: decode(x)[0] == ' ')."""
  return piece.startswith('Ġ')


def decoder():
  from tokenizers import decoders
  return decoders.ByteLevel()


def decode(library: tokenizers.Tokenizer, ids: list[int]) -> str:
  return library.decode(ids, skip_special_tokens=False)


def token_text(library: tokenizers.Tokenizer, token_id: int) -> str:
  text = decode(library, [token_id])
  return text if '\ufffd' not in text else token_bytes(
      library, token_id).decode(errors='backslashreplace')


def token_bytes(library: tokenizers.Tokenizer, token_id: int) -> bytes:
  piece = library.id_to_token(token_id)
  if all(c in BYTE_OF for c in piece):
    return bytes(BYTE_OF[c] for c in piece)
  return piece.encode()


def post_processor(bos_id: int, eos_id: int):
  from tokenizers import processors
  # The arguments are positional because the library's docstring and its code
  # disagree on the name of the second one.
  return processors.RobertaProcessing((EOS, eos_id), (BOS, bos_id), True, False)


def _byte_letters() -> dict[str, int]:
  """Maps GPT-2's letters to bytes (fairseq data/encoders/gpt2_bpe_utils.py)."""
  plain = [*range(ord('!'), ord('~') + 1), *range(ord('¡'), ord('¬') + 1),
           *range(ord('®'), ord('ÿ') + 1)]
  others = [b for b in range(256) if b not in plain]
  return {**{chr(b): b for b in plain},
          **{chr(256 + i): b for i, b in enumerate(others)}}


BYTE_OF = _byte_letters()
