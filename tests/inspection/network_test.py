"""Rows of ids as batches: every row once, few shapes, no batch too large."""

import numpy as np
import pytest

from robertax.errors import InputError
from robertax.inspection.network import row_batches, with_ends


@pytest.mark.parametrize('most', [8, 64, 1000])
def test_every_row_once_and_few_shapes(most):
  random = np.random.RandomState(0)
  rows = [random.randint(4, 99, length).astype(np.int32)
          for length in [*random.randint(1, 50, 40), 50, 2, 8, 9]]
  seen, shapes = {}, set()
  for numbers, ids, segments in row_batches(rows, 1, 50, most):
    shapes.add(ids.shape)
    assert ids.size <= most or len(ids) == 1
    assert not segments[len(numbers):].any()
    for number, row, real in zip(numbers, ids, segments):
      assert number not in seen
      seen[number] = row[real > 0]
      assert (row[real == 0] == 1).all()
      # Padding is behind, and less than half of a row that is not short.
      length = int(real.sum())
      assert real[:length].all() and len(row) <= max(8, 2 * length)
  assert sorted(seen) == list(range(len(rows)))
  for number, row in enumerate(rows):
    np.testing.assert_array_equal(seen[number], row)
  assert {length for _, length in shapes} <= {8, 16, 32, 50}
  assert all(size & (size - 1) == 0 for size, _ in shapes)


def test_a_row_too_long_shows_its_text(wordpiece):
  tok = wordpiece.tokenizer
  ids = with_ends(tok, np.array([9, 9]), 4, 'x')
  assert ids.tolist() == [tok.bos_id, 9, 9, tok.eos_id]
  with pytest.raises(InputError, match='4 tokens long, the model has 3.*xyz'):
    with_ends(tok, np.array([9, 9]), 3, 'xyz')
