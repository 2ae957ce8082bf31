"""Runs doors and functions in one of the two trees of benchmarks.same.

This file is a server. It imports the libraries once and forks for each job, so
a job does not pay eight seconds of importing jax and tensorflow. Both trees use
this file. Its working directory is the folder of a side, from whose `robertax`
it imports everything of the project.

A job is a JSON line on stdin, and its result one on stdout:

  {"name": .., "argv": ["robertax.main", "--config=..."]}   a door
  {"name": .., "call": "batches", "given": {..}}            a function below

A job may also have `fresh` (run in a new process, with `python -m`), `env`,
`seconds` (its time limit), `before` (a function to call first), and `strike`,
[signal, ending of a path]: the process sends itself this signal just before a
file with such a name appears.
Output goes to said/NAME.out and .err, a function's result to probe/NAME.json
and its arrays to probe/NAME.npz.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import time
import traceback
from typing import Any

# Parts of robertax without a stable door. The first place that can be imported
# counts, so a part that moves gets one more place here.
PLACES = {
    'TASKS': ('robertax.tasks:TASKS', 'robertax.tasks.task_table:TASKS'),
    'parse': ('robertax.config:parse', 'robertax.train.config:parse'),
    'defaults': ('robertax.train.config:defaults',),
    # The old place comes first: robertax.paper was a door, and defines flags.
    'SCALES': ('robertax.studies.paper_scales:SCALES',
               'robertax.paper.scales:SCALES'),
    'Recipe': ('robertax.studies.paper_scales:Recipe',
               'robertax.paper.scales:Recipe'),
}
# Imported once; missing ones are skipped.
LIBRARIES = (
    'numpy', 'jax', 'jax.numpy', 'absl.app', 'ml_collections.config_flags',
    'tokenizers', 'optax', 'flax.nnx', 'orbax.checkpoint', 'matplotlib.pyplot',
    'sklearn.metrics', 'scipy.stats', 'tensorboardX', 'safetensors.numpy',
    'pyarrow', 'rich.console', 'tensorflow',
    'array_record.python.array_record_module')
SECONDS = 900.0  # Of a job; a busy machine is no difference.


def place(name: str) -> Any:
  """Imports the object that PLACES has for a name.

  Raises:
    ImportError: it is in none of its places.
  """
  tried = []
  for path in PLACES[name]:
    module, _, attribute = path.partition(':')
    try:
      return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as e:
      tried.append(f'{path}: {e}')
  raise ImportError(f'{name} is at none of its places; add its new one to '
                    f'benchmarks/same_probe.py:PLACES. {"; ".join(tried)}')


# Each function below returns plain values, and arrays by name.
Given = tuple[Any, dict[str, Any]]


def get_config(path: str, arg: str | None = None, **values) -> Any:
  """The ConfigDict of a config file, with keys changed like by flags."""
  config = runpy.run_path(path)['get_config'](*[arg] if arg else [])
  with config.unlocked():
    config.update_from_flattened_dict(values)
  return config


def flat(values: Any, before: str = '') -> dict[str, Any]:
  """Dotted key -> plain value with its type, as 1 and 1.0 differ."""
  found = {}
  for key, value in values.items():
    if hasattr(value, 'items'):
      found |= flat(value, f'{before}{key}.')
    else:
      found[before + key] = f'{type(value).__name__} {value!r}'
  return found


def defaults() -> Given:
  """Every key of a config, in its order, with its default."""
  values = flat(place('defaults')())
  return {'keys': list(values), 'values': values}, {}


def config_file(path: str, args: list[str | None]) -> Given:
  """The config of a config file, for each argument."""
  return {arg or 'no argument': flat(get_config(path, arg))
          for arg in args}, {}


def batches(config: str, variants: dict[str, dict[str, Any]],
            values: dict[str, Any], steps: int = 2) -> Given:
  """Makes pretraining batches of variants of a config, each given by its keys.

  These are the first of a run, the first of its second epoch, and all of the
  evaluation.
  """
  import numpy as np
  found, arrays = {}, {}
  for variant, more in variants.items():
    parsed = place('parse')(get_config(config, **values | more))
    task = place('TASKS')[parsed.task].of(parsed, 1)
    second = next(step for step in range(1 << 20) if task.epoch(step) >= 1)
    for start in (0, max(second - 1, steps)):
      made = task.train_batches(start, np.arange)
      for step, batch in zip(range(start, start + steps), made):
        arrays |= {f'{variant}: step {step} {key}': x
                   for key, x in batch.items()}
      made.close()
    size = parsed.data.batch_size
    for most in (0, 5):
      sets = task.eval_sets(size, most, np.arange(size))
      for name, make in sets.items():
        for number, batch in enumerate(make()):
          arrays |= {f'{variant}: eval {name} of {most}, {number} {key}': x
                     for key, x in batch.items()}
    found[variant] = {
        'second epoch': second, 'epochs': task.epochs(second + 1),
        'describe': task.describe(100), 'identity': task.identity(),
        'constants': task.eval_constants(size, 0)}
  return found, arrays


def tuning(config: str, values: dict[str, Any], arg: str | None = None,
           steps: int = 3) -> Given:
  """Makes fine-tuning batches of the first epochs and of each split."""
  import numpy as np
  parsed = place('parse')(get_config(config, arg, **values))
  task = place('TASKS')[parsed.task].of(parsed, 1)
  arrays = {}
  for start in (0, task.epoch_steps - 1):
    made = task.train_batches(start, np.arange)
    for step, batch in zip(range(start, start + steps), made):
      arrays |= {f'step {step} {key}': x for key, x in batch.items()}
  for name in [*task.dev_splits, *task.test_splits]:
    for number, batch in enumerate(task.eval_batches(name)):
      arrays |= {f'{name} batch {number} {key}': x for key, x in batch.items()}
  return {'steps of an epoch': task.epoch_steps, 'labels': list(task.labels),
          'metrics': list(task.metrics), 'describe': task.describe(100),
          'identity': task.identity()}, {
              key: x for key, x in arrays.items() if isinstance(x, np.ndarray)}


def model(path: str, texts: list[str]) -> Given:
  """The answers of robertax.load's model for texts."""
  import numpy as np

  import robertax
  opened = robertax.load(path)
  return {'fill_mask': repr(opened.fill_mask(texts, top_k=3)),
          'score': repr(opened.score(texts))}, {
              f'encode {i}': np.asarray(x)
              for i, x in enumerate(opened.encode(texts))}


