"""A run of which all lies in a bucket: etils, orbax and tensorstore themselves.

Its workdir, caches and text are behind gs://, which a server on this machine
answers for (bucket_server.py); two ways there: tensorflow's, which etils asks
first, and that of fsspec.
"""

import functools
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.train.loop_test import text

pytest.importorskip('gcp_storage_emulator')
pytest.importorskip('gcsfs')
pytestmark = [pytest.mark.oracle, pytest.mark.timeout(900)]

HERE = pathlib.Path(__file__).parent
STEPS = 12
CONFIG = f"""
from robertax.config import defaults

def get_config():
  config = defaults()
  config.data.update(
      batch_size=8, sequence_length=32, backend='numpy', workers=1,
      remote_cache_gib=.01, shuffle_block=16, shuffle_window=4, shuffle_lanes=2)
  config.tokenizer.vocab_size = 300
  config.model.update(hidden_size=16, num_layers=1, num_heads=2, mlp_size=32,
                      max_positions=32)
  config.optim.update(learning_rate=3e-3, warmup_steps=4)
  config.mesh.data = 1
  config.train.update(steps={STEPS}, log_every=1, eval_every={STEPS},
                      checkpoint_every=3, keep_checkpoints=2)
  return config
"""
# Tensorflow is what etils asks first.
WAYS = {'tensorflow': {}, 'fsspec': {'EPATH_USE_TF': 'no'}}


class Bucket:
  """gs://bucket, seen by no client but urllib."""

  def __init__(self, at: str, certificate: pathlib.Path):
    self.at = at
    self.environment = {
        'STORAGE_EMULATOR_HOST': at,  # Of gcsfs and google-cloud-storage.
        'TENSORSTORE_GCS_HTTP_URL': at,
        # Tensorflow goes to Google, by way of a proxy.
        'https_proxy': at, 'no_proxy': '127.0.0.1',
        'CURL_CA_BUNDLE': str(certificate),
        'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'none', 'NO_GCE_CHECK': 'true',
        'GOOGLE_CLOUD_PROJECT': 'none',
        'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false'}

  def ask(self, path: str, data: bytes | None = None) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(
        f'{self.at}{path}', data, method='GET' if data is None else 'PUT'),
                                timeout=60) as answer:
      return answer.read()

  def put(self, name: str, content: str):
    self.ask(f'/bucket/{name}', content.encode())

  def get(self, name: str) -> str:
    return self.ask(f'/bucket/{name}').decode()

  def names(self, prefix: str = '') -> list[str]:
    found = json.loads(self.ask(f'/storage/v1/b/bucket/o?prefix={prefix}'))
    return [one['name'] for one in found['items']]


