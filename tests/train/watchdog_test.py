"""The watchdog: fires where a run stands still, and only there."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax import progress
from robertax.config import MeshConfig, parse
from robertax.errors import STALLED
from robertax.parallel.mesh import make_mesh
from robertax.train import checkpoint, facts
from robertax.train.clock import PATIENCE, Clock, Watchdog
from robertax.train.evaluate import Evaluation

COMMAND = '''
import sys, threading, time
from robertax.train.clock import Clock, Watchdog

folder, seconds, on_stall, going = sys.argv[1:]

def stuck_in_the_pipeline():
  time.sleep(60)

clock = Clock()
threading.Thread(target=stuck_in_the_pipeline, daemon=True).start()
with Watchdog(folder, clock, float(seconds), on_stall):
  clock.turn('step', 41)
  end = time.monotonic() + float(going)
  print('going', flush=True)
  while time.monotonic() < end:
    clock.turn('step')
    time.sleep(0.05)
  with clock.at('input_wait'):
    threading.Event().wait(20 if on_stall == 'exit' else 4)
'''


def start(folder, seconds, on_stall, going):
  return subprocess.Popen(
      [sys.executable, '-c', COMMAND, str(folder), str(seconds), on_stall,
       str(going)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      env=os.environ | {'PYTHONPATH': os.getcwd()})


def test_a_stall_is_reported_with_every_thread_and_ends_the_process(tmp_path):
  process = start(tmp_path, 1, 'exit', 0)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == STALLED, errors
  written = (tmp_path / 'stalled-0.txt').read_text()
  for said in (errors, written):
    assert 'input_wait, update 41' in said
    assert 'stuck_in_the_pipeline' in said and 'in wait' in said
  assert 'train.on_stall' in errors


def test_report_waits_on(tmp_path):
  process = start(tmp_path, 1, 'report', 0)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 0, errors
  # After one second and after two.
  assert 2 <= errors.count('has stood still') <= 3


def test_a_process_that_was_stopped_and_goes_on_is_no_stall(tmp_path):
  process = start(tmp_path, 2, 'exit', 6)
  assert process.stdout.readline() == 'going\n'
  time.sleep(0.5)
  process.send_signal(signal.SIGSTOP)
  time.sleep(3)
  process.send_signal(signal.SIGCONT)
  time.sleep(1)
  assert process.poll() is None  # It goes on; the stall is still to come.
  _, errors = process.communicate(timeout=60)
  assert process.returncode == STALLED
  assert errors.count('has stood still') == 1


@pytest.mark.parametrize('kind', PATIENCE)
def test_patience_is_by_kind_and_what_is_usual_is_no_stall(kind):
  clock = Clock()
  watchdog = Watchdog('', clock, 600)
  assert watchdog.limit(kind) == 600 * PATIENCE[kind]
  watchdog.longest[kind] = 900.0
  assert watchdog.limit(kind) == 9000


def test_zero_watches_nothing():
  with Watchdog('', Clock(), 0) as watchdog:
    assert watchdog._thread is None


@dataclasses.dataclass(frozen=True)
class Products:
  """An objective of one parameter."""

  def totals(self, batch):
    return {'weight_sum': batch['x'].sum()}

  def loss(self, params, batch, dropout_keys, totals):
    total = (params * batch['x']).sum()
    return total / totals['weight_sum'], {
        'loss_sum': total, 'weight_sum': batch['x'].sum()}


class Slow:
  """A task whose evaluation takes `seconds` for each of some batches."""
  objective = Products()

  def __init__(self):
    self.seconds = []

  def eval_constants(self, batch_size, max_examples):
    return {}

  def eval_sets(self, batch_size, max_examples, rows):
    def batches():
      for seconds in self.seconds:
        time.sleep(seconds)
        yield {'x': np.ones((batch_size, 4), np.float32)}
    return {'a': batches}

  def eval_bad_records(self):
    return {'a': 3}

  def summarize(self, sums):
    return {'loss': sums['loss_sum'] / sums['weight_sum']}


def test_an_evaluation_may_be_long_and_one_that_hangs_is_a_stall(
    tmp_path, capfd):
  task, clock = Slow(), Clock()
  mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
  evaluate = Evaluation(parse({'data': {'batch_size': 8}}), task, mesh)
  report, limit = tmp_path / 'stalled-0.txt', 0.9
  with jax.set_mesh(mesh):
    task.seconds = [0]
    evaluate(jnp.float32(2))  # Compiled.
    with Watchdog(str(tmp_path), clock, limit / PATIENCE['evaluation'],
                  'report') as watchdog, clock.at('evaluation'):
      assert watchdog.limit('evaluation') == pytest.approx(limit)
      task.seconds = [limit / 10] * 12
      assert evaluate(jnp.float32(2)) == {
          'eval/a/loss': 2, 'eval/loss': 2, 'eval/a/bad_records': 3,
          'eval/bad_records': 3}
      assert not report.exists(), report.read_text()
      # What was usual is a batch, not an evaluation.
      task.seconds = [0, 0, watchdog.limit('evaluation') + 0.5]
      evaluate(jnp.float32(2))
  assert 'evaluation, update 0' in report.read_text()
  assert 'has stood still' in capfd.readouterr().err


def test_a_save_is_heard_as_its_files_grow(tmp_path, monkeypatch):
  monkeypatch.setattr(checkpoint, 'LOOK_SECONDS', 0.02)
  (tmp_path / '8').mkdir()
  (tmp_path / '14.orbax-checkpoint-tmp-3' / 'd').mkdir(parents=True)
  file = tmp_path / '14.orbax-checkpoint-tmp-3' / 'd' / 'x'
  heard = []
  with progress.heard_by(lambda: heard.append(1)), checkpoint.growth_heard(
      str(tmp_path)):
    for size in range(1, 4):
      with file.open('ab') as f:  # It never shrinks, as `write_bytes` would.
        f.write(b'.')
      time.sleep(0.2)
      assert len(heard) == size
    time.sleep(0.2)
    assert len(heard) == 3  # It hangs.
  assert not facts.tree_sums({}) and len(heard) == 3
  with progress.heard_by(lambda: heard.append(1)):
    facts.tree_sums({'a': np.ones(3, np.float32), 'b': np.ones(2, np.int32)})
  assert len(heard) == 5


USUAL = """
import sys, time
from robertax.train.clock import Clock, Watchdog
clock = Clock()
with Watchdog('', clock, 0.3, 'report') as watchdog:
  clock.turn('step')
  print('ready', flush=True)
  end = time.monotonic() + 4
  while time.monotonic() < end:
    time.sleep(.01)
    clock.turn('step')
  print(watchdog.limit('step'))
"""


def test_while_it_was_stopped_nothing_was_usual():
  process = subprocess.Popen(
      [sys.executable, '-c', USUAL], stdout=subprocess.PIPE, text=True)
  assert process.stdout.readline() == 'ready\n'
  process.send_signal(signal.SIGSTOP)
  time.sleep(2)
  process.send_signal(signal.SIGCONT)
  assert float(process.communicate(timeout=60)[0]) < 3  # And not 20 s.
