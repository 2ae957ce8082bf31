"""Two runs, one workdir: the second is told who the first is."""

import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from robertax import files
from robertax.errors import InputError, TakenOver
from robertax.train import workdir
from robertax.train.workdir import Lease, Lock

HOLDER = '''
import sys, time
from robertax.train.workdir import {name}
with {name}(sys.argv[1]) as held:
  print('held', flush=True)
  time.sleep(100)
'''.replace('with {name}(sys.argv[1]) as held', 'held = {name}(sys.argv[1])\n'
            'if True')


@pytest.fixture
def holder(tmp_path):
  """Another process that holds W by a Lock or a Lease."""
  started = []

  def start(name):
    enter = '\nheld.__enter__()' if name == 'Lock' else ''
    code = HOLDER.format(name=name).replace('\nif True', f'{enter}\nif True')
    process = subprocess.Popen([sys.executable, '-c', code, str(tmp_path)],
                               stdout=subprocess.PIPE, text=True)
    started.append(process)
    assert process.stdout.readline() == 'held\n'
    return process

  yield start
  for process in started:
    process.kill()
    process.wait()


@pytest.mark.parametrize('name', ['Lock', 'Lease'])
def test_the_second_is_refused_until_the_first_is_killed(
    tmp_path, holder, name):
  first = holder(name)

  def take():
    if name == 'Lock':
      with Lock(str(tmp_path)) as taken:
        assert taken.held
    else:
      Lease(str(tmp_path)).give_back()

  with pytest.raises(InputError, match='is in use by process') as e:
    take()
  who = f'process {first.pid} on {os.uname().nodename}, since 2'
  assert who in str(e.value)
  first.send_signal(signal.SIGKILL)
  first.wait()
  take()
  assert not list(tmp_path.iterdir())  # And it leaves nothing itself.


def test_a_folder_that_is_not_there_is_made_late(tmp_path):
  folder = tmp_path / 'w'
  with Lock(str(folder)) as taken:
    assert not taken.held and not folder.exists()
    taken.make()
    assert taken.held
    with pytest.raises(InputError, match=f'process {os.getpid()} on'), Lock(
        str(folder)):
      pass
  with Lock(str(tmp_path / 'x')) as taken:
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x' / 'config.json').write_text('{}')
    with pytest.raises(InputError, match='another run has begun'):
      taken.make()


def test_a_lease_of_another_machine_is_taken_over_when_it_is_silent(
    tmp_path, monkeypatch):
  dead = files.this_process() | {'place': 'other', 'pid': 7}
  (tmp_path / '.lease').write_text(json.dumps(dead))
  begun = time.monotonic()
  lease = Lease(str(tmp_path), beat=0.02, lost=0.3)
  assert 0.3 <= time.monotonic() - begun < 5
  monkeypatch.setattr(files, '_place', lambda: 'a third')
  with pytest.raises(InputError, match='is in use by process'):
    Lease(str(tmp_path), lost=0.3)  # It beats.
  lease.give_back()
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('changes, alive', [
    ({}, True), ({'born': '1'}, False), ({'pid': 1 << 40}, False),
    ({'born': None}, True), ({'host': 'other'}, None), ({'place': ''}, None),
    ({'pid': None}, None), ({'pid': 0}, None), ({'pid': '7'}, None)])
def test_who_is_known_to_be_alive_or_dead(changes, alive):
  assert files.is_alive(files.this_process() | changes) is alive


def test_a_lease_that_cannot_be_renewed_says_so_once(
    tmp_path, monkeypatch, capfd):
  def gone():
    raise OSError(5, 'gone')

  lease = Lease(str(tmp_path), beat=0.02)
  monkeypatch.setattr(lease, '_write', gone)
  time.sleep(0.3)
  lease.give_back()
  said = capfd.readouterr().err
  assert said.count('cannot be written') == 1 and '.lease' in said


PAUSED = '''
import itertools, sys, time
from robertax import files
from tests.train import lock_test
lock_test.without_locks()
files._place = lambda: 'another container of the same name'
from robertax.train import workdir
from robertax.train.writer import Writer
workdir.BEAT_SECONDS = .5  # It is seldom stopped within a beat.
with workdir.Lock(sys.argv[1]) as lock:
  writer = Writer(sys.argv[1], None, check=lock.check)
  for step in itertools.count():
    writer.add(step, {'train/loss': 1.})
    writer.flush()
    print(step, flush=True)
    time.sleep(.5)
'''


def without_locks(put=setattr):
  """Files of this process lie on a disk that knows no locks, from now on."""
  def flock(*_):
    raise OSError(errno.ENOLCK, 'no locks available')

  put(fcntl, 'flock', flock)


def test_a_holder_that_stood_still_writes_nothing_beside_its_successor(
    tmp_path, monkeypatch):
  without_locks(monkeypatch.setattr)
  monkeypatch.setattr(workdir, 'LOST_SECONDS', .5)
  with subprocess.Popen(
      [sys.executable, '-c', PAUSED, str(tmp_path)], stdout=subprocess.PIPE,
      stderr=subprocess.PIPE, text=True,
      env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}) as paused:
    try:
      assert [paused.stdout.readline() for _ in range(2)] == ['0\n', '1\n']
      paused.send_signal(signal.SIGSTOP)
      with Lock(str(tmp_path)) as mine:
        before = (tmp_path / 'metrics.jsonl').read_text()
        paused.send_signal(signal.SIGCONT)
        _, said = paused.communicate(timeout=20)
        assert paused.returncode and (
            f'process {os.getpid()} on {os.uname().nodename}' in said)
        assert 'TakenOver' in said and 'writes nothing more' in said
        mine.check()
      assert (tmp_path / 'metrics.jsonl').read_text() == before
      assert before.count('\n') == 2
    finally:
      paused.kill()


def test_a_lease_that_is_lost_is_not_taken_back(tmp_path):
  """Not even where its successor has come to its end meanwhile."""
  lease = Lease(str(tmp_path), beat=100.)
  lease.check()
  (tmp_path / '.lease').unlink()
  for _ in range(2):
    with pytest.raises(TakenOver, match='another run has taken it'):
      lease.check()
    assert not lease._write()
  lease.give_back()
  assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_it_holds_and_ends(tmp_path):
  """A full disk: no byte of who holds it, and none tried again at the end."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
  try:
    with Lock(str(tmp_path)) as taken:
      assert taken.held
      with pytest.raises(InputError, match='in use by another process'):
        with Lock(str(tmp_path)):
          pass
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  with Lock(str(tmp_path)) as taken:
    assert taken.held