def classes(path: str, texts: list[Any]) -> Given:
  """The answers of a fine-tuned classifier for texts."""
  import robertax
  texts = [tuple(text) if isinstance(text, list) else text for text in texts]
  return {'classify': repr(robertax.load(path).classify(texts))}, {}


def shown(config: str, values: dict[str, Any], steps: list[int]) -> Given:
  """The rows and statistics of robertax.show_batch for some steps."""
  import robertax
  found = {}
  for step in steps:
    batch = robertax.show_batch(get_config(config, **values), step, 0)
    found[f'step {step}'] = {'rows': repr(batch.rows), 'text': str(batch),
                             'statistics': batch.statistics}
  return found, {}


def tiny_paper():
  """Shrinks the scale `tiny` of robertax.paper to a thousandth."""
  import dataclasses
  scales = place('SCALES')
  was = scales['tiny']
  recipe = place('Recipe')(4, 1e-3, tokens=2_000)
  scales['tiny'] = dataclasses.replace(
      was, seeds=1, shapes=dict.fromkeys(was.shapes, dict(
          hidden_size=16, num_layers=1, num_heads=2, mlp_size=32,
          max_positions=32)),
      recipes=dict.fromkeys(was.recipes, recipe),
      changes=dict(was.changes) | {
          'data.sequence_length': 32, 'data.workers': 1, 'mesh.data': 1,
          'data.pair_duplicates': 2, 'train.checkpoint_every': 5,
          'train.log_every': 5},
      pieces={'byte_bpe': 300, 'wordpiece': 120},
      characters=dict.fromkeys(was.characters, 4_000),
      columns={'1': ('loss', 'sst2')},
      tuning=dict(was.tuning) | {
          'data.sequence_length': 32, 'data.batch_size': 16, 'mesh.data': 1,
          'finetune.epochs': 1, 'finetune.eval_tokens': 1024})


