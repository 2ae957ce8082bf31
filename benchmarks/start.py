"""Compares the start of this build with another's.

  python -m benchmarks.start --against=COMMIT   (or --tree=DIR)

This tree, with uncommitted changes, and a git worktree of COMMIT in a temporary
folder take turns, A B A B, in the same environment. Each has a cache of its
own, filled by an unmeasured run, so that records and compiled programs exist
(both get train.compile_cache, which is off by default on CPUs). Measured from
outside, each in a process of its own:

  the quickstart's command, for a few steps: seconds until W/metrics.jsonl has
  step 1 (the evaluation before it counts), and seconds, memory and processor
  seconds until its end; the same with data.backend='numpy';
  `--help`, and `--config=configs/quickstart.py --help`, which reads the config:
  seconds and memory;
  robertax.load(W) and one fill_mask: seconds and memory;
  apart from these, a cold start without records, compiled programs or caches.

Memory is the peak resident size (VmHWM, or ru_maxrss if there is no /proc), in
MB (10^6 bytes).
The last line is one JSON object; a ratio is ours / theirs, of medians. Flags
behind `--` are passed to main, for both. Exit codes: 0, 2 wrong input.
"""

import argparse
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.training import ROOT, environment, last_step

STEPS = 20
LONGEST = 3600.0  # Seconds of a process, before it counts as hung.
_POLL = 0.005
_HELP = (0, 1)  # 1 of older builds.
_LOAD = ('import sys, robertax; '
         'robertax.load(sys.argv[1]).fill_mask("The <mask> of a list.")')
_CONFIG = '--config=configs/quickstart.py'
# Name in the JSON line -> row of the table.
RATIOS = {'seconds_ratio': 'start: first step, s',
          'memory_ratio': 'start: memory, MB',
          'help_memory_ratio': '--help: memory, MB',
          'config_help_memory_ratio': '--config --help: memory, MB',
          'load_memory_ratio': 'load: memory, MB',
          'numpy_memory_ratio': 'numpy: memory, MB',
          'cold_seconds_ratio': 'cold: first step, s'}
Numbers = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Side:
  """A build.

  Attributes:
    name: name for the output.
    tree: folder that has robertax/ and configs/.
    folder: folder for its runs.
    flags: flags of main.
  """
  name: str
  tree: pathlib.Path
  folder: pathlib.Path
  flags: tuple[str, ...] = ()

  def run(self, workdir: str, *flags: str, cold: bool = False) -> Numbers:
    """Runs the quickstart's command for a few steps.

    Args:
      workdir: name of a new folder.
      *flags: more flags of main.
      cold: use no existing cache.
    """
    place = self.folder / workdir
    kept = place if cold else self.folder
    compiled = 'off' if cold else kept / 'compiled'
    return watch(self, [
        '-m', 'robertax.main', _CONFIG,
        f'--workdir={place / "w"}', f'--config.data.cache_dir={kept / "cache"}',
        f'--config.train.compile_cache={compiled}',
        f'--config.train.steps={STEPS}', '--config.train.log_every=1',
        *self.flags, *flags], lambda: last_step(place / 'w') >= 1)


