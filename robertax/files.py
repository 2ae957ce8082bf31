"""Files on this machine, or behind any URL that etils.epath reads.

Floor 0, beside the rooms. All paths of text, records, configs and runs may be
`gs://bucket/x` as well as `/data/x`. The functions work like those of `os`,
`shutil` and `glob`, and raise the same errors: an error of a remote file
system's library becomes an OSError, and a missing package an InputError that
names it. Files are written whole (`writing_whole`) and checked for damage
(`find_damage`), and one process at a time fills a folder (`locked`).
"""

import builtins
from collections.abc import Iterator
import contextlib
import difflib
import errno
import functools
import glob as glob_lib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat as stat_lib
import tempfile
import time
from typing import IO, Any, NamedTuple
import zlib

from robertax import errors
from robertax.errors import InputError, Truncated, first_line
from robertax.progress import call_out

CHUNK = 8 << 20  # Bytes in memory while a file is copied.
PIECE = 1 << 20  # Bytes per CRC-32.
PARTIAL = '.partial'  # Ends the name of what is being written.
DAMAGE_ADVICE = 'delete its folder and prepare again'  # If a checksum says so.
DOUBT_ADVICE = 'rename its folder and prepare again'
# Two machines may write the same file at once (Beam's spare workers).
_OWN = secrets.token_hex(4)
# The packages with which fsspec reads a scheme that tensorflow does not read.
_PACKAGES = {'gs': 'gcsfs', 's3': 's3fs', 'az': 'adlfs',
             'hf': 'huggingface_hub'}
# Schemes whose ranges tensorstore reads. It reads exactly the requested bytes;
# tensorflow reads at least half a megabyte.
_KV_SCHEMES = ('gs', 's3')
_KV_SECONDS = 60.0  # The timeout of reading and writing a version.
_TRIES = 4


class Stat(NamedTuple):
  """What `stat` knows about a file."""
  size: int  # Bytes.
  modified: int  # Nanoseconds since 1970.


def is_remote(path: str | os.PathLike) -> bool:
  """Whether a path is a URL, such as gs://bucket/x."""
  return '://' in os.fspath(path)


def join(folder: str, *names: str) -> str:
  """Works like os.path.join, for URLs too."""
  if is_remote(folder):
    return '/'.join((os.fspath(folder).rstrip('/'), *names))
  return os.path.join(folder, *names)


# OSErrors whose class says what is wrong, whether or not they have a number;
# any other without one, such as tensorstore's TimeoutError, is the storage's.
_SAYING = (FileNotFoundError, FileExistsError, PermissionError,
           IsADirectoryError, NotADirectoryError)


@contextlib.contextmanager
def _remote_errors(path: str) -> Iterator[None]:
  """Turns errors of remote file systems into OSErrors and InputErrors."""
  scheme = path.partition('://')[0]
  try:
    yield
  except (InputError, UnicodeError, *_SAYING):  # UnicodeError: of the content.
    raise
  except ImportError as e:
    package = _PACKAGES.get(scheme, 'etils[epath]')
    raise InputError(
        f'{path}: reading {scheme}:// needs the package {package}: pip '
        f'install {package}'
        f'{" (or tensorflow)" if scheme == "gs" else ""}. ({e})') from e
  except Exception as e:
    if isinstance(e, OSError) and e.errno:
      raise
    kind = type(e).__name__  # tensorflow's classes are not imported here.
    if kind == 'UnimplementedError':
      package = _PACKAGES.get(scheme, 'a package of fsspec')
      raise InputError(
          f'{path}: tensorflow, which is tried first, does not read '
          f'{scheme}://. Set EPATH_USE_TF=no in the environment, and pip '
          f'install {package}.') from e
    code = {'NotFoundError': errno.ENOENT,
            'PermissionDeniedError': errno.EACCES,
            'UnauthenticatedError': errno.EACCES,
            'TimeoutError': errno.ETIMEDOUT}.get(kind, errno.EIO)
    error = OSError(code, first_line(e), path)
    error.remote = True
    raise error from e


