"""Paths of text, records and runs: local, or any that etils.epath knows.

Floor 0, beside no room. Paths of text, records, configs and runs go through
here: `gs://bucket/x` as well as `/data/x`. The functions are those of `os`,
`shutil` and `glob`, and so are their errors; a local path is given to these, so
that it may be locked, mapped and renamed as before, and remote ones need no
package until one is used. What a storage's own library raises becomes an
OSError, and what a person must install for it an InputError that names the
package.
"""

import builtins
from collections.abc import Callable, Iterator
import contextlib
import errno
import functools
import glob as glob_lib
import hashlib
import os
import shutil
import sys
import time
from typing import IO, Any, NamedTuple, TypeVar
import zlib

from robertax import errors
from robertax.errors import InputError

T = TypeVar('T')
CHUNK = 8 << 20  # Bytes in memory while a file is copied.
# What fsspec reads a scheme with, where tensorflow does not.
_PACKAGES = {'gs': 'gcsfs', 's3': 's3fs', 'az': 'adlfs',
             'hf': 'huggingface_hub'}
# Whose ranges tensorstore reads: exactly the bytes asked for, where
# tensorflow's files read half a megabyte at the least.
_KV_SCHEMES = ('gs', 's3')
_TRIES = 4


class Stat(NamedTuple):
  """Attributes: size in bytes; modified, nanoseconds since 1970."""
  size: int
  modified: int


def is_remote(path: str | os.PathLike) -> bool:
  """Whether it is a URL, such as gs://bucket/x, and not of this machine."""
  return '://' in os.fspath(path)


def join(folder: str, *names: str) -> str:
  """Names in a folder, local or remote."""
  if is_remote(folder):
    return '/'.join((os.fspath(folder).rstrip('/'), *names))
  return os.path.join(folder, *names)


@contextlib.contextmanager
def _storage(path: str) -> Iterator[None]:
  """What libraries of storage raise, as the errors of `os`.

  Raises:
    InputError: a package or setting is missing, with what would do.
    OSError: all else; FileNotFoundError where nothing is there.
  """
  try:
    yield
  except (OSError, InputError, UnicodeError):  # The last is the file's fault.
    raise
  except ImportError as e:
    scheme = path.partition('://')[0]
    package = _PACKAGES.get(scheme, 'etils[epath]')
    raise InputError(
        f'{path}: reading {scheme}:// needs the package {package}: pip '
        f'install {package}'
        f'{" (or tensorflow)" if scheme == "gs" else ""}. ({e})') from e
  except Exception as e:
    kind = type(e).__name__
    words = (str(e).strip().splitlines() or [kind])[0]
    if 'not implemented' in words and 'scheme' in words:
      scheme = path.partition('://')[0]
      package = _PACKAGES.get(scheme, 'a package of fsspec')
      raise InputError(
          f'{path}: tensorflow, which is asked first, does not read '
          f'{scheme}://. Set EPATH_USE_TF=no in the environment, and pip '
          f'install {package}.') from e
    code = {'NotFoundError': errno.ENOENT,
            'PermissionDeniedError': errno.EACCES,
            'UnauthenticatedError': errno.EACCES}.get(kind, errno.EIO)
    raise OSError(code, words, path) from e


def to_epath(path: str):
  """etils' object for a path: a URL as it is, a local path made absolute.

  Not by its own `absolute` and `resolve`: of gs://bucket/x both make a local
  path, $PWD/gs:/bucket/x, and before 1.14 etils had no `absolute`.

  Raises:
    InputError: a scheme that nothing here reads.
  """
  from etils import epath  # Only where there is a remote path.
  try:
    return epath.Path(path if is_remote(path) else os.path.abspath(path))
  except KeyError as e:
    raise InputError(
        f'{path}: nothing here reads {path.partition("://")[0]}://. Known are '
        'local paths, gs://, s3://, az://, hf://, and what '
        'etils.epath.register_path_cls was told of.') from e


def absolute(path: str) -> str:
  """`~` opened and made absolute; a URL as it is."""
  if is_remote(path):
    return path.rstrip('/')
  return os.path.abspath(os.path.expanduser(path))


def open(path: str, mode: str = 'r') -> IO:
  """As the builtin; text is UTF-8. A remote file appears when it is closed."""
  if is_remote(path):
    return _RemoteFile(path, mode)
  return builtins.open(path, mode, encoding=None if 'b' in mode else 'utf-8')


