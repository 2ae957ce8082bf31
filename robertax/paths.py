"""Paths of text, records and runs: local, or any that etils.epath knows.

Floor 0, beside no room. Every path that a person gives goes through here:
`gs://bucket/x` as well as `/data/x`. The functions are those of `os`, `shutil`
and `glob`, and so are their errors; a local path is given to these, so that it
may be locked, mapped and renamed as before, and remote ones need no package
until one is used.
"""

import builtins
from collections.abc import Iterator
import glob as glob_lib
import os
import shutil
from typing import IO, NamedTuple


class Stat(NamedTuple):
  """Attributes: size in bytes; modified, nanoseconds since 1970."""
  size: int
  modified: int


def is_remote(path: str) -> bool:
  """Whether it is a URL, such as gs://bucket/x, and not of this machine."""
  return '://' in path


def _remote(path: str):
  from etils import epath  # Only where there is a remote path.
  return epath.Path(path)


def absolute(path: str) -> str:
  """`~` opened and made absolute; a URL as it is."""
  if is_remote(path):
    return path
  return os.path.abspath(os.path.expanduser(path))


def open(path: str, mode: str = 'r') -> IO:
  """As the builtin; text is UTF-8."""
  if is_remote(path):
    return _remote(path).open(mode)
  return builtins.open(path, mode, encoding=None if 'b' in mode else 'utf-8')


def exists(path: str) -> bool:
  return _remote(path).exists() if is_remote(path) else os.path.exists(path)


def isdir(path: str) -> bool:
  return _remote(path).is_dir() if is_remote(path) else os.path.isdir(path)


def stat(path: str) -> Stat:
  if is_remote(path):
    found = _remote(path).stat()
    return Stat(found.length, int(found.mtime * 1e9))
  found = os.stat(path)
  return Stat(found.st_size, found.st_mtime_ns)


def listdir(path: str) -> list[str]:
  """Names in a folder, sorted."""
  if is_remote(path):
    return sorted(child.name for child in _remote(path).iterdir())
  return sorted(os.listdir(path))


def glob(pattern: str) -> list[str]:
  """Paths that match, sorted."""
  if is_remote(pattern):
    # The scheme and the bucket are no pattern.
    scheme, _, rest = pattern.partition('://')
    root, _, inside = rest.partition('/')
    return sorted(map(str, _remote(f'{scheme}://{root}').glob(inside)))
  return sorted(glob_lib.glob(pattern, recursive=True))


def walk(path: str, onerror=None) -> Iterator[tuple[str, list[str], list[str]]]:
  """(folder, its folders, its files), as os.walk."""
  if is_remote(path):
    yield from ((str(folder), folders, files)
                for folder, folders, files in _remote(path).walk())
  else:
    yield from os.walk(path, onerror=onerror)


def makedirs(path: str) -> None:
  """Makes the folder and those above it; it may be there."""
  if is_remote(path):
    _remote(path).mkdir(parents=True, exist_ok=True)
  else:
    os.makedirs(path, exist_ok=True)


def replace(path: str, target: str) -> None:
  """Renames a file; what the target was is gone."""
  if is_remote(path):
    _remote(path).replace(target)
  else:
    os.replace(path, target)


def remove(path: str) -> None:
  if is_remote(path):
    _remote(path).unlink()
  else:
    os.remove(path)


def rmtree(path: str) -> None:
  if is_remote(path):
    _remote(path).rmtree()
  else:
    shutil.rmtree(path)