def to_epath(path: str):
  """The epath.Path of a URL, or of a local path made absolute.

  epath's own `absolute` and `resolve` make $PWD/gs:/bucket/x of gs://bucket/x.

  Raises:
    InputError: no installed library reads the scheme.
  """
  from etils import epath  # It is slow to import, and local paths need none.
  try:
    return epath.Path(path if is_remote(path) else os.path.abspath(path))
  except KeyError as e:
    raise InputError(
        f'{path}: nothing here reads {path.partition("://")[0]}://. Known are '
        'local paths, gs://, s3://, az://, hf://, and the schemes that '
        'etils.epath.register_path_cls has registered.') from e


def similar(path: str) -> str:
  """', but X does' for a path that does not exist; '' if nothing is close."""
  folder, name = os.path.split(path.rstrip('/'))
  try:
    names = {found.casefold(): found for found in listdir(folder or '.')}
  except OSError:
    return ''
  found = difflib.get_close_matches(name.casefold(), names, n=1)
  return f', but {join(folder, names[found[0]])} does' if found else ''


def absolute(path: str) -> str:
  """The absolute path, with `~` expanded; a URL stays a URL."""
  if is_remote(path):
    return path.rstrip('/')
  return os.path.abspath(os.path.expanduser(path))


def open(path: str, mode: str = 'r') -> IO:
  """Works like the builtin, with UTF-8. Remote files appear when closed."""
  if is_remote(path):
    return _RemoteFile(path, mode)
  return builtins.open(path, mode, encoding=None if 'b' in mode else 'utf-8')


class _RemoteFile(contextlib.AbstractContextManager):
  """An open remote file whose errors are OSErrors."""

  def __init__(self, path: str, mode: str):
    self._path = path
    with _remote_errors(path):
      self._context = to_epath(path).open(mode)
      # tensorflow's context manager is not a file before it is entered, and
      # opens the file only when it is first used.
      self._file = self._context.__enter__()
      if 'r' in mode:
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
  """The names in a folder, sorted."""
  if is_remote(path):
    with _remote_errors(path):
      return sorted(child.name for child in to_epath(path).iterdir())
  return sorted(os.listdir(path))


def glob(pattern: str) -> list[str]:
  """The paths that match, sorted.

  Raises:
    InputError: a remote pattern has `**`, which would list a whole bucket.
  """
  if is_remote(pattern):
    if '**' in pattern:
      raise InputError(f'{pattern}: ** is for local paths; name a folder (all '
                       'below it is read), or use * for each level.')
    scheme, _, rest = pattern.partition('://')  # No pattern, nor is the bucket.
    root, _, inside = rest.partition('/')
    with _remote_errors(pattern):
      return sorted(map(str, to_epath(f'{scheme}://{root}').glob(inside)))
  return sorted(glob_lib.glob(pattern, recursive=True))


def walk(path: str, onerror=None) -> Iterator[tuple[str, list[str], list[str]]]:
  """Yields (folder, its folders, its files), like os.walk; follows links."""
  if is_remote(path):
    with _remote_errors(path):
      yield from ((str(folder), [name.rstrip('/') for name in folders], files)
                  for folder, folders, files in to_epath(path).walk())
  else:
    yield from os.walk(path, onerror=onerror, followlinks=True)


def makedirs(path: str) -> None:
  """Makes a folder and its parents, unless they exist."""
  return (_remote(path, 'mkdir', parents=True, exist_ok=True)
          if is_remote(path) else os.makedirs(path, exist_ok=True))


def replace(path: str, target: str) -> None:
  """Renames a file and replaces any file with the new name."""
  return (_remote(path, 'replace', target) if is_remote(path)
          else os.replace(path, target))


def remove(path: str) -> None:
  return _remote(path, 'unlink') if is_remote(path) else os.remove(path)


def rmtree(path: str) -> None:
  return _remote(path, 'rmtree') if is_remote(path) else shutil.rmtree(path)


