"""The plan of the house (WORKSPACE.md): floors, libraries, sizes, front doors.

Who may import whom stands in pyproject.toml, as contracts of import-linter and
as ruff's banned imports; here they are seen to hold, and to break on purpose.
The rest is held by `ast`: a rule is a function from sources to complaints, and
the last tests show each rule a house that breaks it.
"""

import ast
from collections.abc import Iterator
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = dict(text=0, parallel=0, kernels=0, corpus=1, model=1, data=2,
             interop=2, tasks=3, train=4, inspection=5, studies=5, paper=7)
OUTSIDE = ('configs', 'launch', 'benchmarks', 'tests')
MAX_LINES = 700
LONGER = {'robertax/config.py': 900}
SHORTER = {'robertax/train/loop.py': 200, 'robertax/main.py': 70}
MAX_FUNCTION = 100
MAX_FILES, MAX_ALL_LINES = 122, 32_500
NAMELESS = ('utils', 'util', 'common', 'helpers', 'helper', 'base')
MAX_EXPORTS = 10
Sources = dict[str, str]


def house(sources: Sources) -> Sources:
  return {p: s for p, s in sources.items() if p.startswith('robertax/')}


def too_long(sources: Sources) -> Iterator[str]:
  for path, source in sources.items():
    lines = len(source.splitlines())
    most = (LONGER | SHORTER).get(path, MAX_LINES)
    if lines > most:
      yield f'{path}: {lines} lines, at most {most}: a second chapter?'
  for path, source in house(sources).items():
    for node in ast.walk(ast.parse(source)):
      if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
          node.end_lineno - node.lineno >= MAX_FUNCTION):
        yield f'{path}: {node.name} has more than {MAX_FUNCTION} lines'


def too_many(sources: Sources) -> Iterator[str]:
  rooms = house(sources)
  if len(rooms) > MAX_FILES:
    yield f'robertax/ has {len(rooms)} files, at most {MAX_FILES}'
  lines = sum(len(source.splitlines()) for source in rooms.values())
  if lines > MAX_ALL_LINES:
    yield f'robertax/ has {lines} lines, at most {MAX_ALL_LINES}'
  for path in rooms:
    if path.count('/') > 2:
      yield f'{path}: rooms are one level deep'


def nameless(sources: Sources) -> Iterator[str]:
  for path in sources:
    for part in path.removesuffix('.py').split('/'):
      if part.removesuffix('_test') in NAMELESS:
        yield f'{path}: {part!r} does not say what it knows'


def outside(sources: Sources) -> Iterator[str]:
  """Imports of what is no part of the package."""
  for path, source in house(sources).items():
    for node in ast.walk(ast.parse(source)):
      names = ([a.name for a in node.names] if isinstance(node, ast.Import)
               else [node.module or ''] if isinstance(node, ast.ImportFrom)
               else [])
      for name in names:
        if name.split('.')[0] in OUTSIDE:
          yield f'{path}:{node.lineno}: robertax imports nothing of {name}'


def front_doors(sources: Sources) -> Iterator[str]:
  """Rooms without a docstring that names the floor, or with a wide door."""
  rooms = {p.split('/')[1] for p in house(sources) if p.count('/') == 2}
  for room in sorted(rooms):
    path = f'robertax/{room}/__init__.py'
    if path not in sources:
      yield f'{path}: missing: every room has a front door'
      continue
    tree = ast.parse(sources[path])
    said = re.findall(r'\bfloor (\d)\b', ast.get_docstring(tree) or '', re.I)
    if said != [str(ROOMS.get(room))]:
      yield (f'{path}: its docstring says what the room knows and, once, '
             f'that it is on floor {ROOMS.get(room)}')
    exports = set()
    for node in ast.walk(tree):
      if isinstance(node, ast.ImportFrom) and (
          node.level or (node.module or '').startswith('robertax')):
        exports |= {a.asname or a.name for a in node.names}
    if len(exports) > MAX_EXPORTS:
      yield f'{path}: {len(exports)} re-exports, at most {MAX_EXPORTS}'


def named_later(sources: Sources) -> Iterator[str]:
  """Modules named in strings, as tables do, on a higher floor."""
  for path, source in house(sources).items():
    here = ROOMS.get(path.split('/')[1], 6)
    for node in ast.walk(ast.parse(source)):
      if isinstance(node, ast.Constant) and isinstance(node.value, str) and (
          found := re.fullmatch(r'robertax\.(\w+)\.\w+(:\w+)?', node.value)):
        if ROOMS.get(found[1], 0) > here:
          yield f'{path}:{node.lineno}: {node.value} is on a higher floor'


def front_of_house(sources: Sources) -> Iterator[str]:
  """The package itself imports nothing but what opens a model or a batch."""
  path = 'robertax/__init__.py'
  for node in ast.walk(ast.parse(sources[path])):
    names = ([a.name for a in node.names] if isinstance(node, ast.Import)
             else [node.module] if isinstance(node, ast.ImportFrom) else [])
    for name in names:
      if name != 'robertax.inspection':
        yield f'{path}:{node.lineno}: imports {name}'


RULES = (too_long, too_many, nameless, outside, front_doors, named_later,
         front_of_house)


@functools.cache
def read_sources() -> Sources:
  return {str(path.relative_to(ROOT)): path.read_text()
          for folder in ('robertax', *OUTSIDE)
          for path in sorted((ROOT / folder).rglob('*.py'))}


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule):
  sources = read_sources()
  assert 'robertax/__init__.py' in sources
  complaints = sorted(set(rule(sources)))
  assert not complaints, '\n' + '\n'.join(complaints)


