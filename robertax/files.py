"""Files: on this machine, or behind any URL that etils.epath reads.

Floor 0, beside no room. Paths of text, records, configs and runs go through
here: `gs://bucket/x` as well as `/data/x`. The functions are those of `os`,
`shutil` and `glob`, and so are their errors: what the library of a remote file
system raises becomes an OSError, and a package that it lacks an InputError that
names the package. This chapter also knows how a file is written
(`writing_whole`), how one is found to be damaged (`checksum`, `find_damage`),
and how one process at a time fills a folder (`locked`).
"""

import builtins
from collections.abc import Callable, Iterator
import contextlib
import errno
import functools
import glob as glob_lib
import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from typing import IO, Any, NamedTuple, TypeVar
import zlib

from robertax import errors
from robertax.errors import InputError, first_line

T = TypeVar('T')
CHUNK = 8 << 20  # Bytes in memory while a file is copied.
PIECE = 1 << 20  # Bytes that share a CRC-32.
DAMAGE_ADVICE = 'delete its folder and prepare again'
# Two machines may write the same file at once (Beam's spare workers).
_OWN = secrets.token_hex(4)
# What fsspec reads a scheme with, where tensorflow does not.
_PACKAGES = {'gs': 'gcsfs', 's3': 's3fs', 'az': 'adlfs',
             'hf': 'huggingface_hub'}
# Whose ranges tensorstore reads: exactly the bytes asked for, where
# tensorflow's files read half a megabyte at the least.
_KV_SCHEMES = ('gs', 's3')
_KV_SECONDS = 60.0  # For what it writes or reads under a condition.
_TRIES = 4


class Stat(NamedTuple):
  """Attributes: size in bytes; modified, nanoseconds since 1970."""
  size: int
  modified: int


def is_remote(path: str | os.PathLike) -> bool:
  """Whether it is a URL, such as gs://bucket/x."""
  return '://' in os.fspath(path)


def join(folder: str, *names: str) -> str:
  """As os.path.join, of a URL too."""
  if is_remote(folder):
    return '/'.join((os.fspath(folder).rstrip('/'), *names))
  return os.path.join(folder, *names)


@contextlib.contextmanager
def _remote_errors(path: str) -> Iterator[None]:
  """Turns what libraries of remote file systems raise into errors of `os`.

  Raises:
    InputError: a package or setting is missing, with what would do.
    OSError: all else; FileNotFoundError where there is no such file.
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
    words = first_line(e)
    if kind == 'UnimplementedError':  # Of tensorflow, which is not imported.
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
  """The epath.Path of a URL, or of a local path made absolute.

  Its own `absolute` and `resolve` turn gs://bucket/x into $PWD/gs:/bucket/x.

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
  """An absolute path, `~` replaced; a URL stays as it is."""
  if is_remote(path):
    return path.rstrip('/')
  return os.path.abspath(os.path.expanduser(path))


def open(path: str, mode: str = 'r') -> IO:
  """As the builtin; text is UTF-8. A remote file appears when it is closed."""
  if is_remote(path):
    return _RemoteFile(path, mode)
  return builtins.open(path, mode, encoding=None if 'b' in mode else 'utf-8')


class _RemoteFile(contextlib.AbstractContextManager):
  """An open remote file whose errors are OSErrors."""

  def __init__(self, path: str, mode: str):
    self._path = path
    with _remote_errors(path):
      self._context = to_epath(path).open(mode)
      # tensorflow's is a context manager, and no file before it is entered.
      self._file = self._context.__enter__()
      if 'r' in mode:
        # tensorflow opens a file when it is first read.
        getattr(self._file, 'tell', lambda: 0)()

  def __exit__(self, *error):
    with _remote_errors(self._path):
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
      with _remote_errors(self._path):
        return found(*args)
    return called


def _remote(path: str, method: str, *args, **kwargs) -> Any:
  """Calls a method of the epath.Path of a URL."""
  with _remote_errors(path):
    return getattr(to_epath(path), method)(*args, **kwargs)


def exists(path: str) -> bool:
  return _remote(path, 'exists') if is_remote(path) else os.path.exists(path)


def isdir(path: str) -> bool:
  return _remote(path, 'is_dir') if is_remote(path) else os.path.isdir(path)


def stat(path: str) -> Stat:
  if is_remote(path):
    found = _remote(path, 'stat')
    return Stat(found.length, int(found.mtime * 1e9))
  found = os.stat(path)
  return Stat(found.st_size, found.st_mtime_ns)


def listdir(path: str) -> list[str]:
  """Names in a folder, sorted."""
  if is_remote(path):
    with _remote_errors(path):
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
    with _remote_errors(pattern):
      return sorted(map(str, to_epath(f'{scheme}://{root}').glob(inside)))
  return sorted(glob_lib.glob(pattern, recursive=True))


