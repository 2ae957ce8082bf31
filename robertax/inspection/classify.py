"""Classes of texts, by a model that was fine-tuned for them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from robertax.errors import InputError
from robertax.inspection.network import Network, row_batches
from robertax.tasks.finetune import encode_texts

Texts = str | tuple[str, str] | Sequence[str] | Sequence[tuple[str, str]]
MAX_TOKENS = 8192  # Of a batch.


class Classified(NamedTuple):
  """An answer.

  Attributes:
    label: the likeliest class.
    probability: of it.
    probabilities: label -> its own, the likeliest first.
  """
  label: str
  probability: float
  probabilities: dict[str, float]


def classify(network: Network, texts: Texts) -> Any:
  """See `Model.classify`."""
  classes = network.config.num_classes
  if classes < 2:
    raise InputError(
        f'model.num_classes={classes}: this model tells no classes apart. One '
        'that is fine-tuned for them does (task=text_classification, glue/*).')
  one = isinstance(texts, (str, tuple))
  asked = [(text,) if isinstance(text, str) else tuple(text)
           for text in ([texts] if one else texts)]
  widths = {len(row) for row in asked}
  if len(widths) > 1 or widths - {1, 2}:
    raise InputError('classify: a tuple is one pair of texts; a list is of '
                     'texts, or of pairs, not of both.')
  labels = network.labels or tuple(map(str, range(classes)))
  logits = _logits(network, asked).astype(np.float64)
  odds = np.exp(logits - logits.max(-1, keepdims=True))
  found = [_classified(labels, p) for p in odds / odds.sum(-1, keepdims=True)]
  return found[0] if one else found


def _logits(network: Network, asked: Sequence[tuple[str, ...]]) -> np.ndarray:
  """float32[E, C]."""
  tok, longest = network.tokenizer, network.longest
  typed = network.config.num_types > 1  # With one type it is of all tokens.
  encoded = encode_texts(tok, asked, longest, separators=1 if typed else 2)
  found = np.zeros((len(asked), network.config.num_classes), np.float32)
  for numbers, input_ids, segment_ids in row_batches(
      encoded.sequences, tok.pad_id, longest, MAX_TOKENS):
    type_ids = np.zeros_like(segment_ids)
    for row, number in enumerate(numbers if typed else ()):
      type_ids[row, encoded.second_starts[number]:] = 1
    found[numbers] = network.class_logits(
        input_ids, segment_ids, type_ids * segment_ids)[:len(numbers)]
  return found


def _classified(labels: Sequence[str], probabilities: np.ndarray) -> Classified:
  ranked = {labels[n]: float(probabilities[n])
            for n in np.argsort(-probabilities, kind='stable')}
  best = next(iter(ranked))
  return Classified(best, ranked[best], ranked)
