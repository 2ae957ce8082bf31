"""A fake remote file system: fake:// is a folder on this machine.

Every open takes a latency, and all reads share a bandwidth, as in a bucket.
After `mount`, etils.epath and everything that uses it know the scheme.
"""

import dataclasses
import functools
import glob
import io
import os
import shutil
import threading
import time

from etils import epath
from etils.epath import backend, gpath, stat_utils


@dataclasses.dataclass
class Storage:
  """The folder behind fake://, and counts of its use.

  Attributes:
    folder: folder on this machine.
    open_seconds: latency of an open, to read or to write.
    bytes_per_second: bandwidth of all reads together; 0: no limit.
    opens, bytes_read, bytes_written: counts so far.
    failing: number of coming reads that fail.
  """
  folder: str
  open_seconds: float = 0.0
  bytes_per_second: float = 0.0
  opens: int = 0
  bytes_read: int = 0
  bytes_written: int = 0
  failing: int = 0
  _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
  _free_at: float = 0.0

  def opened(self) -> None:
    with self._lock:
      self.opens += 1
    time.sleep(self.open_seconds)

  def read(self, count: int) -> None:
    """Waits as long as these bytes take."""
    with self._lock:
      if self.failing:
        self.failing -= 1
        raise OSError(5, 'the storage is busy')
      self.bytes_read += count
      now = time.monotonic()
      self._free_at = max(now, self._free_at)
      if self.bytes_per_second:
        self._free_at += count / self.bytes_per_second
      wait = self._free_at - now
    if wait > 0:
      time.sleep(wait)


class _File:
  """An open file; a written one appears when it is closed."""

  def __init__(self, storage: Storage, path: str, mode: str):
    self._storage, self._path, self._write = storage, path, 'w' in mode
    if self._write:
      os.makedirs(os.path.dirname(path), exist_ok=True)
    self._file = open(path + '.unseen' if self._write else path, mode,
                      buffering=1 << 16 if 'b' not in mode else 0,
                      encoding=None if 'b' in mode else 'utf-8')
    storage.opened()

  def read(self, count: int = -1):
    data = self._file.read(count)
    self._storage.read(len(data))
    return data

  def readline(self):
    data = self._file.readline()
    self._storage.read(len(data))
    return data

  def __iter__(self):
    while line := self.readline():
      yield line

  def write(self, data):
    self._storage.bytes_written += len(data)
    return self._file.write(data)

  def seek(self, *place):
    return self._file.seek(*place)

  def tell(self):
    return self._file.tell()

  def flush(self):
    self._file.flush()

  def close(self):
    self.__exit__(None, None, None)

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    self._file.close()
    if self._write and kind is None:
      os.replace(self._path + '.unseen', self._path)


class _Backend(backend.Backend):
  """epath's view of it: no append, only whole files, implicit folders."""

  def __init__(self):
    self.storage: Storage | None = None

  def _at(self, path) -> str:
    inside = os.fspath(path).removeprefix('fake://').strip('/')
    return os.path.join(self.storage.folder, inside)

  def _url(self, local: str) -> str:
    return 'fake://' + os.path.relpath(local, self.storage.folder)

  def open(self, path, mode):
    if 'a' in mode or '+' in mode:
      raise io.UnsupportedOperation('objects are not appended to')
    return _File(self.storage, self._at(path), mode)

  def exists(self, path):
    return os.path.exists(self._at(path))

  def isdir(self, path):
    return os.path.isdir(self._at(path))

  def listdir(self, path):
    return os.listdir(self._at(path))

  def glob(self, path):
    return [self._url(found) for found in glob.glob(self._at(path))]

  def walk(self, top, *, top_down=True, on_error=None):
    for folder, folders, files in os.walk(self._at(top), top_down, on_error):
      yield self._url(folder), folders, files

  def makedirs(self, path, *, exist_ok=False, mode=None):
    os.makedirs(self._at(path), exist_ok=exist_ok)

  def mkdir(self, path, *, exist_ok=False, mode=None):
    os.makedirs(self._at(path), exist_ok=exist_ok)

  def rmtree(self, path):
    shutil.rmtree(self._at(path))

  def remove(self, path):
    os.remove(self._at(path))

  def rename(self, path, dst):
    os.rename(self._at(path), self._at(dst))

  def replace(self, path, dst):
    os.replace(self._at(path), self._at(dst))

  def copy(self, path, dst, overwrite):
    shutil.copy(self._at(path), self._at(dst))

  def stat(self, path):
    found = os.stat(self._at(path))
    return stat_utils.StatResult(
        is_directory=os.path.isdir(self._at(path)), length=found.st_size,
        mtime=int(found.st_mtime), owner=None, group=None, mode=None)


_BACKEND = _Backend()


@functools.cache
def _register() -> None:
  """Registers fake:// with epath.

  epath's list of schemes is private, so only tests and measurements use this.
  """
  gpath._URI_PREFIXES += ('fake://',)
  gpath._URI_SCHEMES |= {'fake'}
  gpath._URI_MAP_ROOT['fake://'] = '/fake/'

  @epath.register_path_cls('fake://')
  class FakePath(gpath.PosixGPath):
    """A path behind fake://, or another backend's, as epath mixes them."""

    @property
    def _backend(self):
      return _BACKEND if self._uri_scheme == 'fake' else super()._backend

  del FakePath


def mount(folder: str, open_seconds: float = 0.0,
          bytes_per_second: float = 0.0) -> Storage:
  """Puts a folder behind fake://, instead of the one before.

  Args:
    folder: folder on this machine.
    open_seconds, bytes_per_second: as in Storage.
  """
  _register()
  _BACKEND.storage = Storage(os.fspath(folder), open_seconds, bytes_per_second)
  return _BACKEND.storage
