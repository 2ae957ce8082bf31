"""The bytes of a record: a `tf.train.Example`, written without TensorFlow.

Byte for byte what TensorFlow would write with sorted keys:

    documents         bytes   index in the corpus of each example's document
    first_lengths     bytes   pair formats: tokens of each one's `<s> A </s>`
    ids               bytes   uint16 (uint32 above 65,536 ids), no padding
    lengths           bytes   tokens of each example in the row
    second_documents  bytes   pair formats: document of each example's B

All are little-endian, and int32 where nothing else is said. The two fields of
the pair formats are there only in their records.
"""

from typing import NamedTuple

import numpy as np

FIELDS = ('documents', 'ids', 'lengths')
PAIR_FIELDS = ('documents', 'first_lengths', 'ids', 'lengths',
               'second_documents')
_NONE = np.zeros(0, np.int32)


class Row(NamedTuple):
  """What a record holds: some examples, back to back.

  Attributes:
    ids: uint16[n] or uint32[n].
    lengths: int32[k], tokens of each example; they sum to n.
    documents: int32[k], index in the corpus of the document that an example
      begins in.
    first_lengths: int32[k], tokens of `<s> A </s>`; [0] where none are pairs.
    second_documents: int32[k], the document of B: A's own where B follows A,
      another where it is a random one; [0] where none are pairs.
  """
  ids: np.ndarray
  lengths: np.ndarray
  documents: np.ndarray
  first_lengths: np.ndarray = _NONE
  second_documents: np.ndarray = _NONE


def _varint(n: int) -> bytes:
  out = bytearray()
  while n > 127:
    out.append(n & 127 | 128)
    n >>= 7
  out.append(n)
  return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
  """A length-delimited field."""
  return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _feature(name: bytes, feature: bytes) -> bytes:
  """An entry of the map `Features.feature`."""
  return _field(1, _field(1, name) + _field(2, feature))


def encode_record(row: Row) -> bytes:
  """One row as the bytes of a tf.train.Example.

  >>> encode_record(Row(np.array([0, 7, 2], np.uint16), [3], [0])).hex(' ')[:32]
  '0a 3f 0a 15 0a 09 64 6f 63 75 6d'

  Args:
    row: documents are at least 0.
  """
  fields = PAIR_FIELDS if len(row.first_lengths) else FIELDS
  return _field(1, b''.join(
      _feature(name.encode(), _field(1, _field(1, _little(
          getattr(row, name), name)))) for name in fields))


def _little(values, name: str) -> bytes:
  """Little-endian bytes; all but ids are int32."""
  if name != 'ids':
    return np.asarray(values, '<i4').tobytes()
  return values.astype(values.dtype.newbyteorder('<')).tobytes()


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
  n = shift = 0
  while True:
    byte = data[at]
    at += 1
    n |= (byte & 127) << shift
    if byte < 128:
      return n, at
    shift += 7


def _open_field(data: bytes, at: int) -> tuple[int, int]:
  """(start, end) of the payload of the length-delimited field at `at`."""
  size, start = _read_varint(data, at + 1)
  return start, start + size


def decode_record(data: bytes, dtype: str) -> Row:
  """The inverse of `encode_record` (it reads no other Example).

  Args:
    data: a record.
    dtype: `Manifest.dtype`.
  """
  at, end = _open_field(data, 0)
  values = {}
  while at < end:
    at, next_at = _open_field(data, at)
    start, at = _open_field(data, at)
    name = data[start:at].decode()
    for _ in range(3):  # Feature, its list, the list's one value.
      at, _ = _open_field(data, at)
    kind = np.dtype(dtype if name == 'ids' else 'int32').newbyteorder('<')
    values[name] = np.frombuffer(data[at:next_at], kind)
    at = next_at
  return Row(**values)
