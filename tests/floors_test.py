"""The plan of the house, held by `ast`: nothing of robertax is imported.

The plan is WORKSPACE.md's. Each rule is a function from sources,
{'robertax/text/x.py': its text}, to complaints, so that the last tests can
show each rule a house that breaks it.
"""

import ast
from collections.abc import Iterator
import dataclasses
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

ROOMS = dict(text=0, parallel=0, kernels=0, corpus=1, model=1, data=2,
             interop=2, tasks=3, train=4, inspection=5, studies=5, paper=7)
DOORS = ('main', 'prepare', 'convert', 'aot', 'score', 'sweep',
         'report')  # floor 6
# Modules beside the rooms or doors of a floor, open to these too.
BESIDE = {'errors': 0, 'config': 0, 'tables': 0, 'progress': 0, 'sections': 0,
          'files': 0, 'flags': 6}
# What these import of each other.
AMONG = {('config', 'errors'), ('sections', 'errors'), ('files', 'errors'),
         ('sections', 'config')}
FLOORS = ROOMS | dict.fromkeys(DOORS, 6) | BESIDE
OUTSIDE = ('configs', 'launch', 'benchmarks', 'tests')

# Who may import what, as the beginnings of paths.
ONLY = {
    'flax': ('robertax/model/',),
    'orbax': ('robertax/train/checkpoint.py',),
    'tensorflow': ('robertax/data/', 'robertax/corpus/'),
    'tensorflow_datasets': ('robertax/data/', 'robertax/corpus/'),
    'array_record': ('robertax/data/', 'robertax/corpus/'),
    'apache_beam': ('robertax/corpus/',),
}
# Not on every machine that trains: imported when used, inside a function.
LAZY = ('tensorflow', 'tensorflow_datasets', 'array_record', 'apache_beam')
# The GPU machine, which has none of LAZY, has no ml_collections either.
ON_EVERY_MACHINE = ('robertax/__init__.py', 'robertax/kernels/',
                    'robertax/model/', 'robertax/parallel/',
                    'robertax/train/step.py')

MAX_LINES = 700
SHORTER = {'robertax/config.py': 930, 'robertax/train/loop.py': 200,
           'robertax/main.py': 70}
NAMELESS = ('utils', 'util', 'common', 'helpers', 'helper', 'base')
MAX_EXPORTS = 10
Sources = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Import:
  name: str  # 'robertax.text.tokenizer', absolute
  line: int
  lazy: bool  # inside a function


def imports(path: str, source: str) -> Iterator[Import]:
  """All imports of a file, relative ones made absolute.

  `from a.b import c` yields a.b.c: c may be a module. Strings given to
  import_module count too.
  """
  package = path.removesuffix('.py').split('/')[:-1]

  def walk(node, lazy):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield Import(alias.name, node.lineno, lazy)
    elif isinstance(node, ast.ImportFrom):
      base = package[:len(package) - node.level + 1] if node.level else []
      base = base + (node.module.split('.') if node.module else [])
      for alias in node.names:
        yield Import('.'.join([*base, alias.name]), node.lineno, lazy)
    elif isinstance(node, ast.Call):
      function = ast.unparse(node.func).split('.')[-1]
      if function in ('import_module', '__import__') and node.args:
        name = node.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
          yield Import(name.value, node.lineno, lazy)
    lazy = lazy or isinstance(
        node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If)
            and 'TYPE_CHECKING' in ast.unparse(node.test))
    for child in ast.iter_child_nodes(node):
      yield from walk(child, lazy)

  yield from walk(ast.parse(source), False)


def house(sources: Sources) -> Sources:
  return {p: s for p, s in sources.items() if p.startswith('robertax/')}


def unit(path: str) -> str:
  """The room or the top-level module that a path of the house is in."""
  return path.split('/')[1].removesuffix('.py')


def unplanned(sources: Sources) -> Iterator[str]:
  """Rooms and modules that the plan does not know; rooms in rooms."""
  for path in house(sources):
    if unit(path) != '__init__' and unit(path) not in FLOORS:
      yield (f'{path}: not in the plan: give it a floor in WORKSPACE.md and '
             'in tests/floors_test.py')
    elif (unit(path) in ROOMS) != (path.count('/') == 2):
      yield f'{path}: rooms are folders one level deep, doors are files'