def watch(side: Side, arguments: list[str],
          happened: Callable[[], bool] | None = None,
          codes: tuple[int, ...] = (0,)) -> Numbers:
  """Runs Python in a tree until it ends.

  Args:
    side: the tree's side.
    arguments: arguments of Python.
    happened: condition whose time is measured, within 5 ms.
    codes: allowed exit codes.

  Returns:
    `s` and `processor s` of the process, `memory, MB`, and `first step, s`, the
    time until the condition held.

  Raises:
    RuntimeError: the process failed, or ended before that.
  """
  values = environment() | {'PYTHONPATH': str(side.tree)}
  for name in ('JAX_COMPILATION_CACHE_DIR', 'PYTHONDONTWRITEBYTECODE'):
    values.pop(name, None)
  found: Numbers = {}
  with tempfile.TemporaryFile('w+', errors='replace') as said:
    begin = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, *arguments], cwd=side.tree, env=values,
        stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
    most = 0
    try:
      while True:
        most = max(most, resident(child.pid))
        ended, status, used = os.wait4(child.pid, os.WNOHANG)
        gone = time.monotonic() - begin
        if happened is not None and not found and happened():
          found['first step, s'] = gone
        if ended:
          child.returncode = os.waitstatus_to_exitcode(status)
          break
        if gone > LONGEST:
          raise RuntimeError(f'{side.name}: {arguments} hangs')
        time.sleep(_POLL)
    finally:
      if child.returncode is None:
        child.kill()
        child.wait()
    if child.returncode not in codes or (
        happened is not None and not found):
      said.seek(0)
      raise RuntimeError(f'{side.name}: python {" ".join(arguments)} ended '
                         f'with {child.returncode}:\n{said.read()[-3000:]}')
  # macOS counts in bytes.
  unit = 1 if sys.platform == 'darwin' else 1024
  most = most or used.ru_maxrss * unit
  return found | {'s': gone, 'memory, MB': most / 1e6,
                  'processor s': used.ru_utime + used.ru_stime}


def resident(pid: int) -> int:
  """The peak resident memory of a process in bytes; 0: unknown.

  Linux's ru_maxrss is at least that of the parent process at the fork.
  """
  try:
    with open(f'/proc/{pid}/status') as f:
      return 1024 * next(int(line.split()[1]) for line in f
                         if line.startswith('VmHWM'))
  except (OSError, StopIteration):
    return 0


def warm(side: Side):
  """Fills the side's caches, and makes a workdir to load."""
  side.run('warm')
  one(side, 'numpy', 'of numpy')


def one(side: Side, what: str, workdir: str) -> Numbers:
  """Makes one measurement.

  Args:
    side: the side to measure.
    what: a key of `WHAT`.
    workdir: name of a new folder, which is removed.
  """
  try:
    return WHAT[what](side, workdir)
  finally:
    shutil.rmtree(side.folder / workdir, ignore_errors=True)


WHAT: dict[str, Callable[[Side, str], Numbers]] = {
    'start': lambda side, workdir: side.run(workdir),
    'numpy': lambda side, workdir: side.run(
        workdir, '--config.data.backend=numpy'),
    '--help': lambda side, _: watch(
        side, ['-m', 'robertax.main', '--help'], codes=_HELP),
    '--config --help': lambda side, _: watch(
        side, ['-m', 'robertax.main', _CONFIG, '--help'], codes=_HELP),
    'load': lambda side, _: watch(
        side, ['-c', _LOAD, str(side.folder / 'warm' / 'w')]),
    'cold': lambda side, workdir: side.run(workdir, cold=True)}


def take_turns(sides: list[Side], what: list[str], rounds: int
               ) -> dict[str, list[list[float]]]:
  """Measures side after side, round after round.

  Args:
    sides: the sides in order.
    what: keys of `WHAT`.
    rounds: number of rounds.

  Returns:
    For each row of the table and each side, a number per round.
  """
  found: dict[str, list[list[float]]] = {}
  for number in range(rounds):
    for name in what:
      for place, side in enumerate(sides):
        numbers = one(side, name, f'{name}-{number}')
        for key, value in numbers.items():
          row = found.setdefault(f'{name}: {key}', [[] for _ in sides])
          row[place].append(value)
        print(f'round {number + 1}, {name}, {side.name}: ' + ', '.join(
            f'{key} {value:.2f}' for key, value in numbers.items()), flush=True)
  return found


def ratio(row: list[list[float]]) -> float:
  """The ratios ours / theirs of medians."""
  ours, theirs = map(statistics.median, row)
  return ours / theirs


