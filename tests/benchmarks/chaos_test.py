"""A small chaos (`-m chaos`), and what the benchmark counts."""

import json
import subprocess
import sys

import pytest

from benchmarks import chaos, training

ROOT = training.ROOT


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize('processes, minutes', [(1, 1), (2, 1)])
def test_nothing_is_lost(tmp_path, processes, minutes):
  done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.chaos', f'--minutes={minutes}',
       f'--processes={processes}', f'--out={tmp_path}', '--steps=300',
       '--checkpoint_every=30'],
      cwd=ROOT, capture_output=True, text=True, timeout=880, check=False)
  print(done.stdout)
  found = json.loads(done.stdout.splitlines()[-1])
  assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
  assert found['fatal'] == 0 and found['bitwise_equal']
  assert found['faults'] >= 2 and found['runs'] >= 1
  assert not found['over_an_interval_without_a_save_under_way']


def curve(folder, steps, **changed):
  folder.mkdir(exist_ok=True)
  lines = [{'step': step, 'train/loss': 1 / (step + 3), 'train/goodput': .5}
           for step in steps]
  lines[-1] |= changed
  (folder / 'metrics.jsonl').write_text(
      ''.join(json.dumps(line) + '\n' for line in lines))
  return folder


def test_curves_are_compared_bit_for_bit(tmp_path):
  alone = curve(tmp_path / 'a', range(5))
  same = lambda *args, **kwargs: chaos.same_curve(
      curve(tmp_path / 'b', *args, **kwargs), alone)
  assert same(range(5))
  assert same(range(5), **{'train/goodput': .1})
  assert not same(range(4))
  assert not same([0, 1, 2, 3, 3, 4])
  assert not same(range(5), **{'train/loss': 1 / 7 + 1e-16})
  assert not same(range(5), **{'eval/loss': 3.})


def test_the_sum_of_runs():
  fault = lambda kind, repeated=0, **more: dict(
      kind=kind, processes=1, repeated=repeated, under_way=False,
      every=10) | more
  runs = [
      dict(records=[fault('kill', 9), fault('kill', 12, under_way=True)],
           equal=True, fatal='', unprovoked=0),
      dict(records=[fault('kill_peer', 4, processes=2, noticed_seconds=3.5)],
           equal=True, fatal='', unprovoked=1)]
  found = chaos.summary(runs)
  assert found == dict(
      faults=3, kinds=2, fatal=0, bitwise_equal=True, steps_repeated_max=12,
      intervals_repeated_max=1.2, over_an_interval=1,
      over_an_interval_without_a_save_under_way=0, runs=2, unprovoked=1)
  lines = chaos.table([r for run in runs for r in run['records']])
  assert '| kill | 1 | 2 | 2 | 10.5 | 1.05 | 1.20 | 1 |  |' in lines
  assert '| kill_peer | 2 | 1 | 1 | 4.0 | 0.40 | 0.40 | 0 | 3.5 s |' in lines
  # One that did not come to its end was compared with nothing.
  runs.append(dict(records=[fault('flip', fatal=True)], equal=None,
                   fatal='ended with [1]', unprovoked=0))
  found = chaos.summary(runs)
  assert found['fatal'] == 1 and not found['bitwise_equal']
