"""Which tokens lie nearest to each other in the embedding table."""

from __future__ import annotations

from collections.abc import Sequence
import typing

import numpy as np

from robertax.errors import InputError
from robertax.inspection import fill_mask
from robertax.inspection.table import Table

if typing.TYPE_CHECKING:
  from robertax.inspection.model import Model


def nearest(model: Model, words: str | Sequence[str], top_k: int = 8) -> Table:
  """The tokens nearest to words, by the cosine of their embeddings.

  Special tokens are left out.

  Args:
    model: from `robertax.load`.
    words: one or several; each is taken as it stands behind a space. One that
      is not a token of this model is said to be none.
    top_k: how many of each.

  Raises:
    InputError: top_k is not from 1 to the size of the vocabulary.
  """
  tok = model.tokenizer
  if not 1 <= top_k < model.config.vocab_size:
    raise InputError(
        f'top_k={top_k}: from 1 to {model.config.vocab_size - 1}.')
  table_VD = np.asarray(model.params['embeddings']['tokens'], np.float32)
  table_VD = table_VD / np.maximum(
      np.linalg.norm(table_VD, axis=1, keepdims=True), 1e-12)
  rows = []
  for word in [words] if isinstance(words, str) else words:
    try:
      token = fill_mask.target_id(tok, word, ' ')
    except InputError:
      rows.append((word, 'not one token of this model'))
      continue
    cosines_V = table_VD @ table_VD[token]
    cosines_V[[token, *tok.special_ids]] = -np.inf
    best = np.argsort(-cosines_V, kind='stable')[:top_k]
    rows.append((word, ', '.join(
        f'{tok.token_text(int(i)).strip()} {cosines_V[i]:.2f}' for i in best
        if np.isfinite(cosines_V[i]))))
  return Table(('token', 'nearest, with the cosine'), rows)
