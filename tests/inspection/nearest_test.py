"""Neighbours in the embedding table, against scipy."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from launch import inspect_notebook
from robertax.errors import InputError


def test_the_nearest_are_those_of_scipy(loaded):
  tok = loaded.tokenizer
  (word,), table = tok.encode(' three'), loaded.params['embeddings']['tokens']
  distances = cdist(np.asarray(table)[[word]], table, 'cosine')[0]
  distances[[word, *tok.special_ids]] = np.inf
  expected = [tok.token_text(int(i)).strip() for i in np.argsort(distances)[:3]]
  ((_, said),) = inspect_notebook.nearest(loaded, 'three', top_k=3).rows
  assert [part.rpartition(' ')[0] for part in said.split(', ')] == expected
  assert said.endswith(f'{1 - np.sort(distances)[2]:.2f}')


def test_what_is_no_token(loaded):
  rows = inspect_notebook.nearest(loaded, ['three', 'threefold nonsense'],
                                  2).rows
  assert rows[1][1] == 'not one token of this model'
  with pytest.raises(InputError, match='top_k=0'):
    inspect_notebook.nearest(loaded, 'three', 0)
