"""A small cloze test: where the right word stands among the guesses."""

from __future__ import annotations

from collections.abc import Iterable
import typing

import numpy as np

from robertax.errors import InputError
from robertax.inspection import fill_mask
from robertax.inspection.network import row_batches
from robertax.inspection.table import Table

if typing.TYPE_CHECKING:
  from robertax.inspection.model import Model


def cloze(model: Model, questions: Iterable[tuple[str, str]]) -> Table:
  """How likely the right word is, and which rank it has of the vocabulary.

  >>> cloze(model, [('The capital of <mask> is Paris.', 'France')])

  Args:
    model: from `robertax.load`.
    questions: (text with one mask, the word). A word that is not one token of
      this model has no rank: it cannot be guessed, and is not counted.

  Raises:
    InputError: a text without exactly one mask, or too long.
  """
  tok, rows, ranks = model.tokenizer, [], []
  for text, word in questions:
    question = fill_mask.as_question(model, text)
    if len(question.places) != 1:
      raise InputError(f'a cloze question has one {fill_mask.MASK}, found '
                       f'{len(question.places)}: {text[:80]!r}.')
    (best,) = model.fill_mask(text, top_k=1)
    before = question.text.split(fill_mask.MASK)[0]
    guess = [best.token.strip(), f'{best.probability:.1%}']
    try:
      token = fill_mask.target_id(tok, word, before)
    except InputError:
      rows.append((text, word, 'not one token', '', *guess))
      continue
    (found,) = model.fill_mask(text, targets=[word])
    log_probs = _log_probs(model, question)
    ranks.append(1 + int((log_probs > log_probs[token]).sum()))
    rows.append((text, word, f'{ranks[-1]:,}', f'{found.probability:.1%}',
                 *guess))
  right = sum(rank == 1 for rank in ranks)
  note = (f'{right} of {len(ranks)} guessed right; median rank '
          f'{np.median(ranks):g} of {model.config.vocab_size:,}.'
          if ranks else 'None of the words is one token of this model.')
  return Table(('text', 'word', 'rank', 'probability', 'best guess', 'its'),
               rows, note)


def _log_probs(model: Model, question: fill_mask.Question) -> np.ndarray:
  """float32[V] at its mask."""
  ((_, input_ids, segment_ids),) = row_batches(
      [question.ids], model.tokenizer.pad_id, model.config.max_positions,
      len(question.ids))
  places = question.places[None].astype(np.int32)
  return model.log_probs(input_ids, segment_ids, places)[0, 0]
