"""Rows of the memory-mapped form."""

import numpy as np

from robertax.corpus import memmap
from robertax.corpus.records import Manifest
from robertax.data.rows import copy_rows, slotted


class Mapped:
  """The memory-mapped form of one corpus."""

  def __init__(self, manifest: Manifest, split: str):
    self._folder = manifest.folder
    # Slices of np.memmap are slower to make than those of plain arrays.
    arrays = memmap.open_split(manifest, split)
    self._arrays = memmap.Arrays(*(a.view(np.ndarray) for a in arrays))
    self._slotted = slotted(manifest.pair_law is not None)

  def fill(self, local, places, rows, spans=None):
    copy_rows(self._arrays, self._slotted, self._folder, local, places, rows)
