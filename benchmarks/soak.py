"""Tests whether a run's memory grows: `python -m benchmarks.soak --minutes=20`.

One process trains a model so tiny that minutes are tens of thousands of steps,
with evaluations and checkpoints. Every few seconds, from outside, it samples
memory (resident and proportional set size), file descriptors and threads. The
slope of memory is that of a straight line through the second half of the
samples, in MB (10^6 bytes) per 1,000 steps. The last line is one JSON object.
`flat` is true if both slopes are below 1 MB, and the last quarter's peaks of
descriptors and threads do not exceed those of the quarter before the second
half.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time

from benchmarks.training import Running, flags, last_step

MOST_MB_PER_1000_STEPS = 1.0


def sample(pid: int) -> dict[str, float]:
  """Samples a process: rss_mb, pss_mb, anonymous_mb, descriptors, threads.

  Raises:
    OSError: the process has ended.
  """
  found = {}
  with open(f'/proc/{pid}/smaps_rollup') as f:
    for line in f:
      name, _, value = line.partition(':')
      if value.strip().endswith('kB'):
        found[name] = int(value.split()[0]) * 1024 / 1e6
  return {'rss_mb': found['Rss'], 'pss_mb': found['Pss'],
          'anonymous_mb': found['Anonymous'],
          'descriptors': len(os.listdir(f'/proc/{pid}/fd')),
          'threads': len(os.listdir(f'/proc/{pid}/task'))}


def slope(samples: list[dict[str, float]], name: str) -> float:
  """The slope of a straight line, per 1,000 steps."""
  steps = [s['step'] / 1000 for s in samples]
  return statistics.linear_regression(
      steps, [s[name] for s in samples]).slope


def judge(samples: list[dict[str, float]]) -> dict[str, float | bool]:
  """Evaluates the samples.

  Args:
    samples: dicts with `step` and the values of `sample`, at even intervals.

  Returns:
    The JSON object of the last line.
  """
  half, quarter = len(samples) // 2, len(samples) // 4
  second = samples[half:]
  found = {'seconds': samples[-1]['seconds'], 'steps': samples[-1]['step'],
           'samples': len(samples)}
  for name in ('rss_mb', 'pss_mb', 'anonymous_mb'):
    found[f'{name}_per_1000_steps'] = round(slope(second, name), 4)
    found[f'{name}_at_half'] = round(second[0][name], 1)
    found[f'{name}_at_end'] = round(samples[-1][name], 1)
  flat = all(found[f'{name}_per_1000_steps'] < MOST_MB_PER_1000_STEPS
             for name in ('rss_mb', 'pss_mb', 'anonymous_mb'))
  for name in ('descriptors', 'threads'):
    values = [s[name] for s in samples]
    found[f'{name}_min'] = min(values[half:])
    found[f'{name}_max'] = max(values[half:])
    flat &= max(values[-quarter:]) <= max(values[quarter:-quarter])
  return found | {'flat': bool(flat)}


def measure(folder: pathlib.Path, minutes: float, every: float,
            backend: str) -> list[dict[str, float]]:
  """Trains, takes samples, and stops the run with SIGTERM.

  Args:
    folder: folder of the run; each sample becomes a line of its samples.jsonl.
    minutes: duration from the first step on.
    every: seconds between samples.
    backend: data.backend.

  Raises:
    RuntimeError: the run ended by itself.
  """
  workdir, samples = folder / 'w', []
  running = Running(flags(
      folder, data__backend=backend, train__steps=5_000_000,
      train__log_every=100, train__eval_every=2_000, train__eval_examples=64,
      train__checkpoint_every=500), workdir)
  worker = running.workers[0].pid
  try:
    running.until(lambda: last_step(workdir) > 0, 600)
    begin = time.monotonic()
    while time.monotonic() < begin + 60 * minutes:
      time.sleep(every)
      if not running.alive():
        raise RuntimeError('the run has ended:\n' + '\n'.join(
            running.lines()[-40:]))
      samples.append(
          {'seconds': round(time.monotonic() - begin, 1),
           'step': last_step(workdir)} | sample(worker))
      with open(folder / 'samples.jsonl', 'a') as f:
        f.write(json.dumps(samples[-1]) + '\n')
      if len(samples) % max(1, int(60 / every)) == 0:
        print(' '.join(f'{k} {v:.1f}' for k, v in samples[-1].items()),
              flush=True)
    running.signal(signal.SIGTERM)
    running.wait(120)
  finally:
    running.kill()
  if running.codes != [128 + signal.SIGTERM]:
    raise RuntimeError(f'stopped by SIGTERM, it ended with {running.codes}')
  return samples


def main(arguments: list[str] | None = None) -> None:
  signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--minutes', type=float, default=20)
  parser.add_argument('--every', type=float, default=5,
                      help='seconds between samples')
  parser.add_argument('--backend', choices=('tf', 'numpy'), default='tf')
  parser.add_argument('--out', type=pathlib.Path,
                      help='folder to keep; default: a temporary one')
  given = parser.parse_args(arguments)
  with tempfile.TemporaryDirectory() as temporary:
    folder = given.out or pathlib.Path(temporary)
    print(json.dumps(judge(
        measure(folder, given.minutes, given.every, given.backend))))


if __name__ == '__main__':
  main()
