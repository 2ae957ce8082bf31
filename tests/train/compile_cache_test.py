"""Where compiled programs are kept."""

import os
import subprocess
import sys

import jax
import pytest

from robertax.config import parse
from robertax.train import session


def config(folder, chosen):
  return parse({'data': {'cache_dir': str(folder)},
                'train': {'compile_cache': chosen}})


@pytest.fixture(autouse=True)
def none_yet(monkeypatch):
  """The tests' own cache is another."""
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  mine = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', None)
  yield
  monkeypatch.undo()
  jax.config.update('jax_compilation_cache_dir', mine)


@pytest.mark.parametrize('backend, chosen, where', [
    ('cpu', 'auto', None), ('cpu', 'off', None), ('tpu', 'off', None),
    ('tpu', 'auto', '{}/compiled'), ('gpu', 'auto', '{}/compiled'),
    ('cpu', '/some/folder', '/some/folder')])
def test_where(tmp_path, monkeypatch, backend, chosen, where):
  changes = []
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  monkeypatch.setattr(jax.config, 'update',
                      lambda name, value: changes.append((name, value)))
  with session.compile_cache(config(tmp_path, chosen)):
    assert changes == ([('jax_compilation_cache_dir', where.format(tmp_path))]
                       if where else [])


def test_in_a_bucket_xla_keeps_nothing_beside_it(monkeypatch):
  changes = {}
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(jax.config, 'update', changes.__setitem__)
  with session.compile_cache(config('gs://bucket/cache', 'auto')):
    assert changes == {
        'jax_compilation_cache_dir': 'gs://bucket/cache/compiled',
        'jax_persistent_cache_enable_xla_caches': 'none'}
  assert changes['jax_compilation_cache_dir'] is None  # As it was.


PROGRAM = '''
import sys, jax
from robertax.train import session
from robertax.config import parse
print(jax.jit(lambda x: x - 1)(2))  # Before it JAX has decided to keep nothing.
with session.compile_cache(parse({'train': {'compile_cache': sys.argv[1]}})):
  print(jax.jit(lambda x: x * 2 + 1)(20))
print(jax.jit(lambda x: x * 3 + 1)(20), jax.config.jax_compilation_cache_dir)
'''


def test_a_program_is_there_for_the_next_start(tmp_path):
  env = os.environ | {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
  names = []
  for _ in range(2):
    done = subprocess.run([sys.executable, '-c', PROGRAM, str(tmp_path)],
                          env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ['1', '41', '61', 'None'], done.stderr
    names.append(sorted(p.name for p in tmp_path.iterdir()
                        if p.name.endswith('-cache')))
  assert len(names[0]) == 1 and names[0] == names[1]
