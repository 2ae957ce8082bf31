"""Texts as rows of ids, and rows as batches of few shapes."""

from collections.abc import Iterator, Sequence

import numpy as np

from robertax.errors import InputError

# Lengths and numbers of rows are powers of two, this one the least.
SHORTEST = 8


def with_ends(tokenizer, ids: np.ndarray, max_positions: int, text: str
              ) -> np.ndarray:
  """int32 ids of a text, with <s> and </s>.

  Raises:
    InputError: more than the model has positions; shows the text.
  """
  row = np.concatenate([[tokenizer.bos_id], ids, [tokenizer.eos_id]])
  if len(row) > max_positions:
    raise InputError(
        f'the text is {len(row)} tokens long, the model has {max_positions} '
        f'positions: give a shorter one than {text[:60]!r}...')
  return row.astype(np.int32)


def batches(rows: Sequence[np.ndarray], pad_id: int, max_positions: int,
            max_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray,
                                               np.ndarray]]:
  """Rows of like length together, the shortest first.

  Args:
    rows: ids of examples.
    pad_id: fills them up.
    max_positions: longest row there may be.
    max_tokens: of a batch, padding included; a longer row is one alone.

  Yields:
    (numbers of rows [n], input_ids int32[B, T], segment_ids int32[B, T]); rows
    from n on are padding. B and T are powers of two, but for T at the model's
    longest.
  """
  lengths = [min(max_positions, _up(len(row), SHORTEST)) for row in rows]
  for length in sorted(set(lengths)):
    numbers = np.flatnonzero(np.array(lengths) == length)
    most = max(1, max_tokens // length)
    most = 1 << (most.bit_length() - 1)
    for start in range(0, len(numbers), most):
      part = numbers[start:start + most]
      shape = (_up(len(part), 1), length)
      input_ids = np.full(shape, pad_id, np.int32)
      segment_ids = np.zeros(shape, np.int32)
      for place, number in enumerate(part):
        row = rows[number]
        input_ids[place, :len(row)], segment_ids[place, :len(row)] = row, 1
      yield part, input_ids, segment_ids


def _up(count: int, least: int) -> int:
  """The next power of two."""
  return max(least, 1 << (count - 1).bit_length())
