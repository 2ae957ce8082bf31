"""Compressed files: the lines of a file, plain, .gz or .zst.

Both libraries are asked by hand: a truncated file must be an error, and
zstandard's own stream reader ends a truncated file as if it were whole.
"""

from collections.abc import Callable, Iterator
import zlib

from robertax.errors import InputError

CHUNK = 1 << 16


def lines(path: str, advance: Callable[[int], None]
          ) -> Iterator[tuple[int, bytes]]:
  """Yields (number, line) of a file; numbers start at 1, newlines are cut off.

  Args:
    path: how it is packed follows from its ending.
    advance: is told how many bytes were read from the file, as they are.

  Raises:
    InputError: truncated or damaged; unreadable.
  """
  kind = path.rpartition('.')[2]
  unpack = {'gz': _gz, 'zst': _zst}.get(kind, _plain)
  number, pending = 0, []
  try:
    with open(path, 'rb') as f:
      for chunk in unpack(_read(f, advance), path):
        first, *rest = chunk.split(b'\n')
        pending.append(first)
        for line in rest:
          number += 1
          yield number, b''.join(pending)
          pending = [line]
  except OSError as e:
    raise InputError(f'cannot read {path}: {e.strerror}') from e
  last = b''.join(pending)
  if last:
    yield number + 1, last


def _read(file, advance) -> Iterator[bytes]:
  while chunk := file.read(CHUNK):
    advance(len(chunk))
    yield chunk


def _plain(chunks, path) -> Iterator[bytes]:
  return chunks


def _gz(chunks, path) -> Iterator[bytes]:
  return _members(chunks, path, lambda: zlib.decompressobj(wbits=31),
                  zlib.error)


def _zst(chunks, path) -> Iterator[bytes]:
  try:
    import zstandard
  except ImportError as e:
    raise InputError(f'{path}: reading .zst needs the package zstandard: pip '
                     'install zstandard, or unpack the file.') from e
  # `zstd --long` files may need a window of 2 GiB.
  decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
  return _members(chunks, path, decompressor.decompressobj,
                  zstandard.ZstdError)


def _members(chunks, path, decompressobj, error) -> Iterator[bytes]:
  """Unpacks members (gzip) or frames (zstd) that follow one another."""
  member = None
  try:
    for chunk in chunks:
      while chunk:
        member = member or decompressobj()
        yield member.decompress(chunk)
        chunk = b''
        if member.eof:
          chunk, member = member.unused_data, None
  except error as e:
    raise InputError(f'{path}: damaged: {e}. Fetch or pack it again.') from e
  if member is not None:
    raise InputError(f'{path}: truncated: it ends in the middle. Fetch or pack '
                     'it again.')
