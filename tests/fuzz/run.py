"""Fuzzing: damaged files to every reader, for as long as one likes.

  python -m tests.fuzz.run --minutes=2 [--readers=jsonl,squad] [--seed=0]

Each reader gets mutations of a sound example and may read them or raise an
InputError. Anything else is a finding: another error, more than SECONDS, more
memory than GROWTH, the end of the process. Findings stay in --out, a folder
each, with the files and what happened; the exit code is 1 if there is one.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

SECONDS = 10.0  # A sound example takes milliseconds.
GROWTH = 512 << 20  # Bytes of memory above what a sound example takes.
ADDRESSES = 8 << 30  # Bytes that may be asked for, if they are not written.


class Hang(BaseException):
  """No reader may catch it as an error of its own."""


def _hung(*unused):
  raise Hang


def child(name: str, folder: pathlib.Path, seconds: float, seed: int) -> dict:
  """Tries mutations of one reader's example until time is up.

  Args:
    name: a row of READERS.
    folder: the files of the case under way lie in it, whatever happens.
    seconds: how long.
    seed: case i is a function of (seed, i).

  Returns:
    {'cases', 'refused', 'finding'}; finding is '' or what went wrong.
  """
  from robertax.errors import InputError
  from tests.fuzz.mutation import mutate
  from tests.fuzz.readers import READERS
  reader = READERS[name]
  sound = reader.make()
  _write(folder, sound)
  reader.read(folder)  # Loads its modules; a sound example must be read.
  signal.signal(signal.SIGALRM, _hung)
  now = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  limit = now * resource.getpagesize() + ADDRESSES
  resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
  end, cases, refused = time.monotonic() + seconds, 0, 0
  most = _peak() + GROWTH
  while time.monotonic() < end:
    chance = random.Random(f'{seed}/{cases}')
    files = dict(sound)
    for file in chance.sample(sorted(files), chance.choice((1, 1, 1, 2))
                              if len(files) > 1 else 1):
      files[file] = mutate(files[file], chance)
    if chance.random() < 0.02:
      del files[chance.choice(sorted(files))]
    _write(folder, files)
    cases += 1
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
      reader.read(folder)
    except InputError:
      refused += 1
    except BaseException:
      signal.setitimer(signal.ITIMER_REAL, 0)
      return {'cases': cases, 'refused': refused,
              'finding': traceback.format_exc()}
    signal.setitimer(signal.ITIMER_REAL, 0)
    if _peak() > most:
      return {'cases': cases, 'refused': refused,
              'finding': f'took {_peak():,} bytes of memory'}
  return {'cases': cases, 'refused': refused, 'finding': ''}


def _peak() -> int:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _write(folder: pathlib.Path, files: dict[str, bytes]):
  for old in folder.iterdir():
    old.unlink()
  for name, content in files.items():
    (folder / name).write_bytes(content)


def fuzz(name: str, seconds: float, seed: int, out: pathlib.Path) -> dict:
  """Runs children until time is up: the one after a finding goes elsewhere.

  Returns:
    {'reader', 'cases', 'refused', 'findings'}: the last the folders in which
    findings lie.
  """
  end, cases, refused, findings = time.monotonic() + seconds, 0, 0, []
  while True:
    left = end - time.monotonic()
    if (cases and left < 1) or len(findings) == 5:
      break
    with tempfile.TemporaryDirectory() as room:
      folder = pathlib.Path(room) / 'case'
      folder.mkdir()
      said = pathlib.Path(room) / 'said.json'
      ended = subprocess.run(
          [sys.executable, '-c',
           'import json, pathlib, sys; from tests.fuzz.run import child; '
           'a = sys.argv; found = child(a[1], pathlib.Path(a[2]), float(a[3]), '
           'int(a[4])); pathlib.Path(a[5]).write_text(json.dumps(found))',
           name, str(folder), str(max(left, 1)), str(seed), str(said)],
          env=os.environ | {'JAX_PLATFORMS': 'cpu'}, capture_output=True,
          text=True, errors='replace', timeout=max(left, 1) + 300)
      seed += 1_000_003
      if said.exists():
        found = json.loads(said.read_text())
      else:  # It crashed, or its example is not sound.
        found = {'cases': 1, 'refused': 0, 'finding': (
            f'exit code {ended.returncode}\n{ended.stderr[-4000:]}')}
      cases += found['cases']
      refused += found['refused']
      if found['finding']:
        place = out / f'{name}-{len(findings)}'
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place)
        (place / 'what_happened.txt').write_text(found['finding'])
        findings.append(str(place))
  return {'reader': name, 'cases': cases, 'refused': refused,
          'findings': findings}


def main():
  from tests.fuzz.readers import READERS, missing
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--minutes', type=float, default=2.0, help='a reader')
  parser.add_argument('--readers', default=','.join(READERS))
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--out', default='runs/fuzz', type=pathlib.Path)
  options = parser.parse_args()
  options.out.mkdir(parents=True, exist_ok=True)
  total = 0
  for name in options.readers.split(','):
    if package := missing(name):
      print(f'{name}: not tried: {package} is not installed', flush=True)
      continue
    found = fuzz(name, 60 * options.minutes, options.seed, options.out)
    total += len(found['findings'])
    print(f'{name}: {found["cases"]:,} files, {found["refused"]:,} refused, '
          f'{len(found["findings"])} findings {" ".join(found["findings"])}',
          flush=True)
  sys.exit(1 if total else 0)


if __name__ == '__main__':
  main()
