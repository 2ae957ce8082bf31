"""Damaged records: noticed while they are read, and what is done then.

An array_record file checks its own bytes when they are read. The arrays of the
memory-mapped form are held against the manifest's checksums, a piece of 1 MiB
when something of it is first read.
"""

import sys
import threading
import zlib

import numpy as np

from robertax.corpus.checksums import PIECE, Checksum
from robertax.errors import InputError

AGAIN = 'delete its folder and prepare the corpus again.'
_SAID = 20  # Records that are named; the rest are counted alone.


class BadRecords:
  """What data.bad_records says: stop at a damaged record, or leave it out.

  A row that is left out is one of padding: nothing of it is predicted, and no
  other takes its place, so that every other row of every batch stays as it is.
  """

  def __init__(self, policy: str = 'stop'):
    self._skip = policy == 'skip'
    self._met: set[tuple[str, int]] = set()
    self._lock = threading.Lock()

  def __len__(self) -> int:
    """Different records that were left out so far, by this process."""
    return len(self._met)

  def report(self, path: str, record: int, why: str) -> None:
    """Says that a record is damaged.

    Args:
      path: of the shard, or of the array.
      record: its number in it.
      why: in words.

    Raises:
      InputError: the policy is to stop.
    """
    if not self._skip:
      raise InputError(
          f'{path}: record {record} is damaged: {why}: {AGAIN} `python -m '
          'robertax.prepare --verify` says what else is; data.bad_records=skip '
          'leaves such records out, and counts them.')
    with self._lock:
      if (path, record) in self._met:
        return
      self._met.add((path, record))
      if len(self._met) <= _SAID:
        print(f'{path}: record {record} is left out: {why}'
              + (' (others will be counted only: train/bad_records)'
                 if len(self._met) == _SAID else ''), file=sys.stderr)


class Pieces:
  """Which pieces of a file are what its checksums say."""

  def __init__(self, path: str, checksum: Checksum | None):
    """Reads nothing yet.

    Args:
      path: a local file.
      checksum: of the manifest; None: the file was written before there were
        any, and everything passes.
    """
    self.path, self._checksum = path, checksum
    count = -(-checksum.size // PIECE) if checksum else 0
    self._state = np.zeros(count, np.int8)  # 1: sound, -1: damaged.
    self._bytes: np.ndarray | None = None

  def sound(self, first: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Whether the bytes first <= i < stop of each range are sound.

    Args:
      first, stop: int64[B].

    Returns:
      bool[B].
    """
    whole = np.ones(len(first), bool)
    if self._checksum is None or not len(first):
      return whole
    last = len(self._state) - 1
    piece = np.clip(first // PIECE, 0, last)
    end = np.clip(np.maximum(stop - 1, first) // PIECE, 0, last)
    for more in range(int((end - piece).max()) + 1):
      at = np.minimum(piece + more, end)
      for index in np.unique(at[self._state[at] == 0]).tolist():
        self._state[index] = self._check(index)
      whole &= self._state[at] > 0
    return whole

  def _check(self, index: int) -> int:
    if self._bytes is None:
      self._bytes = np.memmap(self.path, np.uint8, 'r')
    found = zlib.crc32(self._bytes[index * PIECE:(index + 1) * PIECE])
    return 1 if found == self._checksum.piece(index) else -1
