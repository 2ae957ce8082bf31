"""Peers that die, stop or leave are named, and end the others."""

import os
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest

from robertax.errors import PEER_GONE
from robertax.parallel.processes import Pace, Silence, says_peer_is_gone
from tests.xla_flags import FAST

LIMIT = 10.0


def said(beat, **more):
  import json
  return json.dumps({'host': 'h', 'pid': 7, 'doing': 'step, update 3',
                     'beat': beat, **more})


def test_who_says_the_same_is_silent_and_who_never_spoke_is_not():
  silence = Silence(0, LIMIT)
  silence.heard({0: said(1), 1: said(1), 2: said(1)})
  silence.pass_by(6)
  silence.heard({0: said(1), 1: said(2), 2: said(1)})
  silence.pass_by(6)
  assert silence.missing() == {2: 12}  # Not itself, though it says the same.
  assert 'process 2 (host h, pid 7; step, update 3), silent for 12 s' in (
      silence.describe(2))
  silence.heard({0: said(1), 1: said(3), 2: said(2)})
  assert not silence.missing()


def test_who_has_come_to_its_end_is_not_missed():
  silence = Silence(1, LIMIT)
  silence.heard({0: said(1), 2: said(5, done=True)})
  silence.pass_by(5)
  silence.heard({0: said(2), 2: said(5, done=True)})
  silence.pass_by(8)
  assert not silence.missing()


def test_who_leaves_in_disorder_says_why():
  silence = Silence(0, LIMIT)
  silence.heard({1: said(4, gone='exit code 1: no memory')})
  assert silence.left() == [1]
  assert silence.describe(1).endswith('has ended: exit code 1: no memory')


def test_where_nothing_comes_it_is_process_0():
  silence = Silence(2, LIMIT)
  silence.heard({0: said(1), 1: said(1)})
  silence.pass_by(LIMIT)
  assert silence.missing() == {0: LIMIT}
  assert not Silence(2, LIMIT).missing()


def test_a_process_that_was_stopped_itself_blames_nobody():
  now = [0.0]
  pace = Pace(1.0, lambda: now[0])
  passed = []
  for seconds in (1.0, 1.5, 3600.0, 1.0):
    now[0] += seconds
    passed.append(pace.passed())
  assert passed == [1.0, 1.5, 3.0, 1.0]


COMMAND = '''
import sys, time
import jax
from robertax.errors import InputError
from robertax.parallel import processes

number, port, timeout = sys.argv[1:]
processes.start(f'127.0.0.1:{port}', 3, int(number),
                heartbeat_seconds=8 * float(timeout))
with processes.as_one(), processes.Peers(float(timeout), lambda: 'in a test'):
  print(number, flush=True)
  if number == '1' and sys.stdin.readline() == 'fail\\n':
    raise InputError('row 7 is odd')
  time.sleep(60)
'''


@pytest.mark.parametrize('what, words', [
    (signal.SIGSTOP, 'silent for'), (signal.SIGKILL, 'silent for'),
    ('fail', 'has ended: exit code 2: InputError: row 7 is odd')])
def test_the_others_end_within_the_time_and_say_who(what, words):
  timeout = 6
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    port = server.getsockname()[1]
  running = [subprocess.Popen(
      [sys.executable, '-c', COMMAND, str(i), str(port), str(timeout)],
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
      text=True,
      env=os.environ | {'PYTHONPATH': os.getcwd(), 'XLA_FLAGS': FAST})
             for i in range(3)]
  try:
    # Only process 0 speaks.
    assert running[0].stdout.readline() == '0\n'
    time.sleep(1.5)
    begun = time.monotonic()
    if what == 'fail':
      running[1].stdin.write('fail\n')
      running[1].stdin.flush()
    else:
      running[1].send_signal(what)
    for number in (2, 0):
      _, errors = running[number].communicate(timeout=60)
      assert running[number].returncode == PEER_GONE, errors[-2000:]
      assert 'process 1 (host ' in errors and words in errors, errors[-2000:]
      assert 'in a test' in errors and 'last checkpoint' in errors
    # Process 0 goes last, and ending takes this loaded machine some seconds.
    assert time.monotonic() - begun < timeout + 6
  finally:
    for process in running:
      process.kill()
      process.wait()


