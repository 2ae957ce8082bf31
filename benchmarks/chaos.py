"""Tests that no fault loses work: `python -m benchmarks.chaos --minutes=N`.

One or two processes train a tiny model under the random faults of
benchmarks.faults, and the same command restarts them after each. At the end,
each logged step must appear once in the metrics, with the numbers of an
undisturbed run, and the final parameters and optimizer state must equal that
run's, bit for bit. New runs start until the time is over; with --out they are
kept, and a later call adds to them.

A fault is survived if the exit codes are those of docs/runs.md and the same
command resumed. For each fault the repeated steps are counted: after a kill,
from the newest checkpoint to the newest logged step; after damage, from the
damaged checkpoint to the one that was used. Saves run in the background, so a
kill before one is finished also repeats the steps made meanwhile; such faults
are counted apart. With --saves_wait (train.save_in_background=False) there are
none.

The last line is one JSON object: `faults`, `kinds`, `fatal`, `bitwise_equal`,
`steps_repeated_max`, `intervals_repeated_max` (of train.checkpoint_every),
`over_an_interval`, `over_an_interval_without_a_save_under_way`, `runs`,
`unprovoked` (timeouts without a fault, on a busy machine).
"""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
from typing import Any

from benchmarks import faults
from benchmarks.training import Running, flags
from benchmarks.trial import Fatal, Trial

# The metrics that are equal in all runs with the same seed.
SAME = ('train/loss', 'train/accuracy', 'train/masked_tokens',
        'train/learning_rate', 'train/gradient_norm', 'train/update_norm',
        'train/parameter_norm', 'train/epoch', 'eval/loss', 'eval/accuracy')


def same_curve(workdir: pathlib.Path, other: pathlib.Path) -> bool:
  """Whether both have equal steps, each once, with equal numbers."""
  curves = []
  for folder in (workdir, other):
    with open(folder / 'metrics.jsonl') as f:
      lines = [json.loads(line) for line in f]
    curves.append([{'step': line['step']} | {
        name: line[name] for name in SAME if name in line} for line in lines])
  steps = [line['step'] for line in curves[0]]
  return steps == sorted(set(steps)) and curves[0] == curves[1]


def arrays(workdir: pathlib.Path) -> dict[str, Any]:
  """Path -> array of the last checkpoint's parameters and optimizer state."""
  os.environ['JAX_PLATFORMS'] = 'cpu'
  import jax
  import numpy as np

  from robertax.train.checkpoint import Checkpoints, finished_step
  from robertax.train.step import TrainState
  step = finished_step(str(workdir))
  saved = Checkpoints(str(workdir), read_only=True, alone=True)
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  laid = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one)
  state = saved.restore(step, TrainState(
      laid(jax.ShapeDtypeStruct((), np.int32)),
      *(jax.tree.map(laid, saved.shapes(step, item))
        for item in ('params', 'opt_state'))))
  return {jax.tree_util.keystr(path): np.asarray(x) for path, x in
          jax.tree_util.tree_flatten_with_path(state)[0]}


def same_arrays(workdir: pathlib.Path, other: pathlib.Path) -> bool:
  """Whether two finished runs have the same state, bit for bit."""
  a, b = arrays(workdir), arrays(other)
  return a.keys() == b.keys() and all(
      a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a)


def table(records: list[dict[str, Any]]) -> str:
  """A table of faults by kind: survived, steps repeated, noticed within."""
  rows = ['| fault | processes | times | survived | steps repeated, mean '
          '| intervals repeated, mean | most | more than one '
          '| noticed within |', '|---|---|---|---|---|---|---|---|---|']
  kinds = collections.defaultdict(list)
  for record in records:
    kinds[record['kind'], record['processes']].append(record)
  for (kind, processes), found in sorted(kinds.items()):
    steps = [r['repeated'] for r in found]
    intervals = [r['repeated'] / r['every'] for r in found]
    noticed = [r['noticed_seconds'] for r in found if 'noticed_seconds' in r]
    rows.append(
        f'| {kind} | {processes} | {len(found)} '
        f'| {sum(not r.get("fatal") for r in found)} '
        f'| {sum(steps) / len(found):.1f} | {sum(intervals) / len(found):.2f} '
        f'| {max(intervals):.2f} | {sum(x > 1 for x in intervals)} '
        f'| {f"{max(noticed):.1f} s" if noticed else ""} |')
  return '\n'.join(rows)


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
  """Makes the JSON object of the last line.

  Args:
    runs: dicts with `records`, `equal` (None: the run did not end), `fatal`,
      `unprovoked`.
  """
  records = [r for run in runs for r in run['records']]
  over = [r for r in records if r['repeated'] > r['every']]
  return {
      'faults': len(records), 'kinds': len({r['kind'] for r in records}),
      'fatal': sum(bool(run['fatal']) for run in runs),
      'bitwise_equal': bool(runs) and all(run['equal'] for run in runs),
      'steps_repeated_max': max((r['repeated'] for r in records), default=0),
      'intervals_repeated_max': round(max(
          (r['repeated'] / r['every'] for r in records), default=0), 3),
      'over_an_interval': len(over),
      'over_an_interval_without_a_save_under_way': sum(
          not r['under_way'] for r in over),
      'runs': len(runs), 'unprovoked': sum(run['unprovoked'] for run in runs)}


