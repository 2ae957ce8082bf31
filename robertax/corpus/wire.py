"""The bytes of a record: a `tf.train.Example`, written without TensorFlow.

Byte for byte what TensorFlow would write with sorted keys:

    document  int64   index in the corpus of the row's first document
    ids       bytes   little-endian uint16 (uint32 above 65,536 ids), no padding
    lengths   bytes   little-endian int32, tokens of each example in the row
"""

import numpy as np


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


def encode_record(ids: np.ndarray, lengths, document: int) -> bytes:
  """One row as the bytes of a tf.train.Example.

  >>> encode_record(np.array([0, 7, 2], np.uint16), [3], 0).hex(' ')[:29]
  '0a 3b 0a 11 0a 08 64 6f 63 75'

  Args:
    ids: uint16[n] or uint32[n], the row's examples back to back.
    lengths: tokens of each example; they sum to n.
    document: index of the row's first document, at least 0.
  """
  code = ids.dtype.newbyteorder('<')
  return _field(1, b''.join((
      _feature(b'document', _field(3, _field(1, _varint(document)))),
      _feature(b'ids', _field(1, _field(1, ids.astype(code).tobytes()))),
      _feature(b'lengths', _field(1, _field(
          1, np.asarray(lengths, '<i4').tobytes()))),
  )))


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


def decode_record(data: bytes, dtype: str
                  ) -> tuple[np.ndarray, np.ndarray, int]:
  """The inverse of `encode_record` (it reads no other Example).

  Args:
    data: a record.
    dtype: `Manifest.dtype`.

  Returns:
    ids: dtype[n], lengths: int32[k], document.
  """
  at, end = _open_field(data, 0)
  payloads = []
  while at < end:
    at, next_at = _open_field(data, at)
    _, at = _open_field(data, at)  # The key: the order is known.
    for _ in range(3):  # Feature, its list, the list's one value.
      at, _ = _open_field(data, at)
    payloads.append((at, next_at))
    at = next_at
  document, _ = _read_varint(data, payloads[0][0])
  ids, lengths = (data[a:b] for a, b in payloads[1:])
  return (np.frombuffer(ids, np.dtype(dtype).newbyteorder('<')),
          np.frombuffer(lengths, '<i4'), document)
