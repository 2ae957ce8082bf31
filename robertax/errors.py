"""Errors for people, which the doors print as one line.

Floor 0, beside the rooms: every room may raise an `InputError`.
"""

from collections.abc import Callable, Iterable
import contextlib
import difflib
import errno
import functools
import os
import re
import sys

from robertax.progress import call_out, say

INTERRUPTED = ('robertax: interrupted; the same command resumes from what is '
               'finished.')
# Exit codes of robertax.main, besides 0 and 128 + n. A scheduler restarts a run
# after any code but 0, 2 and 3, after which a restart would end the same way.
WRONG_INPUT, DIVERGED = 2, 3
PEER_GONE = 75  # Another process of the run is gone (sysexits' EX_TEMPFAIL).
STALLED = 76  # The run made no progress for train.watchdog_seconds.
MANY = 30  # A longer list of names would hide the one that was meant.


class InputError(ValueError):
  """The user's input is wrong, and the command ends with `exit_code`.

  The message, printed without a traceback, names the file, line or key, what
  was found there, and what would be right.
  """

  exit_code = WRONG_INPUT


class Diverged(InputError):
  """A loss or gradient is not finite, or far from earlier ones.

  The first `step` is 1.
  """

  exit_code = DIVERGED
  agreed = True  # All processes raise it, because they see the same numbers.

  def __init__(self, message: str, step: int):
    super().__init__(message)
    self.step = step


class TakenOver(InputError):
  """Another run has taken the workdir; this run must not write any more."""


@contextlib.contextmanager
def writing(path):
  """Explains the operating system's errors in a body that writes `path`.

  Raises:
    InputError: the disk is full, the folder is read-only or gone, or there is
      no permission. Other errors, and those of other files, pass unchanged.
  """
  again = ('free some space, or choose another place, and run the same command '
           'again')
  denied = ('no permission to write there: choose another place, or change its '
            'permissions')
  path, advice = os.fspath(path), {
      errno.ENOSPC: f'the disk is full: {again}',
      errno.EDQUOT: f'the disk quota is used up: {again}',
      errno.EACCES: denied, errno.EPERM: denied,
      errno.EROFS: 'the file system is read-only: choose another place',
      errno.ENOTDIR: 'a part of this path is a file, not a folder',
      errno.EEXIST: 'a file of that name is in the way of a folder',
      errno.EISDIR: 'a folder of that name is in the way of a file',
      errno.ENAMETOOLONG: 'the name is too long',
      errno.ENOENT: 'this folder does not exist, or vanished while writing',
      errno.EMFILE: f'{os.strerror(errno.EMFILE)}{_FILES_ADVICE}',
      errno.ENFILE: f'{os.strerror(errno.ENFILE)}{_FILES_ADVICE}',
      errno.EFBIG: 'files may not grow that large here (ulimit -f, or the file '
                   'system)'}
  try:
    yield
  except InputError:
    raise
  except Exception as e:
    cause = e
    while cause is not None:
      if code := _failed_write(path, advice, cause):
        raise InputError(f'cannot write {path}: {advice[code]}') from e
      cause = cause.__cause__
    raise


# Errors that only writing raises. In an open file, they do not name the file.
_WRITES_ONLY = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def _failed_write(path: str, codes: Iterable[int], error: BaseException
                  ) -> int | None:
  """The code of an error, if it means that `path` cannot be written."""
  if isinstance(error, OSError):
    names = [os.fsdecode(name) for name in (error.filename, error.filename2)
             if isinstance(name, (str, bytes, os.PathLike))]
    ours = (any(_is_of(path, name) for name in names) if names
            else error.errno in _WRITES_ONLY)
    return error.errno if ours and error.errno in codes else None
  words = str(error)  # Of C++ libraries, which leave out the number.
  named = any(re.search(rf'{re.escape(place)}(?!\w)', words) for place in (
      _real(path), os.path.abspath(path), path) if '/' in place)
  return next((code for code in codes if os.strerror(code) in words
               and (named or code in _WRITES_ONLY)), None)


def _is_of(path: str, name: str) -> bool:
  """Whether a file is `path`, in it, above it, or to be renamed to it."""
  path, name = _real(path), _real(name)
  return name.startswith((f'{path}/', f'{path}.')) or f'{path}/'.startswith(
      f'{name.rstrip("/")}/')


def _real(path: str) -> str:
  return path.rstrip('/') if '://' in path else os.path.realpath(path)


def first_line(error: BaseException) -> str:
  """The first line of an error's message, or its repr if it has none."""
  return (str(error).strip().splitlines() or [repr(error)])[0]


# What may work a minute later.
_TRANSIENT = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET,
              errno.ENETUNREACH, errno.EHOSTUNREACH)


# The system's errors that say nothing about the content of a file.
_OF_SYSTEM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES,
              errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EBUSY,
              errno.EAGAIN, *_TRANSIENT)
