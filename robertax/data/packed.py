"""What the tokens of a packed row belong to: their example, their segment."""

import numpy as np

from robertax.data.source import Rows


def segments(lengths: np.ndarray, length: int) -> np.ndarray:
  """Which example each token of a row belongs to.

  >>> segments(np.array([[2, 1], [3, 0]]), 4)
  array([[1, 1, 2, 0],
         [1, 1, 1, 0]], dtype=int32)

  Args:
    lengths: int32[B,P].
    length: T.

  Returns:
    int32[B,T], 1 .. P, and 0 for padding.
  """
  columns = np.arange(length, dtype=np.int32)
  ends = np.cumsum(lengths, -1, dtype=np.int32)
  result = (columns < ends[:, -1:]).astype(np.int32)
  if lengths.shape[1] == 1:
    return result
  return result * (1 + _passed(ends, length))


def types(lengths: np.ndarray, first_lengths: np.ndarray, length: int
          ) -> np.ndarray:
  """Which segment of its pair each token belongs to (BERT's type ids).

  >>> types(np.array([[3, 4]]), np.array([[2, 3]]), 8)
  array([[0, 0, 1, 0, 0, 0, 1, 0]], dtype=int32)

  Args:
    lengths: int32[B,P].
    first_lengths: int32[B,P], tokens of `<s> A </s>`.
    length: T.

  Returns:
    int32[B,T], 1 for `B </s>`, 0 for `<s> A </s>` and for padding.
  """
  ends = np.cumsum(lengths, -1, dtype=np.int32)
  # In a B, one more B has begun than examples have ended.
  begins = np.where(lengths > 0, ends - lengths + first_lengths, length)
  return _passed(begins, length) - _passed(
      np.where(lengths > 0, ends, length), length)


def pair_fields(rows: Rows) -> dict[str, np.ndarray]:
  """The batch fields that only pair formats have.

  Returns:
    type_ids int32[B,T]; nsp_positions int32[B,P], where each example starts;
    nsp_targets int32[B,P], BERT's: 0 where B follows A, 1 where it is a random
    one; nsp_weights float32[B,P], 0 (as the other two) where no example is.
  """
  lengths = rows.lengths
  has = lengths > 0
  starts = np.cumsum(lengths, -1, dtype=np.int32) - lengths
  return {
      'type_ids': types(lengths, rows.first_lengths, rows.ids.shape[1]),
      'nsp_positions': np.where(has, starts, 0),
      'nsp_targets': (has & (rows.second_documents != rows.documents)).astype(
          np.int32),
      'nsp_weights': has.astype(np.float32)}


def _passed(marks: np.ndarray, length: int) -> np.ndarray:
  """How many of a row's marks lie at or before each column: int32[B,T]."""
  counts = np.zeros((len(marks), length + 1), np.int32)
  np.add.at(counts, (np.arange(len(marks))[:, None], marks), 1)
  return np.cumsum(counts[:, :length], -1, dtype=np.int32)
