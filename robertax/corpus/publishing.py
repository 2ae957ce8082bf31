"""Publishing: a file of ours appears under its name whole, or not at all.

It is written under another name beside it, or, where the name is a URL, on this
machine, for libraries in C++ write nowhere else.
"""

import os
import secrets
import shutil
import tempfile

from robertax import paths
from robertax.corpus.checksums import Checksum, checksum
from robertax.corpus.manifest import writing

# Two machines may write the same shard at once (Beam's spare workers).
_OWN = secrets.token_hex(4)


def staging(path: str) -> str:
  """Where to write the file that is to be `path`."""
  if not paths.is_remote(path):
    return f'{path}.{_OWN}.partial'
  handle, partial = tempfile.mkstemp(prefix='robertax-')
  os.close(handle)
  return partial


def publish(partial: str, path: str) -> Checksum:
  """Gives a closed file of `staging` its name, once it is on the disk.

  Returns:
    The file's checksum.

  Raises:
    InputError: a full disk and the like.
  """
  with writing(path):
    # Else a machine that loses power may keep the name and not the bytes.
    handle = os.open(partial, os.O_RDONLY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)
    found = checksum(partial)
    if paths.is_remote(path):
      with open(partial, 'rb') as source, paths.open(path, 'wb') as target:
        shutil.copyfileobj(source, target, 1 << 22)
      os.remove(partial)
    else:
      os.replace(partial, path)
  return found


def discard(partial: str) -> None:
  """Removes a file of `staging`, on the way out of an error."""
  if os.path.exists(partial):
    os.remove(partial)
