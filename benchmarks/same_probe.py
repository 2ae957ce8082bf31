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

# Of robertax, what has no stable door. The first of a row that can be imported
# counts, so that a place that moves is a name more here.
PLACES = {
    'TASKS': ('robertax.tasks:TASKS', 'robertax.tasks.task_table:TASKS'),
    'parse': ('robertax.config:parse', 'robertax.train.config:parse'),
    'defaults': ('robertax.train.config:defaults',),
    # The old place first: robertax.paper was a door, which defines its flags.
    'SCALES': ('robertax.studies.paper_scales:SCALES',
               'robertax.paper.scales:SCALES'),
    'Recipe': ('robertax.studies.paper_scales:Recipe',
               'robertax.paper.scales:Recipe'),
}
# Loaded once. Those that a machine lacks are left out.
LIBRARIES = (
    'numpy', 'jax', 'jax.numpy', 'absl.app', 'ml_collections.config_flags',
    'tokenizers', 'optax', 'flax.nnx', 'orbax.checkpoint', 'matplotlib.pyplot',
    'sklearn.metrics', 'scipy.stats', 'tensorboardX', 'safetensors.numpy',
    'pyarrow', 'rich.console', 'tensorflow',
    'array_record.python.array_record_module')
SECONDS = 900.0  # Of a job; a busy machine is no difference.


def place(name: str) -> Any:
  """What PLACES says of a name.

  Raises:
    ImportError: none of its places is there.
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


# What each of the functions below gives: plain values, and arrays by name.
Given = tuple[Any, dict[str, Any]]


def get_config(path: str, arg: str | None = None, **values) -> Any:
  """The ConfigDict of a config file, with keys changed as flags change them."""
  config = runpy.run_path(path)['get_config'](*[arg] if arg else [])
  with config.unlocked():
    config.update_from_flattened_dict(values)
  return config


def flat(values: Any, before: str = '') -> dict[str, Any]:
  """Dotted key -> plain value, with its type: 1 and 1.0 differ."""
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
  """What a config file gives, for each argument."""
  return {arg or 'no argument': flat(get_config(path, arg))
          for arg in args}, {}


def batches(config: str, variants: dict[str, dict[str, Any]],
            values: dict[str, Any], steps: int = 2) -> Given:
  """Pretraining batches of variants of a config, each by its keys: the run's
  first, those where its second epoch begins, and all of evaluation.
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
  """Fine-tuning batches: of the first epochs, and of each split."""
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
  """What robertax.load says of texts."""
  import numpy as np

  import robertax
  opened = robertax.load(path)
  return {'fill_mask': repr(opened.fill_mask(texts, top_k=3)),
          'score': repr(opened.score(texts))}, {
              f'encode {i}': np.asarray(x)
              for i, x in enumerate(opened.encode(texts))}


def classes(path: str, texts: list[Any]) -> Given:
  """What a model that was fine-tuned for classes says of texts."""
  import robertax
  texts = [tuple(text) if isinstance(text, list) else text for text in texts]
  return {'classify': repr(robertax.load(path).classify(texts))}, {}


def shown(config: str, values: dict[str, Any], steps: list[int]) -> Given:
  """robertax.show_batch of a config: rows and statistics of some steps."""
  import robertax
  found = {}
  for step in steps:
    batch = robertax.show_batch(get_config(config, **values), step, 0)
    found[f'step {step}'] = {'rows': repr(batch.rows), 'text': str(batch),
                             'statistics': batch.statistics}
  return found, {}


def tiny_paper():
  """Makes the scale `tiny` of robertax.paper a thousandth of what it is."""
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
  """What a function gave, in probe/."""
  values, arrays = given
  os.makedirs('probe', exist_ok=True)
  if arrays:
    import numpy as np
    np.savez(f'probe/{name}.npz', **arrays)
  with open(f'probe/{name}.json', 'w') as f:
    json.dump(values, f, default=plain)


def plain(value: Any) -> Any:
  """Numbers of NumPy as Python's; whatever else as it prints itself."""
  return value.item() if hasattr(value, 'item') else repr(value)


def strike(number: int, ending: str):
  """Sends this process a signal when a name that ends so is about to be given.

  At the same place in every run, which no clock gives: of a checkpoint, its
  name is the last thing that it gets.
  """
  def watch(event, args):
    if event == 'os.rename' and os.fspath(args[1]).endswith(ending):
      os.kill(os.getpid(), number)
  sys.addaudithook(watch)


def work(job: dict[str, Any]):
  """A job, in the process that is its own."""
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
  """Forks a job and waits for it: its exit code, -n if signal n ended it.

  Whoever ends this process ends the job.
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
  """Jobs in, results out, until stdin ends."""
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
