"""Measures what pretraining gains on nine small tasks, with three seeds.

  python -m benchmarks.downstream --data=DIR --out=runs/downstream

DIR has pretrain/*.jsonl.zst, glue/{CoLA,SST-2,RTE,STS-B,QNLI}, squad/,
superglue/WSC and race/. First it makes the reference run, configs/reference.py,
on the five corpora (OUT/pretrained). Then it fine-tunes each task from that run
and from random weights of the same shape, on the same examples and with equally
many updates, and writes one table (OUT/downstream.md, OUT/downstream.json).

  QNLI        trained on pairs made from SQuAD train (paper/inputs), scored on
              part of GLUE's dev
  SQuAD 2.0   trained on part of train-v1.1 and every other article of dev-v2.0,
              scored on some of the other articles, without train-v2.0
  WSC         SuperGLUE's, scored on val; RACE: middle, part of dev

All tasks share one rate and batch size, chosen in advance like each task's
number of epochs. Only the last evaluation counts, so reported scores select
nothing. The same command resumes. Results do not extend to larger models.

`--workers=2` fine-tunes two tasks at a time, each on half of the cores.
"""

import argparse
from concurrent import futures
import dataclasses
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import time
from typing import Any

# The reference run's length; texts are cut to it, SQuAD has windows of it.
LENGTH = 128
_WINDOWS = {'doc_stride': 32, 'question_length': 40}
# Rows of QNLI's dev and of RACE-middle's dev to score.
QNLI_DEV, RACE_DEV = 1_000, 400


@dataclasses.dataclass(frozen=True)
class Task:
  """A row of the table.

  Attributes:
    name: key of tasks.TASKS.
    shown: name in the table.
    folder: data.dir, under --data, or, behind a '>', under --out.
    examples: most training examples; 0: all.
    epochs: passes over them.
    data: other keys of the `data` section.
  """
  name: str
  shown: str
  folder: str
  examples: int
  epochs: int
  data: dict[str, Any] = dataclasses.field(default_factory=dict)


TASKS = (
    Task('glue/cola', 'CoLA', 'glue/CoLA', 4096, 4),
    Task('glue/sst2', 'SST-2', 'glue/SST-2', 4096, 4),
    Task('glue/rte', 'RTE', 'glue/RTE', 2048, 3),
    Task('glue/stsb', 'STS-B', 'glue/STS-B', 4096, 3),
    Task('glue/qnli', 'QNLI from SQuAD', '>QNLI', 4096, 4),
    Task('wsc', 'WSC', 'superglue/WSC', 128, 4),
    Task('squad', 'SQuAD 1.1', 'squad', 2048, 3, _WINDOWS | {
        'train_files': 'train-v1.1.json', 'eval_files': 'dev-v1.1.json[::8]'}),
    Task('squad2', 'SQuAD 2.0', 'squad', 1024, 2, _WINDOWS | {
        'train_files': 'train-v1.1.json[::12],dev-v2.0.json[::2]',
        'eval_files': 'dev-v2.0.json[1::6]'}),
    Task('race/middle', 'RACE-middle', '>race', 256, 2))


def pretraining(options: argparse.Namespace) -> Any:
  """The Config of the run from which the tasks start: configs/reference.py."""
  from configs import reference
  from robertax.config import parse
  config = reference.get_config(options.pretraining)
  config.data.update(corpora=f'{options.data}/pretrain/*.jsonl.zst',
                     cache_dir=f'{options.out}/cache')
  return parse(config)


