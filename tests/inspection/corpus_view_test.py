"""The text of a run, counted."""

import collections
import re

import pytest

from launch import inspect_notebook
from robertax.errors import InputError


def test_sizes_examples_and_tokens(run):
  view = inspect_notebook.corpora(run.workdir, examples=2, top_k=3)
  ((name, train, held, sentences, rows, tokens, padding),) = view.sizes.rows
  assert name == 'counting' and train + held == 150
  assert train * 10 == sentences
  assert rows * 32 * (1 - float(padding.rstrip('%')) / 100) == pytest.approx(
      tokens, rel=.01)
  assert len(view.examples.rows) == 2
  assert all(text.startswith('<s>') for _, _, text in view.examples.rows)
  ((_, said),) = view.tokens.rows
  shares = [float(x) for x in re.findall(r'([\d.]+)%', said)]
  assert len(shares) == 3 and shares == sorted(shares, reverse=True)
  assert collections.Counter(said)['%'] == 3


def test_no_workdir(tmp_path):
  with pytest.raises(InputError, match='config.json'):
    inspect_notebook.corpora(str(tmp_path))