class _RemoteFile(contextlib.AbstractContextManager):
  """A remote file: what reading and writing it raises is an OSError."""

  def __init__(self, path: str, mode: str):
    self._path = path
    with _storage(path):
      self._context = to_epath(path).open(mode)
      # tensorflow's is a context manager, and no file before it is entered.
      self._file = self._context.__enter__()
      if 'r' in mode:
        # tensorflow opens a file when it is first read.
        getattr(self._file, 'tell', lambda: 0)()

  def __exit__(self, *error):
    with _storage(self._path):
      return self._context.__exit__(*error)

  def close(self) -> None:
    self.__exit__(None, None, None)

  def __iter__(self):
    while line := self.readline():
      yield line

  def readlines(self) -> list:
    return list(self)

  def __getattr__(self, name: str):
    found = getattr(self._file, name)
    if not callable(found):
      return found

    def called(*args):
      with _storage(self._path):
        return found(*args)
    return called


def exists(path: str) -> bool:
  if is_remote(path):
    with _storage(path):
      return to_epath(path).exists()
  return os.path.exists(path)


def isdir(path: str) -> bool:
  if is_remote(path):
    with _storage(path):
      return to_epath(path).is_dir()
  return os.path.isdir(path)


def stat(path: str) -> Stat:
  if is_remote(path):
    with _storage(path):
      found = to_epath(path).stat()
      return Stat(found.length, int(found.mtime * 1e9))
  found = os.stat(path)
  return Stat(found.st_size, found.st_mtime_ns)


def listdir(path: str) -> list[str]:
  """Names in a folder, sorted."""
  if is_remote(path):
    with _storage(path):
      return sorted(child.name for child in to_epath(path).iterdir())
  return sorted(os.listdir(path))


def glob(pattern: str) -> list[str]:
  """Paths that match, sorted.

  Raises:
    InputError: `**` of a remote path, which would list a whole bucket.
  """
  if is_remote(pattern):
    if '**' in pattern:
      raise InputError(f'{pattern}: ** is for local paths; name a folder (all '
                       'below it is read), or use * for each level.')
    # The scheme and the bucket are no pattern.
    scheme, _, rest = pattern.partition('://')
    root, _, inside = rest.partition('/')
    with _storage(pattern):
      return sorted(map(str, to_epath(f'{scheme}://{root}').glob(inside)))
  return sorted(glob_lib.glob(pattern, recursive=True))


def walk(path: str, onerror=None) -> Iterator[tuple[str, list[str], list[str]]]:
  """(folder, its folders, its files), as os.walk."""
  if is_remote(path):
    with _storage(path):
      yield from ((str(folder), [name.rstrip('/') for name in folders], files)
                  for folder, folders, files in to_epath(path).walk())
  else:
    yield from os.walk(path, onerror=onerror)


def makedirs(path: str) -> None:
  """Makes the folder and those above it; it may be there."""
  if is_remote(path):
    with _storage(path):
      to_epath(path).mkdir(parents=True, exist_ok=True)
  else:
    os.makedirs(path, exist_ok=True)


def replace(path: str, target: str) -> None:
  """Renames a file; what the target was is gone."""
  if is_remote(path):
    with _storage(path):
      to_epath(path).replace(target)
  else:
    os.replace(path, target)


def remove(path: str) -> None:
  if is_remote(path):
    with _storage(path):
      to_epath(path).unlink()
  else:
    os.remove(path)


def rmtree(path: str) -> None:
  if is_remote(path):
    with _storage(path):
      to_epath(path).rmtree()
  else:
    shutil.rmtree(path)


def copy(path: str, target: str) -> None:
  """Copies a file from anywhere to anywhere; the target appears whole."""
  partial = target if is_remote(target) else f'{target}.partial'
  with open(path, 'rb') as source, open(partial, 'wb') as out:
    while chunk := source.read(CHUNK):
      out.write(chunk)
  if partial != target:
    os.replace(partial, target)


def write_text(path: str, text: str) -> None:
  """`write_bytes` of text as UTF-8."""
  write_bytes(path, text.encode())


def write_bytes(path: str, data: bytes) -> None:
  """Writes a file that appears whole or not at all, and stays after a kill."""
  if is_remote(path):  # An object of a storage does, by itself.
    with open(path, 'wb') as f:
      f.write(data)
    return
  with open(f'{path}.partial', 'wb') as f:
    f.write(data)
    f.flush()
    os.fsync(f.fileno())
  os.replace(f'{path}.partial', path)


