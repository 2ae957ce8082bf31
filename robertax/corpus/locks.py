"""A folder that one process fills at a time."""

from collections.abc import Iterator
import contextlib
import os
import sys

from robertax import errors, files


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
  """Makes the folder and holds it, waiting for whoever holds it now.

  The lock is the kernel's and goes with the process, however that ends, so a
  killed preparation leaves nothing to clear away. Where the place has no
  locks (a bucket), two preparations both work and write the same bytes.

  Raises:
    InputError: the folder cannot be made or written.
  """
  if files.is_remote(folder):
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