# What two processes raised on CPUs when the other was killed (jaxlib 0.10), and
# what JAX says on GPUs.
OF_A_PEER = [
    'UNKNOWN: Gloo all-reduce failed: [external/gloo/gloo/transport/tcp/pair.cc'
    ':547] Connection closed by peer [127.0.0.1]:47026',
    'UNAVAILABLE: recvmsg:Connection reset by peer\nAdditional GRPC error',
    'DEADLINE_EXCEEDED: Barrier timed out. Id: x::0',
    'INTERNAL: NCCL operation ncclAllReduce() failed: remote process exited']
OF_THIS_ONE = [
    'RESOURCE_EXHAUSTED: Out of memory while NCCL was started',
    'INVALID_ARGUMENT: the peer of parameter 3', 'INTERNAL: illegal address']


def error_of(raise_it):
  try:
    raise_it()
  except Exception as e:  # noqa: BLE001
    return e


def raised(error):
  def raise_it():
    raise error
  return error_of(raise_it)


def test_only_the_runtime_says_that_another_is_gone():
  runtime = jax.errors.JaxRuntimeError
  for text in OF_A_PEER:
    assert says_peer_is_gone(runtime(text))
    assert says_peer_is_gone(raised(runtime(text)))
    for kind in (ValueError, RuntimeError, KeyError, OSError):
      assert not says_peer_is_gone(raised(kind(text)))
  for text in OF_THIS_ONE:
    assert not says_peer_is_gone(raised(runtime(text)))
  for error in (KeyError('peerread/loss'), ValueError('heartbeat'),
                ConnectionResetError('Connection reset by peer')):
    assert not says_peer_is_gone(raised(error))


def test_what_it_was_raised_from_counts_too():
  def wrapped():
    try:
      raise jax.errors.JaxRuntimeError(OF_A_PEER[0])
    except RuntimeError as e:
      raise OSError('not saved') from e
  assert says_peer_is_gone(error_of(wrapped))


COLLECTIVE = '''
import os, signal, sys
import jax
import jax.numpy as jnp
import numpy as np
from robertax.parallel import processes

number, port, how = sys.argv[1:]
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
processes.start(f'127.0.0.1:{port}', 2, int(number), heartbeat_seconds=60)
mesh = jax.make_mesh((2,), ('data',),
                     axis_types=(jax.sharding.AxisType.Auto,))
x = jax.make_array_from_callback(
    (2,), jax.sharding.NamedSharding(mesh, jax.P('data')),
    lambda index: np.ones(2, np.float32)[index])
total = jax.jit(lambda x: x.sum(), out_shardings=jax.sharding.NamedSharding(
    mesh, jax.P()))
with processes.as_one(), processes.Peers(6):
  for step in range(10**6):
    if number == '1' and step == 20:
      if how == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
      {}['peerread/loss']
    if how == 'eager':  # The error comes while a program is started.
      from jax.experimental import multihost_utils
      multihost_utils.process_allgather(np.ones(3))
    else:
      float(total(x))
'''


@pytest.mark.parametrize('how, code', [
    ('kill', -signal.SIGKILL), ('raise', 1), ('eager', 1)])
def test_an_error_of_a_collective_is_a_peer_and_that_of_a_program_is_not(
    how, code):
  """The real errors: of the other's end, and the one that was its reason."""
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    port = server.getsockname()[1]
  running = [subprocess.Popen(
      [sys.executable, '-c', COLLECTIVE, str(i), str(port), how],
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      env=os.environ | {'PYTHONPATH': os.getcwd(), 'XLA_FLAGS': FAST,
                        'JAX_PLATFORMS': 'cpu'}) for i in range(2)]
  try:
    said = [process.communicate(timeout=120)[1] for process in running]
  finally:
    for process in running:
      process.kill()
  assert running[1].returncode == code, said[1][-2000:]
  assert running[0].returncode == PEER_GONE, said[0][-2000:]
  assert 'last checkpoint' in said[0]
  if code == 1:
    assert "KeyError: 'peerread/loss'" in said[1] and 'Traceback' in said[1]
    assert 'process is gone' not in said[1]
