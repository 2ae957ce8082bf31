"""Compares our train step with Hugging Face's: `python -m benchmarks.step`.

Weights, arrays, optimizer and dropout are the same, and logits and losses are
compared before the timing. There are two ratios of tokens per second: R1 to
Hugging Face's RobertaForMaskedLM as shipped, and R2 to it at its best setting,
patched so that its head runs on masked tokens only. R2 is the headline; R1 also
contains the gain of that head.

On a CPU the sides take turns in one process, A B C C B A per round, and a ratio
is the median over rounds. On a GPU (or with --apart) each has a process of its
own, one at a time: ceilings, torch, robertax, torch again, and the two torch
results must agree within 2 %. Needs jax, flax, optax, orbax and numpy; without
torch and transformers only ours is timed. The last line is one JSON object.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import statistics
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import step_worker
from benchmarks.step_case import SIZES, Case

MOST_BUSY = 0.05  # of all cores, by other programs
MOST_DRIFT = 0.02
# Our settings to try on a GPU, besides micro-batches.
OURS = ({'attention': 'fused'}, {'attention': 'xla'})


class Others:
  """Measures how busy other programs keep the cores (Linux), from now on."""

  def __init__(self):
    self._begin = self._now()

  @staticmethod
  def _now():
    try:
      with open('/proc/stat') as file:
        fields = [int(x) for x in file.readline().split()[1:9]]
    except OSError:
      return None
    # idle and iowait are unused; another machine has steal.
    busy = sum(fields) - fields[3] - fields[4]
    return busy / os.sysconf('SC_CLK_TCK'), sum(os.times()[:4]), time.time()

  def share(self) -> float | None:
    """The share, from 0 to 1; None: unknown."""
    now = self._now()
    if now is None:
      return None
    busy, own, wall = (b - a for a, b in zip(self._begin, now))
    return max(0., busy - own) / max(wall, 1e-9) / os.cpu_count()


def refuse_if_busy(anyway: bool) -> bool:
  """Ends the program if other programs use the cores, unless told to go on.

  Raises:
    SystemExit: the machine is busy.
  """
  others = Others()
  time.sleep(2)
  share = others.share()
  if share is None or share <= MOST_BUSY:
    return False
  said = (f'other programs take {share:.0%} of the cores: ratios would be of '
          'the weather')
  if not anyway:
    raise SystemExit(f'{said}. Wait for a quiet machine, or --anyway.')
  print(f'{said}; timed anyway.')
  return True


def take_turns(sides: dict[str, Any], rounds: int) -> dict[str, list[float]]:
  """Seconds per step of each side, a number per round, in both orders."""
  prepared = {name: step_worker.warm(side) for name, side in sides.items()}
  found = {name: [] for name in sides}
  for number in range(rounds):
    order = list(sides)[::-1 if number % 2 else 1]
    taken = {name: 0. for name in sides}
    for name in order + order[::-1]:
      taken[name] += step_worker.seconds(sides[name], prepared[name], 1) / 2
    for name, value in taken.items():
      found[name].append(value)
    print(f'round {number + 1}: ' + ', '.join(
        f'{name} {value:.3f} s' for name, value in taken.items()), flush=True)
  return found


def beside(case: Case, given) -> dict[str, Any]:
  """Measures both sides in this process."""
  from benchmarks import step_ours
  own = json.loads(given.ours)
  found = {'ours': own, **step_ours.device()}
  settings = {}
  if given.reference:
    from benchmarks import step_torch
    found |= {k: v for k, v in step_torch.device().items() if k != 'device'}
    best = json.loads(given.best) if given.best else fastest(case)
    settings = {'r1': step_torch.SHIPPED, 'r2': step_torch.SHIPPED | best}
    alike = step_worker.checked(step_ours.Ours, case, own)
    found['differences'] = {
        name: step_worker.compare(alike, step_worker.checked(
            step_torch.Reference, case, setting))
        for name, setting in settings.items()}
    print(f'alike: {json.dumps(found["differences"])}', flush=True)
  sides = {'ours': step_ours.Ours(case, own)}
  for name, setting in settings.items():
    sides[name] = step_torch.Reference(case, setting)
  times = take_turns(sides, given.rounds)
  ratios = {name: [other / mine for mine, other in zip(
      times['ours'], times[name])] for name in settings}
  return found | {
      'settings': settings, 'ratios': ratios,
      'seconds': {name: statistics.median(x) for name, x in times.items()},
      **{name: statistics.median(x) for name, x in ratios.items()}}


def fastest(case: Case) -> dict[str, Any]:
  """The reference's best setting here, by the shortest of three steps."""
  from benchmarks import step_torch
  best, least = None, float('inf')
  for setting in step_torch.candidates(on_gpu=False):
    try:
      side = step_torch.Reference(case, setting)
      prepared = step_worker.warm(side)
      taken = min(step_worker.seconds(side, prepared, 1) for _ in range(3))
    except Exception as e:  # Such as no C++ compiler for torch.compile.
      print(f'{setting}: not available here: {str(e).strip()[:200]}',
            flush=True)
      continue
    finally:
      side = prepared = None
    print(f'{setting}: {taken:.3f} s', flush=True)
    if taken < least:
      best, least = setting, taken
  return best


