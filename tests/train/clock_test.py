"""Where the seconds go, and which of them count."""

import json
import types

import pytest

from robertax.train import clock as clocks
from robertax.train.clock import KINDS, Clock, Goodput


@pytest.fixture
def now(monkeypatch):
  """A clock that goes when it is told to."""
  time = types.SimpleNamespace(seconds=1000.0)
  monkeypatch.setattr(clocks, 'time', types.SimpleNamespace(
      time=lambda: time.seconds, perf_counter=lambda: time.seconds - 900))
  return time


def test_every_second_is_of_one_kind(now):
  clock = Clock()
  now.seconds += 5
  with clock.at('evaluation'):
    now.seconds += 2
    with clock.at('input_wait'):
      now.seconds += 0.25
    now.seconds += 1
  now.seconds += 4
  clock.turn('step')
  now.seconds += 8
  assert clock.lap() == {'start': 9, 'input_wait': 0.25, 'step': 8,
                         'checkpoint': 0, 'evaluation': 3}
  now.seconds += 1
  with pytest.raises(KeyError), clock.at('checkpoint'):
    now.seconds += 0.5
    raise KeyError
  assert clock.lap() == dict.fromkeys(KINDS, 0) | {'step': 1, 'checkpoint': 0.5}
  assert clock.step_seconds == 9


class Run:
  """Starts of a run whose steps take a second and saves two."""

  def __init__(self, now, folder):
    self.now, self.folder = now, str(folder)

  def start(self, step, steps, saved_every=10, logged_every=4):
    clock = Clock()
    self.now.seconds += 7  # Preparing.
    goodput = Goodput(self.folder, clock, step)
    clock.turn('step')
    for number in range(step + 1, step + steps + 1):
      self.now.seconds += 1
      if number % logged_every == 0:
        goodput.note(number)
      if number % saved_every == 0:
        goodput.note(number)
        with clock.at('checkpoint'):
          self.now.seconds += 2
    return goodput


def test_goodput_of_one_start(now, tmp_path):
  goodput = Run(now, tmp_path).start(0, 20)
  assert goodput.note(20) == pytest.approx(20 / (7 + 20 + 2 * 2))
  assert 'over' not in goodput.describe()


def test_goodput_over_kills(now, tmp_path):
  """Killed at 17, at 23 and before it had saved; saved steps are 10 and 20."""
  run = Run(now, tmp_path)
  begun = now.seconds
  run.start(0, 17)
  now.seconds += 100  # Nobody starts it again.
  run.start(10, 13)  # Again from 10: 11 to 17 are lost.
  with open(f'{tmp_path}/clock.jsonl', 'ab') as file:
    file.write(b'\xff\0\n{"start": 2, "st')  # A kill may cut a line.
  run.start(20, 3)  # 21 to 23 are lost.
  goodput = run.start(20, 10)
  assert goodput.starts == 4
  assert goodput.note(30) == pytest.approx(30 / (now.seconds - begun))
  assert 'over 4 starts' in goodput.describe() and '30.0 s' in (
      goodput.describe())


def test_a_kill_before_the_first_save_counts_for_nothing(now, tmp_path):
  run = Run(now, tmp_path)
  begun = now.seconds
  run.start(0, 9)
  goodput = run.start(0, 5)
  assert goodput.note(5) == pytest.approx(5 / (now.seconds - begun))


def test_only_one_process_writes(now, tmp_path):
  goodput = Goodput(str(tmp_path), Clock(), 0, write=False)
  goodput.note(3)
  assert not list(tmp_path.iterdir())
  goodput = Goodput(str(tmp_path), Clock(), 0)
  goodput.note(3)
  lines = (tmp_path / 'clock.jsonl').read_text().splitlines()
  assert [json.loads(line)['step'] for line in lines] == [0, 3]