def tuning(task: Task, options: argparse.Namespace, scratch: bool) -> Any:
  """The Config of a task with its first seed."""
  from robertax.config import (
      Config,
      DataConfig,
      FinetuneConfig,
      ModelConfig,
      OptimConfig,
      TrainConfig,
  )
  root = options.out if task.folder[0] == '>' else options.data
  folder = os.path.join(root, task.folder.removeprefix('>'))
  examples = task.examples and max(8, int(task.examples * options.share))
  return Config(
      task=task.name, init_from=f'{options.out}/pretrained',
      data=DataConfig(dir=folder, sequence_length=LENGTH, backend='numpy',
                      **task.data),
      model=ModelConfig(dropout_rate=0.1, attention_dropout_rate=0.1),
      optim=OptimConfig(name='adamw_fairseq', warmup_steps=0, warmup_rate=0.06,
                        weight_decay=0.1),
      # The only evaluation is the last, so reported scores choose no epoch.
      train=TrainConfig(steps=0, eval_every=1 << 30, checkpoint_every=1 << 30,
                        log_every=20, keep_checkpoints=1),
      finetune=FinetuneConfig(
          epochs=task.epochs, max_train_examples=examples,
          from_scratch=scratch, ranking_loss='cross_entropy'))


def write_data(options: argparse.Namespace):
  """Writes QNLI's pairs from SQuAD train, and parts of two dev sets.

  Existing files stay: workers start when all are written.
  """
  from robertax.corpus.readers import unpacked_lines
  from robertax.paper import inputs
  from robertax.tasks import squad_files
  qnli, race = f'{options.out}/QNLI', f'{options.out}/race'
  for folder in (qnli, race):
    os.makedirs(folder, exist_ok=True)
  if not os.path.exists(f'{qnli}/train.tsv'):
    questions = squad_files.read_questions(
        f'{options.data}/squad/train-v1.1.json', '1.1')
    # More pairs than are trained on, from all articles.
    pairs, left_out = inputs.qnli_pairs(questions[::5])
    print(f'QNLI: {len(pairs)} pairs from {len(questions[::5])} questions of '
          f'SQuAD train, {left_out} left out', file=sys.stderr)
    inputs.write_qnli(pairs, f'{qnli}/train.tsv')
  if not os.path.exists(f'{qnli}/dev.tsv'):
    with open(f'{options.data}/glue/QNLI/dev.tsv', encoding='utf-8') as f:
      rows = f.read().split('\n')
    _write(f'{qnli}/dev.tsv', rows[:1 + QNLI_DEV])
  for split, most in (('train', 1 << 30), ('dev', RACE_DEV)):
    if os.path.exists(f'{race}/{split}-middle.jsonl'):
      continue
    kept, count = [], 0
    source = next(path for ending in ('', '.zst', '.gz') if os.path.exists(
        path := f'{options.data}/race/{split}-middle.jsonl{ending}'))
    for _, line in unpacked_lines(source, lambda _: None):
      if count < most:
        kept.append(line.decode())
        count += len(json.loads(line)['questions'])
    _write(f'{race}/{split}-middle.jsonl', kept)


def _write(path: str, rows: list[str]):
  from robertax import files
  files.write_text(path, '\n'.join(rows).rstrip('\n') + '\n')


def table(found: dict[str, dict[str, Any]]) -> str:
  """Makes a markdown table: a row per task, with the ranges of both starts.

  Args:
    found: shown name -> {'random': results.json of a sweep, 'pretrained':
      results.json of another}.
  """
  lines = ['| task | metric | trained on | scored on | random | pretrained | '
           'difference, each seed |', '|---|---|---|---|---|---|---|']
  for shown, both in found.items():
    values = {name: one['settings'][0]['values'] for name, one in both.items()}
    gains = [b - a for a, b in zip(values['random'], values['pretrained'])]
    first = both['pretrained']
    cells = [shown, first['metric'], first['train_rows'], first['rows']]
    for name in ('random', 'pretrained'):
      v = values[name]
      cells.append(f'{statistics.mean(v):.1f} ({min(v):.1f} to {max(v):.1f})')
      stuck = both[name]['settings'][0]['degenerate']
      cells[-1] += f', {len(stuck)} at chance' if stuck else ''
    cells.append(', '.join(f'{gain:+.1f}' for gain in gains))
    lines.append('| ' + ' | '.join(map(str, cells)) + ' |')
  return '\n'.join(lines) + '\n'