@pytest.fixture(scope='module', name='bucket')
def bucket_fixture(tmp_path_factory):
  folder = tmp_path_factory.mktemp('server')
  with subprocess.Popen(
      [sys.executable, HERE / 'bucket_server.py', folder, 'bucket'],
      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
    try:
      yield Bucket(server.stdout.readline().strip(), folder / 'ca.pem')
    finally:
      server.kill()


def start(place, config, workdir, environment, *flags,
          code=('-m', 'robertax.main')):
  """A run whose every file that it is not told of would lie in `place`."""
  left = {key: value for key, value in os.environ.items()
          if not key.startswith(('XDG_', 'COVERAGE')) and 'proxy' not in
          key.lower()}
  return subprocess.Popen(
      [sys.executable, *code, f'--config={config}', f'--workdir={workdir}',
       *flags],
      cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
      env=left | {'HOME': str(place), 'TMPDIR': str(place),
                  'PYTHONPATH': str(HERE.parents[1]), 'JAX_PLATFORMS': 'cpu',
                  'XLA_FLAGS': '--xla_backend_optimization_level=0'}
      | environment)


def finished(run):
  said = run.communicate(timeout=200)[0]
  assert run.returncode == 0, said[-3000:]
  return said


def learned(metrics):
  """What is learned; the rest of a line is seconds."""
  return [{key: value for key, value in json.loads(line).items()
           if 'second' not in key and 'goodput' not in key and 'mfu' not in key}
          for line in metrics.splitlines()]


@pytest.fixture(scope='module', name='local')
def local_fixture(tmp_path_factory):
  """Gives what an undisturbed run in folders of this machine learns, which
  goes on beside others until it is asked for.
  """
  place = tmp_path_factory.mktemp('local')
  (place / 'config.py').write_text(CONFIG)
  (place / 'counting.txt').write_text(text(300))
  run = start(place, 'config.py', 'W', {},
              '--config.data.corpora=counting.txt',
              '--config.data.cache_dir=cache')

  @functools.cache
  def result():
    finished(run)
    facts = f'W/checkpoints/{STEPS}/facts/metadata'
    return (learned((place / 'W/metrics.jsonl').read_text()),
            json.loads((place / facts).read_text())['sums'])

  with run:
    yield result
    run.kill()


@pytest.mark.parametrize('way', WAYS)
def test_a_run_in_a_bucket_is_the_local_one(bucket, local, tmp_path, way):
  bucket.put(f'{way}/config.py', CONFIG)
  bucket.put(f'{way}/text/counting.txt', text(300))
  here, there = tmp_path / 'here', f'gs://bucket/{way}'
  here.mkdir()

  def run():
    return start(here, f'{there}/config.py', f'{there}/W',
                 bucket.environment | WAYS[way] | {
                     # A list of fonts and settings, of libraries and no run.
                     'MPLCONFIGDIR': str(tmp_path / 'fonts'),
                     'KERAS_HOME': str(tmp_path / 'keras')},
                 f'--config.data.corpora={there}/text/*.txt',
                 f'--config.data.cache_dir={there}/cache',
                 '--config.data.remote_cache_dir=blocks')

  def saved(step):
    return bucket.names(
        f'{way}/W/checkpoints/{step}/commit_success.txt') != []

  with run() as killed:
    while killed.poll() is None and not saved(3):
      time.sleep(.02)
    killed.send_signal(signal.SIGKILL)
    said = killed.communicate()[0]
  assert saved(3) and not saved(STEPS), said[-3000:]
  said = finished(run())
  assert f'step {STEPS}/{STEPS}' in said and 'resuming at step' in said
  metrics, sums = local()
  assert learned(bucket.get(f'{way}/W/metrics.jsonl')) == metrics
  assert json.loads(bucket.get(
      f'{way}/W/checkpoints/{STEPS}/facts/metadata'))['sums'] == sums
  # Of the steps that are saved the newest two stay, here as anywhere.
  assert {name.split('/')[3] for name in bucket.names(f'{way}/W/checkpoints/')
          if name.split('/')[3]} == {str(STEPS - 3), str(STEPS)}
  assert any('tfevents' in name for name in bucket.names(f'{way}/W/'))
  # And this machine has gained the blocks of records that it was told to keep.
  gained = {path.relative_to(here).parts[0]
            for path in itertools.chain(here.rglob('*'), here.rglob('.*'))}
  assert gained == {'blocks'}


# A run on a machine of its own, which passes for dead within seconds.
ELSEWHERE = '''
import runpy, socket
socket.gethostname = lambda: '{host}'
from robertax.train import workdir
workdir.BEAT_SECONDS, workdir.LOST_SECONDS = .5, 3.
runpy.run_module('robertax.main', run_name='__main__', alter_sys=True)
'''


def test_a_run_that_stood_still_writes_nothing_beside_its_successor(
    bucket, tmp_path):
  (tmp_path / 'config.py').write_text(CONFIG)
  (tmp_path / 'counting.txt').write_text(text(300))

  def run(host):
    return start(
        tmp_path, 'config.py', 'gs://bucket/paused/W', bucket.environment,
        '--config.data.corpora=counting.txt', '--config.data.cache_dir=cache',
        '--config.train.steps=100000', '--config.train.checkpoint_every=400',
        '--config.train.save_in_background=False',
        code=('-c', ELSEWHERE.format(host=host)))

  def newest():
    found = [name.split('/')[3:] for name in bucket.names(
        'paused/W/checkpoints/')]
    return max((int(step) for step, *rest in found
                if rest == ['commit_success.txt']), default=0)

  def wait_beyond(step, process):
    while newest() <= step:
      assert process.poll() is None, process.communicate()[0][-3000:]
      time.sleep(.02)
    time.sleep(.2)  # It takes steps again, and the next save is far.

  def content():
    return {name: bucket.get(name) if name.endswith('.jsonl') else ''
            for name in bucket.names('paused/W/')
            if not name.endswith('.lease') and 'tfevents' not in name}

  with run('first') as first:
    wait_beyond(0, first)
    first.send_signal(signal.SIGSTOP)
    stood = newest()
    with run('second') as second:
      try:
        wait_beyond(stood, second)
        second.send_signal(signal.SIGSTOP)  # So that one alone could write.
        before = content()
        first.send_signal(signal.SIGCONT)
        said = first.communicate(timeout=60)[0]
        assert first.returncode == 2, said[-3000:]
        assert 'paused/W: process ' in said and 'on second, since' in said
        assert 'Traceback' not in said
        assert content() == before
        assert json.loads(bucket.get('paused/W/.lease'))['host'] == 'second'
      finally:
        first.kill()
        second.kill()