def walk(path: str, onerror=None) -> Iterator[tuple[str, list[str], list[str]]]:
  """(folder, its folders, its files), as os.walk."""
  if is_remote(path):
    with _remote_errors(path):
      yield from ((str(folder), [name.rstrip('/') for name in folders], files)
                  for folder, folders, files in to_epath(path).walk())
  else:
    yield from os.walk(path, onerror=onerror)


def makedirs(path: str) -> None:
  """Makes a folder and those above it; they may exist."""
  if is_remote(path):
    _remote(path, 'mkdir', parents=True, exist_ok=True)
  else:
    os.makedirs(path, exist_ok=True)


def replace(path: str, target: str) -> None:
  """Renames a file, in place of any file of the new name."""
  if is_remote(path):
    _remote(path, 'replace', target)
  else:
    os.replace(path, target)


def remove(path: str) -> None:
  if is_remote(path):
    _remote(path, 'unlink')
  else:
    os.remove(path)


def rmtree(path: str) -> None:
  if is_remote(path):
    _remote(path, 'rmtree')
  else:
    shutil.rmtree(path)


def copy(path: str, target: str) -> None:
  """Copies a file from anywhere to anywhere; the target appears whole."""
  writing = open if is_remote(target) else writing_whole
  with open(path, 'rb') as source, writing(target, 'wb') as out:
    shutil.copyfileobj(source, out, CHUNK)


def staging(path: str) -> str:
  """Where to write the file that `publish` will give the name `path`.

  Beside it, or, for a URL, on this machine: libraries in C++ write nowhere
  else. What a killed process has left there, the next one removes.
  """
  if not is_remote(path):
    return f'{path}.{_OWN}.partial'
  folder = tempfile.gettempdir()
  if not _staged:
    for left in glob_lib.glob(f'{glob_lib.escape(folder)}/{_STAGED}*'):
      with contextlib.suppress(OSError):  # Another user's.
        held, ours = lock(left)
        if ours:
          os.remove(left)
          held.release()
  handle, partial = tempfile.mkstemp(prefix=_STAGED, dir=folder)
  os.close(handle)
  # Made again if another process takes it for one that was left, just now.
  _staged[partial], _ = lock(partial, wait=1)
  return partial


_STAGED = 'robertax-staged-'
_staged: dict[str, Any] = {}  # This process's, each locked while it is written.


def publish(partial: str, path: str) -> None:
  """Gives a closed file or folder its name, once it is on the disk.

  Else a machine that loses power may keep the name and not the bytes.
  """
  for folder, _, names in os.walk(partial):
    for name in names:
      _sync(os.path.join(folder, name))
    _sync(folder)
  if not os.path.isdir(partial):
    _sync(partial)
  if is_remote(path):
    copy(partial, path)
    discard(partial)
  else:
    os.replace(partial, path)
    _sync(os.path.dirname(os.path.abspath(path)))


def _sync(path: str) -> None:
  """Returns when a file is on the disk, or, of a folder, its names."""
  with contextlib.ExitStack() as held:
    if os.path.isdir(path):  # Some disks, and Windows, sync no folders.
      held.enter_context(contextlib.suppress(OSError))
    handle = os.open(path, os.O_RDONLY)
    held.callback(os.close, handle)
    os.fsync(handle)


def discard(partial: str) -> None:
  """Removes a file of `staging`, if there is one, after an error."""
  if os.path.exists(partial):
    os.remove(partial)
  if partial in _staged:
    _staged.pop(partial).release()


@contextlib.contextmanager
def writing_whole(path: str, mode: str = 'w') -> Iterator[IO]:
  """Opens a file that appears whole or not at all, and stays after a kill.

  Args:
    path: local or remote; a file of that name is replaced at the end.
    mode: 'w' (UTF-8) or 'wb'.

  Raises:
    OSError: it cannot be written. After this, or any error of the body of the
      `with`, the file is what it was before.
  """
  partial = staging(path)
  try:
    with open(partial, mode) as f:
      yield f
    publish(partial, path)
  except BaseException:
    discard(partial)
    raise


def write_text(path: str, text: str) -> None:
  """Writes a file of UTF-8 that appears whole, as by `writing_whole`."""
  write_bytes(path, text.encode())


def write_bytes(path: str, data: bytes) -> None:
  """Writes a file that appears whole, as by `writing_whole`."""
  # A remote object that is written at once appears whole by itself.
  with (open if is_remote(path) else writing_whole)(path, 'wb') as f:
    f.write(data)


