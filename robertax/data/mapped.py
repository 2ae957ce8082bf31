"""Rows of the memory-mapped form."""

import os

import numpy as np

from robertax.corpus import memmap
from robertax.corpus.records import Manifest
from robertax.data.damage import AGAIN, BadRecords, Pieces
from robertax.data.rows import Rows, copy_rows, slotted
from robertax.errors import InputError

_HEAD = 128  # Bytes of a .npy before its numbers, as memmap writes it.
_WHY = 'its bytes are not those that were written'


class Mapped:
  """The memory-mapped form of one corpus."""

  def __init__(self, manifest: Manifest, split: str, bad: BadRecords):
    """Maps the arrays.

    Args:
      manifest: of the records.
      split: its name on disk.
      bad: what is done with damaged records.

    Raises:
      InputError: a file is missing, of another size, or damaged at its head.
    """
    self._folder, self._bad = manifest.folder, bad
    # Slices of np.memmap are slower to make than those of plain arrays.
    arrays = memmap.open_split(manifest, split)
    self._arrays = memmap.Arrays(*(a.view(np.ndarray) for a in arrays))
    self._slotted = slotted(manifest.pair_law is not None)
    self._pieces = {}
    for field in memmap.Arrays._fields:
      path = memmap.file_path(manifest.folder, split, field)
      self._pieces[field] = Pieces(
          path, manifest.checksums.get(os.path.basename(path)))
      if field != 'ids' and not self._sound(field, *np.zeros((2, 1), int))[0]:
        raise InputError(f'{path}: {_WHY}: {AGAIN}')

  def fill(self, local, places, rows: Rows, spans=None):
    for fields in (('row_starts', 'example_starts'), (*self._slotted, 'ids')):
      for field in fields:
        whole = self._sound(field, *self._range(field, local))
        for record in local[~whole].tolist():
          self._bad.report(self._pieces[field].path, record, _WHY)
        local, places = local[whole], places[whole]
    if len(local):
      copy_rows(self._arrays, self._slotted, self._folder, local, places, rows)

  def _range(self, field: str, local: np.ndarray):
    """First and last number that a row has in an array."""
    if field in ('row_starts', 'example_starts'):
      return local, local + 2
    starts = (self._arrays.row_starts if field == 'ids'
              else self._arrays.example_starts)
    return starts[local], starts[local + 1]

  def _sound(self, field: str, first: np.ndarray, stop: np.ndarray
             ) -> np.ndarray:
    head = 0 if field == 'ids' else _HEAD
    size = getattr(self._arrays, field).itemsize
    return self._pieces[field].sound(head + size * first, head + size * stop)
