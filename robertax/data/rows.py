"""Rows: what is gathered, and how it is copied out of plain arrays."""

from typing import NamedTuple

import numpy as np

from robertax.corpus import memmap, wire
from robertax.data.damage import AGAIN
from robertax.errors import InputError


class Rows(NamedTuple):
  """Some rows.

  Attributes:
    ids: int32[B,T], padded behind.
    lengths: int32[B,P], tokens of each example, 0 where a row has fewer.
    example_ids: int64[B,P], corpus << 48 | record in it << 8 | slot; -1 where
      none is. Names the example in masks, so it is the same on every host.
    documents: int32[B,P], index in its corpus of the document that an example
      begins in; -1 where none is.
    first_lengths: int32[B,P], tokens of `<s> A </s>`; None: no pairs.
    second_documents: int32[B,P], the document of B; None: no pairs.
  """
  ids: np.ndarray
  lengths: np.ndarray
  example_ids: np.ndarray
  documents: np.ndarray
  first_lengths: np.ndarray | None = None
  second_documents: np.ndarray | None = None

  @classmethod
  def empty(cls, size: int, length: int, slots: int, pad_id: int,
            pairs: bool) -> 'Rows':
    """Rows of padding, to be filled."""
    def slotted(fill, dtype=np.int32):
      return np.full((size, slots), fill, dtype)

    return cls(np.full((size, length), pad_id, np.int32), slotted(0),
               slotted(-1, np.int64), slotted(-1),
               slotted(0) if pairs else None, slotted(-1) if pairs else None)


def fits(sizes, number, rows: Rows) -> bool:
  """Whether rows of these sizes and numbers of examples can be stored."""
  return (0 <= sizes.min() and sizes.max() <= rows.ids.shape[1]
          and 0 <= number.min() and number.max() <= rows.lengths.shape[1])


def slotted(pairs: bool) -> list[str]:
  """Fields of `Rows` that records and arrays hold, one value an example."""
  return [name for name in (wire.PAIR_FIELDS if pairs else wire.FIELDS)
          if name != 'ids']


def copy_rows(arrays: memmap.Arrays, slotted: list[str], folder: str,
          local: np.ndarray, places: np.ndarray, rows: Rows) -> None:
  """Rows `local` of these arrays into the given places."""
  starts, ends = arrays.row_starts[local], arrays.row_starts[local + 1]
  first = arrays.example_starts[local]
  number = arrays.example_starts[local + 1] - first
  if not fits(ends - starts, number, rows):
    raise InputError(f'{folder}: its memory-mapped records are damaged: '
                     f'{AGAIN}')
  for place, start, end in zip(
      places.tolist(), starts.tolist(), ends.tolist()):
    rows.ids[place, :end - start] = arrays.ids[start:end]
  for slot in range(int(number.max(initial=0))):
    has = number > slot
    for name in slotted:
      getattr(rows, name)[places[has], slot] = (
          getattr(arrays, name)[first[has] + slot])
