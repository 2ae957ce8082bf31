"""One or two texts as an example's ids, with what is cut where it is long."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from robertax.text import Tokenizer


class Encoded(NamedTuple):
  """Examples of texts.

  Attributes:
    sequences: uint[n] each.
    second_starts: int32[E], where B begins; the length where there is none.
    truncated: how many were cut.
  """
  sequences: list[np.ndarray]
  second_starts: np.ndarray
  truncated: int


def encode_texts(tokenizer: Tokenizer, texts: Sequence[Sequence[str]],
                 max_length: int, separators: int = 2) -> Encoded:
  """`<s> A </s>`, or of two texts `<s> A </s></s> B </s>`.

  fairseq tasks/sentence_prediction.py:167-176. Texts are stripped, as each line
  is that fairseq encodes (multiprocessing_bpe_encoder.py:114). What is too long
  loses tokens at the end of the longer text, then of both (Hugging Face's
  `longest_first`); the special tokens stay.

  Args:
    tokenizer: of the model.
    texts: E times one text, or E times two.
    max_length: most tokens of an example, special ones included.
    separators: `</s>` between A and B: 2 for RoBERTa, 1 for BERT.
  """
  tok = tokenizer
  width = len(texts[0]) if texts else 1
  ids = tok.encode_batch([t.strip() for row in texts for t in row])
  bos, eos = (np.array([i], tok.dtype) for i in (tok.bos_id, tok.eos_id))
  between = np.concatenate([eos] * separators)
  sequences, seconds, truncated = [], [], 0
  for at in range(0, len(ids), width):
    parts = ids[at:at + width]
    room = max_length - (2 if width == 1 else 2 + separators)
    kept = longest_first([len(p) for p in parts], room)
    truncated += kept != [len(p) for p in parts]
    parts = [p[:n] for p, n in zip(parts, kept)]
    if width == 1:
      sequences.append(np.concatenate([bos, *parts, eos]))
      seconds.append(len(sequences[-1]))
    else:
      sequences.append(np.concatenate([bos, parts[0], between, parts[1], eos]))
      seconds.append(1 + len(parts[0]) + separators)
  return Encoded(sequences, np.array(seconds, np.int32), truncated)


def longest_first(lengths: Sequence[int], room: int) -> list[int]:
  """What stays of one or two lengths (tokenizers utils/truncation.rs).

  >>> longest_first([5, 9], 10), longest_first([2, 9], 10)
  ([5, 5], [2, 8])
  """
  room = max(room, 0)
  if sum(lengths) <= room:
    return list(lengths)
  if len(lengths) == 1:
    return [room]
  short, long = sorted(lengths)
  long = max(short, room - short)
  if short + long > room:
    short, long = room // 2, room - room // 2
  return [short, long] if lengths[0] <= lengths[1] else [long, short]
