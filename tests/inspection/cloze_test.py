"""The cloze table, against guesses over the whole vocabulary."""

import pytest

from launch import inspect_notebook
from robertax.errors import InputError

TEXT = 'two three <mask> five six seven.'


def test_rank_and_probability(loaded):
  table = inspect_notebook.cloze(loaded, [(TEXT, 'four'), (TEXT, 'nine'),
                                          (TEXT, 'not a token')])
  everything = loaded.fill_mask(TEXT, top_k=loaded.config.vocab_size)
  order = [guess.token.strip() for guess in everything]
  for row, word in zip(table.rows, ('four', 'nine')):
    assert row[2] == str(1 + order.index(word))
    assert row[3] == f'{everything[order.index(word)].probability:.1%}'
    assert row[4] == order[0] == 'four'
  assert table.rows[0][2] == '1' and table.rows[2][2] == 'not one token'
  assert table.note.startswith('1 of 2 guessed right')


def test_one_mask_is_needed(loaded):
  with pytest.raises(InputError, match='found 2'):
    inspect_notebook.cloze(loaded, [('<mask> and <mask>', 'one')])
