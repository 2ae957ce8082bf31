"""Compressed files: the bytes or lines of a file, plain, .gz, .zst or .bz2.

The libraries are asked by hand: a truncated file must be an error, and
zstandard's own stream reader ends a truncated file as if it were whole.
"""

from collections.abc import Callable, Iterator
import zlib

from robertax import paths
from robertax.errors import InputError

CHUNK = 1 << 16
PACKINGS = ('.gz', '.zst', '.bz2')  # Endings.


def chunks(path: str, advance: Callable[[int], None]) -> Iterator[bytes]:
  """Yields the bytes of a file, unpacked, a piece at a time.

  Args:
    path: how it is packed follows from its ending.
    advance: is told how many bytes were read from the file, as they are.

  Raises:
    InputError: truncated or damaged; unreadable.
  """
  unpack = {'gz': _gz, 'zst': _zst, 'bz2': _bz2}.get(
      path.rpartition('.')[2], _plain)
  try:
    with paths.open(path, 'rb') as f:
      yield from unpack(_read(f, advance), path)
  except OSError as e:
    raise InputError(f'cannot read {path}: {e.strerror or e}') from e


def lines(path: str, advance: Callable[[int], None]
          ) -> Iterator[tuple[int, bytes]]:
  """Yields (number, line) of a file; numbers start at 1, newlines are cut off.

  Args:
    path: how it is packed follows from its ending.
    advance: is told how many bytes were read from the file, as they are.

  Raises:
    InputError: truncated or damaged; unreadable.
  """
  number, pending = 0, []
  for chunk in chunks(path, advance):
    first, *rest = chunk.split(b'\n')
    pending.append(first)
    for line in rest:
      number += 1
      yield number, b''.join(pending)
      pending = [line]
  last = b''.join(pending)
  if last:
    yield number + 1, last


def _read(file, advance) -> Iterator[bytes]:
  while chunk := file.read(CHUNK):
    advance(len(chunk))
    yield chunk


def _plain(read, path) -> Iterator[bytes]:
  return read


def _gz(read, path) -> Iterator[bytes]:
  return _members(read, path, lambda: zlib.decompressobj(wbits=31),
                  zlib.error)


def _bz2(read, path) -> Iterator[bytes]:
  import bz2  # A Python may be built without it.
  return _members(read, path, bz2.BZ2Decompressor, (OSError, ValueError))


def _zst(read, path) -> Iterator[bytes]:
  try:
    import zstandard
  except ImportError as e:
    raise InputError(f'{path}: reading .zst needs the package zstandard: pip '
                     'install zstandard, or unpack the file.') from e
  # `zstd --long` files may need a window of 2 GiB.
  decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
  return _members(read, path, decompressor.decompressobj,
                  zstandard.ZstdError)


def _members(read, path, decompressobj, error) -> Iterator[bytes]:
  """Unpacks members (gzip), frames (zstd) or streams (bz2) in a row."""
  member = None
  for chunk in read:
    while chunk:
      member = member or decompressobj()
      try:
        unpacked = member.decompress(chunk)
      except error as e:
        raise InputError(
            f'{path}: damaged: {e}. Fetch or pack it again.') from e
      yield unpacked
      chunk = b''
      if member.eof:
        chunk, member = member.unused_data, None
  if member is not None:
    raise InputError(f'{path}: truncated: it ends in the middle. Fetch or pack '
                     'it again.')
