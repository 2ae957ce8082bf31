"""load(): workdirs and folders of Hugging Face; what is neither is named."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import robertax
from robertax.errors import InputError
from robertax.inspection import conversion
from robertax.train import initial, workdir

ROOT = pathlib.Path(__file__).parents[2]


def test_wrong_folders(tmp_path):
  with pytest.raises(InputError, match='does not exist'):
    robertax.load(str(tmp_path / 'none'))
  with pytest.raises(InputError, match='no config.json'):
    robertax.load(str(tmp_path))


def copy_of(run, folder, weights):
  """A workdir of the run's files, with its checkpoints under another name."""
  for name in ('config.json', 'tokenizer.json'):
    shutil.copy(f'{run.workdir}/{name}', folder)
  shutil.copytree(f'{run.workdir}/checkpoints', folder / weights)


def test_a_run_that_kept_its_best_weights_alone(run, loaded, tmp_path):
  copy_of(run, tmp_path, 'best')
  np.testing.assert_array_equal(robertax.load(str(tmp_path)).encode('six'),
                                loaded.encode('six'))
  shutil.rmtree(tmp_path / 'best')
  with pytest.raises(InputError, match='no checkpoints yet'):
    robertax.load(str(tmp_path))


def test_an_empty_best_is_not_preferred(run, loaded, tmp_path):
  """As of a run that was killed before its first evaluation."""
  copy_of(run, tmp_path, 'checkpoints')
  (tmp_path / 'best').mkdir()
  assert robertax.load(str(tmp_path)).step == loaded.step
  assert workdir.weights_step(str(tmp_path)) == loaded.step
  with initial.open_weights(str(tmp_path)) as weights:
    assert weights.description.startswith(f'weights of step {loaded.step} of')
  shutil.rmtree(tmp_path / 'checkpoints')
  assert workdir.weights_step(str(tmp_path)) is None
  with pytest.raises(InputError, match='has saved no checkpoint yet'):
    robertax.load(str(tmp_path))


@pytest.fixture(scope='module')
def exported(run, tmp_path_factory):
  folder = tmp_path_factory.mktemp('exported') / 'hf'
  conversion.convert(run.workdir, f'hf:{folder}')
  return folder


@pytest.mark.parametrize('prefix', ['', 'hf:'])
def test_a_folder_of_hugging_face(loaded, exported, prefix):
  found = robertax.load(f'{prefix}{exported}')
  text = 'three four <mask> six.'
  assert [g.token for g in found.fill_mask(text)] == [
      g.token for g in loaded.fill_mask(text)]
  np.testing.assert_allclose(found.encode('six'), loaded.encode('six'),
                             atol=1e-6)


BLOCKED = """
import json, logging, os, signal, sys, threading, warnings
import absl.logging, jax, orbax.checkpoint
def state():
  loggers = map(logging.getLogger, (None, 'absl', 'asyncio', 'jax', 'orbax'))
  return {
      'loggers': [(l.level, l.filters[:], l.handlers[:], l.disabled)
                  for l in loggers],
      'hooks': [sys.excepthook, sys.unraisablehook, threading.excepthook],
      'warnings': warnings.filters[:], 'environment': dict(os.environ),
      'signals': [signal.getsignal(s) for s in signal.valid_signals()]}
before = state()
for name in ('tensorflow', 'tensorflow_datasets', 'array_record', 'torch',
             'transformers', 'matplotlib'):
  sys.modules[name] = None
import robertax
for path in sys.argv[1:]:
  model = robertax.load(path)
  found = model.fill_mask('three four <mask> six.', top_k=1)[0]
  model.encode('three'), model.score('three four')
import robertax.train.loop, robertax.data.pipeline, robertax.studies.sweep
print(json.dumps([found.text, [name for name, value in state().items()
                               if value != before[name]]]))
"""


def test_where_neither_tensorflow_nor_torch_is_installed(run, exported):
  env = os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)}
  done = subprocess.run(
      [sys.executable, '-c', BLOCKED, run.workdir, str(exported)], env=env,
      capture_output=True, text=True, timeout=200)
  assert done.returncode == 0, done.stderr[-2000:]
  text, changed = json.loads(done.stdout)
  assert text == 'three four five six.'
  assert changed == []  # Of what belongs to the program that loads a model.
  # What opening it for reading only means is not news.
  assert 'read' not in done.stderr or 'only' not in done.stderr


def test_a_workdir_may_be_called_hf(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match="'hf' is not a workdir"):
    robertax.load('hf')
