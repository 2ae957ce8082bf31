"""The loop: the order in which a run does things, and why in that order."""

from collections.abc import Collection
import dataclasses
import functools
import sys
from typing import Any

import jax

from robertax import data, parallel
from robertax.kernels.dropout import seed_words
from robertax.model import unpad_vocabulary
from robertax.sections import unknown
from robertax.tasks import TASKS
from robertax.train import optimizer, schedules, state, workdir
from robertax.train.best import Best, conclude, concluded
from robertax.train.checkpoint import Checkpoints, finished_step
from robertax.train.compiled import compiled
from robertax.train.config import Config, check_batch, fitting_warmup, settled
from robertax.train.evaluate import table
from robertax.train.initial import initial_config, initial_params
from robertax.train.interruption import Interruption
from robertax.train.progress import Progress
from robertax.train.scoring import evaluation
from robertax.train.window import Window
from robertax.train.writer import Writer


@dataclasses.dataclass(frozen=True)
class Run:
  """How a call of `run` ended.

  Attributes:
    workdir: W.
    task: the task object, with its data open; None where nothing was left to
      do.
    step: updates done so far, over all calls.
    trained: updates done by this call.
    signal: number of the signal that stopped it; 0: it came to its end.
    results: what results.json holds, of a task that fine-tunes.
  """
  workdir: str
  task: Any
  step: int
  trained: int
  signal: int = 0
  results: dict[str, Any] | None = None


def run(config: Config, folder: str, named: Collection[str] = ()) -> Run:
  """Prepares, trains or resumes, evaluates, saves.

  Args:
    config: of the run.
    folder: the workdir, W.
    named: keys set on the command line, which `init_from` may not overrule.

  Raises:
    InputError: wrong input of any kind.
  """
  if config.task not in TASKS:
    raise unknown('task', config.task, TASKS)
  fine_tunes = TASKS[config.task].fine_tunes
  # Before anything long: a workdir of another config is refused at once.
  config = workdir.check(folder, initial_config(config, named))
  finished = finished_step(folder)
  if finished is not None and finished >= config.train.steps > 0 and concluded(
      folder, fine_tunes):
    return Run(folder, None, finished, trained=0)
  mesh = parallel.make_mesh(config.mesh)
  shares = mesh.shape['data'] * mesh.shape['fsdp']
  if not fine_tunes:  # Whose batches are of examples, and rows as needed.
    check_batch(config, shares)
  task = TASKS[config.task].of(config, shares)
  config = settled(config, task)
  train = config.train
  _, schedule = optimizer.create(fitting_warmup(config), train.steps)
  rates, seed = schedules.rates(schedule, train.steps), seed_words(config.seed)

  with jax.set_mesh(mesh):
    programs = compiled(task.objective, config.optim, mesh, config.mesh.zero1)
    restored = finished
    if restored is None:
      now = programs.create(jax.random.key(config.seed))
      now = now._replace(params=initial_params(config, now.params))
    # All that can be wrong has been seen: now W is written.
    workdir.write(folder, config, task.tokenizer)
    checkpoints = Checkpoints(folder, train.keep_checkpoints)
    if restored is not None:
      now = checkpoints.restore(restored, programs.abstract)
    start = int(now.step)
    evaluate = evaluation(config, task, mesh)
    best = Best(folder, task, restored)
    # The writer cuts metrics.jsonl back to the restored step, so it comes
    # after the restore and before the first number.
    writer = Writer(folder, restored)
    describe(config, now, mesh, task, start)
    progress = Progress(start, train.steps)

    def evaluated(step: int) -> dict[str, float]:
      metrics = evaluate(now.params)
      progress.say(table(metrics))
      best.note(step, metrics, now.params)
      return metrics

    with Interruption() as interruption, train_feed(
        config, task, mesh, start) as feed:
      # DO NOT CHANGE THE ORDER: a step's numbers are written before the
      # checkpoint of that step, for a kill between the two must leave no step
      # that is saved and not logged. What is logged and not saved is cut.
      try:
        if start == 0:
          writer.add(0, evaluated(0))
          writer.flush()
        number, last, stopped = start, start == train.steps, 0
        window = Window(task.train_metrics, run_ahead(mesh))
        for number in range(start + 1, train.steps + 1):
          last = number == train.steps
          now, sums = programs.train(now, next(feed), seed, rates[number - 1])
          window.add(sums)
          progress.step(number)
          if last or number % train.log_every == 0:
            metrics = window.close(number, float(rates[number - 1]))
            writer.add(number, metrics)
            progress.show(metrics)
          stopped = interruption.requested
          if last or number % train.eval_every == 0:
            writer.add(number, evaluated(number))
            window.restart()
          writer.flush()
          if last or stopped or number % train.checkpoint_every == 0:
            checkpoints.save(number, now)
            window.restart()
          if stopped and not last:
            break
      finally:
        progress.close()
        writer.close()
    checkpoints.close()
    results = conclude(
        config, task, evaluate, best, now.params, folder) if last else None
  return Run(folder, task, number, number - start, 0 if last else stopped,
             results)


def train_feed(config: Config, task: Any, mesh: jax.sharding.Mesh,
               start: int) -> data.Feed:
  """Batches from step `start` on, on the devices, made ahead of the step."""
  rows = functools.partial(
      data.host_rows, micro_batches=config.train.micro_batches,
      process_index=jax.process_index(), process_count=jax.process_count())
  batches = (data.split_micro_batches(batch, config.train.micro_batches)
             for batch in task.train_batches(start, rows))
  return data.Feed(batches, parallel.batch_sharding(mesh, micro_batches=True),
                   config.data.prefetch)


def run_ahead(mesh: jax.sharding.Mesh) -> int:
  """Steps that the host may be ahead of the devices.

  Devices that are threads of one CPU share a pool: collectives of two steps at
  once can take all its threads and wait for each other for ever.
  """
  threads = mesh.size > 1 and jax.devices()[0].platform == 'cpu'
  return 0 if threads else 2


def describe(config: Config, now: state.TrainState, mesh: jax.sharding.Mesh,
             task: Any, start: int):
  """Prints what is trained on what."""
  parameters = sum(x.size for x in jax.tree.leaves(jax.eval_shape(
      lambda params: unpad_vocabulary(task.model, params), now.params)))
  device = jax.devices()[0]
  print(f'{parameters / 1e6:.2f}M parameters, '
        f'{task.describe(config.train.steps)}, on {mesh.size} x '
        f'{device.device_kind} ({device.platform})', file=sys.stderr)
  if start:
    print(f'resuming at step {start}', file=sys.stderr)
