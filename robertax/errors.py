"""Errors for people, and the doors that turn them into one line.

Floor 0, beside no room: every room may raise an `InputError`.
"""

import contextlib
import difflib
import errno
import functools
import os
import sys

INTERRUPTED = ('robertax: interrupted; the same command goes on from what is '
               'finished.')


# Exit codes of robertax.main, beside 0, 2 and 128 + n. A scheduler starts a run
# again after any code but 0 and these two:
WRONG_INPUT, DIVERGED = 2, 3  # Another start would end as this one did.
PEER_GONE = 75  # Another process of the run is gone (sysexits' EX_TEMPFAIL).
STALLED = 76  # Nothing went on for train.watchdog_seconds.


class InputError(ValueError):
  """Something a person gave is wrong.

  The message names the file, line or key, what was found there, and what would
  do. It is printed alone: a traceback would bury it.

  Attributes:
    exit_code: of the command that it ends.
  """

  exit_code = WRONG_INPUT


class Diverged(InputError):
  """Training cannot go on from here: a loss or a gradient is not finite, or far
  from those before it.

  Attributes:
    step: that it happened at, the first is 1.
    agreed: True, for all processes see the same numbers.
  """

  exit_code = DIVERGED
  agreed = True

  def __init__(self, message: str, step: int):
    """Of that step."""
    super().__init__(message)
    self.step = step


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
  """Wraps a command's main: an InputError becomes a line and its exit code."""
  @functools.wraps(main)
  def wrapped(argv):
    try:
      return main(argv)
    except InputError as e:
      sys.stdout.flush()
      print(f'robertax: error: {e}', file=sys.stderr)
      sys.exit(e.exit_code)
    except KeyboardInterrupt:
      sys.stdout.flush()
      print(f'\n{INTERRUPTED}', file=sys.stderr)
      sys.exit(130)
  return wrapped


MANY = 30  # Names; a list of more hides the one that was meant.


def unknown(kind: str, name: str, known) -> InputError:
  """The error for a name that is not in a table: says what is, and is close."""
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=1)
  hint = f' Did you mean {close[0]!r}?' if close else ''
  if close and len(known) > MANY:
    return InputError(f'unknown {kind} {name!r}.{hint}')
  return InputError(
      f'unknown {kind} {name!r}.{hint} Known are: {", ".join(known)}.')