def floors(sources: Sources) -> Iterator[str]:
  """Imports of a room of the same or a higher floor."""
  for path, source in house(sources).items():
    here = unit(path)
    for found in imports(path, source):
      where = f'{path}:{found.line}: '
      top, _, rest = found.name.partition('.')
      if top in OUTSIDE:
        yield f'{where}robertax imports nothing of {top}/'
      if top != 'robertax' or here not in FLOORS:
        continue  # robertax/__init__.py may open any room
      there = rest.split('.')[0]
      if there not in FLOORS:
        yield f'{where}{found.name} is no room, door or module of the plan'
      elif there == here or (here, there) in AMONG:
        continue
      elif FLOORS[there] >= FLOORS[here] + (
          there in BESIDE and here not in BESIDE):
        yield (f'{where}{here} (floor {FLOORS[here]}) may not import {there} '
               f'(floor {FLOORS[there]})')


def borrowed(sources: Sources) -> Iterator[str]:
  """Libraries imported where they may not be, or earlier than they may."""
  for path, source in house(sources).items():
    for found in imports(path, source):
      top = found.name.split('.')[0]
      if top in ONLY and not path.startswith(ONLY[top]):
        yield (f'{path}:{found.line}: only {" and ".join(ONLY[top])} may '
               f'import {top}')
      elif top in LAZY and not found.lazy:
        yield (f'{path}:{found.line}: {top} is imported inside functions '
               'only: not every machine has it')


def too_heavy(sources: Sources) -> Iterator[str]:
  """ml_collections reached by importing what runs on every machine."""
  modules = {}
  for path in house(sources):
    name = path.removesuffix('.py').removesuffix('/__init__')
    modules[name.replace('/', '.')] = path
  for start in house(sources):
    if not start.startswith(ON_EVERY_MACHINE):
      continue
    queue, seen = [start], set()
    while queue:
      path = queue.pop()
      if path in seen:
        continue
      seen.add(path)
      # A module's packages run before it.
      names = [path.removesuffix('.py').replace('/', '.')]
      for found in imports(path, sources[path]):
        if found.name.startswith('ml_collections') and not found.lazy:
          yield f'{start}: imports ml_collections by way of {path}'
        elif not found.lazy:
          names.append(found.name)
      for name in names:
        parts = name.split('.')
        for n in range(1, len(parts) + 1):
          queue.append(modules.get('.'.join(parts[:n]), path))


def too_long(sources: Sources) -> Iterator[str]:
  for path, source in sources.items():
    lines, most = len(source.splitlines()), SHORTER.get(path, MAX_LINES)
    if lines > most:
      yield f'{path}: {lines} lines, at most {most}: split it by its nouns'


def nameless(sources: Sources) -> Iterator[str]:
  for path in sources:
    for part in path.removesuffix('.py').split('/'):
      if part.removesuffix('_test') in NAMELESS:
        yield f'{path}: {part!r} does not say what it knows'


def front_doors(sources: Sources) -> Iterator[str]:
  """Rooms without a docstring that names the floor, or with a wide door."""
  rooms = {unit(p) for p in house(sources) if unit(p) in ROOMS}
  for room in sorted(rooms):
    path = f'robertax/{room}/__init__.py'
    if path not in sources:
      yield f'{path}: missing: every room has a front door'
      continue
    tree = ast.parse(sources[path])
    said = re.findall(r'\bfloor (\d)\b', ast.get_docstring(tree) or '', re.I)
    if said != [str(ROOMS[room])]:
      yield (f'{path}: its docstring says what the room knows and, once, '
             f'that it is on floor {ROOMS[room]}')
    exports = set()
    for node in ast.walk(tree):
      if isinstance(node, ast.ImportFrom) and (
          node.level or (node.module or '').startswith('robertax')):
        exports |= {a.asname or a.name for a in node.names}
      elif isinstance(node, ast.Assign) and '__all__' in [
          ast.unparse(t) for t in node.targets]:
        exports |= {ast.unparse(x) for x in getattr(node.value, 'elts', [])}
    exports = {x.strip('\'"') for x in exports}
    if len(exports) > MAX_EXPORTS:
      yield f'{path}: {len(exports)} re-exports, at most {MAX_EXPORTS}'


