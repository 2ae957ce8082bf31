"""Guesses for masks, with fairseq's rules for the spaces beside them."""

from collections.abc import Sequence
import re
from typing import NamedTuple

import numpy as np

from robertax.errors import InputError
from robertax.inspection.network import Network, row_batches, with_ends

MASK = '<mask>'
MAX_TOKENS = 4096


class Filled(NamedTuple):
  """One guess for a mask.

  Attributes:
    text: the text with the guess in the mask's place; other masks stay.
    probability: of the guess, over the whole vocabulary.
    token: the guess, with its leading space if it begins a word.
  """
  text: str
  probability: float
  token: str


class Question(NamedTuple):
  """A text with masks, as ids.

  Attributes:
    text: with `<mask>` for each.
    ids: int32[T], <s> and </s> included.
    places: int32[M], where the masks are.
  """
  text: str
  ids: np.ndarray
  places: np.ndarray


def fill_mask(network: Network, texts: str | Sequence[str], top_k: int,
              targets: Sequence[str] | None) -> list:
  """See `Model.fill_mask`.

  The space before a mask belongs to the guess (fairseq models/roberta/
  hub_interface.py, `fill_mask`): the text is cut at the masks, each part loses
  the spaces at its end and is encoded apart.
  """
  if not 1 <= top_k <= network.config.vocab_size:
    raise InputError(f'top_k={top_k}: from 1 to {network.config.vocab_size}.')
  if isinstance(targets, str) or targets is not None and not len(targets):
    raise InputError(f'targets={targets!r}: a list of words, or None for the '
                     'whole vocabulary.')
  asked = [texts] if isinstance(texts, str) else list(texts)
  questions = [as_question(network, text) for text in asked]
  answers: list = [None] * len(asked)
  for numbers, input_ids, segment_ids in row_batches(
      [q.ids for q in questions], network.tokenizer.pad_id,
      network.config.max_positions, MAX_TOKENS):
    most = max(len(questions[n].places) for n in numbers)
    places = np.zeros((len(input_ids), 1 << (most - 1).bit_length()), np.int32)
    for row, number in enumerate(numbers):
      places[row, :len(questions[number].places)] = questions[number].places
    log_probs = network.log_probs(input_ids, segment_ids, places)
    for row, number in enumerate(numbers):
      question = questions[number]
      found = [_guesses(network, question.text, mask, log_probs[row, mask],
                        top_k, targets)
               for mask in range(len(question.places))]
      answers[number] = found if len(found) > 1 else found[0]
  return answers[0] if isinstance(texts, str) else answers


def as_question(network: Network, text: str) -> Question:
  """A text with masks as ids.

  Raises:
    InputError: no text, no mask in it, or more tokens than positions.
  """
  tok = network.tokenizer
  if not isinstance(text, str):
    raise InputError(f'a text to fill is {text!r}: expected a string.')
  for name in tok.mask_texts:
    text = text.replace(name, MASK)
  if MASK not in text:
    raise InputError(f'fill_mask needs a {MASK} in the text, found none: '
                     f'{text[:80]!r}.')
  ids = with_ends(tok, tok.encode(text, allow_mask=True),
                  network.config.max_positions, text)
  return Question(text, ids, np.flatnonzero(ids == tok.mask_id))


def _guesses(network: Network, text: str, number: int, log_probs: np.ndarray,
             top_k: int, targets: Sequence[str] | None) -> list[Filled]:
  """Those for the mask of that number."""
  tok = network.tokenizer
  start = [m.start() for m in re.finditer(re.escape(MASK), text)][number]
  before, after = text[:start], text[start + len(MASK):]
  if targets is None:
    # The best, without sorting the whole vocabulary.
    best = np.argpartition(-log_probs, top_k - 1)[:top_k]
  else:
    best = np.array(list(dict.fromkeys(
        target_id(tok, target, before) for target in targets)))
  best = best[np.lexsort((best, -log_probs[best]))]
  filled = []
  for token in best:
    guess = tok.decode([int(token)])
    # A WordPiece's words have no space of their own.
    if tok.word_starts[token] and not guess.startswith(' ') and before:
      guess = f' {guess}'
    # Its own space stands in the place of the one before the mask.
    filled.append(Filled(before.removesuffix(' ') + guess + after,
                         float(np.exp(log_probs[token])), guess))
  return filled


def target_id(tok, target: str, before: str) -> int:
  """The id of a word that someone proposes.

  Behind a space, or other white space, it is the piece that has a space of its
  own; one that is written with its space is always that piece.
  """
  word = target
  if before[-1:].isspace() and not word.startswith(' '):
    word = f' {word}'
  ids = tok.encode(word)
  if len(ids) != 1 or int(ids[0]) == tok.unk_id:
    pieces = ', '.join(repr(tok.token_text(i)) for i in ids)
    raise InputError(
        f'target {target!r}: not one token of this model but '
        f'{pieces or "none"}: a mask stands for one. Give other words, or a '
        f'{MASK} for each piece.')
  return int(ids[0])