def read_range(path: str, start: int, stop: int) -> bytes:
  """The bytes start <= i < stop of a file, and no others are read.

  For many threads at once. What a remote storage refuses is asked for again a
  few times, later and later.

  Raises:
    OSError: as `open`; EIO also where the file ends before `stop`.
  """
  if start >= stop:
    return b''
  data = _patiently(path, lambda: _read_range(path, start, stop))
  if len(data) != stop - start:
    raise OSError(errno.EIO, f'ends before byte {stop}', path)
  return data


def _read_range(path: str, start: int, stop: int) -> bytes:
  scheme, _, rest = path.partition('://')
  if scheme in _KV_SCHEMES and rest:
    bucket, _, key = rest.partition('/')
    with _storage(path):
      found = _key_values(f'{scheme}://{bucket}/').read(
          key, byte_range=slice(start, stop)).result()
    if found.state != 'value':
      raise FileNotFoundError(errno.ENOENT, 'nothing is there', path)
    return found.value
  with open(path, 'rb') as f:
    f.seek(start)
    return f.read(stop - start)


@functools.cache
def _key_values(root: str):
  import tensorstore  # Orbax brings it; it reads without Python's lock.
  return tensorstore.KvStore.open(root).result()


def _patiently(path: str, read: Callable[[], T]) -> T:
  for number in range(_TRIES):
    try:
      return read()
    except (FileNotFoundError, PermissionError, IsADirectoryError):
      raise
    except OSError:
      if number == _TRIES - 1 or not is_remote(path):
        raise
      time.sleep(0.25 * 4 ** number)


# Checksums: what the bytes of a file were when it was written.
#
# Two for each file: the SHA-256 of all of it, which says whether it is the file
# that was written, and the CRC-32 of each piece of 1 MiB, which says where it
# no longer is, and which a reader of a part of the file can check that part by.


PIECE = 1 << 20
DAMAGE_ADVICE = 'delete its folder and prepare again'


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


def _piece_sums(path: str) -> Iterator[bytes]:
  with open(path, 'rb') as f:
    while piece := f.read(PIECE):
      yield piece


def checksum(path: str) -> Checksum:
  """Reads a file and gives its checksum, in constant memory."""
  size, whole, pieces = 0, hashlib.sha256(), []
  for piece in _piece_sums(path):
    size += len(piece)
    whole.update(piece)
    pieces.append(f'{zlib.crc32(piece):08x}')
  return Checksum(size, whole.hexdigest(), ''.join(pieces))


def checksums(folder: str, names) -> dict[str, Checksum]:
  """Of the files of a folder, by name."""
  return {name: checksum(os.path.join(folder, name)) for name in sorted(names)}


def checksums_from_json(values: dict[str, Any]) -> dict[str, Checksum]:
  """What json.load makes of `{name: checksum._asdict()}`."""
  return {name: Checksum(**value) for name, value in values.items()}


def checksums_to_json(values: dict[str, Checksum]) -> dict[str, Any]:
  return {name: value._asdict() for name, value in values.items()}


def find_damage(path: str, expected: Checksum) -> Damage | None:
  """Reads a file; what is wrong with it, or None."""
  at, whole = 0, hashlib.sha256()
  try:
    for index, piece in enumerate(_piece_sums(path)):
      if at + len(piece) > expected.size:
        return Damage(path, expected.size, 'longer than it was written: '
                      f'{stat(path).size:,} bytes, not '
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


# A folder that one process fills at a time.


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
  """Makes the folder and holds it, waiting for whoever holds it now.

  The lock is the kernel's and goes with the process, however that ends, so a
  killed preparation leaves nothing to clear away. Where the place has no
  locks (a bucket), two preparations both work and write the same bytes.

  Raises:
    InputError: the folder cannot be made or written.
  """
  if is_remote(folder):
    yield  # Objects have no locks: the last to finish one gives it its bytes.
    return
  path = os.path.join(folder, '.lock')
  with errors.writing(folder):
    os.makedirs(folder, exist_ok=True)
    file = open(path, 'w')
  with file:
    try:
      import fcntl
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        print(f'Another process prepares {folder}: waiting for it.',
              file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):
      pass
    yield