def arguments(shared: pathlib.Path, steps: int, every: int, patience: float,
              waits: bool = False) -> list[str]:
  """The flags of main."""
  return flags(
      shared, data__backend='numpy', train__steps=steps, train__log_every=1,
      train__checkpoint_every=every, train__keep_checkpoints=3,
      train__eval_every=every + every // 2, train__eval_examples=16,
      train__peer_timeout_seconds=patience,
      train__save_in_background=not waits)


def undisturbed(given: list[str], folder: pathlib.Path, processes: int):
  """Makes the undisturbed run, once.

  Raises:
    RuntimeError: it failed.
  """
  if not (folder / 'done').exists():
    shutil.rmtree(folder, ignore_errors=True)
    running = Running(given, folder, processes)
    try:
      running.wait(900)
    finally:
      running.kill()
    if set(running.codes) != {0}:
      raise RuntimeError(f'ended with {running.codes}:\n'
                         + '\n'.join(running.lines()[-40:]))
    (folder / 'done').touch()


def one_run(out: pathlib.Path, every: int, processes: int, seed: int,
            end: float, given: list[str], alone: pathlib.Path
            ) -> dict[str, Any]:
  """Makes a run under faults, and compares it with the undisturbed one."""
  disk = faults.Disk(out / f'disk-{processes}')
  if not disk.own:
    print('no small disk can be mounted here: disk_full limits the size '
          'of files instead, and start_on_full_disk is left out')
  workdir = disk.folder / 'w'
  shutil.rmtree(workdir, ignore_errors=True)
  trial = Trial(faults.Scene(
      workdir, disk, random.Random(seed),
      lambda: Running(given, workdir, processes), every), end, processes)
  print(f'{processes} process(es), seed {seed}', flush=True)
  equal, fatal = None, ''
  try:
    trial.go()
    curve, state = same_curve(workdir, alone), same_arrays(workdir, alone)
    equal = curve and state
    print(f'  at its end: loss curve {"equal" if curve else "NOT EQUAL"}, '
          f'parameters and optimizer {"equal" if state else "NOT EQUAL"}',
          flush=True)
  except Fatal as e:
    fatal = str(e)
    print(f'  FATAL: {fatal}', flush=True)
    if trial.records:
      trial.records[-1]['fatal'] = True
  finally:
    if not equal and workdir.exists():
      shutil.copytree(workdir, out / f'failed-{processes}-{seed}',
                      dirs_exist_ok=True)
    disk.close()
  for record in trial.records:
    record.setdefault('under_way', False)
    record['every'] = every
  return {'seed': seed, 'processes': processes, 'equal': equal, 'fatal': fatal,
          'unprovoked': trial.unprovoked, 'records': trial.records}


def main(given: list[str] | None = None) -> int:
  """Returns exit code 0 (nothing was lost) or 1 (something was)."""
  signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--minutes', type=float, default=10,
                      help='0: only sum up the runs in --out')
  parser.add_argument('--processes', default='1,2', help='1, 2, ... in turn')
  parser.add_argument('--steps', type=int, default=900)
  parser.add_argument('--checkpoint_every', type=int, default=60)
  parser.add_argument('--peer_timeout_seconds', type=float, default=10)
  parser.add_argument('--saves_wait', action='store_true',
                      help='train only after a checkpoint is written')
  parser.add_argument('--out', type=pathlib.Path,
                      help='folder to keep; default: a temporary one')
  parser.add_argument('--seed', type=int, default=0)
  flags_ = parser.parse_args(given)
  turns = [int(x) for x in flags_.processes.split(',')]
  with tempfile.TemporaryDirectory() as temporary:
    out = (flags_.out or pathlib.Path(temporary)).absolute()
    out.mkdir(parents=True, exist_ok=True)
    log = out / 'runs.jsonl'
    log.touch()
    command = arguments(out / 'shared', flags_.steps, flags_.checkpoint_every,
                        flags_.peer_timeout_seconds, flags_.saves_wait)
    of = f'{flags_.steps}-{flags_.checkpoint_every}'
    alone = {n: out / f'undisturbed-{n}-{of}' for n in turns}
    if flags_.minutes:
      for processes, folder in alone.items():
        undisturbed(command, folder, processes)
    end, number = time.monotonic() + 60 * flags_.minutes, 0
    while time.monotonic() < end:
      processes = turns[number % len(turns)]
      found = one_run(
          out, flags_.checkpoint_every, processes, flags_.seed + number, end,
          command, alone[processes])
      with open(log, 'a') as f:
        f.write(json.dumps(found) + '\n')
      number += 1
    with open(log) as f:
      runs = [json.loads(line) for line in f]
  last = summary(runs)
  print(table([r for run in runs for r in run['records']]))
  print(json.dumps(last))
  return int(bool(last['fatal'] or (runs and not last['bitwise_equal'])))


if __name__ == '__main__':
  sys.exit(main())