_FILES_ADVICE = ('. Another process, or this one, has too many files open: '
                 '`ulimit -n` raises the limit')


class Truncated(OSError):
  """A file ends before its reader expects it to."""


def is_transient(error: BaseException) -> bool:
  """Whether the error is of a disk or a network, and of no file."""
  return not isinstance(error, Truncated) and isinstance(error, OSError) and (
      isinstance(error, TimeoutError) or error.errno in _TRANSIENT
      or getattr(error, 'remote', False)
      and not isinstance(error, FileNotFoundError))


def raise_unless_damage(error: BaseException, path: str):
  """Returns if a file is missing, cut off or unreadable by its content.

  No other error of the system is damage: what a disk or a network refuses is
  raised as it is, what lacks a permission or a descriptor as an InputError.
  C++ libraries raise them as RuntimeErrors, or as OSErrors without a number.
  """
  if isinstance(error, RuntimeError) or (
      type(error) is OSError and not error.errno):
    code = next((code for code in _OF_SYSTEM
                 if os.strerror(code) in str(error)), None)
    if code is None:
      return
    error = OSError(code, os.strerror(code), path)
  if not isinstance(error, OSError) or isinstance(
      error, (FileNotFoundError, NotADirectoryError, IsADirectoryError,
              Truncated)):
    return
  if is_transient(error):
    raise error
  raise InputError(
      f'cannot read {path}: {error.strerror or error}' + (
          _FILES_ADVICE if error.errno in (errno.EMFILE, errno.ENFILE) else '')
  ) from error


@contextlib.contextmanager
def reading(path: str, wrong: str = '', advice: str = ''):
  """Explains errors of a body that reads a file and takes it apart.

  Raises an InputError: `wrong` says what the content is not, such as 'not
  JSON', and `advice`, with its punctuation, what would do. Errors of a disk or
  a network pass (`raise_unless_damage`).
  """
  try:
    yield
  except InputError:
    raise
  except (OSError, ValueError, LookupError, TypeError, AttributeError,
          RecursionError) as e:
    raise_unless_damage(e, path)
    raise InputError((
        f'cannot read {path}: {getattr(e, "strerror", None) or e}'
        if isinstance(e, OSError) or not wrong else f'{path}: {wrong} ({e})'
    ) + advice) from e


@contextlib.contextmanager
def no_panic():
  """Makes a RuntimeError of a Rust library's panic, which is no Exception."""
  try:
    yield
  except BaseException as e:
    if type(e).__name__ != 'PanicException':  # Each library has its own.
      raise
    raise RuntimeError(f'the library fails: {first_line(e)}') from e


@contextlib.contextmanager
def beside(work: str):
  """Turns an error, after a run's work is saved, into a line on stderr."""
  try:
    yield
  except Exception as e:
    what = str(e) if isinstance(e, InputError) else (
        f'{type(e).__name__}: {first_line(e)}')
    call_out(f'robertax: {work}: {what}')


def print_result(text: str, saved: bool = True):
  """Prints a finished result; all that goes to stdout is printed here.

  A reader that has closed the pipe (`| head`) has read enough. Any other error
  of stdout is a line on stderr if the result is also `saved` in a file, and
  else an InputError.
  """
  if encoding := getattr(sys.stdout, 'encoding', None):
    text = text.encode(encoding, 'backslashreplace').decode(encoding)
  try:
    print(text, flush=True)
  except OSError as e:
    # Python would try again at exit, and change the exit code.
    with contextlib.suppress(OSError):
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(e, BrokenPipeError):
      return
    if not saved:
      raise InputError(f'the result cannot be printed: stdout: {e}') from e
    call_out(f'robertax: all is done and saved, but stdout: {e}')


def door(main: Callable) -> Callable:
  """Wraps a command's main: prints an InputError, exits with its code."""
  @functools.wraps(main)
  def wrapped(argv):
    try:
      return main(argv)
    except InputError as e:
      sys.stdout.flush()
      say(f'robertax: error: {e}')
      sys.exit(e.exit_code)
    except OSError as e:
      if not is_transient(e):
        raise
      # Another exit code than of wrong input: it may work a minute later.
      say(f'robertax: error: {f"{e.filename}: " if e.filename else ""}'
          f'{e.strerror or first_line(e)}. Check the address, the network and '
          'the credentials, and give the same command again.')
      sys.exit(1)
    except KeyboardInterrupt:
      sys.stdout.flush()
      call_out(f'\n{INTERRUPTED}')
      sys.exit(130)
  return wrapped


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
  """The error for an unknown name, with the known ones and the closest."""
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=1)
  hint = f' Did you mean {close[0]!r}?' if close else ''
  if len(known) > MANY:
    return InputError(f'unknown {kind} {name!r}.{hint}')
  return InputError(
      f'unknown {kind} {name!r}.{hint} Known are: {", ".join(known)}.')
