"""launch/local.sh: several processes of this machine train as one."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from unittest import mock

import jax
import numpy as np
import psutil
import pytest

from robertax.config import parse
from robertax.train import loop
from robertax.train.writer import read_metrics

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORDS = 'one two three four five six seven eight nine ten'.split()


def values(folder, steps):
  return {
      'seed': 3,
      'data': {'corpora': f'{folder}/counting.txt', 'batch_size': 8,
               'sequence_length': 32, 'backend': 'numpy', 'workers': 1,
               'cache_dir': f'{folder}/cache'},
      'tokenizer': {'vocab_size': 300},
      'model': {'hidden_size': 16, 'num_layers': 1, 'num_heads': 2,
                'mlp_size': 32, 'max_positions': 32},
      'optim': {'learning_rate': 3e-3, 'warmup_steps': 5,
                'schedule': 'constant'},
      'train': {'steps': steps, 'log_every': 1, 'eval_every': 10**6,
                'checkpoint_every': 10**6, 'profile_steps': '2-3'}}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('local')
  rng = np.random.default_rng(0)
  text = []
  for number in range(600):
    start = rng.integers(10)
    text.append(' '.join(WORDS[(start + i) % 10] for i in range(12)) + '.')
    if number % 10 == 9:
      text.append('')
  (folder / 'counting.txt').write_text('\n'.join(text))
  (folder / 'tiny.py').write_text(
      'from robertax.config import defaults\n'
      'def get_config(arg=None):\n'
      '  config = defaults()\n'
      f'  for name, value in {values(folder, 10**6)!r}.items():\n'
      '    if isinstance(value, dict):\n'
      '      config[name].update(value)\n'
      '    else:\n'
      '      config[name] = value\n'
      '  return config\n')
  return folder


@pytest.fixture(scope='module')
def stopped(folder):
  """Two processes, SIGTERM to the second of them."""
  flags = ' '.join(flag for flag in os.environ['XLA_FLAGS'].split()
                   if 'device_count' not in flag)
  started = subprocess.Popen(
      ['bash', ROOT / 'launch/local.sh', '2', f'--config={folder}/tiny.py',
       f'--workdir={folder}/w'], cwd=ROOT, stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT, text=True,
      env=os.environ | {'PYTHON': sys.executable, 'XLA_FLAGS': flags})
  try:
    path, end = folder / 'w' / 'metrics.jsonl', time.time() + 240
    while time.time() < end and started.poll() is None and not (
        path.exists() and path.read_text().count('\n') > 12):
      time.sleep(0.1)
    (second,) = [child for child in psutil.Process(started.pid).children()
                if '--process_id=1' in child.cmdline()]
    asked = time.time()
    second.send_signal(signal.SIGTERM)
    said = started.communicate(timeout=120)[0]
  finally:
    if psutil.pid_exists(started.pid):
      for child in psutil.Process(started.pid).children(recursive=True):
        child.kill()
    started.kill()
  return started.returncode, said, time.time() - asked


def test_stopping_one_stops_all(folder, stopped):
  code, said, seconds = stopped
  assert code == 128 + signal.SIGTERM, said[-3000:]
  assert seconds < 60
  last = [m for _, m in read_metrics(f'{folder}/w/metrics.jsonl')][-1]['step']
  assert f'Stopped by SIGTERM at step {last}' in said
  assert (folder / 'w' / 'checkpoints' / str(last)).is_dir()


def test_one_log_and_one_set_of_files(folder, stopped):
  _, said, _ = stopped
  for words in ('a step, ', 'M parameters', 'Stopped by', 'goodput ',
                'counting: 60 documents', '2 processes', 'are traced'):
    assert said.count(words) == 1, (words, said[-3000:])
  written = folder / 'w'
  assert sorted(p.name for p in written.iterdir() if 'tfevents' not in p.name
                ) == ['checkpoints', 'clock.jsonl', 'config.json',
                      'metrics.jsonl', 'plugins', 'tokenizer.json']
  assert len(list(written.glob('*tfevents*'))) == 1
  steps = [json.loads(line)['step']
           for line in (written / 'metrics.jsonl').read_text().splitlines()]
  assert steps == list(range(len(steps)))
  assert len(list(written.glob('plugins/profile/*/*'))) <= 2
  assert len(list((folder / 'cache' / 'records').iterdir())) == 1


def test_the_processes_give_the_losses_of_one(folder, stopped):
  found = [m for _, m in read_metrics(f'{folder}/w/metrics.jsonl')]
  config = values(folder, 12) | {'mesh': {'data': 1}}
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    loop.run(parse(config), f'{folder}/one')
  alone = [m for _, m in read_metrics(f'{folder}/one/metrics.jsonl')]
  for key in ('train/loss', 'train/gradient_norm', 'train/masked_tokens'):
    np.testing.assert_allclose([m[key] for m in found[1:13]],
                               [m[key] for m in alone[1:]], rtol=1e-5)
  for key in ('eval/loss', 'eval/accuracy', 'eval/unigram_loss'):
    assert found[0][key] == pytest.approx(alone[0][key], rel=1e-5)


def test_another_number_of_processes_goes_on(folder, stopped):
  """One process reads what two have saved, to the same loss."""
  last = [m for _, m in read_metrics(f'{folder}/w/metrics.jsonl')][-1]['step']
  config = parse(values(folder, 10**6) | {'mesh': {'data': 1}})
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]), (
      mock.patch('robertax.train.session.Interruption.agreed',
                 return_value=signal.SIGTERM)):
    ended = loop.run(config, f'{folder}/w')
  assert (ended.step, ended.trained) == (last + 1, 1)