def table(found: dict[str, list[list[float]]], sides: list[Side]
          ) -> Iterator[str]:
  """The table's lines: median, min and max of each side."""
  yield '  '.join(['median (min to max)'.ljust(28), *(
      side.name.rjust(31) for side in sides), 'ratio'.rjust(6)])
  for name, row in found.items():
    cells = [f'{statistics.median(x):9.2f} ({min(x):.2f} to {max(x):.2f})'
             for x in row]
    yield '  '.join([name.ljust(28), *(cell.rjust(31) for cell in cells),
                     f'{ratio(row):6.3f}'])


def summary(found: dict[str, list[list[float]]], repeats: int
            ) -> dict[str, float | None]:
  """The JSON object of the last line."""
  said = {name: round(ratio(found[row]), 4) if row in found else None
          for name, row in RATIOS.items()}
  mine = {name: round(statistics.median(found[row][0]), 3) for name, row in (
      ('help_seconds', '--help: s'),
      ('config_help_seconds', '--config --help: s'))}
  return said | mine | {'repeats': repeats}


@contextlib.contextmanager
def tree_of(commit: str, folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a git worktree of a commit.

  Args:
    commit: any name of the commit.
    folder: parent folder of the worktree.

  Raises:
    ValueError: there is no such commit here.
  """
  git = ('git', '-C', str(ROOT))
  named = subprocess.run(
      [*git, 'rev-parse', '--verify', '--quiet', '--end-of-options',
       f'{commit}^{{commit}}'], capture_output=True, text=True)
  if named.returncode:
    raise ValueError(f'--against={commit}: no commit of {ROOT}.')
  place = folder / 'tree'
  try:
    subprocess.run([*git, 'worktree', 'add', '--quiet', '--detach', str(place),
                    named.stdout.strip()], check=True)
    yield place
  finally:
    subprocess.run([*git, 'worktree', 'remove', '--force', str(place)],
                   capture_output=True)
    subprocess.run([*git, 'worktree', 'prune'], capture_output=True)


def compare(ours: pathlib.Path, theirs: pathlib.Path, folder: pathlib.Path,
            given: argparse.Namespace) -> dict[str, float | None]:
  """Measures two trees, and prints the table.

  Args:
    ours, theirs: the trees.
    folder: folder for runs.
    given: the arguments: repeats, cold, flags.
  """
  sides = [Side(name, tree, folder / name, tuple(given.flags))
           for name, tree in (('ours', ours), ('theirs', theirs))]
  for side in sides:
    print(f'{side.name}: {side.tree}: warming', flush=True)
    warm(side)
  found = take_turns(sides, [name for name in WHAT if name != 'cold'],
                     given.repeats)
  found |= take_turns(sides, ['cold'], given.cold)
  print('\n'.join(table(found, sides)))
  return summary(found, given.repeats)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  other = parser.add_mutually_exclusive_group(required=True)
  other.add_argument('--against', metavar='COMMIT')
  other.add_argument('--tree', type=pathlib.Path, metavar='DIR',
                     help='an existing tree instead of a commit')
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--cold', type=int, default=1,
                      help='cold starts of each side, which take minutes')
  parser.add_argument('flags', nargs='*',
                      help='flags of main for both, behind --')
  given = parser.parse_args(words)
  if given.repeats < 1 or given.cold < 0:
    parser.error('--repeats is at least 1, --cold at least 0')
  if given.tree and not (given.tree / 'robertax' / 'main.py').is_file():
    parser.error(f'--tree={given.tree}: there is no robertax/main.py')
  return given


def main(words: list[str] | None = None) -> None:
  given = arguments(words)
  # Without this, a worktree could stay behind.
  signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
  with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as s:
    folder = pathlib.Path(temporary)
    try:
      theirs = (given.tree.absolute() if given.tree else
                s.enter_context(tree_of(given.against, folder)))
    except ValueError as e:
      print(e, file=sys.stderr)
      sys.exit(2)
    print(json.dumps(compare(ROOT, theirs, folder, given)))


if __name__ == '__main__':
  main()
