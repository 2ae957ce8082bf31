"""A train step beside Hugging Face's: equal numbers first, then times."""

import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import step, step_case, step_worker

TINY = ['--size=tiny', '--rows=2', '--tokens=16', '--rounds=3', '--anyway']
ROOT = pathlib.Path(__file__).resolve().parents[2]


def last(capsys):
  return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_flops_are_those_of_the_formula():
  """6 N + 12 L H S + 6 p (H V + H H) a token: .602 and .801 GFLOP of base."""
  case = step_case.Case(rows=1, tokens=512)
  # 76 of 512 are masked, .148 and not .15.
  assert case.flops() / 512 == pytest.approx(.602e9, rel=2e-3)
  assert case.flops(masked_head=False) / 512 == pytest.approx(.801e9, rel=2e-3)
  large = step_case.Case(**step_case.SIZES['large'], rows=3, tokens=128)
  assert large.flops() / (3 * 128) == pytest.approx(1.897e9, rel=2e-3)


def test_different_models_are_not_timed():
  found = {'logits': np.zeros(3), 'losses': np.ones(2)}
  assert step_worker.compare(found, found) == {'logits': 0, 'losses': 0}
  other = found | {'losses': np.array([1, 1.001])}
  with pytest.raises(SystemExit, match='losses differ by 0.001'):
    step_worker.compare(found, other)
  with pytest.raises(SystemExit, match='differ by nan'):
    step_worker.compare(found, found | {'logits': np.array(np.nan)})


class Side:
  """Takes the seconds that it is told to."""

  def __init__(self, seen, name):
    self.case = step_case.Case(**step_case.SIZES['tiny'], rows=1, tokens=8)
    self._seen, self._name = seen, name

  def prepare(self, batch):
    return batch

  def step(self, prepared):
    self._seen.append(self._name)

  def read(self, out):
    return 0.


def test_sides_take_turns_there_and_back():
  seen = []
  times = step.take_turns({n: Side(seen, n) for n in 'ABC'}, rounds=3)
  # The first three are to warm up.
  assert ''.join(seen) == 'ABC' + 'ABCCBA' + 'CBAABC' + 'ABCCBA'
  assert {n: len(x) for n, x in times.items()} == dict.fromkeys('ABC', 3)


def test_a_busy_machine_is_refused(monkeypatch, capsys):
  monkeypatch.setattr(step.time, 'sleep', lambda seconds: None)
  monkeypatch.setattr(step.Others, 'share', lambda self: .3)
  with pytest.raises(SystemExit, match='30% of the cores.*--anyway'):
    step.refuse_if_busy(anyway=False)
  assert step.refuse_if_busy(anyway=True)
  assert '30%' in capsys.readouterr().out
  monkeypatch.setattr(step.Others, 'share', lambda self: .01)
  assert not step.refuse_if_busy(anyway=False)


@pytest.mark.skipif(not pathlib.Path('/proc/stat').exists(),
                    reason='no /proc/stat: what others do cannot be told')
def test_what_this_program_does_is_not_others():
  others, begin = step.Others(), step.time.process_time()
  while step.time.process_time() - begin < .5:
    pass
  taken = subprocess.run([sys.executable, '-c', 'sum(range(10**7))'])
  assert not taken.returncode
  assert 0 <= others.share() <= 1


def brought_by(*names):
  """Top-level modules of packages, and of all that these need."""
  seen, queue = set(), list(names)
  while queue:
    name = re.sub(r'[-_.]+', '-', queue.pop()).lower()
    try:
      needs = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
      continue
    if name not in seen:
      seen.add(name)
      queue += [re.match(r'[\w.\-]+', need)[0] for need in needs
                if 'extra ==' not in need]
  return [module for module, packages in
          importlib.metadata.packages_distributions().items()
          if seen & {re.sub(r'[-_.]+', '-', p).lower() for p in packages}]


ALONE = '''
import importlib.metadata, sys
allowed = set(sys.argv.pop(1).split(','))
known = set(importlib.metadata.packages_distributions())
class Blocker:
  def find_spec(self, name, path=None, target=None):
    top = name.split('.')[0]
    if top in known and top not in allowed:
      raise ModuleNotFoundError(f'{name} is not installed', name=name)
sys.meta_path.insert(0, Blocker())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: (
    None if name in ('torch', 'transformers') else find(name, *rest))
from benchmarks import step
step.main(sys.argv[1:])
assert not {'tensorflow', 'ml_collections', 'tokenizers'} & set(sys.modules)
'''


def test_runs_where_nothing_else_is_installed():
  """jax, flax, optax, orbax and numpy, and what these bring."""
  allowed = brought_by('jax', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  assert 'jaxlib' in allowed and 'tensorflow' not in allowed
  done = subprocess.run(
      [sys.executable, '-c', ALONE, ','.join([*allowed, 'robertax']), *TINY,
       '--no-apart'], cwd=ROOT, capture_output=True, text=True,
      env=os.environ | {'JAX_PLATFORMS': 'cpu'})
  assert not done.returncode, done.stderr[-3000:]
  assert 'torch and transformers not installed: ours is timed alone' in (
      done.stdout)
  found = json.loads(done.stdout.splitlines()[-1])
  assert found['device'] == 'cpu' and found['tokens_per_second'] > 0
  assert {found[key] for key in (
      'r1', 'r2', 'mfu', 'reference_tokens_per_second')} == {None}


@pytest.mark.oracle
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_both_are_alike_and_timed(capsys, dtype):
  step.main([*TINY, f'--dtype={dtype}', '--no-apart', '--best={"head": '
             '"masked", "fused": true, "attention": "eager"}'])
  found = last(capsys)
  for name in ('r1', 'r2'):
    off = found['differences'][name]
    assert off['losses'] < 1e-5 and off['logits'] < 1e-5
    assert ('rounded' in off) == (dtype == 'bfloat16')
    assert found[name] > 0 and len(found['ratios'][name]) == 3
  assert found['settings']['r2']['attention'] == 'eager'
  assert found['reference_tokens_per_second'] > 0
  # A head over all tokens is more work of the reference's own.
  assert found['gflops_per_second']['r1'] > 0


@pytest.mark.oracle
def test_the_gpu_script_is_rehearsed(capsys):
  """Processes of their own: ceilings, torch, ours, torch again."""
  step.main([*TINY, '--apart', '--micro_batches=2', '--steps=2',
             '--ceiling=64', '--drift=1e9', '--dropout=0',
             '--best={"head": "masked"}',
             '--ours={"attention": "xla"}'])
  found = last(capsys)
  assert found['differences']['losses'] < 1e-5
  assert found['ceilings']['square_64_flops'] > 0
  assert set(found['drift']) == {'r1', 'r2'} and not found['void']
  assert found['settings']['ours']['rows'] == 2
  assert found['r2'] == pytest.approx(
      found['tokens_per_second'] / found['reference_tokens_per_second'])