TEXT = 'robertax/text/x.py'
DOOR = '"""Strings and ids. Floor 0."""\n'
SOUND = {
    'robertax/__init__.py': 'from robertax.inspection import load',
    'robertax/main.py': 'from robertax import flags',
    'robertax/text/__init__.py': DOOR + 'from robertax.text.x import y',
    TEXT: 'from robertax import errors\ndef f():\n  import numpy',
    'configs/roberta_base.py': 'import ml_collections',
}
BROKEN = [
    (too_long, TEXT, '\n' * 701),
    (too_long, TEXT, 'def f():\n' + '  x = 1\n' * 101),
    (too_long, 'robertax/config.py', '\n' * 901),
    (too_long, 'robertax/train/loop.py', '\n' * 201),
    (too_long, 'robertax/main.py', '\n' * 71),
    (too_long, 'tests/x_test.py', '\n' * 701),
    (too_many, 'robertax/text/deep/x.py', ''),
    (too_many, TEXT, '\n' * 32_501),
    (nameless, 'robertax/text/utils.py', ''),
    (nameless, 'configs/common.py', ''),
    (nameless, 'tests/helpers/x.py', ''),
    (named_later, TEXT, "x = 'robertax.corpus.readers:txt'"),
    (named_later, TEXT, "import_module('robertax.paper.run')"),
    (front_of_house, 'robertax/__init__.py', 'from robertax import paper'),
    (front_of_house, 'robertax/__init__.py', 'def f():\n  import tensorflow'),
    (outside, TEXT, 'import configs.quickstart'),
    (outside, TEXT, 'def f():\n  from benchmarks import same'),
    (front_doors, 'robertax/text/__init__.py', '"""Strings and ids."""'),
    (front_doors, 'robertax/text/__init__.py', '"""Strings. Floor 1."""'),
    (front_doors, 'robertax/tasks/x.py', ''),
    (front_doors, 'robertax/text/__init__.py',
     DOOR + 'from .x import a, b, c, d, e, f, g, h, i, j, k'),
]


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_a_sound_house_passes(rule):
  assert not list(rule(SOUND))


@pytest.mark.parametrize(
    'rule, path, source', BROKEN,
    ids=[f'{rule.__name__}-{i}' for i, (rule, _, _) in enumerate(BROKEN)])
def test_a_broken_house_is_caught(rule, path, source):
  assert list(rule(SOUND | {path: source}))


# Contracts: one line that breaks each, added to the file that is named.
CONTRACTS = {
    'A room imports only from lower floors':
        ('robertax/text/tokenizer.py', 'import robertax.corpus.documents'),
    'No circle, in any room':
        ('robertax/corpus/blocks.py', 'import robertax.corpus.preparation'),
    'Only model/ imports flax':
        ('robertax/train/step.py', 'import flax'),
    'Only train/checkpoint.py imports orbax':
        ('robertax/train/loop.py', 'import orbax.checkpoint'),
    'Only corpus/ and data/ read with tensorflow, TFDS, array_record and Beam':
        ('robertax/tasks/glue.py', 'import tensorflow'),
}
# Each of these lines, in a file of the room, is one complaint of ruff's.
BANNED = {
    'robertax/train/loop.py': ['import flax', 'import orbax.checkpoint',
                               'import tensorflow', 'import matplotlib'],
    'robertax/data/pipeline.py': ['import tensorflow'],
    'robertax/model/heads.py': ['import torch'],
}


def lint(folder) -> tuple[int, str]:
  """import-linter's exit code and words on the package of a folder."""
  done = subprocess.run(
      [sys.executable, '-c', 'from importlinter.cli import lint_imports_command'
       '; lint_imports_command()', '--no-cache', '--no-logo'], cwd=folder,
      env=os.environ | {'PYTHONPATH': str(folder), 'COLUMNS': '200'},
      capture_output=True, text=True, timeout=200)
  return done.returncode, done.stdout + done.stderr


def copied(tmp_path):
  shutil.copytree(ROOT / 'robertax', tmp_path / 'robertax',
                  ignore=shutil.ignore_patterns('__pycache__'))
  shutil.copy(ROOT / 'pyproject.toml', tmp_path)
  return tmp_path


def test_the_contracts_are_kept():
  code, words = lint(ROOT)
  assert code == 0, words


def test_each_contract_breaks_on_purpose(tmp_path):
  folder = copied(tmp_path)
  declared = tomllib.loads((ROOT / 'pyproject.toml').read_text())
  assert {c['name'] for c in declared['tool']['importlinter']['contracts']
          } == set(CONTRACTS)
  for path, line in CONTRACTS.values():
    with open(folder / path, 'a') as f:
      f.write(f'\n{line}\n')
  code, words = lint(folder)
  assert code == 1
  for name in CONTRACTS:
    assert re.search(rf'{re.escape(name)}\s+BROKEN', words), words


def test_ruff_bans_what_is_planned(tmp_path):
  folder = copied(tmp_path)
  for path, lines in BANNED.items():
    with open(folder / path, 'a') as f:
      f.writelines(f'{line}\n' for line in lines)
  done = subprocess.run(
      [sys.executable, '-m', 'ruff', 'check', '--no-cache', '--select',
       'TID251,TID253', '--output-format', 'json', 'robertax'], cwd=folder,
      capture_output=True, text=True, timeout=60)
  found = [os.path.relpath(c['filename'], folder)
           for c in json.loads(done.stdout)]
  assert sorted(found) == sorted(
      path for path, lines in BANNED.items() for _ in lines)