def copy(path: str, target: str) -> None:
  """Copies a local or remote file; the target appears whole."""
  writing = open if is_remote(target) else writing_whole
  with open(path, 'rb') as source, writing(target, 'wb') as out:
    shutil.copyfileobj(source, out, CHUNK)


def staging(path: str) -> str:
  """The path under which to write the file that `publish` will name `path`.

  It is beside `path`, or on this machine for a URL, where C++ libraries cannot
  write. The next process removes what a killed one has left.
  """
  if not is_remote(path):
    return f'{path}.{_OWN}{PARTIAL}'
  folder = tempfile.gettempdir()
  if not _staged:
    for left in glob_lib.glob(f'{glob_lib.escape(folder)}/{_STAGED}*'):
      with contextlib.suppress(OSError):  # It may be another user's.
        held, ours = lock(left)
        if ours:
          os.remove(left)
          held.release()
  handle, partial = tempfile.mkstemp(prefix=_STAGED, dir=folder)
  os.close(handle)
  # If another process has just removed it as left over, this makes it again.
  _staged[partial], _ = lock(partial, wait=1)
  return partial


_STAGED = 'robertax-staged-'
_staged: dict[str, Any] = {}  # Locks of files that this process is writing.


def remove_partials(folder: str):
  """Removes what processes that were killed did not finish writing here.

  A file that changed in the last hour may still be in work.
  """
  for entry in os.scandir(folder):
    if re.search(rf'\.[0-9a-f]{{8}}\{PARTIAL}$', entry.name) and entry.is_file(
        follow_symlinks=False) and time.time() - entry.stat().st_mtime > 3600:
      os.remove(entry.path)


def publish(partial: str, path: str) -> None:
  """Syncs a closed file or folder to the disk, then renames it to `path`.

  Otherwise a machine that loses power may keep the name but not the bytes.
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
  """Syncs a file, or the names in a folder, to the disk."""
  with contextlib.ExitStack() as held:
    if os.path.isdir(path):  # Some disks, and Windows, cannot sync folders.
      held.enter_context(contextlib.suppress(OSError))
    handle = os.open(path, os.O_RDONLY)
    held.callback(os.close, handle)
    os.fsync(handle)


def discard(partial: str) -> None:
  """Removes a file of `staging` after an error, if it exists."""
  if os.path.exists(partial):
    os.remove(partial)
  if partial in _staged:
    _staged.pop(partial).release()


@contextlib.contextmanager
def writing_whole(path: str, mode: str = 'w') -> Iterator[IO]:
  """Opens a file that appears whole or not at all, even after a power loss.

  It replaces an existing file at the end; an error in the body of the `with`
  leaves that as it was. What is no file (a device, a pipe, /dev/stdout) is
  written in its place. `mode` is 'w' (UTF-8) or 'wb'.

  Raises:
    OSError: the file cannot be written.
  """
  if (place := _in_place(path)) is not None:
    with builtins.open(place, mode, encoding=None if 'b' in mode else 'utf-8'
                       ) as f:
      yield f
    return
  partial = staging(path)
  try:
    with open(partial, mode) as f:
      yield f
    publish(partial, path)
  except BaseException:
    discard(partial)
    raise


def _in_place(path: str) -> str | int | None:
  """What to open to write a path that is no file; None: it is one."""
  if is_remote(path):
    return None
  # Opened anew, /dev/stdout would be written from its beginning again.
  for name in (path, os.path.join(os.path.dirname(path), os.readlink(path))
               if os.path.islink(path) else path):
    if number := _DESCRIPTOR.fullmatch(name):
      return os.dup(int(number[1]))
  known = os.path.exists(path) and os.stat(path).st_mode
  return path if known and not (
      stat_lib.S_ISREG(known) or stat_lib.S_ISDIR(known)) else None


_DESCRIPTOR = re.compile(r'/(?:dev|proc/self)/fd/(\d+)')


def write_text(path: str, text: str) -> None:
  """Writes a file whole, like `writing_whole`, in UTF-8."""
  write_bytes(path, text.encode())


def write_bytes(path: str, data: bytes) -> None:
  """Writes a file whole, like `writing_whole`."""
  # A remote object that is written at once always appears whole.
  with (open if is_remote(path) else writing_whole)(path, 'wb') as f:
    f.write(data)


def read_range(path: str, start: int, stop: int) -> bytes:
  """Reads the bytes start <= i < stop of a file, and no others.

  Many threads may call it at once. Failed remote reads are retried a few times,
  with growing waits.

  Raises:
    OSError: as for `open`, or EIO where the file ends before `stop`.
  """
  if start >= stop:
    return b''
  for number in range(_TRIES):
    try:
      data = _read_range(path, start, stop)
      break
    except (FileNotFoundError, PermissionError, IsADirectoryError):
      raise
    except OSError:
      if number == _TRIES - 1 or not is_remote(path):
        raise
      time.sleep(0.25 * 4 ** number)
  if len(data) != stop - start:
    raise Truncated(errno.EIO, f'ends before byte {stop}', path)
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
  import tensorstore  # Orbax needs it; it reads without holding Python's lock.
  return tensorstore.KvStore.open(root).result()


class Version(NamedTuple):
  """A file's content, and a mark that changes whenever it is written."""
  data: bytes | None  # None: there is no such file.
  mark: Any