def apart(case: Case, given) -> dict[str, Any]:
  """Measures each side in a process of its own, one at a time."""
  rows = [int(x) for x in given.micro_batches.split(',')]
  request = {'case': dataclasses.asdict(case), 'steps': given.steps,
             'rounds': given.rounds}

  def best_of(module, **runs):
    """The fastest run of each list; all run in one process."""
    answer = step_worker.ask(module, **request, runs=[
        run for listed in runs.values() for run in listed])
    found = {}
    for name, listed in runs.items():
      done = [run for run in answer['runs'][:len(listed)] if run['seconds']]
      del answer['runs'][:len(listed)]
      if not done:
        raise SystemExit(f'{module}: not one setting for {name} runs here')
      found[name] = max(done, key=lambda run: run['rows'] / run['seconds'])
    return found

  with tempfile.TemporaryDirectory() as folder:
    found = step_worker.ask('step_ours', case=request['case'],
                            ceilings=given.ceiling, check=f'{folder}/ours.npz')
    del found['runs']
    if given.reference:
      from benchmarks.step_torch import SHIPPED, candidates
      whole = SHIPPED | {'head': 'masked'}
      theirs = step_worker.ask('step_torch', case=request['case'],
                               settings=whole, check=f'{folder}/torch.npz')
      found |= {k: v for k, v in theirs.items() if k in (
          'torch', 'transformers')}
      ours, other = (dict(np.load(f'{folder}/{name}.npz', allow_pickle=False))
                     for name in ('ours', 'torch'))
      found['differences'] = step_worker.compare(ours, other)
      print(f'alike: {json.dumps(found["differences"])}', flush=True)
  first = {}
  if given.reference:
    middle = rows[len(rows) // 2]
    tried = ([json.loads(given.best)] if given.best
             else candidates(found['platform'] == 'gpu'))
    # First the best setting at one size, then its best size.
    best = tried[0] if len(tried) == 1 else best_of('step_torch', r2=[
        {'rows': middle, 'settings': setting} for setting in tried])[
            'r2']['settings']
    first = best_of('step_torch', **{
        name: [{'rows': n, 'settings': setting} for n in rows]
        for name, setting in (('r1', SHIPPED), ('r2', best))})
  tried = [json.loads(given.ours)] if given.ours != '{}' else OURS
  ours = best_of('step_ours', ours=[{'rows': n, 'settings': setting}
                                    for setting in tried for n in rows])['ours']
  rate = {'ours': ours['rows'] / ours['seconds']}
  found |= {'settings': {'ours': ours} | first, 'ours': ours['settings'],
            'drift': {}}
  again = best_of('step_torch', **{
      name: [{'rows': run['rows'], 'settings': run['settings']}]
      for name, run in first.items()}) if first else {}
  for name, before in first.items():
    after = again[name]['seconds']
    found['drift'][name] = abs(after / before['seconds'] - 1)
    rate[name] = before['rows'] / min(before['seconds'], after)
    found[name] = rate['ours'] / rate[name]
  found['void'] = any(x > given.drift for x in found['drift'].values())
  return found | {'seconds': {name: case.rows / x for name, x in rate.items()}}


def summary(case: Case, found: dict[str, Any]) -> dict[str, Any]:
  """The JSON line; a side's FLOP are those of its head."""
  seconds = found['seconds']
  flops = {name: case.flops(masked_head=name != 'r1') / x
           for name, x in seconds.items()}
  rate = {name: case.tokens_a_step / x for name, x in seconds.items()}
  peak = found['peak'] if case.dtype == 'bfloat16' else None
  return {
      'device': found['device'], 'r1': found.get('r1'), 'r2': found.get('r2'),
      'tokens_per_second': rate['ours'],
      'mfu': flops['ours'] / peak if peak else None,
      'reference_tokens_per_second': rate.get('r2'),
      'shipped_tokens_per_second': rate.get('r1'),
      'gflops_per_second': {k: x / 1e9 for k, x in flops.items()},
      'masked_share': case.masked / case.tokens,
      **dataclasses.asdict(case), **{
          k: v for k, v in found.items() if k not in ('r1', 'r2', 'device')}}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--size', choices=sorted(SIZES), default='base')
  parser.add_argument('--rows', type=int, default=8)
  parser.add_argument('--tokens', type=int, default=128)
  parser.add_argument('--dtype', choices=('bfloat16', 'float32'),
                      default='float32')
  parser.add_argument('--dropout', type=float, default=0.1)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--steps', type=int, default=10,
                      help='steps per round, with --apart')
  parser.add_argument('--ours', default='{}',
                      help='our model section as JSON: {"layers_unrolled": 12}')
  parser.add_argument('--best',
                      help='the setting for R2 as JSON, instead of a search')
  parser.add_argument('--alone', dest='reference', action='store_false',
                      help='without the reference')
  parser.add_argument('--anyway', action='store_true',
                      help='measure on a busy machine too')
  parser.add_argument('--apart', action=argparse.BooleanOptionalAction,
                      help='a process for each side; default: on a GPU')
  parser.add_argument('--micro_batches', default='16,32,64,96,128',
                      help='numbers of rows to try, with --apart')
  parser.add_argument('--ceiling', type=int, default=8192,
                      help='side of the largest product, with --apart')
  parser.add_argument('--drift', type=float, default=MOST_DRIFT)
  return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
  given = arguments(words)
  case = Case(**SIZES[given.size] | {
      'rows': given.rows, 'tokens': given.tokens, 'dtype': given.dtype,
      'dropout': given.dropout})
  missing = [name for name in ('torch', 'transformers')
             if not importlib.util.find_spec(name)]
  if given.reference and missing:
    print(f'{" and ".join(missing)} not installed: ours is timed alone.')
    given.reference = False
  busy = refuse_if_busy(given.anyway)
  others = Others()
  if given.apart is None:
    # This runs in a process of its own, so that this one does not hold the GPU.
    given.apart = step_worker.ask(
        'step_ours', case=dataclasses.asdict(case))['platform'] == 'gpu'
  found = summary(case, (apart if given.apart else beside)(case, given))
  found |= {'busy': busy, 'others_share': others.share()}
  for name, label in (('r1', 'R1, as shipped'), ('r2', 'R2, at its best')):
    if found[name]:
      print(f'{label}: {found[name]:.3f}')
  print(json.dumps(found))
  if found.get('void'):
    raise SystemExit(f'void: torch drifted by more than {given.drift:.0%}.')


if __name__ == '__main__':
  main()
