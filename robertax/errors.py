"""Errors for people, and the doors that turn them into one line.

Floor 0, beside no room: every room may raise an `InputError`.
"""

from collections.abc import Callable, Iterable, Iterator
import contextlib
import difflib
import errno
import functools
import os
import re
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


class TakenOver(InputError):
  """Another run has the workdir now, and this one must not write any more."""


@contextlib.contextmanager
def writing(path):
  """Names `path`, which the body writes, in the operating system's errors.

  Raises:
    InputError: full disk, no permission, read-only or vanished folder. Any
      other error, and one of another file, passes through unchanged.
  """
  path, advice = os.fspath(path), {
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
    code = next((code for code in map(
        functools.partial(_failed_write, path, advice), _causes(e)) if code),
        None)
    if code is None:
      raise
    raise InputError(f'cannot write {path}: {advice[code]}') from e


# What no reading ends with. An error of writing to an open file has no name.
_WRITES_ONLY = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def _failed_write(path: str, codes: Iterable[int], error: BaseException
                  ) -> int | None:
  """The code of an error that says that `path` cannot be written."""
  if isinstance(error, OSError):
    names = [os.fsdecode(name) for name in (error.filename, error.filename2)
             if isinstance(name, (str, bytes, os.PathLike))]
    ours = (any(_is_of(path, name) for name in names) if names
            else error.errno in _WRITES_ONLY)
    return error.errno if ours and error.errno in codes else None
  # Libraries in C++ pass on the system's words, not its number.
  words = str(error)
  named = any(re.search(rf'{re.escape(place)}(?!\w)', words) for place in (
      _real(path), os.path.abspath(path), path) if '/' in place)
  return next((code for code in codes if os.strerror(code) in words
               and (named or code in _WRITES_ONLY)), None)


def _is_of(path: str, name: str) -> bool:
  """Whether a file is `path`, in it, above it, or what will be renamed to it.
  """
  path, name = _real(path), _real(name)
  return name.startswith((f'{path}/', f'{path}.')) or f'{path}/'.startswith(
      f'{name.rstrip("/")}/')


def _real(path: str) -> str:
  return path.rstrip('/') if '://' in path else os.path.realpath(path)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  while error is not None:
    yield error
    error = error.__cause__


def first_line(error: BaseException) -> str:
  """The first line of an error's message; its repr where it has none."""
  return (str(error).strip().splitlines() or [repr(error)])[0]


@contextlib.contextmanager
def beside(work: str):
  """Around what a run makes when its work is saved: an error is one line."""
  try:
    yield
  except Exception as e:
    what = str(e) if isinstance(e, InputError) else (
        f'{type(e).__name__}: {first_line(e)}')
    print(f'robertax: {work}: {what}', file=sys.stderr, flush=True)


def print_result(text: str):
  """Prints on stdout when all work is saved: that it is full is one line."""
  try:
    print(text, flush=True)
  except OSError as e:
    print(f'robertax: all is done and saved, but stdout: {e}', file=sys.stderr)
    # Python would try once more at its end, and end with another code.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