def read_range(path: str, start: int, stop: int) -> bytes:
  """The bytes start <= i < stop of a file, without reading any others.

  Many threads may call it at once. What a remote file system refuses is asked
  for again a few times, later and later.

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
  if store := _versions(path):
    with _remote_errors(path):
      found = store[0].read(store[1], byte_range=slice(start, stop)).result()
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


class Version(NamedTuple):
  """What a file holds, or None; `mark` changes whenever it is written."""
  data: bytes | None
  mark: Any


def read_version(path: str) -> Version:
  """What a file holds now; an OSError where that cannot be known."""
  if store := _versions(path):
    with _remote_errors(path):
      found = store[0].read(store[1]).result(timeout=_KV_SECONDS)
    return Version(found.value if found.state == 'value' else None,
                   found.stamp.generation)
  try:
    with open(path, 'rb') as f:
      data = f.read()
  except FileNotFoundError:
    if not is_remote(path):
      os.stat(os.path.dirname(path) or '.')  # Else its disk is away.
    data = None
  return Version(data, data)


def write_version(path: str, data: bytes | None, seen: Version
                  ) -> Version | None:
  """Writes a file, or removes it (None), if it is as it was seen.

  At gs:// and s3:// the storage itself sees to that. Elsewhere the file is
  read, compared and written, so each writer must write other bytes, and one
  that comes just between the two is not noticed.

  Returns:
    What is there now; None: somebody else has written, and nothing was done.
  """
  if store := _versions(path):
    with _remote_errors(path):
      mark = store[0].write(store[1], data, if_equal=seen.mark).result(
          timeout=_KV_SECONDS).generation
    return Version(data, mark) if mark else None
  if read_version(path) != seen:
    return None
  if data is not None:
    write_bytes(path, data)
  elif seen.data is not None:
    remove(path)
  return Version(data, data)


def _versions(path: str) -> tuple[Any, str] | None:
  """The tensorstore and key of a file whose storage tells versions apart."""
  scheme, _, rest = path.partition('://')
  if scheme not in _KV_SCHEMES or not rest:
    return None
  bucket, _, key = rest.partition('/')
  return _key_values(f'{scheme}://{bucket}/'), key


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


def json_hash(values: Any, **options: Any) -> str:
  """The SHA-256 of what json.dumps makes of values, hexadecimal."""
  return hashlib.sha256(json.dumps(values, **options).encode()).hexdigest()


# Checksums, as manifests hold them. The SHA-256 says whether a file is the one
# that was written; the CRC-32 of each piece says where it is damaged, and lets
# a reader check the part that it reads.


class Checksum(NamedTuple):
  """The checksum of one file.

  Attributes:
    size: bytes.
    sha256: hexadecimal.
    pieces: the CRC-32 of each `PIECE` bytes, 8 hexadecimal digits each.
  """
  size: int
  sha256: str
  pieces: str

  def piece(self, index: int) -> int:
    """The CRC-32 of the piece that begins at byte index * PIECE."""
    return int(self.pieces[8 * index:8 * index + 8], 16)


class Damage(NamedTuple):
  """A file that is not what it was.

  Attributes:
    path: the file.
    offset: byte where it first differs, ends too early or should have ended;
      None: the whole file is missing, or should not be there.
    why: what is wrong, in words.
  """
  path: str
  offset: int | None
  why: str

  def __str__(self) -> str:
    place = '' if self.offset is None else f' at byte {self.offset:,}'
    return f'{self.path}{place}: {self.why}'


def _pieces(path: str) -> Iterator[bytes]:
  with open(path, 'rb') as f:
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
  """The checksum of each file of a folder, by its name."""
  return {name: checksum(os.path.join(folder, name)) for name in sorted(names)}


def checksums_from_json(values: dict[str, Any]) -> dict[str, Checksum]:
  """The inverse of `checksums_to_json`."""
  return {name: Checksum(**value) for name, value in values.items()}


def checksums_to_json(values: dict[str, Checksum]) -> dict[str, Any]:
  return {name: value._asdict() for name, value in values.items()}


def find_damage(path: str, expected: Checksum) -> Damage | None:
  """Reads a file, and says what is wrong with it, or None."""
  at, whole = 0, hashlib.sha256()
  try:
    for index, piece in enumerate(_pieces(path)):
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


# How flock fails on a disk that knows no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


def lock(path: str, wait: float = 0) -> tuple[Any, bool | None]:
  """Locks a local file, which is made if needed; what it holds stays.

  The lock is the kernel's and ends with the process, however that ends.

  Args:
    wait: seconds until no other process has it; -1: as long as it takes.

  Returns:
    The filelock.FileLock, to be kept and released; True: it is locked; False:
    another process has it; None: this disk knows no locks.
  """
  import filelock
  found = filelock.FileLock(path, wait, thread_local=False,
                            fallback_to_soft=False)
  try:
    found.acquire()
    return found, True
  except filelock.Timeout:
    return found, False
  except OSError as e:
    if e.errno not in _NO_LOCKS:
      raise
    return found, None


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
  """Makes a folder and holds it, once no other process does.

  A bucket has no locks: there two preparations both write the same bytes.

  Raises:
    InputError: the folder cannot be made or written.
  """
  if is_remote(folder):
    yield
    return
  path = os.path.join(folder, '.lock')
  with errors.writing(folder):
    os.makedirs(folder, exist_ok=True)
    held, ours = lock(path)
  if ours is False:
    print(f'Another process prepares {folder}: waiting for it.',
          file=sys.stderr)
    held, _ = lock(path, wait=-1)
  try:
    yield
  finally:
    held.release()
