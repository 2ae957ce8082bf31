"""Errors for people, and the doors that turn them into one line.

Floor 0, beside no room: every room may raise an `InputError`.
"""

from collections.abc import Callable, Iterable
import contextlib
import difflib
import errno
import functools
import os
import sys

from robertax.progress import say

INTERRUPTED = ('robertax: interrupted; the same command goes on from what is '
               'finished.')
# Exit codes of robertax.main, beside 0 and 128 + n. A scheduler starts a run
# again after any code but 0 and these two:
WRONG_INPUT, DIVERGED = 2, 3  # Another start would end in the same way.
PEER_GONE = 75  # Another process of the run is gone (sysexits' EX_TEMPFAIL).
STALLED = 76  # Nothing went on for train.watchdog_seconds.
MANY = 30  # Known names: a longer list hides the one that was meant.


class InputError(ValueError):
  """Something a person gave is wrong; it ends a command with `exit_code`.

  The message names the file, line or key, what was found there, and what would
  do. It is printed without a traceback.
  """

  exit_code = WRONG_INPUT


class Diverged(InputError):
  """A loss or a gradient is not finite, or far from those before it.

  Attributes:
    step: the bad update, the first is 1.
    agreed: all processes raise it, because they see the same numbers.
  """

  exit_code = DIVERGED
  agreed = True

  def __init__(self, message: str, step: int):
    super().__init__(message)
    self.step = step


@contextlib.contextmanager
def writing(path):
  """Names `path`, which the body writes, in the operating system's errors.

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
        (c for c in advice if os.strerror(c) in _messages(e)), None)
    if code not in advice:
      raise
    raise InputError(f'cannot write {path}: {advice[code]}') from e


def _messages(error: BaseException | None) -> str:
  """The messages of an error and of its causes."""
  messages = []
  while error is not None:
    messages.append(str(error))
    error = error.__cause__
  return '; '.join(messages)


def first_line(error: BaseException) -> str:
  """The first line of an error's message; its repr where it has none."""
  return (str(error).strip().splitlines() or [repr(error)])[0]


def door(main: Callable) -> Callable:
  """Wraps a command's main: an InputError becomes a line and its exit code."""
  @functools.wraps(main)
  def wrapped(argv):
    try:
      return main(argv)
    except InputError as e:
      sys.stdout.flush()
      say(f'robertax: error: {e}')
      sys.exit(e.exit_code)
    except KeyboardInterrupt:
      sys.stdout.flush()
      print(f'\n{INTERRUPTED}', file=sys.stderr)
      sys.exit(130)
  return wrapped


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
  """The error for a name that is in no table: says what is known and close."""
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=1)
  hint = f' Did you mean {close[0]!r}?' if close else ''
  if close and len(known) > MANY:
    return InputError(f'unknown {kind} {name!r}.{hint}')
  return InputError(
      f'unknown {kind} {name!r}.{hint} Known are: {", ".join(known)}.')
