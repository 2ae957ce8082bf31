"""The watchdog: fires where a run stands still, and only there."""

import os
import signal
import subprocess
import sys
import time

import pytest

from robertax.errors import STALLED
from robertax.train.clock import PATIENCE, Clock, Watchdog

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
  clock.longest[kind] = 900.0
  assert watchdog.limit(kind) == 9000


def test_zero_watches_nothing():
  with Watchdog('', Clock(), 0) as watchdog:
    assert watchdog._thread is None
