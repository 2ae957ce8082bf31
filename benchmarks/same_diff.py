"""Compares the results of two runs, for benchmarks.same.

Everything must be equal, byte for byte, except times, dates and folders, which
are masked by name (`is_time`, `masked_words`). A difference is a sentence: it
names the file, the key or array, and the first two values that differ.
"""

from collections.abc import Callable, Iterable
import hashlib
import json
import pathlib
import re
from typing import Any
import zipfile

import numpy as np

SHOWN = 3  # Differences of one file that are told; the rest is counted.
LONGEST = 160  # Characters of a value that are told.
TIMES = {'seconds', 'time', 'date', 'tokens_per_second', 'goodput', 'mfu',
         'minutes', 'stages', 'made', 'created'}
# Logs of C++ libraries contain times and thread numbers. A program that another
# process is just writing into the compile cache is compiled again.
_NOISE = re.compile(
    r'^([EWI]\d{4} |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|WARNING: All log|'
    r'.*persistent compilation cache|\s+warnings\.warn\()')
_NUMBER = r'\d[\d,]*(?:\.\d+)?'
_DURATION = re.compile(
    rf'{_NUMBER} ?(?:seconds?|minutes?|hours?|days?|s|ms|tokens/s|\w?B/s)\b'
    r'|\b\d\d:\d\d(?::\d\d)?\b')
_STAGE = re.compile(
    rf'\b(reading|splitting|tokenizing|packing|writing) {_NUMBER}')
_BAR = re.compile(r': +\d+%\|')
# Hashes that depend on a side's own folder, as in names of runs and records.
_HASH = re.compile(r'(?<=-)[0-9a-f]{8}(?:[0-9a-f]{8})?\b')
_STEP = re.compile(r'^step \d+/\d+, ')


def is_time(path: tuple[str, ...]) -> bool:
  """Whether a key of JSON holds a time.

  >>> is_time(('train/step_seconds',)), is_time(('stages', 'reading'))
  (True, True)
  >>> is_time(('train/loss',))
  False
  """
  last = [part.rpartition('/')[2] for part in path]
  return any(part in TIMES or part.endswith('_seconds') for part in last)


def masked_words(text: str, folders: Iterable[str] = (), hashed: bool = False
                 ) -> list[str]:
  """Masks times and folders in a command's output.

  Of progress lines only the last is kept.

  Args:
    text: stdout or stderr.
    folders: paths that become <folder>.
    hashed: mask hashes in names too.
  """
  if hashed:
    text = _HASH.sub('<hash>', text)
  for folder in sorted(folders, key=len, reverse=True):
    text = text.replace(folder, '<folder>')
  lines = [line.rpartition('\r')[2] for line in text.split('\n')]
  found: list[str] = []
  for line in lines:
    if _NOISE.match(line) or _BAR.search(line):
      continue
    if _STEP.match(line) and found and _STEP.match(found[-1]):
      found.pop()
    if line.startswith('goodput '):
      line = re.sub(_NUMBER, '<n>', line)
    line = _STAGE.sub(r'\1 <n>', _DURATION.sub('<time>', line))
    found.append(line)
  return found


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[str, str]:
  """Maps the path of each JSON value to its text, with times masked.

  >>> leaves({'a': [1, {'seconds': 2.5}]})
  {'a 0': '1', 'a 1 seconds': '<time>'}
  """
  if is_time(path):
    return {' '.join(path): '<time>'}
  if isinstance(value, dict):
    items = value.items()
  elif isinstance(value, list):
    items = enumerate(value)
  else:
    return {' '.join(path): repr(value)}
  found = {} if value else {' '.join(path): repr(value)}
  for key, part in items:
    found |= leaves(part, (*path, str(key)))
  return found


def unlike(a: dict[str, str], b: dict[str, str]) -> list[str]:
  """Says where two flat dicts differ, in at most SHOWN sentences."""
  keys = [key for key in [*a, *(key for key in b if key not in a)]
          if a.get(key) != b.get(key)]
  # Missing and new keys say more than a changed number.
  keys.sort(key=lambda key: key in a and key in b)
  wrong = [f'{key}: {_short(a.get(key))}, now {_short(b.get(key))}'
           for key in keys]
  if not wrong and list(a) != list(b):
    wrong.append('the order of its keys')
  return _few(wrong)


