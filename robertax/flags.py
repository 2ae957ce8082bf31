"""The flags that the doors share, and one clear line for a wrong flag.

Floor 6, beside the doors. A config file is the user's own code. If it is
remote, it is copied to this machine before absl reads it.
"""

import atexit
from collections.abc import Callable, Iterator, Sequence
import contextlib
import ctypes
import difflib
import functools
import io
import os
import re
import signal
import sys
import tempfile
import traceback

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from robertax import files
from robertax.errors import INTERRUPTED, InputError, door, print_result, reading
from robertax.progress import call_out


def config_flag() -> flags.FlagHolder:
  """Defines --config=FILE.py[:key=value,...] and a flag for each key."""
  found = config_flags.DEFINE_config_file(
      'config', None, 'A config file, such as configs/quickstart.py, or the '
      'name of one of robertax, such as quickstart, with arguments behind a '
      'colon.')
  # Else --help, which lists the flags of the main module, leaves it out.
  flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS['config'])
  return found


def process_flags() -> tuple[flags.FlagHolder, ...]:
  """Defines --coordinator, --num_processes, --process_id, in that order."""
  return (
      flags.DEFINE_string('coordinator', '', 'HOST:PORT of process 0, for runs '
                          'of several processes that cannot find each other.'),
      flags.DEFINE_integer('num_processes', 0, 'Number of these processes.'),
      flags.DEFINE_integer('process_id', -1, 'Number of this one, from 0.'))


def given(flag: flags.FlagHolder, example: str) -> ConfigDict:
  """Reads the value of --config; `example` is a command for the error.

  Raises:
    InputError: no file was given, it does not exist, or it gives no config.
  """
  if not flag.present:
    raise InputError(f'--config=FILE is needed, such as: {example}')
  try:
    return flag.value.copy_and_resolve_references()
  except OSError as e:
    raise InputError(_why(e, _split(_config_text(sys.argv))[0])) from e
  except AttributeError as e:
    raise InputError(
        '--config: get_config() of that file gives a value of type '
        f'{type(flag.value).__name__}, not a ConfigDict. Start from '
        'robertax.config.defaults().') from e


def named(flag: flags.FlagHolder) -> frozenset[str]:
  """The keys that the command line sets, such as 'train.steps'."""
  from robertax.config import arg_keys
  _, arg = _split(_config_text(sys.argv))
  return frozenset(config_flags.get_override_values(flags.FLAGS[flag.name])
                   ) | arg_keys(arg)


def run(main: Callable[[Sequence[str]], None]):
  """Parses the flags and runs a door; a wrong flag ends it with exit code 2."""
  for name in ('stdin', 'stdout', 'stderr'):
    # If one is closed, the first files opened would take its number.
    if getattr(sys, name) is None:
      setattr(sys, name, open(os.devnull, 'r' if name == 'stdin' else 'w'))
  # These silence tensorflow, and must be set before it is imported.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  signal.signal(signal.SIGINT, _leave)
  try:
    app.run(door(main), flags_parser=_parse)
  except SystemExit as e:
    # Everything is written. If the interpreter exited by itself, threads of
    # native libraries could crash and so change the exit code.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(OSError, ValueError):
        stream.flush()
    os._exit(e.code if isinstance(e.code, int) else bool(e.code))


def one_heap():
  """Lets all threads share malloc's main heap, if the C library is glibc.

  By default each thread has its own heap and returns nothing, which takes a
  tenth of a small run's memory. Call this before any thread starts.
  """
  if mallopt := getattr(ctypes.CDLL(None), 'mallopt', None):
    mallopt(-8, 1)  # M_ARENA_MAX, of malloc.h.


def _leave(number: int, frame):
  """Exits at once on Ctrl-C; the training loop has a handler of its own."""
  # An import may swallow a KeyboardInterrupt, or take it for a library that is
  # not installed. Unfinished files are recognized, however this process ends.
  del number, frame
  os.write(2, f'\n{INTERRUPTED}\n'.encode())
  os._exit(130)


def _parse(argv: Sequence[str]) -> list[str]:
  read = argv
  for name in ('help', 'helpshort', 'helpfull', 'helpxml'):
    flag = flags.FLAGS[name]
    flag.parse = functools.partial(_help, flag.parse)
  try:
    with _local_config(argv) as read:
      left = flags.FLAGS(read)
    if flags.FLAGS['verbosity'].using_default_value:
      logging.set_verbosity(logging.WARNING)
  except Exception as e:
    here = _split(_config_text(read))[0]
    why = _why(e, here)
    if why is None:
      raise
    _stop(why.replace(here, _split(_config_text(argv))[0]) if here else why)
  if len(left) > 1:
    _stop(f'unexpected argument {left[1]!r}: flags begin with --.')
  return left


def _help(parse: Callable[[str], None], arg: str):
  """Parses a flag that prints help; absl would then exit with 1."""
  said = io.StringIO()
  try:
    with contextlib.redirect_stdout(said):
      parse(arg)
  except SystemExit:
    print_result(said.getvalue() + (
        _key_list() if 'config' in flags.FLAGS else ''), saved=False)
    sys.exit(0)


def _key_list() -> str:
  from robertax.config import Config, flatten, to_dict
  keys = flatten(to_dict(Config()))
  return '\n'.join([
      '', 'Config keys and their defaults, which a config file changes; '
      'robertax/config.py says what each means:', *(
          f'  --config.{key}={value!r}' for key, value in keys.items())])


