"""How likely a text is, token by token: each masked in turn."""

from collections.abc import Sequence
import math
from typing import Any, NamedTuple

import numpy as np

from robertax.inspection.network import Network, row_batches, with_ends

MAX_TOKENS = 4096
# Rows that are made at a time: a text of n tokens becomes n of them.
MAX_ROWS = 4096


class Score(NamedTuple):
  """The pseudo-log-likelihood of a text.

  Attributes:
    tokens: its tokens, as text.
    log_probs: float32[n], nats: of each, given all others.
  """
  tokens: list[str]
  log_probs: np.ndarray

  @property
  def total(self) -> float:
    """The sum, in nats; longer texts have more to lose."""
    return float(self.log_probs.sum(dtype=np.float64))

  @property
  def perplexity(self) -> float:
    """exp of minus the mean; 1 of an empty text."""
    return math.exp(-self.total / max(1, len(self.log_probs)))


def score(network: Network, texts: str | Sequence[str]) -> Any:
  """See `Model.score`."""
  asked = [texts] if isinstance(texts, str) else list(texts)
  tok = network.tokenizer
  rows = [with_ends(tok, tok.encode(text),
                    network.config.max_positions, text)
          for text in asked]
  log_probs = [np.zeros(len(row) - 2, np.float32) for row in rows]
  # (row, place) of every token that is masked, shortest texts first.
  order = sorted(range(len(rows)), key=lambda n: len(rows[n]))
  asks = [(n, place) for n in order for place in range(1, len(rows[n]) - 1)]
  for start in range(0, len(asks), MAX_ROWS):
    part = asks[start:start + MAX_ROWS]
    masked = []
    for n, place in part:
      row = rows[n].copy()
      row[place] = tok.mask_id
      masked.append(row)
    for numbers, input_ids, segment_ids in row_batches(
        masked, tok.pad_id, network.config.max_positions, MAX_TOKENS):
      places = np.zeros((len(input_ids), 1), np.int32)
      targets = np.zeros_like(places)
      for at, number in enumerate(numbers):
        n, place = part[number]
        places[at], targets[at] = place, rows[n][place]
      found = network.target_log_probs(input_ids, segment_ids, places, targets)
      for at, number in enumerate(numbers):
        n, place = part[number]
        log_probs[n][place - 1] = found[at, 0]
  scores = [Score([tok.token_text(i) for i in row[1:-1]], found)
            for row, found in zip(rows, log_probs)]
  return scores[0] if isinstance(texts, str) else scores