def _short(value: str | None) -> str:
  if value is None:
    return 'nothing'
  return value if len(value) <= LONGEST else f'{value[:LONGEST]}...'


def _few(wrong: list[str]) -> list[str]:
  more = len(wrong) - SHOWN
  return wrong[:SHOWN] + ([f'and {more} more'] if more > 0 else [])


def unlike_lines(a: list[str], b: list[str]) -> list[str]:
  """Says which line differs first."""
  for number, (x, y) in enumerate(zip(a, b), 1):
    if x != y:
      return [f'line {number}: {_short(repr(x))}, now {_short(repr(y))}']
  if len(a) != len(b):
    longer, what = (a, 'gone') if len(a) > len(b) else (b, 'new')
    return [f'line {min(len(a), len(b)) + 1} is {what}: '
            f'{_short(repr(longer[min(len(a), len(b))]))}']
  return []


def unlike_arrays(a: dict[str, np.ndarray], b: dict[str, np.ndarray]
                  ) -> list[str]:
  """Says which arrays differ in type or bytes, in sentences."""
  wrong = []
  for key in [*a, *(key for key in b if key not in a)]:
    if key not in a or key not in b:
      wrong.append(f'{key} is {"new" if key in b else "gone"}')
      continue
    x, y = a[key], b[key]
    kinds = [f'{z.dtype}{list(z.shape)}' for z in (x, y)]
    if kinds[0] != kinds[1]:
      wrong.append(f'{key}: {kinds[0]}, now {kinds[1]}')
    elif x.tobytes() != y.tobytes():
      bits = [z.reshape(z.size, -1)[:, 0] if z.size else z for z in (x, y)]
      places = [i for i in range(x.size)
                if bits[0][i].tobytes() != bits[1][i].tobytes()]
      at = np.unravel_index(places[0], x.shape)
      wrong.append(f'{key}: {len(places)} of {x.size} values, first at '
                   f'{[int(i) for i in at]}: {x[at]!r}, now {y[at]!r}')
  return _few(wrong)


def unlike_bytes(a: bytes, b: bytes) -> list[str]:
  """Says which byte differs first."""
  if a == b:
    return []
  size = min(len(a), len(b))
  at = next((i for i in range(size) if a[i] != b[i]), size)
  hashes = [hashlib.sha256(x).hexdigest()[:12] for x in (a, b)]
  return [f'{len(a)} bytes, now {len(b)}; byte {at} is the first that differs; '
          f'sha256 {hashes[0]}, now {hashes[1]}']


def _json(name: str, a: pathlib.Path, b: pathlib.Path) -> list[str]:
  values = [json.loads(path.read_text()) for path in (a, b)]
  if name.endswith('manifest.json'):
    for value in values:  # Its own, of all of it, seconds included.
      value.pop('sha256', None)
  return unlike(*map(leaves, values))


def _json_lines(name: str, a: pathlib.Path, b: pathlib.Path) -> list[str]:
  del name
  rows = []
  for path in (a, b):
    found = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
      value = json.loads(line)
      step = value.get('step') if isinstance(value, dict) else None
      found |= leaves(value, (f'line {number}' if step is None else
                              f'line {number}, step {step},',))
    rows.append(found)
  return unlike(*rows)


def _npz(name: str, a: pathlib.Path, b: pathlib.Path) -> list[str]:
  del name
  with np.load(a) as x, np.load(b) as y:
    return unlike_arrays(dict(x), dict(y))


def _zip(name: str, a: pathlib.Path, b: pathlib.Path) -> list[str]:
  del name
  wrong = []
  with zipfile.ZipFile(a) as x, zipfile.ZipFile(b) as y:
    if x.namelist() != y.namelist():
      return [f'{x.namelist()}, now {y.namelist()}']
    for member in x.namelist():
      wrong += [f'{member}: {said}' for said in unlike_bytes(
          x.read(member), y.read(member))]
  return wrong


def _tensors(name: str, a: pathlib.Path, b: pathlib.Path) -> list[str]:
  del name
  wrong, found = [], []
  for path in (a, b):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], 'little')
    head = json.loads(data[8:start])
    found.append({key: (value, data[start:][slice(*value['data_offsets'])]
                        if 'data_offsets' in value else b'')
                  for key, value in head.items()})
  x, y = found
  for key in [*x, *(key for key in y if key not in x)]:
    if x.get(key) != y.get(key):
      wrong.append(key)
  return [f'tensors that differ: {", ".join(wrong[:SHOWN])}; {len(wrong)} of '
          f'{len(x)}'] if wrong else unlike_bytes(
              a.read_bytes(), b.read_bytes())


