"""Errors for people, and the doors that turn them into one line.

Floor 0, beside no room: every room may raise an `InputError`.
"""

import contextlib
import errno
import functools
import os
import sys

INTERRUPTED = ('robertax: interrupted; the same command goes on from what is '
               'finished.')


class InputError(ValueError):
  """Something a person gave is wrong.

  The message names the file, line or key, what was found there, and what would
  do. It is printed alone: a traceback would bury it.
  """


@contextlib.contextmanager
def writing(path):
  """Names `path` in what the operating system says while it is written.

  Args:
    path: the file or folder that the body of the `with` writes.

  Raises:
    InputError: full disk, no permission, read-only or vanished folder. Any
      other error passes through unchanged.
  """
  advice = {
      errno.ENOSPC: 'the disk is full: free some space, or choose another '
                    'place, and run the same command again',
      errno.EDQUOT: 'the disk quota is used up: free some space, or choose '
                    'another place, and run the same command again',
      errno.EACCES: 'no permission to write there: choose another place, or '
                    'change its permissions',
      errno.EPERM: 'no permission to write there: choose another place, or '
                   'change its permissions',
      errno.EROFS: 'the file system is read-only: choose another place',
      errno.ENOTDIR: 'a part of this path is a file, not a folder',
      errno.EEXIST: 'a file of that name is in the way of a folder',
      errno.EISDIR: 'a folder of that name is in the way of a file',
      errno.ENAMETOOLONG: 'the name is too long',
      errno.ENOENT: 'this folder does not exist, or vanished while writing',
      errno.EFBIG: 'files may not grow that large here (ulimit -f, or the file '
                   'system)',
  }
  try:
    yield
  except InputError:
    raise
  except Exception as e:
    # Libraries in C++ pass on the system's words, not its number.
    code = e.errno if isinstance(e, OSError) else next(
        (c for c in advice if os.strerror(c) in _words(e)), None)
    if code not in advice:
      raise
    raise InputError(f'cannot write {path}: {advice[code]}') from e


def _words(error: BaseException | None) -> str:
  """The messages of an error and of what it was raised from."""
  words = []
  while error is not None:
    words.append(str(error))
    error = error.__cause__
  return '; '.join(words)


def door(main):
  """Wraps a command's main: an InputError becomes one line and exit code 2."""
  @functools.wraps(main)
  def wrapped(argv):
    try:
      return main(argv)
    except InputError as e:
      sys.stdout.flush()
      print(f'robertax: error: {e}', file=sys.stderr)
      sys.exit(2)
    except KeyboardInterrupt:
      sys.stdout.flush()
      print(f'\n{INTERRUPTED}', file=sys.stderr)
      sys.exit(130)
  return wrapped
