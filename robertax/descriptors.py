"""Descriptors: how many open files this process may have, and which it keeps.

Floor 0, beside the rooms. A run of the paper reads 1,192 shards, and the usual
limit is 1,024 open files. So the limit is raised as far as the system allows,
readers that keep a file open are few (`Kept`), and a file that is mapped into
memory keeps none (`mapped`).
"""

from collections import OrderedDict
from collections.abc import Callable
import contextlib
import ctypes
import functools
import mmap
import os
import threading
from typing import Any
import weakref

import numpy as np

MOST = 1 << 16  # More open files would only cost memory.
_MAC_MOST = 10_240  # What macOS takes where it names no limit.


@functools.cache
def limit() -> int:
  """Raises this process's limit of open files to the largest; returns it."""
  try:
    import resource
  except ImportError:  # Windows has no such limit.
    return MOST
  soft, hard = (MOST if value == resource.RLIM_INFINITY else value
                for value in resource.getrlimit(resource.RLIMIT_NOFILE))
  for wanted in (min(hard, MOST), _MAC_MOST):
    if soft >= wanted:
      break
    with contextlib.suppress(OSError, ValueError):
      resource.setrlimit(resource.RLIMIT_NOFILE, (
          wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
      return wanted
  return soft


class Kept:
  """What holds a file open: the least recently used is let go first."""

  def __init__(self, most: int = 0):
    """Keeps `most`; 0: as many as leave enough of the limit for the rest."""
    self._most = most
    self._held: OrderedDict[tuple[int, Any], Any] = OrderedDict()
    self._lock = threading.RLock()

  def get(self, owner: Any, key: Any, make: Callable[[], Any]) -> Any:
    """Returns what an owner keeps under a key, made again if it was let go."""
    name = id(owner), key
    with self._lock:
      if name in self._held:
        self._held.move_to_end(name)
        return self._held[name]
      self._most = self._most or min(4096, max(16, limit() // 2 - 48))
      while len(self._held) >= self._most:
        self._held.popitem(last=False)  # Whoever reads with it still has it.
    made = make()
    with self._lock:
      if not any(other == name[0] for other, _ in self._held):
        weakref.finalize(owner, self.drop, name[0])
      self._held[name] = made
    return made

  def drop(self, owner: int, *keys: Any) -> None:
    """Lets go what the owner of this id keeps, or only some keys."""
    with self._lock:
      for name in [name for name in self._held if name[0] == owner
                   and (not keys or name[1] in keys)]:
        del self._held[name]


KEPT = Kept()  # Of this process.


def mapped(path: str) -> np.ndarray:
  """Maps a file into memory, read-only, as uint8[size], without a descriptor.

  Python's mmap keeps one for each map until 3.13. OSError if it cannot.
  """
  with open(path, 'rb') as f:
    size = os.fstat(f.fileno()).st_size
    if not size:
      return np.zeros(0, np.uint8)
    if os.name == 'nt':
      return np.frombuffer(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ),
                           np.uint8)
    address = _libc().mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED,
                           f.fileno(), 0)
    if address == ctypes.c_void_p(-1).value:
      code = ctypes.get_errno()
      raise OSError(code, os.strerror(code), path)
  # Every view of the array keeps this buffer.
  buffer = (ctypes.c_uint8 * size).from_address(address)
  weakref.finalize(buffer, _libc().munmap, address, size).atexit = False
  array = np.frombuffer(buffer, np.uint8)
  array.flags.writeable = False
  return array


@functools.cache
def _libc() -> ctypes.CDLL:
  found = ctypes.CDLL(None, use_errno=True)
  found.mmap.restype = ctypes.c_void_p
  found.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
                         ctypes.c_int, ctypes.c_int, ctypes.c_long]
  found.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
  return found