def read_version(path: str) -> Version:
  """Reads a file, which may be missing; an OSError if that is unknown."""
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
      os.stat(os.path.dirname(path) or '.')  # Fails if its disk is gone.
    data = None
  return Version(data, data)


def write_version(path: str, data: bytes | None, seen: Version
                  ) -> Version | None:
  """Writes a file, or removes it (None), unless it has changed since `seen`.

  At gs:// and s3:// the storage makes this check atomic. Elsewhere the file is
  read, compared and written, so each writer must write different bytes, and a
  writer in between goes unnoticed.

  Returns:
    The new version; None: somebody else has written, and nothing was done.
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
  """The tensorstore and key of a file whose storage has versions."""
  scheme, _, rest = path.partition('://')
  if scheme not in _KV_SCHEMES or not rest:
    return None
  bucket, _, key = rest.partition('/')
  return _key_values(f'{scheme}://{bucket}/'), key


def read_json(path: str) -> Any:
  """Reads a JSON file."""
  with open(path) as f:
    return json.load(f)


def json_hash(values: Any, **options: Any) -> str:
  """The SHA-256 of `json.dumps(values, **options)`, hexadecimal."""
  return hashlib.sha256(json.dumps(values, **options).encode()).hexdigest()


# Checksums, as manifests hold them. The SHA-256 tells whether a file is the one
# that was written. The CRC-32 of each piece tells where it is damaged, and lets
# a reader check the part that it reads.


class Checksum(NamedTuple):
  """The checksum of one file."""
  size: int  # Bytes.
  sha256: str  # Hexadecimal.
  pieces: str  # The CRC-32 of each PIECE bytes, 8 hexadecimal digits each.

  def piece(self, index: int) -> int:
    """The CRC-32 of the piece that begins at byte index * PIECE."""
    return int(self.pieces[8 * index:8 * index + 8], 16)


class Damage(NamedTuple):
  """A damaged file."""
  path: str
  # Byte of the first difference or wrong end; None: missing, or superfluous.
  offset: int | None
  why: str  # What is wrong, in words.
  advice: str = DAMAGE_ADVICE

  def __str__(self) -> str:
    place = '' if self.offset is None else f' at byte {self.offset:,}'
    return f'{self.path}{place}: {self.why}'


def _pieces(path: str) -> Iterator[bytes]:
  with open(path, 'rb') as f:
    while piece := f.read(PIECE):
      yield piece


def checksum(path: str) -> Checksum:
  """Computes the checksum of a file, in constant memory."""
  size, whole, pieces = 0, hashlib.sha256(), []
  for piece in _pieces(path):
    size += len(piece)
    whole.update(piece)
    pieces.append(f'{zlib.crc32(piece):08x}')
  return Checksum(size, whole.hexdigest(), ''.join(pieces))


def checksums(folder: str, names) -> dict[str, Checksum]:
  """The checksums of files in a folder, by name."""
  return {name: checksum(os.path.join(folder, name)) for name in sorted(names)}


def checksums_from_json(values: dict[str, Any]) -> dict[str, Checksum]:
  """The inverse of `checksums_to_json`."""
  return {name: Checksum(**value) for name, value in values.items()}


def checksums_to_json(values: dict[str, Checksum]) -> dict[str, Any]:
  return {name: value._asdict() for name, value in values.items()}


def find_damage(path: str, expected: Checksum) -> Damage | None:
  """Compares a file with its checksum, and returns what is wrong, or None."""
  at, whole = 0, hashlib.sha256()
  try:
    for index, piece in enumerate(_pieces(path)):
      if at + len(piece) > expected.size:
        return Damage(path, expected.size, 'longer than it was written: '
                      f'{stat(path).size:,} bytes, not {expected.size:,}')
      whole.update(piece)
      short = len(piece) < min(PIECE, expected.size - at)
      if not short and zlib.crc32(piece) != expected.piece(index):
        return Damage(path, at, f'damaged somewhere in the {len(piece):,} '
                      'bytes from there on')
      at += len(piece)
  except OSError as e:
    errors.raise_unless_damage(e, path)
    return Damage(path, None, 'missing' if isinstance(e, FileNotFoundError)
                  else f'cannot be read ({e.strerror or e})', DOUBT_ADVICE)
  if at < expected.size:
    return Damage(path, at, f'truncated: {expected.size - at:,} bytes are '
                  'missing')
  if whole.hexdigest() != expected.sha256:
    return Damage(path, 0, 'not the file that was written, though each piece '
                  'looks like it')
  return None


# The errors of flock on a disk without locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP,
             errno.EINVAL)


def lock(path: str, wait: float = 0) -> tuple[Any, bool | None]:
  """Locks a local file, makes it if needed, and keeps its content.

  The kernel releases the lock when the process ends, however it ends. `wait`
  is in seconds; -1 waits without limit.

  Returns:
    (the filelock.FileLock, to be kept and released; True: it is locked, False:
    another process holds it, None: this disk has no locks).
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
  """Makes a folder, and waits until this process alone may fill it.

  A bucket has no locks: there two preparations write the same bytes twice.

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
    call_out(f'Waiting for another process that prepares {folder}.')
    held, _ = lock(path, wait=-1)
  try:
    yield
  finally:
    held.release()


# Who holds something where the system has no locks.


def this_process() -> dict[str, Any]:
  """Says which process this is, as JSON for `is_alive`; each call has an id.

  Containers may share the name of a host and, each counting anew, its pids. So
  `place` names the boot of the machine and the container's own pids.
  """
  return {'host': socket.gethostname(), 'pid': os.getpid(),
          'since': time.strftime('%Y-%m-%d %H:%M:%S %z'),
          'born': _birth(os.getpid()), 'place': _place(),
          'id': secrets.token_hex(16)}


def is_alive(holder: dict[str, Any]) -> bool | None:
  """Whether a process of `this_process` lives; None: it is not of this place.
  """
  pid, here = holder.get('pid'), _place()
  if not here or type(pid) is not int or pid <= 0 or (
      here, socket.gethostname()) != (holder.get('place'), holder.get('host')):
    return None
  try:
    os.kill(pid, 0)
  except (ProcessLookupError, OverflowError):
    return False
  except OSError:  # It is another user's.
    pass
  born, before = _birth(pid), holder.get('born')  # Pids are used again.
  return not (born and before) or born == before


def _birth(pid: int) -> str:
  try:
    with open(f'/proc/{pid}/stat') as f:
      return f.read().rpartition(')')[2].split()[19]
  except (OSError, IndexError):
    return ''


def _place() -> str:
  try:
    with open('/proc/sys/kernel/random/boot_id') as f:
      return f'{f.read().strip()} {os.readlink("/proc/self/ns/pid")}'
  except OSError:
    return ''
