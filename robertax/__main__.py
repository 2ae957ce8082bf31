"""One command for all doors, which `pip install` puts on the path.

  robertax pretrain --config=quickstart --workdir=runs/first
  robertax COMMAND --help

`robertax pretrain ...` is `python -m robertax.main ...`, and so on.
"""

import difflib
import os
import runpy
import sys

from robertax.errors import door, print_result
from robertax.progress import call_out

# The command, its module, and what it does.
COMMANDS = {
    'pretrain': ('main', 'prepares data, trains (fine-tuning too), evaluates'),
    'prepare': ('prepare', 'prepares records alone, or shows a batch'),
    'sweep': ('sweep', 'fine-tunes with several rates, batches and seeds'),
    'predict': ('predict', 'asks a model about each line of a file'),
    'score': ('score', 'scores predictions as the official scripts do'),
    'convert': ('convert', 'reads and writes models of other libraries'),
    'report': ('report', 'writes the report of a run, or compares runs'),
    'aot': ('aot', 'compiles a step for a TPU or GPU that is not here'),
    'paper': ('paper', 'makes a table of the paper')}


def main(argv: list[str]):
  """Runs a command as its module; exits with 2 if there is no such command."""
  name = argv[1] if len(argv) > 1 else ''
  if name in ('', '-h', '--help', 'help'):
    print_result('\n'.join([
        __doc__, 'Commands:', *(f'  {command:9} {what} (robertax.{module})'
                                for command, (module, what)
                                in COMMANDS.items())]), saved=False)
    sys.exit(0 if name else 2)
  # The names of the modules, such as `main`, are understood as well.
  names = {module: command for command, (module, _) in COMMANDS.items()}
  command = name if name in COMMANDS else names.get(name)
  if command is None:
    close = difflib.get_close_matches(name, [*COMMANDS, *names], n=1)
    hint = f' Did you mean {close[0]!r}?' if close else ''
    call_out(f'robertax: error: unknown command {name!r}.{hint} Commands: '
             f'{", ".join(COMMANDS)}.')
    sys.exit(2)
  sys.argv = [argv[0], *argv[2:]]
  # As `python -m` does: flags and --help belong to the module __main__, and
  # processes that a door starts import it by its name.
  runpy.run_module(f'robertax.{COMMANDS[command][0]}', run_name='__main__',
                   alter_sys=True)


def start():
  """Is called by the script that pip installs."""
  if '' not in sys.path:  # `python -m` puts the current folder there, too.
    sys.path.insert(0, os.getcwd())
  door(main)(sys.argv)


if __name__ == '__main__':
  start()
