"""Runs a side of benchmarks.step, in this process or in one of its own.

A side is made from a Case and settings. It has `prepare(batch)`,
`step(prepared)`, which need not wait, `read(result of step)`, which waits and
returns the loss, and `logits(batch)` without dropout.
"""

from collections.abc import Callable
import dataclasses
import gc
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.step_case import Case, batch

CHECKED_STEPS, CHECKED_ROWS = 3, 2

# The largest differences, of logits and of losses in nats.
MOST = {'logits': 1e-4, 'losses': 1e-4, 'rounded': 2e-2, 'dropped': .2}


def shortest(function: Callable, wait: Callable, *arguments,
             calls: int = 10, rounds: int = 5) -> float:
  """Seconds per call, in the fastest round."""
  wait(function(*arguments))
  times = []
  for _ in range(rounds):
    begin = time.perf_counter()
    for _ in range(calls):
      out = function(*arguments)
    wait(out)
    times.append((time.perf_counter() - begin) / calls)
  return min(times)


def seconds(side, prepared, steps: int) -> float:
  """Seconds per step, over `steps` steps."""
  begin = time.perf_counter()
  for _ in range(steps):
    out = side.step(prepared)
  side.read(out)
  return (time.perf_counter() - begin) / steps


def warm(side) -> Any:
  """Runs a step, to compile everything; returns the prepared batch."""
  prepared = side.prepare(batch(side.case))
  side.read(side.step(prepared))
  return prepared


def checked(make: Callable, case: Case, settings: dict[str, Any] | None
            ) -> dict[str, np.ndarray]:
  """Computes what both sides must have alike, on the first rows of the batches.

  Returns:
    `logits` [B, M, V] of the given weights, and `losses` of CHECKED_STEPS
    updates, each on a batch of its own, both in float32 without dropout;
    `rounded`, the losses in the case's own dtype; `dropped`, the first with the
    case's dropout too, which agrees only on average.
  """
  case = dataclasses.replace(case, rows=min(case.rows, CHECKED_ROWS))
  found = {}

  def losses(steps, **changes):
    gc.collect()  # Two models at a time may not fit.
    side = make(dataclasses.replace(case, **changes), settings)
    if not found:
      found['logits'] = side.logits(batch(case))
    return np.array([
        side.read(side.step(side.prepare(batch(case, number))))
        for number in range(steps)])

  found['losses'] = losses(CHECKED_STEPS, dropout=0., dtype='float32')
  if case.dtype != 'float32':
    found['rounded'] = losses(CHECKED_STEPS, dropout=0.)
  if case.dropout:
    found['dropped'] = losses(1)
  gc.collect()
  return found


def compare(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
            ) -> dict[str, float]:
  """The largest differences; ends the program if they are too large."""
  found = {name: float(np.abs(ours[name] - theirs[name]).max())
           for name in ours}
  for name, off in found.items():
    if not off <= MOST[name]:
      raise SystemExit(f'{name} differ by {off:.2g}, at most {MOST[name]}: '
                       'two different models are not timed.')
  return found


def serve(make: Callable, device: Callable, ceilings: Callable,
          request: dict[str, Any]) -> None:
  """Answers a request, and prints the answer as its last line.

  Args:
    make: (Case, settings) -> side.
    device: () -> dict about the device and the versions.
    ceilings: size -> dict.
    request: `case`; and any of `check`, a path (its arrays are saved there),
      `ceilings`, a size, and `runs`, a list of {rows, settings}, each timed
      `rounds` times over `steps` steps.
  """
  case = Case(**request['case'])
  answer = device()
  if request.get('ceilings'):
    answer['ceilings'] = ceilings(request['ceilings'])
  if request.get('check'):
    np.savez(request['check'], **checked(make, case, request.get('settings')))
  answer['runs'] = []
  for run in request.get('runs', ()):
    found = {**run, 'seconds': None}
    answer['runs'].append(found)
    try:
      side = make(dataclasses.replace(case, rows=run['rows']),
                  run.get('settings'))
      prepared = warm(side)
      found['seconds'] = statistics.median(
          seconds(side, prepared, request['steps'])
          for _ in range(request['rounds']))
    except Exception as e:  # Out of memory, or what the device cannot do.
      found['why'] = f'{type(e).__name__}: {str(e).strip()[:200]}'
    side = prepared = None
    gc.collect()
    print(f'{make.__module__.split(".")[-1]}: {json.dumps(found)}', flush=True)
  print(json.dumps(answer))


def ask(module: str, **request) -> dict[str, Any]:
  """Runs a side in a process of its own, alone on the device.

  Raises:
    SystemExit: the process failed.
  """
  done = subprocess.run(
      [sys.executable, '-m', f'benchmarks.{module}', json.dumps(request)],
      stdout=subprocess.PIPE, text=True)
  lines = done.stdout.splitlines()
  for line in lines[:-1]:
    print(line, flush=True)
  if done.returncode or not lines:
    raise SystemExit(f'benchmarks.{module} failed with {done.returncode}: '
                     f'{lines[-1] if lines else "no output"}')
  return json.loads(lines[-1])