def _text(name: str, a: pathlib.Path, b: pathlib.Path) -> list[str]:
  del name
  return unlike_lines(*(_without_drawings(path.read_text(
      errors='backslashreplace')).split('\n') for path in (a, b)))


def _without_drawings(text: str) -> str:
  """Reduces each <svg> to its label, which names the curves and their ends.

  A library draws them, and its versions may draw differently.
  """
  return re.sub(r'<svg\b(?:[^>]*?aria-label="([^"]*)")?[^>]*>.*?</svg>',
                r'<svg>\1</svg>', text, flags=re.DOTALL)


def _nothing(name: str, a: pathlib.Path, b: pathlib.Path) -> list[str]:
  del name, a, b
  return []


# The first row that matches a name counts; if none does, bytes are compared.
KINDS: list[tuple[str, Callable[..., list[str]]]] = [
    # A run's page has the last loss, and times.
    (r'(^|/)(events\.out\.tfevents|\.lock)', _nothing),
    # facts/metadata has checksums of arrays; the other names are random.
    (r'(^|/)(checkpoints|best)/[^/]+/facts/metadata$', _json),
    (r'(^|/)(checkpoints|best)/', _nothing),
    # Its curves depend on times; out/*.html use files that both sides have.
    (r'(^|/)report\.html$', _nothing),
    (r'\.jsonl$', _json_lines), (r'\.json$', _json), (r'\.npz$', _npz),
    (r'\.zip$', _zip), (r'\.safetensors$', _tensors),
    (r'\.(txt|md|tsv|csv|html)$', _text)]


def unlike_files(name: str, a: pathlib.Path, b: pathlib.Path,
                 hashed: bool = False) -> list[str]:
  """Says where two files differ, in sentences.

  Args:
    name: the name decides what may differ (KINDS).
    a, b: the paths.
    hashed: whether hashes in names may differ, in text files.
  """
  if a.read_bytes() == b.read_bytes() or hashed and (
      _HASH.sub('', a.read_text()) == _HASH.sub('', b.read_text())):
    return []
  for pattern, function in KINDS:
    if re.search(pattern, name):
      try:
        return [f'{name}: {said}' for said in function(name, a, b)]
      except (ValueError, KeyError, zipfile.BadZipFile):
        break  # Not what its name says: as bytes, then.
  return [f'{name}: {said}' for said in unlike_bytes(
      a.read_bytes(), b.read_bytes())]


def listing(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Maps names to the files of a folder and all below it, or to one file.

  Random parts and times in names are cut, as in checkpoints and event files.
  """
  if folder.is_file():
    return {folder.name: [folder]}
  found: dict[str, list[pathlib.Path]] = {}
  # Files at the top come first: a run's metrics before its checkpoints.
  for path in sorted(folder.rglob('*'), key=lambda p: (len(p.parts), p)):
    if path.is_dir():
      continue
    name = path.relative_to(folder).as_posix()
    name = re.sub(r'(events\.out\.tfevents)\..*', r'\1.*', name)
    if not name.endswith('facts/metadata'):
      name = re.sub(r'((?:^|/)(?:checkpoints|best)/[^/]+/[^/]+)/.*', r'\1/*',
                    name)
    found.setdefault(name, []).append(path)
  return found


def unlike_folders(a: pathlib.Path, b: pathlib.Path, hashed: bool = False
                   ) -> tuple[list[str], int]:
  """Says where two folders differ, and counts the compared files.

  Args:
    a, b: folders, or files.
    hashed: as for `unlike_files`.
  """
  if not a.exists() or not b.exists():
    gone = [str(path) for path in (a, b) if not path.exists()]
    return [f'{" and ".join(gone)}: not there'], 0
  one, other = listing(a), listing(b)
  wrong = []
  for name in [*one, *(name for name in other if name not in one)]:
    if name not in other or name not in one:
      wrong.append(f'{name} is {"new" if name in other else "gone"}')
    elif name.endswith('*'):
      continue  # As many as there happen to be.
    else:
      wrong += unlike_files(name, one[name][0], other[name][0], hashed)
  return wrong, len(one)
