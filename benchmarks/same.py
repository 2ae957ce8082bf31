"""Compares two builds: `python -m benchmarks.same --against=COMMIT`

Runs this tree, with uncommitted changes, and a commit's tree side by side, and
compares the results bit for bit. Use it for changes that must not change any
result, such as moving code between modules.

  config   every key with its default, every config file with its arguments
  records  records, manifests, tokenizers, stores of tokens, surveys
  batches  orders, masks and batches of all tasks, by both backends
  losses   ten steps of each family of configs: the whole workdir
  resume   runs that one build starts and the other, after a stop, finishes
  doors    help, exit codes and messages, exports, reports, scores, sweeps

--only=records,batches runs only these parts and those that they need,
--cases=NAME,.. single cases, and --slow also those that take minutes (the
embedded text). --tree=DIR takes that tree instead of the commit's, and
--keep=DIR keeps the results.
Times, dates and folders are masked (same_diff); everything else must be equal.
If there are two cores, each side has one, because sums depend on the number of
cores. The two sides share compiled programs.

It prints a line per case: OK, DIFFERS with the difference, or BROKEN if neither
side did what it should; then this tool or both trees are wrong, and nothing was
compared. The last line is JSON: `same`, `differences`, `errors`, `compared`
(number of comparisons), `seconds`, `cpu_seconds` (of both sides). Exit code 0:
the same; 1: different, or something is broken; 2: wrong input.
"""