RULES = (unplanned, floors, borrowed, too_heavy, too_long, nameless,
         front_doors)


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
    'robertax/errors.py': 'import sys',
    'robertax/sections.py': 'from robertax.errors import InputError',
    'robertax/flags.py': 'from robertax.errors import door',
    'robertax/main.py': 'from robertax import flags\n'
                        'from robertax.train.loop import run',
    'robertax/text/__init__.py': DOOR + 'from robertax.text.x import y',
    TEXT: 'from robertax import errors\nfrom . import z\nimport numpy',
    'robertax/corpus/x.py': 'from ..text import x\n'
                            'def f():\n  import tensorflow as tf',
    'robertax/corpus/__init__.py': '"""Documents. Floor 1."""',
    'robertax/train/__init__.py': '"""Time (floor 4)."""',
    'robertax/train/step.py': 'from robertax.model import encoder',
    'robertax/train/checkpoint.py': 'import orbax.checkpoint as ocp',
    'robertax/model/__init__.py': '"""Vectors. Floor 1."""',
    'robertax/model/x.py': 'from flax import nnx\nimport robertax.kernels.y',
    'configs/roberta_base.py': 'import ml_collections',
}

BROKEN = [
    (unplanned, 'robertax/attic/x.py', ''),
    (unplanned, 'robertax/text/deep/x.py', ''),
    (unplanned, 'robertax/stray.py', ''),
    (floors, TEXT, 'import robertax.corpus.documents'),
    (floors, TEXT, 'from robertax import corpus'),
    (floors, TEXT, 'from ..corpus import documents'),
    (floors, TEXT, 'from robertax import load'),
    (floors, TEXT, 'from robertax.kernels import dropout'),
    (floors, TEXT, 'def f():\n  from robertax.train import step'),
    (floors, TEXT, 'import importlib\n'
                   'importlib.import_module("robertax.train.loop")'),
    (floors, TEXT, 'import configs.quickstart'),
    (floors, 'robertax/data/x.py', 'from robertax.interop import table'),
    (floors, 'robertax/main.py', 'from robertax import prepare'),
    (floors, 'robertax/train/loop.py', 'from robertax.flags import given'),
    (floors, 'robertax/errors.py', 'from robertax import sections'),
    (floors, 'robertax/flags.py', 'from robertax import main'),
    (floors, 'robertax/sections.py', 'from robertax import text'),
    (borrowed, 'robertax/train/step.py', 'def f():\n  from flax import nnx'),
    (borrowed, 'robertax/train/loop.py', 'import orbax.checkpoint'),
    (borrowed, TEXT, 'def f():\n  import tensorflow'),
    (borrowed, 'robertax/tasks/x.py',
     'def f():\n  from array_record.python import array_record_module'),
    (borrowed, 'robertax/data/x.py', 'import tensorflow as tf'),
    (borrowed, 'robertax/data/x.py', 'class A:\n  import tensorflow as tf'),
    (borrowed, 'robertax/corpus/x.py', 'try:\n  import array_record.python\n'
                                       'except ImportError:\n  pass'),
    (too_heavy, 'robertax/kernels/x.py', 'import ml_collections'),
    (too_heavy, 'robertax/train/__init__.py',
     '"""Floor 4."""\nfrom ml_collections import ConfigDict'),
    (too_heavy, 'robertax/model/encoder.py', 'import ml_collections'),
    (too_long, TEXT, '\n' * 701),
    (too_long, 'robertax/train/loop.py', '\n' * 201),
    (too_long, 'robertax/main.py', '\n' * 71),
    (too_long, 'tests/x_test.py', '\n' * 701),
    (nameless, 'robertax/text/utils.py', ''),
    (nameless, 'configs/common.py', ''),
    (nameless, 'tests/helpers/x.py', ''),
    (front_doors, 'robertax/text/__init__.py', '"""Strings and ids."""'),
    (front_doors, 'robertax/text/__init__.py', '"""Strings. Floor 1."""'),
    (front_doors, 'robertax/tasks/x.py', ''),
    (front_doors, 'robertax/text/__init__.py',
     DOOR + 'from .x import a, b, c, d, e, f, g, h, i, j, k'),
    (front_doors, 'robertax/text/__init__.py',
     DOOR + '__all__ = ' + repr(list('abcdefghijk'))),
]


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_a_sound_house_passes(rule):
  assert not list(rule(SOUND))


@pytest.mark.parametrize(
    'rule, path, source', BROKEN,
    ids=[f'{rule.__name__}-{i}' for i, (rule, _, _) in enumerate(BROKEN)])
def test_a_broken_house_is_caught(rule, path, source):
  complaints = list(rule(SOUND | {path: source}))
  assert complaints
