"""How processes find each other, and what they do as one."""

import os
import re
import socket
import subprocess
import sys

import jax
import pytest

from robertax.errors import InputError
from robertax.parallel import processes


@pytest.fixture
def joined(monkeypatch):
  """What jax.distributed.initialize is called with."""
  calls = []
  monkeypatch.setattr(jax.distributed, 'initialize',
                      lambda **options: calls.append(options))
  return calls


SLURM = {'SLURM_STEP_NODELIST': 'n[1-4]', 'SLURM_NTASKS': '32'}


@pytest.mark.parametrize('arguments, env, where, place', [
    ((), {}, '', None),
    (('h:1234', 4, 2), SLURM, 'flags', ('h:1234', 4, 2)),
    (('h:1234', 1, 0), {}, '', None),
    ((), {'JAX_COORDINATOR_ADDRESS': '[::1]:80', 'JAX_NUM_PROCESSES': '8',
          'JAX_PROCESS_ID': '7'}, 'environment', ('[::1]:80', 8, 7)),
    # An indexed Job of Kubernetes numbers its pods.
    ((), {'JAX_COORDINATOR_ADDRESS': 'j-0-0.j:8476', 'JAX_NUM_PROCESSES': '2',
          'JOB_COMPLETION_INDEX': '1'}, 'environment', ('j-0-0.j:8476', 2, 1)),
    ((), SLURM, 'SLURM', None),
    ((), SLURM | {'SLURM_NTASKS': '1'}, '', None),
    ((), {'TPU_WORKER_HOSTNAMES': 'a,b'}, 'GKE TPU', None),
    ((), {'TPU_WORKER_HOSTNAMES': 'localhost'}, '', None),
    ((), {'MEGASCALE_COORDINATOR_ADDRESS': 'a:8080'}, 'TPU slices', None),
    ((), {'OMPI_COMM_WORLD_SIZE': '4'}, 'Open MPI', None),
])
def test_where_the_others_are_found(joined, arguments, env, where, place):
  env = {'JAX_PLATFORMS': 'cpu'} | env
  assert processes.start(*arguments, env=env) == where
  assert len(joined) == bool(where)
  if where:
    names = ('coordinator_address', 'num_processes', 'process_id')
    assert tuple(joined[0].get(n) for n in names) == (place or (None,) * 3)
    # The end of one is seen within a minute, as processes.start measures it.
    assert joined[0]['heartbeat_timeout_seconds'] == 75


def test_nothing_outside_can_reach_a_run_of_this_machine(joined):
  processes.start('127.0.0.1:1234', 2, 0)
  assert joined[0]['coordinator_bind_address'] == '127.0.0.1:1234'


@pytest.mark.parametrize('arguments, words', [
    (('h:1234', 0, -1), '--process_id'), (('', 2, 1), 'HOST:PORT'),
    (('h', 2, 1), 'HOST:PORT'), (('h:1', 2, 2), '--process_id=2')])
def test_half_of_it_is_refused(joined, arguments, words):
  with pytest.raises(InputError, match=words):
    processes.start(*arguments, env={})
  assert not joined


def test_who_does_not_answer_is_named(monkeypatch):
  def nobody(**options):
    raise RuntimeError('DEADLINE_EXCEEDED: Barrier timed out.\nmore')
  monkeypatch.setattr(jax.distributed, 'initialize', nobody)
  with pytest.raises(InputError, match='process 0 at h:12.*DEADLINE'):
    processes.start('h:12', 2, 1)


def test_three_processes_are_one(tmp_path):
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    port = server.getsockname()[1]
  env = os.environ | {'TF_CPP_MIN_LOG_LEVEL': '3'}
  env.pop('PYTHONUNBUFFERED', None)  # What is said must not hang on it.
  running = [subprocess.Popen(
      [sys.executable, '-m', 'tests.parallel.agreeing', str(i), '3', str(port),
       str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
      text=True, env=env) for i in range(3)]
  try:
    said = [process.communicate(timeout=120) for process in running]
  finally:
    for process in running:
      process.kill()
  # Whoever is wrong alone says so, and does not wait for the others.
  assert running[1].returncode == 2, said[1][1]
  assert 'process 1 of 3: alone in this' in said[1][1]
  for number in (0, 1, 2):
    assert 'AssertionError' not in said[number][1], said[number][1]
    assert ('speaks' in said[number][0]) == (number == 0), said[number][0]
    heard = said[number][1]
    assert (f'{number} tells' in heard) == (number == 0), heard
    for words in ('whispers', 'warns', 'logs', 'dies'):
      assert f'{number} {words}' in heard, heard
    assert 'Traceback' in heard and 'in die' in heard
    if number:  # Process 1 leaves, and then JAX aborts the others.
      of_python = re.split(r'^[EFIW]\d{4} ', heard, flags=re.MULTILINE)[0]
      assert all(line.startswith(f'[process {number}] ')
                 for line in of_python.splitlines()), heard
  assert 'record 3 is left out' in said[1][1]
  log = (tmp_path / 'log').read_text().splitlines()
  # Of those that share a folder process 0 is first, and alone.
  assert log.index('0 ends') < log.index('1 begins')
  # The other need not wait.
  assert log.index('2 begins') < log.index('1 begins')
  assert not list((tmp_path / 'shared').iterdir())
