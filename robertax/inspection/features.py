"""Vectors of tokens, texts and words."""

from collections.abc import Sequence
import re
from typing import Any, NamedTuple

import numpy as np

from robertax.errors import InputError, unknown
from robertax.inspection.network import Network, row_batches, with_ends

LAYERS = ('last', 'all')
POOLING = (None, 'mean', 'first')
# Of a batch; with all layers there are N + 1 times as many numbers.
MAX_TOKENS = {'last': 8192, 'all': 2048}
# Letters and digits with what joins them, or one mark.
WORD = re.compile(r"\w+(?:[-'\u2019]\w+)*|[^\w\s]")


class Words(NamedTuple):
  """Vectors of a text's words.

  Attributes:
    words: as they stand in the text; each mark of punctuation is one.
    spans: (start, end) of each, in characters.
    vectors: float32[W, D], or [N + 1, W, D] of all layers.
  """
  words: list[str]
  spans: list[tuple[int, int]]
  vectors: np.ndarray


def encode(network: Network, texts: str | Sequence[str], layers: str,
           pooling: str | None, words: bool) -> Any:
  """See `Model.encode`."""
  if layers not in LAYERS:
    raise unknown('layers', layers, LAYERS)
  if pooling not in POOLING:
    raise InputError(f"pooling={pooling!r}: None, 'mean' or 'first'.")
  if words and pooling:
    raise InputError(f'words=True and pooling={pooling!r}: a vector a word, or '
                     'one a text.')
  asked = [texts] if isinstance(texts, str) else list(texts)
  tok = network.tokenizer
  rows, spans = [], []
  for text in asked:
    ids, places = tok.encode_with_offsets([text])[0]
    rows.append(with_ends(tok, ids, network.config.max_positions,
                          text))
    spans.append(places)
  found: list = [None] * len(asked)
  for numbers, input_ids, segment_ids in row_batches(
      rows, tok.pad_id, network.config.max_positions, MAX_TOKENS[layers]):
    states = network.states(input_ids, segment_ids, layers == 'all')
    for row, number in enumerate(numbers):
      x = states[..., row, :len(rows[number]), :]
      if words:
        found[number] = _words(asked[number], spans[number], x)
      elif pooling == 'first':
        found[number] = x[..., 0, :]
      elif pooling == 'mean':
        found[number] = x.mean(-2)
      else:
        found[number] = x.copy()  # Not the whole batch kept for one row.
  if isinstance(texts, str):
    return found[0]
  if not pooling:
    return found
  return np.stack(found) if found else np.zeros(
      (0, network.config.hidden_size), np.float32)


def _words(text: str, spans: np.ndarray, x: np.ndarray) -> Words:
  """Each word's mean, over the tokens that share a character with it."""
  starts, ends = spans.T
  words = [m for m in WORD.finditer(text)]
  vectors = np.zeros((*x.shape[:-2], len(words), x.shape[-1]), np.float32)
  for number, word in enumerate(words):
    tokens = 1 + np.flatnonzero((starts < word.end()) & (ends > word.start()))
    if len(tokens):  # <s> stands before them; some marks have no token.
      vectors[..., number, :] = x[..., tokens, :].mean(-2)
  return Words([m.group() for m in words], [m.span() for m in words], vectors)
