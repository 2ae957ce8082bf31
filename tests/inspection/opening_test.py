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

ROOT = pathlib.Path(__file__).parents[2]


def test_wrong_folders(tmp_path):
  with pytest.raises(InputError, match='does not exist'):
    robertax.load(str(tmp_path / 'none'))
  with pytest.raises(InputError, match='no config.json'):
    robertax.load(str(tmp_path))


def test_a_run_that_kept_its_best_weights_alone(run, loaded, tmp_path):
  for name in ('config.json', 'tokenizer.json'):
    shutil.copy(f'{run.workdir}/{name}', tmp_path)
  with pytest.raises(InputError, match='no checkpoints yet'):
    robertax.load(str(tmp_path))
  shutil.copytree(f'{run.workdir}/checkpoints', tmp_path / 'best')
  np.testing.assert_array_equal(robertax.load(str(tmp_path)).encode('six'),
                                loaded.encode('six'))


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
import json, sys, time
start = time.time()
for name in ('tensorflow', 'tensorflow_datasets', 'array_record', 'torch',
             'transformers', 'matplotlib'):
  sys.modules[name] = None
import robertax
for path in sys.argv[1:]:
  model = robertax.load(path)
  found = model.fill_mask('three four <mask> six.', top_k=1)[0]
  model.encode('three'), model.score('three four')
print(json.dumps([found.text, time.time() - start]))
"""


def test_where_neither_tensorflow_nor_torch_is_installed(run, exported):
  env = os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)}
  done = subprocess.run(
      [sys.executable, '-c', BLOCKED, run.workdir, str(exported)], env=env,
      capture_output=True, text=True, timeout=200)
  assert done.returncode == 0, done.stderr[-2000:]
  text, _ = json.loads(done.stdout)
  assert text == 'three four five six.'
  # What opening it for reading only means is not news.
  assert 'read' not in done.stderr or 'only' not in done.stderr


def test_a_workdir_may_be_called_hf(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match="'hf' is not a workdir"):
    robertax.load('hf')