import argparse
from collections.abc import Iterator
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from benchmarks import same_data, same_diff
from benchmarks.same_cases import (
    PARTS,
    XLA_FLAGS,
    Case,
    Table,
    chosen,
    rounds,
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROBE = pathlib.Path(__file__).resolve().with_name('same_probe.py')
# Files and folders of a tree that commands name from its root.
LINKED = ('robertax', 'configs')
NAMES = ('before', 'now')
MOST = 20  # Sentences on a thing; the rest is counted.


class Wrong(Exception):
  """Wrong input, explained in one line."""


class Side:
  """One of the two trees, with a folder of its own.

  Attributes:
    folder: folder of all its files.
    tree: the tree.
    results: name -> result of a job, of same_probe.
  """

  def __init__(self, name: str, tree: pathlib.Path, scratch: pathlib.Path,
               core: int | None):
    """Starts the side's server, which takes a while to be ready.

    Args:
      name: name of its folder.
      tree: folder with `robertax` and `configs`.
      scratch: parent folder of both sides.
      core: the only core to use; None: the system cannot bind processes.
    """
    self.folder, self.tree = scratch / name, tree.resolve()
    self.results: dict[str, dict[str, Any]] = {}
    self.folder.mkdir()
    # The working directory links to a tree's files: so file names are equal
    # on both sides, and nothing is written into a tree.
    for link in LINKED:
      (self.folder / link).symlink_to(self.tree / link)
    self._errors = open(self.folder / 'server.txt', 'w')
    self._server = subprocess.Popen(
        [sys.executable, '-P', str(PROBE)], cwd=self.folder, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        env=environment(self.folder, scratch), preexec_fn=None if core is None
        else lambda: os.sched_setaffinity(0, {core}))
    self._ready = False

  def check(self):
    """Waits until the server is ready.

    Raises:
      RuntimeError: the server imports another tree.
    """
    if not self._ready:
      found = self._answer()['robertax']
      if not pathlib.Path(found).is_relative_to(self.tree):
        raise RuntimeError(f'{self.folder.name} imports {found}, not '
                           f'{self.tree}/robertax')
      self._ready = True

  def run(self, case: Case):
    """Runs a job, and puts its result into `results`."""
    self.check()
    self._server.stdin.write(json.dumps(case.job()) + '\n')
    self._server.stdin.flush()
    self.results[case.name] = self._answer()

  def _answer(self) -> dict[str, Any]:
    line = self._server.stdout.readline()
    if not line:
      self._errors.flush()
      said = (self.folder / 'server.txt').read_text()[-2000:]
      raise RuntimeError(f'the process of {self.folder.name} ended: {said}')
    return json.loads(line)

  def said(self, name: str, stream: str) -> str:
    """The output of a job: `out` or `err`."""
    path = self.folder / 'said' / f'{name}.{stream}'
    return path.read_text(errors='backslashreplace') if path.exists() else ''

  def close(self):
    """Ends the server and its jobs."""
    with contextlib.suppress(BrokenPipeError):
      self._server.stdin.close()
    self._server.terminate()
    self._server.wait()
    self._server.stdout.close()
    self._errors.close()


def environment(folder: pathlib.Path, scratch: pathlib.Path) -> dict[str, str]:
  """A server's environment: one CPU device, single threads, its own home."""
  kept = {key: value for key, value in os.environ.items()
          if not key.startswith(('JAX_', 'XLA_', 'TF_', 'TFDS_', 'SLURM_',
                                 'PYTHON', 'ROBERTAX_'))}
  return kept | {
      'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': XLA_FLAGS,
      'JAX_COMPILATION_CACHE_DIR': str(scratch / 'compiled'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
      'TF_CPP_MIN_LOG_LEVEL': '3', 'TF_ENABLE_ONEDNN_OPTS': '0',
      'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1',
      'TOKENIZERS_PARALLELISM': 'false', 'PYTHONHASHSEED': '0',
      'PYTHONPATH': str(folder), 'PYTHONDONTWRITEBYTECODE': '',
      'HOME': str(folder / 'home'), 'XDG_CACHE_HOME': str(folder / 'home'),
      # matplotlib's list of fonts takes ten seconds to make.
      'MPLCONFIGDIR': os.environ.get('MPLCONFIGDIR') or os.path.join(
          os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'),
          'matplotlib'), 'MPLBACKEND': 'agg', 'COLUMNS': '80', 'NO_COLOR': '1'}


@dataclasses.dataclass
class Found:
  """The results of all comparisons.

  Attributes:
    differences: sentences, each with the name of its case.
    errors: sentences on the cases that could not be compared.
    compared: number of cases.
    cpu_seconds: processor time of both sides.
  """
  differences: list[str] = dataclasses.field(default_factory=list)
  errors: list[str] = dataclasses.field(default_factory=list)
  compared: int = 0
  cpu_seconds: float = 0.0

  def add(self, case: Case, wrong: list[str], broken: str, note: str):
    """Prints the line of a case, and counts it."""
    name = f'{case.part} {case.name}'
    if broken:
      self.errors.append(f'{name}: {broken}')
      print(f'BROKEN   {name}: {broken}', flush=True)
      return
    self.compared += 1
    if len(wrong) > MOST:
      wrong = [*wrong[:MOST], f'and {len(wrong) - MOST} more']
    self.differences += [f'{name}: {said}' for said in wrong]
    print(f'{"DIFFERS " if wrong else "OK      "} {name} ({note})'
          + ''.join(f'\n           {said}' for said in wrong), flush=True)


def compare(case: Case, sides: list[Side]) -> tuple[list[str], str, str]:
  """Compares the results of both sides for a case.

  Returns:
    (sentences on what differs; why it was not compared, or ''; a note for the
    printed line).
  """
  results = [side.results[case.name] for side in sides]
  codes = [result['code'] for result in results]
  note = (' and '.join(f'{result["cpu"]:.1f}' for result in results)
          + ' s of CPU')
  if all(code != case.code for code in codes):
    last = sides[1].said(case.name, 'err').strip().split('\n')[-6:]
    return [], (f'ended with {codes[0]} and {codes[1]}, should be {case.code}'
                f'{", too late" if results[1]["late"] else ""}: '
                + ' | '.join(last)), note
  if codes[0] != codes[1]:
    lines = sides[codes[0] == case.code].said(case.name, 'err')
    return [f'exit code {codes[0]}, now {codes[1]}: '
            + ' | '.join(lines.strip().split('\n')[-3:])], '', note
  wrong = []
  folders = [[str(side.folder), str(side.tree)] for side in sides]
  for stream in ('out', 'err'):
    wrong += [f'std{stream}, {said}' for said in same_diff.unlike_lines(*(
        same_diff.masked_words(side.said(case.name, stream), names, case.hashed)
        for side, names in zip(sides, folders)))]
  files = list(case.files)
  if case.call:
    files += [f'probe/{name}' for name in (f'{case.name}.json',
                                           f'{case.name}.npz')
              if any((s.folder / 'probe' / name).exists() for s in sides)]
  total = 0
  for name in files:
    said, count = same_diff.unlike_folders(
        *(side.folder / name for side in sides), case.hashed)
    wrong += [f'{name} {line}' for line in said]
    total += count
  if files and not total and not wrong:
    return [], f'nothing in {", ".join(files)} to compare', note
  if case.like:
    for side, name in zip(sides, NAMES):
      wrong += [f'{name}: resumed is not undisturbed: {said}' for said in
                unlike_runs(*(side.folder / w for w in case.like))]
  return wrong, '', note + (f', {total} files' if total else '')


def unlike_runs(one: pathlib.Path, other: pathlib.Path) -> list[str]:
  """Says where two runs differ in what they learned, in sentences."""
  wrong = []
  names = ['metrics.jsonl', *(
      path.relative_to(other).as_posix()
      for pattern in ('results.json', 'predictions*', 'checkpoints/10/facts/*',
                      'best/*/facts/*')
      for path in sorted(other.glob(pattern)) if path.name != 'checkpoints')]
  for name in names:
    if not (one / name).exists():
      wrong.append(f'{name} is gone')
    elif not name.endswith('success.txt'):
      wrong += same_diff.unlike_files(name, other / name, one / name)
  return wrong


def carry(cases: list[Case], sides: list[Side]):
  """Exchanges results between the sides, before a round."""
  for case in cases:
    for source, target in case.swap:
      for side, there in zip(sides, reversed(sides)):
        if (there.folder / source).exists():
          shutil.copytree(there.folder / source, side.folder / target)
    for source, target in case.share:
      for side in sides:
        if (sides[0].folder / source).exists():
          shutil.copytree(sides[0].folder / source, side.folder / target,
                          dirs_exist_ok=True)


def turned(cases: list[Case]) -> list[Case]:
  """Reverses each part, but keeps cases behind those that they need.

  The two sides then seldom compile the same program at the same time, and each
  finds half of its programs compiled by the other.
  """
  found: dict[str, Case] = {}
  known = {case.name: case for case in cases}

  def take(case):
    for name in case.needs:
      if name in known and name not in found:
        take(known[name])
    found[case.name] = case

  for part in dict.fromkeys(case.part for case in cases):
    for case in reversed(cases):
      if case.part == part and case.name not in found:
        take(case)
  return list(found.values())


def work(cases: list[Case], sides: list[Side], found: Found):
  """Runs a round on both sides at once, and compares each finished case."""
  carry(cases, sides)
  news = threading.Condition()
  failed: list[BaseException] = []

  def live(side, row):
    try:
      for case in row:
        side.run(case)
        with news:
          news.notify()
    except BaseException as e:
      with news:
        failed.append(e)
        news.notify()

  threads = [threading.Thread(target=live, args=args, daemon=True)
             for args in zip(sides, (cases, turned(cases)))]
  for thread in threads:
    thread.start()
  left = list(cases)
  while left:
    with news:
      ready = [case for case in left
               if all(case.name in side.results for side in sides)]
      if not ready:
        if failed:
          raise failed[0]
        news.wait(1)
        continue
    for case in ready:
      found.add(case, *compare(case, sides))
      left.remove(case)
  for thread in threads:
    thread.join()


@contextlib.contextmanager
def tree_of(commit: str, scratch: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes a worktree of a commit, and removes it at the end.

  Raises:
    Wrong: there is no such commit.
  """
  git = ['git', '-C', str(ROOT)]
  folder = scratch / 'tree'
  made = subprocess.run(
      [*git, 'worktree', 'add', '--detach', str(folder), commit],
      capture_output=True, text=True)
  if made.returncode:
    said = made.stderr.strip().split('\n')
    raise Wrong(f'--against={commit}: {said[-1]}')
  try:
    yield folder
  finally:
    subprocess.run([*git, 'worktree', 'remove', '--force', str(folder)],
                   capture_output=True)


def cores() -> tuple[int | None, int | None]:
  """A core for each side; the same one if there is only one."""
  if not hasattr(os, 'sched_getaffinity'):
    return None, None
  free = sorted(os.sched_getaffinity(0))
  return free[0], free[-1]


def configs_of(*trees: pathlib.Path) -> list[str]:
  """Config files of any of the trees."""
  return sorted({path.relative_to(tree).as_posix() for tree in trees
                 for path in tree.glob('configs/**/*.py')})


def same(tree: pathlib.Path, now: pathlib.Path, parts: list[str],
         scratch: pathlib.Path, names: list[str] | None = None,
         slow: bool = False) -> Found:
  """Compares two trees.

  Args:
    tree: the tree to compare with.
    now: the tree in question.
    parts: names in PARTS.
    scratch: an empty folder.
    names: run only these cases and those that they need; None: all.
    slow: whether to run slow cases too.
  """
  # Both read the same files, because fingerprints contain paths.
  same_data.write(scratch / 'made')
  cases = Table(scratch / 'made').cases(configs_of(tree, now))
  if names is None:
    cases = chosen(cases, parts, slow)
  else:
    unknown = set(names) - {case.name for case in cases}
    if unknown:
      raise Wrong(f'--cases: unknown {", ".join(sorted(unknown))}')
    kept = {case.name: case.part for case in cases}
    cases = [dataclasses.replace(case, part=kept[case.name])
             for case in chosen([dataclasses.replace(case, part='named')
                                 if case.name in names else case
                                 for case in cases], ['named'], slow=True)]
  found, sides = Found(), []
  try:
    for name, folder, core in zip(NAMES, (tree, now), cores()):
      sides.append(Side(name, folder, scratch, core))
    for side in sides:
      side.check()
    for group in rounds(cases):
      work(group, sides, found)
    found.cpu_seconds = sum(result['cpu'] for side in sides
                            for result in side.results.values())
  finally:
    for side in sides:
      side.close()
  return found


def main(given: list[str] | None = None) -> int:
  """Returns 0 (the same), 1 (different or broken) or 2 (wrong input)."""
  signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--against', default='', help='a commit')
  parser.add_argument('--tree', default='', help='an existing tree instead')
  parser.add_argument('--only', default=','.join(PARTS), help='parts')
  parser.add_argument('--cases', default='', help='names of some cases')
  parser.add_argument('--slow', action='store_true')
  parser.add_argument('--keep', default='', help='a new folder for results')
  options = parser.parse_args(given)
  begin = time.monotonic()
  parts = [part for part in options.only.split(',') if part]
  try:
    unknown = sorted(set(parts) - set(PARTS))
    if unknown or not parts:
      raise Wrong(f'--only={options.only}: known are {", ".join(PARTS)}')
    if not options.against and not options.tree:
      raise Wrong('--against=COMMIT is needed, or --tree=DIR')
    if options.tree and not (
        pathlib.Path(options.tree) / 'robertax' / '__init__.py').exists():
      raise Wrong(f'--tree={options.tree}: no robertax in it')
    if options.keep and pathlib.Path(options.keep).exists():
      raise Wrong(f'--keep={options.keep} is there already')
    with contextlib.ExitStack() as stack:
      if options.keep:
        scratch = pathlib.Path(options.keep).resolve()
        scratch.mkdir(parents=True)
      else:
        scratch = pathlib.Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix='same-'))).resolve()
      tree = (pathlib.Path(options.tree) if options.tree else
              stack.enter_context(tree_of(options.against, scratch)))
      found = same(tree, ROOT, parts, scratch,
                   options.cases.split(',') if options.cases else None,
                   options.slow)
  except Wrong as e:
    print(f'benchmarks.same: error: {e}', file=sys.stderr)
    return 2
  ended = not (found.differences or found.errors) and found.compared > 0
  print(json.dumps({
      'same': ended, 'differences': found.differences, 'errors': found.errors,
      'compared': found.compared,
      'seconds': round(time.monotonic() - begin, 1),
      'cpu_seconds': round(found.cpu_seconds, 1)}))
  return 0 if ended else 1


if __name__ == '__main__':
  sys.exit(main())