FUNCTIONS = {function.__name__: function for function in (
    defaults, config_file, batches, tuning, model, classes, shown, tiny_paper)}


def write(name: str, given: Given):
  """Writes a function's result into probe/."""
  values, arrays = given
  os.makedirs('probe', exist_ok=True)
  if arrays:
    import numpy as np
    np.savez(f'probe/{name}.npz', **arrays)
  with open(f'probe/{name}.json', 'w') as f:
    json.dump(values, f, default=plain)


def plain(value: Any) -> Any:
  """Converts NumPy's numbers to Python's, and other values to text."""
  return value.item() if hasattr(value, 'item') else repr(value)


def strike(number: int, ending: str):
  """Sends this process a signal just before a name with this ending appears.

  This happens at the same place in every run, unlike at a time by the clock. A
  checkpoint gets its final name last.
  """
  def watch(event, args):
    if event == 'os.rename' and os.fspath(args[1]).endswith(ending):
      os.kill(os.getpid(), number)
  sys.addaudithook(watch)


def work(job: dict[str, Any]):
  """Runs a job in its own process."""
  os.setsid()
  null = os.open(os.devnull, os.O_RDONLY)
  os.dup2(null, 0)
  for number, ending in ((1, 'out'), (2, 'err')):
    os.dup2(os.open(f'said/{job["name"]}.{ending}',
                    os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
  os.environ.update(job.get('env', {}))
  code = 0
  try:
    if 'strike' in job:
      strike(*job['strike'])
    if 'before' in job:
      FUNCTIONS[job['before']]()
    if job.get('fresh'):
      os.execv(sys.executable, [sys.executable, '-m', *job['argv']])
    if 'argv' in job:
      module, *flags = job['argv']
      sys.argv = [module, *flags]
      runpy.run_module(module, run_name='__main__', alter_sys=True)
    else:
      write(job['name'], FUNCTIONS[job['call']](**job['given']))
  except SystemExit as e:
    code = e.code if isinstance(e.code, int) else bool(e.code)
  except BaseException:
    traceback.print_exc()
    code = 1
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def run(job: dict[str, Any]) -> dict[str, Any]:
  """Forks a job and waits for it; returns its exit code, or -n for signal n.

  Ending this process ends the job too.
  """
  begin, parent = time.monotonic(), os.getppid()
  child = os.fork()
  if not child:
    work(job)
  signal.signal(signal.SIGTERM, lambda *_: (
      os.killpg(child, signal.SIGKILL), os._exit(1)))
  end = begin + job.get('seconds', SECONDS)
  late = False
  while True:
    done, status, used = os.wait4(child, os.WNOHANG)
    if done:
      break
    if not late and time.monotonic() > end:
      late = True
      os.killpg(child, signal.SIGKILL)
    if os.getppid() != parent:  # Nobody asks any more.
      os.killpg(child, signal.SIGKILL)
      os._exit(1)
    time.sleep(0.01)
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  return {'name': job['name'], 'late': late,
          'code': os.waitstatus_to_exitcode(status),
          'cpu': round(used.ru_utime + used.ru_stime, 2),
          'seconds': round(time.monotonic() - begin, 2)}


def serve():
  """Reads jobs and writes results, until stdin ends."""
  sys.path.insert(0, os.getcwd())
  os.makedirs('said', exist_ok=True)
  for library in LIBRARIES:
    try:
      importlib.import_module(library)
    except ImportError:
      pass
  found = importlib.util.find_spec('robertax').origin
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  print(json.dumps({'robertax': os.path.realpath(found)}), file=answers,
        flush=True)
  for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == '__main__':
  serve()
