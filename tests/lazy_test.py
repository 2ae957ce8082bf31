"""What an import brings along: a room is loaded when it is asked for.

Each case is a process of its own, for this one has everything loaded.
"""

import subprocess
import sys

import pytest

# Not on every machine that trains, or slow to import.
HEAVY = ('tensorflow', 'tensorflow_datasets', 'array_record', 'apache_beam',
         'orbax', 'matplotlib', 'sklearn', 'scipy.stats', 'pyarrow',
         'tensorboardX', 'ml_collections', 'torch', 'transformers')
# Rooms' chapters that a run on plain text has no use for.
UNUSED = ('corpus.archives', 'corpus.python_docs', 'corpus.tfds_text',
          'tasks.glue', 'tasks.squad', 'tasks.race', 'tasks.wsc',
          'tasks.noun_chunks', 'tasks.qnli', 'interop.huggingface',
          'interop.fairseq', 'data.remote', 'data.finetuning',
          'kernels.attention_gpu', 'kernels.attention_tpu', 'inspection.page',
          'studies.estimate', 'paper.tables')


def loaded(statement: str) -> set[str]:
  """Names of all modules that a statement loads in a new Python."""
  done = subprocess.run(
      [sys.executable, '-c', f'import sys\n{statement}\nprint(*sys.modules)'],
      capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
  return set(done.stdout.split())


def ours(modules: set[str]) -> set[str]:
  return {m for m in modules if m.split('.')[0] == 'robertax'}


def test_the_package_alone_is_one_module():
  assert ours(loaded('import robertax')) == {'robertax'}


@pytest.mark.parametrize('module', ['config', 'errors', 'tables', 'flags'])
def test_what_a_config_file_needs_brings_no_jax(module):
  found = loaded(f'import robertax.{module}')
  assert not {'jax', 'flax', 'numpy', 'tensorflow'} & found


def test_the_loop_brings_few_chapters_and_no_heavy_library():
  found = loaded('import robertax.train.loop')
  assert not found.intersection(HEAVY)
  assert not found & {f'robertax.{name}' for name in UNUSED}
  # 193 before the chapters; a room that is imported whole would be seen here.
  assert len(ours(found)) <= 64


@pytest.mark.parametrize('module', [
    'kernels', 'model', 'parallel', 'train.step', 'interop', 'tasks'])
def test_the_core_brings_no_library_that_a_gpu_machine_lacks(module):
  assert not loaded(f'import robertax.{module}').intersection(HEAVY)
