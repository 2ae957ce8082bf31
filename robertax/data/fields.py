"""Many records' bytes -> arrays, without a Python loop over their fields.

Records are tf.train.Examples of one fixed layout (corpus/wire.py), so the
same field stands in all of them, some bytes earlier or later: it is read for a
whole batch at once. Anything else than that layout is damage.
"""

from collections.abc import Sequence

import numpy as np

_LENGTH_DELIMITED = 2
# Field numbers of tf.train.Example, and of the map it holds.
_EXAMPLE = _BYTES_LIST = _VALUE = _KEY = 1
_FEATURE = 2


class Damaged(Exception):
  """A record is not what `corpus.wire` writes; `.index` says which."""

  def __init__(self, index: int):
    super().__init__(index)
    self.index = index


class Fields:
  """Where the features of each record lie.

  Attributes:
    data: uint8[n], the records' bytes back to back.
    parts: for each feature its (starts int64[R], sizes int64[R]), in bytes of
      `data`.
  """

  def __init__(self, examples: list[bytes], names: Sequence[str]):
    """Reads a batch.

    Args:
      examples: the records.
      names: of their features, in order: wire.FIELDS or wire.PAIR_FIELDS.

    Raises:
      Damaged: the first that is not of the layout.
    """
    self._sizes = np.fromiter(map(len, examples), np.int64, len(examples))
    self._ends = np.cumsum(self._sizes)
    # Zeros behind the end: a damaged last record may ask for more bytes.
    self.data = np.frombuffer(b''.join([*examples, bytes(32)]), np.uint8)
    self._at = self._ends - self._sizes
    # features { feature { key: .. value { .._list { value: .. } } } ... }
    self._enter(_EXAMPLE)
    self.parts = {name: self._feature(name.encode()) for name in names}
    self._demand(self._at == self._ends)

  def _feature(self, name: bytes) -> tuple[np.ndarray, np.ndarray]:
    self._enter(_EXAMPLE)
    self._demand(self._enter(_KEY) == len(name))
    for byte in name:
      self._byte(byte)
    self._enter(_FEATURE)
    self._enter(_BYTES_LIST)
    sizes = self._enter(_VALUE)
    starts = self._at
    self._demand(starts + sizes <= self._ends)
    self._at = starts + sizes
    return starts, sizes

  def _enter(self, number: int) -> np.ndarray:
    """Steps into a field; its size."""
    self._byte(number << 3 | _LENGTH_DELIMITED)
    return self._varint()

  def _byte(self, value: int):
    self._demand(self.data[self._at] == value)
    self._at = self._at + 1
    self._demand(self._at <= self._ends)

  def _varint(self) -> np.ndarray:
    value = np.zeros(len(self._at), np.int64)
    more = np.ones(len(self._at), bool)
    for shift in range(0, 42, 7):
      byte = self.data[self._at].astype(np.int64)
      value |= np.where(more, (byte & 127) << shift, 0)
      self._at = self._at + more
      more &= byte > 127
      self._demand(self._at <= self._ends)
      if not more.any():
        return value
    raise Damaged(int(np.argmax(more)))

  def _demand(self, true: np.ndarray):
    if not true.all():
      raise Damaged(int(np.argmin(true)))