@contextlib.contextmanager
def _local_config(argv: Sequence[str]) -> Iterator[list[str]]:
  """Yields the arguments, with --config's file as one on this machine.

  A remote file is copied here, and a name becomes a file of robertax.
  """
  argv = _with_flagfiles(argv)
  text = _config_text(argv)
  path, arg = _split(text)

  def arguments(here: str) -> list[str]:
    return [part.replace(text, f'{here}:{arg}' if arg else here, 1)
            if '-config' in part.partition('=')[0] or part == text else part
            for part in argv]

  if not files.is_remote(path):
    yield arguments(_own_config(path) or path) if path else list(argv)
    return
  with tempfile.TemporaryDirectory() as folder:
    here = os.path.join(folder, os.path.basename(path))
    with reading(f'--config={path}'):
      files.copy(path, here)
    yield arguments(here)


# The config files of robertax: in a wheel, and in a checkout.
_CONFIGS = [os.path.join(os.path.dirname(os.path.abspath(__file__)), *parts)
            for parts in (['configs'], ['..', 'configs'])]


def _own_config(path: str) -> str:
  """The file of robertax that a name or path means; '' if it is another's.

  'quickstart', 'paper/table1' and, where it does not exist, also
  'configs/quickstart.py'.
  """
  if os.path.exists(path):
    return ''
  name = path.removeprefix('configs/').removesuffix('.py')
  return next((file for folder in _CONFIGS if os.path.isfile(
      file := os.path.normpath(os.path.join(folder, f'{name}.py')))), '')


def _similar_config(path: str) -> str:
  """A hint at names of our config files, or ''."""
  names = sorted(
      os.path.relpath(os.path.join(where, file), folder).removesuffix('.py')
      for folder in _CONFIGS for where, _, found in os.walk(folder)
      for file in found if file.endswith('.py'))
  name = path.removeprefix('configs/').removesuffix('.py')
  close = difflib.get_close_matches(name, names, n=1)
  return f' Did you mean --config={close[0]}?' if close else ''


def _split(text: str) -> tuple[str, str]:
  """Splits a file from its arguments, behind the colon that follows a URL's.

  >>> _split('gs://b/x.py:steps=2'), _split('x.py')
  (('gs://b/x.py', 'steps=2'), ('x.py', ''))
  """
  scheme, slashes, rest = text.partition('://')
  if not slashes or ':' in scheme:
    scheme, slashes, rest = '', '', text
  path, _, arg = rest.partition(':')
  return scheme + slashes + path, arg


def _with_flagfiles(argv: Sequence[str]) -> list[str]:
  """The arguments, with those of a file in the place of its --flagfile."""
  return flags.FLAGS.read_flags_from_files(argv, force_gnu=False)


def _config_text(argv: Sequence[str]) -> str:
  """The value of --config: a file and its arguments."""
  with contextlib.suppress(flags.Error):  # Parsing the flags reports it.
    argv = _with_flagfiles(argv)
  for flag, following in zip(argv, [*argv[1:], '']):
    name, equals, value = flag.partition('=')
    if name in ('--config', '-config'):
      return value if equals else following
  return ''


def _why(error: Exception, path: str) -> str | None:
  """Explains an error of parsing the flags; None: no input caused it."""
  chain = [error]  # Libraries wrap what a config file raises.
  while inner := chain[-1].__cause__ or chain[-1].__context__:
    chain.append(inner)
  for e in reversed(chain):
    if isinstance(e, InputError):
      return str(e)
    lines = [frame.lineno for frame in traceback.extract_tb(e.__traceback__)
             if frame.filename == path]
    words = str(e)
    if isinstance(e, SyntaxError) and e.filename == path:
      lines, words = [e.lineno], e.msg
    if lines:
      words = ' '.join(words.split())
      return f'{path}, line {lines[-1]}: {type(e).__name__}: {words}'
  from robertax.config import key_hint
  for e in chain:
    if isinstance(e, KeyError):  # ml_collections: `--config.train.stepz=3`.
      words = str(e.args[0]).split()[0].strip('\'"')
      return (f'unknown config key in a --config.* flag: {words!r}.'
              f'{key_hint(words)}')
  if isinstance(error, flags.UnrecognizedFlagError):  # `--steps=30`.
    return f'{_last_words(str(error)).rstrip(".")}.{key_hint(error.flagname)}'
  if isinstance(error, OSError):  # The first with a reason: others wrap it.
    why = next((e.strerror for e in reversed(chain)
                if getattr(e, 'strerror', None)), 'no such file')
    return f'cannot read --config={path}: {why}.{_similar_config(path)}'
  if isinstance(error, AttributeError) and error.name == 'get_config':
    return f'--config: {path} has no function get_config().'
  if isinstance(error, (flags.Error, TypeError, ValueError)):
    return _last_words(str(error))
  return None


def _last_words(message: str) -> str:
  """The message of an error in a config file, without its traceback."""
  # absl keeps only the text of errors that are raised while it parses flags.
  raised = re.findall(r'^\s*[\w.]*(?:Error|Exception): (.+)$', message, re.M)
  return ' '.join((raised[-1] if raised else message).split())


def _stop(message: str):
  call_out(f'robertax: error: {message}')
  sys.exit(2)
