"""What no file of ours does, whatever its room. By `ast`, as floors_test.py."""

import ast
from collections.abc import Iterator
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ('robertax', 'configs', 'launch', 'benchmarks')
UNSAFE = ('pickle', 'dill', 'cloudpickle', 'shelve', 'marshal', 'joblib')
# Talks to processes that it started itself, over their own pipes: nothing from
# outside is read.
OWN_PIPES = 'robertax/corpus/workers.py'
# JAX's own are used: modules are plain pytrees.
NNX_TRANSFORMS = ('jit', 'grad', 'value_and_grad', 'scan', 'Optimizer')


def unsafe(source: str) -> Iterator[str]:
  """Reading files in a way that can run what is in them."""
  for node in ast.walk(ast.parse(source)):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names = [node.module or '']
    for name in names:
      if name.split('.')[0] in UNSAFE:
        yield f'{node.lineno}: no {name}: it runs what it reads'
    if not isinstance(node, ast.Call):
      continue
    function = ast.unparse(node.func)
    given = {k.arg: ast.unparse(k.value) for k in node.keywords}
    if given.get('allow_pickle', 'False') != 'False':
      yield f'{node.lineno}: allow_pickle runs what it reads'
    if function == 'torch.load' and given.get('weights_only') != 'True':
      yield f'{node.lineno}: torch.load without weights_only=True'
    if function.split('.')[-1] == 'read_pickle':
      yield f'{node.lineno}: {function} runs what it reads'


def lifted(source: str) -> Iterator[str]:
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) in (
        'nnx', 'flax.nnx') and node.attr in NNX_TRANSFORMS:
      yield f"{node.lineno}: use JAX's own, not nnx.{node.attr}"


# A file appears whole and durable by robertax/files.py alone. What is written
# otherwise, how often in a file, and why.
WRITTEN = {
    'robertax/files.py': 'the rule itself',
    'robertax/corpus/records.py': 'piece by piece to files.staging; published',
    'robertax/interop/tensors.py': 'by a library to files.staging; published',
    'robertax/inspection/oracle.py': 'to a folder that the process removes',
    'robertax/data/remote.py': 'a cache whose chunks have checksums',
    'robertax/studies/sweep.py': 'a run put aside while it is repeated',
    'robertax/train/writer.py': 'lines, one after the other; copies of events',
    'robertax/train/workdir.py': 'who holds a lock, which ends with the run',
    'robertax/train/clock.py': 'where threads stand, on a disk that may hang',
    'robertax/parallel/processes.py': 'an empty mark, removed at once',
}


def written(source: str) -> Iterator[str]:
  """Opening a file to write, or renaming one."""
  for node in ast.walk(ast.parse(source)):
    if not isinstance(node, ast.Call):
      continue
    function = ast.unparse(node.func)
    modes = [n.value for n in [*node.args[1:2], *(
        k.value for k in node.keywords if k.arg == 'mode')]
             if isinstance(n, ast.Constant)]
    if function.split('.')[-1] == 'open' and any(
        set(str(mode)) & set('wax+') for mode in modes) or (
            function in ('os.replace', 'os.rename', 'np.save', 'np.savez')
            or function.split('.')[-1] in ('write_text', 'write_bytes')
            and not function.startswith('files.')):
      yield f'{node.lineno}: {function} leaves half a file to a kill'


RULES = (unsafe, lifted)


def test_files_are_written_in_one_place_or_for_a_reason():
  found = {}
  for path in sorted((ROOT / 'robertax').rglob('*.py')):
    if complaints := list(written(path.read_text())):
      found[str(path.relative_to(ROOT))] = complaints
  assert found.keys() == WRITTEN.keys(), found


def test_a_class_or_a_type_has_one_definition_and_its_name_no_other():
  found = {}
  for path in sorted((ROOT / 'robertax').rglob('*.py')):
    for node in ast.parse(path.read_text()).body:
      names = ([node.name] if isinstance(node, ast.ClassDef) else
               [t.id for t in node.targets if isinstance(t, ast.Name)]
               if isinstance(node, ast.Assign) else [])
      for name in names:  # Of constants every letter is a capital.
        if name.lstrip('_')[:1].isupper() and not name.isupper():
          found.setdefault(name, []).append(str(path.relative_to(ROOT)))
  twice = {name: paths for name, paths in found.items() if len(paths) > 1}
  assert len(found) > 100 and not twice, twice


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule):
  paths = [p for f in FOLDERS for p in sorted((ROOT / f).rglob('*.py'))]
  assert paths
  complaints = [f'{path.relative_to(ROOT)}:{complaint}'
                for path in paths for complaint in rule(path.read_text())
                if (rule, path) != (unsafe, ROOT / OWN_PIPES)]
  assert not complaints, '\n' + '\n'.join(complaints)


@pytest.mark.parametrize('rule, source', [
    (unsafe, 'import pickle'),
    (unsafe, 'def f():\n  from pickle import loads'),
    (unsafe, 'import os, dill as d'),
    (unsafe, 'np.load(x, allow_pickle=True)'),
    (unsafe, 'np.load(x, allow_pickle=trust)'),
    (unsafe, 'torch.load(x)'),
    (unsafe, 'torch.load(x, weights_only=False)'),
    (unsafe, 'pandas.read_pickle(x)'),
    (lifted, '@nnx.jit\ndef f(): pass'),
    (lifted, 'flax.nnx.Optimizer(m)'),
])
def test_a_breach_is_caught(rule, source):
  assert list(rule(source))


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_sound_code_passes(rule):
  assert not list(rule('import numpy, jax\nnp.load(x)\njax.jit(f)\n'
                       'np.load(x, allow_pickle=False)\nnnx.Param(y)\n'
                       'torch.load(x, weights_only=True)\n'))
