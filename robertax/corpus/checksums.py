"""Checksums: what the bytes of a file were when it was written.

Two for each file: the SHA-256 of all of it, which says whether it is the file
that was written, and the CRC-32 of each piece of 1 MiB, which says where it no
longer is, and which a reader of a part of the file can check that part by.
"""

from collections.abc import Iterator
import hashlib
import os
from typing import Any, NamedTuple
import zlib

from robertax import files

PIECE = 1 << 20
ADVICE = 'delete its folder and prepare again'


class Checksum(NamedTuple):
  """Of one file, as the manifest holds it.

  Attributes:
    size: bytes.
    sha256: hexadecimal.
    pieces: the CRC-32 of each piece of `PIECE` bytes (the last is shorter), 8
      hexadecimal digits each, one after another.
  """
  size: int
  sha256: str
  pieces: str

  def piece(self, index: int) -> int:
    """The CRC-32 of the bytes from index * PIECE on, as `zlib.crc32` has it."""
    return int(self.pieces[8 * index:8 * index + 8], 16)


class Damage(NamedTuple):
  """A file that is not what it was.

  Attributes:
    path: of the file.
    offset: in it, of the first piece that differs, or where it ends too early
      or should have ended; None: the whole file is missing or too many.
    why: what is wrong, in words.
  """
  path: str
  offset: int | None
  why: str

  def __str__(self) -> str:
    place = '' if self.offset is None else f' at byte {self.offset:,}'
    return f'{self.path}{place}: {self.why}'


def _pieces(path: str) -> Iterator[bytes]:
  with files.open(path, 'rb') as f:
    while piece := f.read(PIECE):
      yield piece


def checksum(path: str) -> Checksum:
  """Reads a file and gives its checksum, in constant memory."""
  size, whole, pieces = 0, hashlib.sha256(), []
  for piece in _pieces(path):
    size += len(piece)
    whole.update(piece)
    pieces.append(f'{zlib.crc32(piece):08x}')
  return Checksum(size, whole.hexdigest(), ''.join(pieces))


def checksums(folder: str, names) -> dict[str, Checksum]:
  """Of the files of a folder, by name."""
  return {name: checksum(os.path.join(folder, name)) for name in sorted(names)}


def from_json(values: dict[str, Any]) -> dict[str, Checksum]:
  """What json.load makes of `{name: checksum._asdict()}`."""
  return {name: Checksum(**value) for name, value in values.items()}


def to_json(values: dict[str, Checksum]) -> dict[str, Any]:
  return {name: value._asdict() for name, value in values.items()}


def damage(path: str, expected: Checksum) -> Damage | None:
  """Reads a file; what is wrong with it, or None."""
  at, whole = 0, hashlib.sha256()
  try:
    for index, piece in enumerate(_pieces(path)):
      if at + len(piece) > expected.size:
        return Damage(path, expected.size, 'longer than it was written: '
                      f'{files.stat(path).size:,} bytes, not '
                      f'{expected.size:,}')
      whole.update(piece)
      short = len(piece) < min(PIECE, expected.size - at)
      if not short and zlib.crc32(piece) != expected.piece(index):
        return Damage(path, at, 'damaged somewhere in the '
                      f'{len(piece):,} bytes from there on')
      at += len(piece)
  except FileNotFoundError:
    return Damage(path, None, 'missing')
  except OSError as e:
    return Damage(path, at, f'cannot be read ({e.strerror or e})')
  if at < expected.size:
    return Damage(path, at, f'truncated: {expected.size - at:,} bytes are '
                  'missing')
  if whole.hexdigest() != expected.sha256:
    return Damage(path, 0, 'not the file that was written, though each piece '
                  'looks like it')
  return None
