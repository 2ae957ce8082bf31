"""The door: wrong input is one line on stderr and exit code 2."""

import os
import pathlib
import subprocess
import sys

import pytest

from robertax.config import parse
from robertax.errors import InputError
from robertax.train import session
from tests.xla_flags import FAST

ROOT = pathlib.Path(__file__).parents[1]
QUICKSTART = '--config=configs/quickstart.py'


def robertax(*args, module='robertax.main', cwd=ROOT):
  env = os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': FAST,
                      'PYTHONPATH': str(ROOT)}
  return subprocess.run(
      [sys.executable, '-m', module, *map(str, args)], cwd=cwd, env=env,
      capture_output=True, text=True, timeout=200)


def said(done):
  """The error lines; stderr holds progress too."""
  assert done.returncode == 2, (done.returncode, done.stderr[-2000:])
  assert 'Traceback' not in done.stderr
  lines = [x for x in done.stderr.splitlines() if 'robertax: error:' in x]
  assert len(lines) == 1, done.stderr
  return lines[0]


@pytest.mark.parametrize('args, message', [
    ([], '--config=FILE is needed'),
    ([QUICKSTART], '--workdir=FOLDER is needed'),
    ([QUICKSTART, '--workdir=x', '--config.train.stepz=3'], 'stepz'),
    ([QUICKSTART, '--workdir=x', '--config.train.steps=abc'], 'train.steps'),
    ([QUICKSTART + ':stepz=3', '--workdir=x'], "Did you mean 'steps'"),
    (['--config=configs/none.py', '--workdir=x'], 'configs/none.py'),
    ([QUICKSTART, '--workdir=x', '--wrkdir=y'], 'wrkdir'),
    ([QUICKSTART, '--workdir=x', 'stray'], 'stray'),
    ([QUICKSTART, '--workdir=x', '--config.data.corpora=none.txt'],
     'none.txt'),
])
def test_wrong_flags(args, message):
  assert message in said(robertax(*args))
  assert not (ROOT / 'x').exists()


def test_wrong_text_names_file_and_line(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"text": "Good."}\n{"text": 3}\n')
  line = said(robertax(
      QUICKSTART, f'--workdir={tmp_path}/w',
      f'--config.data.corpora={path}', f'--config.data.cache_dir={tmp_path}/c'))
  assert str(path) in line and '2' in line and 'text' in line
  assert not (tmp_path / 'w').exists()


def test_a_workdir_that_cannot_be_made(tmp_path):
  (tmp_path / 'a.txt').write_text('One two three four five six.\n' * 400)
  (tmp_path / 'file').write_text('in the way')
  line = said(robertax(
      QUICKSTART, f'--workdir={tmp_path}/file/w',
      f'--config.data.corpora={tmp_path}/a.txt',
      '--config.tokenizer.vocab_size=280',
      f'--config.data.cache_dir={tmp_path}/c'))
  assert f'{tmp_path}/file/w' in line


BLOCKED = '''
import sys
for name in ('tensorflow', 'tensorflow_datasets', 'array_record'):
  sys.modules[name] = None
from robertax.inspection import report
from robertax import config
from robertax.train import loop
import robertax
values = dict(
    data=dict(corpora='a.txt', cache_dir='c', backend='numpy', workers=2,
              batch_size=8, sequence_length=32),
    tokenizer=dict(vocab_size=280),
    model=dict(hidden_size=16, num_layers=1, num_heads=2, mlp_size=32,
               max_positions=32),
    optim=dict(warmup_steps=1), train=dict(steps=3, log_every=1))
print(report.last_words(loop.run(config.parse(values), 'w'), 'again'))
print(robertax.load('w').fill_mask('One <mask> three.')[0])
'''


def test_trains_where_tensorflow_is_not_installed(tmp_path):
  (tmp_path / 'a.txt').write_text('One two three four five six.\n' * 400)
  env = os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': FAST,
                      'PYTHONPATH': str(ROOT)}
  done = subprocess.run([sys.executable, '-c', BLOCKED], cwd=tmp_path, env=env,
                        capture_output=True, text=True, timeout=200)
  assert done.returncode == 0, done.stderr[-2000:]
  assert 'Filled(' in done.stdout


def test_import_is_light():
  """`import robertax` and its front doors pull in no framework."""
  code = ('import sys, robertax, robertax.corpus, robertax.data, robertax.train'
          '; print(sorted({"tensorflow", "flax", "orbax", "matplotlib", '
          '"tensorflow_datasets", "array_record"} & set(sys.modules)))')
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT,
                        capture_output=True, text=True, timeout=100)
  assert done.stdout.strip() == '[]', done.stdout + done.stderr


def test_a_device_that_is_not_here_is_one_line(tmp_path):
  env = os.environ | {'JAX_PLATFORMS': 'cuda', 'PYTHONPATH': str(ROOT)}
  done = subprocess.run(
      [sys.executable, '-m', 'robertax.main', QUICKSTART,
       f'--workdir={tmp_path}/w'], cwd=ROOT, env=env, capture_output=True,
      text=True, timeout=200)
  assert 'JAX_PLATFORMS=cuda: JAX finds no such device' in said(done)
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize('key, value, words', [
    ('name', 'adam', "Did you mean 'adamw'"),
    ('schedule', 'linaer', "Did you mean 'linear'"),
    ('weight_decay_on', 'al', "Did you mean 'all'")])
def test_misspelt_names_are_found_before_preparation(tmp_path, key, value,
                                                     words):
  with pytest.raises(InputError, match=words):
    session.admit_run(parse({'optim': {key: value}}), str(tmp_path / 'w'))


def test_a_workdir_that_cannot_be_made_is_found_before_preparation(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='is a file, not a folder'):
    session.admit_run(parse({}), str(tmp_path / 'file' / 'w'))
