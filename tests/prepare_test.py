"""The door, from outside: what a shell sees."""

import glob
import os
import signal
import subprocess
import sys
import time

import pytest

from robertax.corpus.records import Manifest

CONFIG = '''
from ml_collections import ConfigDict
def get_config():
  return ConfigDict(dict(
      data=dict(corpora={corpora!r}, sequence_length=32, workers=2,
                cache_dir='', {more}),
      tokenizer=dict(path='', vocab_size=300)))
'''
LINE = 'The cat sat on the mat number {}. Then it ran up the tree.\n\n'


def start(tmp_path, *flags, more='', **options):
  config = tmp_path / 'config.py'
  config.write_text(CONFIG.format(corpora=str(tmp_path / 'a.txt'), more=more))
  return subprocess.Popen(
      [sys.executable, '-m', 'robertax.prepare', f'--config={config}',
       f'--out={tmp_path}/out', *flags], stdout=subprocess.PIPE,
      stderr=subprocess.PIPE, text=True, start_new_session=True,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
      **options)


def run(*args, **options):
  process = start(*args, **options)
  out, err = process.communicate(timeout=120)
  return process.returncode, out, err


def test_prepares_and_says_where(tmp_path):
  (tmp_path / 'a.txt').write_text(''.join(map(LINE.format, range(300))))
  code, out, err = run(tmp_path, '--memmap')
  assert code == 0, err
  tokenizer, corpus = out.splitlines()
  assert tokenizer.startswith('tokenizer: ')
  assert corpus.startswith(f'a: {tmp_path}/out/records/a-')
  manifest = Manifest.read(corpus.removeprefix('a: '))
  assert manifest.forms == ('array_record', 'memmap')
  assert manifest.splits['eval'].num_documents == 3
  assert 'a: 300 documents, 600 sentences' in err


@pytest.mark.parametrize('flags, more, says', [
    ([], 'sequense_length=3', "Did you mean 'data.sequence_length'"),
    ([], "), tokenizr=dict(a=1", "unknown config key 'tokenizr'"),
    (['--config.data.corpora=absent.txt'], '', 'absent.txt does not exist'),
    (['--config.tokenizer.path=absent.json'], '', 'absent.json does not exist'),
    (['--config.tokenizer.vocab_size=5'], '', 'at least 261'),
    (['--out={tmp_path}/a.txt/x'], '', 'cannot write'),
    (['stray'], '', 'stray'),
    (['--step=3'], '', '--step goes only with --show'),
    (['--show', '--memmap'], '', '--memmap goes not with --show'),
    (['--show', '--step=-1'], '', 'step=-1: a whole number, 0 or more'),
    (['--show', '--rows=-1'], '', 'rows=-1: a whole number, 0 or more'),
    (['--show', '--step=x'], '', '--step=x'),
    (['--show', '--workdir=w'], '', '--workdir and --config'),
    (['--folder=x'], '', '--folder goes only with --verify'),
    (['--verify', '--memmap'], '', '--memmap goes not with --verify'),
])
def test_wrong_input_is_one_line(tmp_path, flags, more, says):
  (tmp_path / 'a.txt').write_text(LINE * 3)
  code, out, err = run(
      tmp_path, *(f.format(tmp_path=tmp_path) for f in flags), more=more)
  assert code == 2
  assert err.startswith('robertax: error: ') and err.count('\n') == 1
  assert says in err and 'Traceback' not in err


def test_shows_a_batch(tmp_path):
  """In plain text where no terminal is, and none of it where `head` ends."""
  (tmp_path / 'a.txt').write_text(''.join(map(LINE.format, range(300))))
  more = "backend='numpy'"
  code, out, err = run(tmp_path, '--show', '--step=12', '--rows=2', more=more)
  assert code == 0, err
  assert out.startswith('Step 12: 256 rows of 32 tokens, 2 shown\n')
  assert out.count('  before: <s>') == out.count('  after:  ') == 2
  assert '\x1b' not in out and '[mask:' in out
  assert '.</s>Then it ran up the tree.</s>' in out
  assert 'a: 300 documents' in err

  process = start(tmp_path, '--show', '--rows=0', more=more)
  assert process.stdout.readline().startswith('Step 0: 256 rows')
  process.stdout.close()
  err = process.stderr.read()
  assert process.wait(60) == 0 and 'Traceback' not in err


@pytest.mark.parametrize('stop', [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle(tmp_path, stop):
  """Nothing looks finished, no process is left, and the rerun is whole."""
  with open(tmp_path / 'a.txt', 'w') as f:
    f.writelines(map(LINE.format, range(150_000)))
  process = start(tmp_path, more="sentences='prose'")
  deadline = time.time() + 100
  while not glob.glob(f'{tmp_path}/out/records/*/*train*.partial'):
    assert process.poll() is None and time.time() < deadline
    time.sleep(.01)
  os.kill(process.pid, stop)
  process.communicate(timeout=60)
  assert process.returncode
  assert not glob.glob(f'{tmp_path}/out/records/*/manifest.json')
  while True:  # Workers end by themselves when their pipe does.
    try:
      os.killpg(process.pid, 0)
    except ProcessLookupError:
      break
    assert time.time() < deadline
    time.sleep(.05)


def verify(*flags):
  done = subprocess.run(
      [sys.executable, '-m', 'robertax.prepare', '--verify', *flags],
      capture_output=True, text=True, timeout=60, env={
          **os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))})
  return done.returncode, done.stdout, done.stderr


def test_verify_names_the_damaged_file_and_byte(tmp_path):
  (tmp_path / 'a.txt').write_text(''.join(map(LINE.format, range(300))))
  assert run(tmp_path)[0] == 0
  (shard,) = glob.glob(f'{tmp_path}/out/records/*/robertax-train.*')
  folder = os.path.dirname(shard)
  code, out, _ = verify(f'--folder={folder}')
  assert code == 0 and out.startswith(f'OK {folder}: 4 files, ')
  with open(shard, 'r+b') as f:
    f.seek(-9, os.SEEK_END)
    f.write(b'?')
  (tokens,) = glob.glob(f'{tmp_path}/out/tokens/*/train-*.tokens')
  os.truncate(tokens, 1000)
  code, out, err = verify(f'--config={tmp_path}/config.py',
                          f'--out={tmp_path}/out')
  assert code == 1 and 'Traceback' not in err
  assert f'{shard} at byte 0: damaged' in out
  assert f'{tokens} at byte 1,000: truncated' in out