def in_parallel(options: argparse.Namespace, names: list[str]) -> bool:
  """Runs each task in a process of its own, options.workers at a time.

  Returns:
    Whether all processes succeeded; they print their own errors.
  """
  cores = sorted(os.sched_getaffinity(0))
  free: queue.Queue = queue.Queue()
  for i in range(options.workers):
    free.put(cores[i::options.workers] or cores)
  same = [f'--{name}={value}' for name, value in vars(options).items()
          if name not in ('tasks', 'workers', 'cores')]
  running = []

  def one(name):
    mine = free.get()
    # It sets its own cores: preexec_fn would fork a process full of threads.
    process = subprocess.Popen(
        [sys.executable, '-m', 'benchmarks.downstream', *same,
         f'--cores={",".join(map(str, mine))}', f'--tasks={name}'],
        stdout=subprocess.DEVNULL)  # The table is the parent's.
    running.append(process)
    try:
      return process.wait()
    finally:
      free.put(mine)

  def ended(number, _):
    sys.exit(128 + number)

  before = signal.signal(signal.SIGTERM, ended)
  pool = futures.ThreadPoolExecutor(options.workers)
  try:
    return not any(pool.map(one, names))
  finally:
    pool.shutdown(wait=False, cancel_futures=True)
    for process in running:
      process.terminate()  # It saves, and the same command goes on.
    signal.signal(signal.SIGTERM, before)


def run(options: argparse.Namespace) -> dict[str, dict[str, Any]] | None:
  """Makes all missing runs; None if it was stopped."""
  from robertax.errors import unknown
  from robertax.studies import sweep
  from robertax.train import loop
  names = [task.name for task in TASKS]
  wanted = options.tasks.split(',') if options.tasks else names
  for name in wanted:
    if name not in names:
      raise unknown('--tasks', name, names)
  if not options.cores:  # A worker's parent has done it, and its lock is one.
    began = time.monotonic()
    if loop.run(pretraining(options), f'{options.out}/pretrained').signal:
      return None
    print(f'pretraining: {time.monotonic() - began:.0f} s of this call',
          file=sys.stderr)
    write_data(options)
  # The long tasks are at the end of the table.
  if options.workers > 1 and not in_parallel(options, wanted[::-1]):
    return None
  found = {}
  for task in TASKS:
    if task.name not in wanted:
      continue
    found[task.shown] = {}
    for name in ('random', 'pretrained'):
      began = time.monotonic()
      ended = sweep.sweep(
          tuning(task, options, name == 'random'),
          f'{options.out}/{task.name.replace("/", "-")}-{name}',
          [options.learning_rate], [options.batch_size], options.seeds)
      if ended.signal:
        return None
      found[task.shown][name] = ended.results
      print(f'{task.shown}, {name}: {time.monotonic() - began:.0f} s of this '
            'call', file=sys.stderr)
  return found


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--data', required=True)
  parser.add_argument('--out', required=True)
  parser.add_argument('--pretraining', default='',
                      help='changes to configs/reference.py: steps=20,...')
  parser.add_argument('--learning_rate', type=float, default=3e-4)
  parser.add_argument('--batch_size', type=int, default=32)
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--workers', type=int, default=1,
                      help='parallel tasks, each on its share of the cores')
  parser.add_argument('--cores', default='', help='cores to use: 0,2')
  parser.add_argument('--tasks', default='',
                      help='some tasks only; their table is only printed')
  parser.add_argument('--share', type=float, default=1.0,
                      help='share of the training examples, for trials')
  options = parser.parse_args()
  if options.cores:  # Before JAX counts them.
    os.sched_setaffinity(0, map(int, options.cores.split(',')))
  from robertax.errors import InputError
  try:
    found = run(options)
  except InputError as e:
    sys.exit(f'robertax: error: {e}')
  if found is None:
    sys.exit('Stopped; the same command resumes.')
  text = table(found)
  if not options.tasks:
    _write(f'{options.out}/downstream.md', text.split('\n'))
    _write(f'{options.out}/downstream.json', [json.dumps(found)])
  print(text, end='')


if __name__ == '__main__':
  main()
