"""The loop: the order in which a run does things, and why in that order."""

from collections.abc import Collection
import dataclasses
import sys
from typing import Any

import jax

from robertax import data, parallel
from robertax.model import unpad_vocabulary
from robertax.sections import unknown
from robertax.tasks import TASKS
from robertax.train import optimizer, state, step, workdir
from robertax.train.checkpoint import Checkpoints, finished_step
from robertax.train.config import Config, check_batch, fitting_warmup
from robertax.train.evaluate import Evaluation, table
from robertax.train.initial import initial_config, initial_params
from robertax.train.interruption import Interruption
from robertax.train.progress import Progress
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
  """
  workdir: str
  task: Any
  step: int
  trained: int
  signal: int = 0


def run(config: Config, folder: str, named: Collection[str] = ()) -> Run:
  """Prepares, trains or resumes, evaluates, saves.

  Args:
    config: of the run.
    folder: the workdir, W.
    named: keys set on the command line, which `init_from` may not overrule.

  Raises:
    InputError: wrong input of any kind.
  """
  config = initial_config(config, named)
  # Before anything long: a workdir of another config is refused at once.
  workdir.check(folder, config)
  finished = finished_step(folder)
  if finished is not None and finished >= config.train.steps:
    return Run(folder, None, finished, trained=0)
  if config.task not in TASKS:
    raise unknown('task', config.task, TASKS)
  mesh = parallel.make_mesh(config.mesh)
  check_batch(config, mesh.shape['data'] * mesh.shape['fsdp'])
  task = TASKS[config.task](
      config.seed, config.data, config.tokenizer, config.model)
  config = dataclasses.replace(config, model=task.model)
  train = config.train
  tx, schedule = optimizer.create(fitting_warmup(config), train.steps)
  workdir.write(folder, config, task.tokenizer)

  with jax.set_mesh(mesh):
    make = state.create(task.init, tx, config.seed)
    abstract = state.abstract(make, mesh, config.mesh.zero1)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)

    checkpoints = Checkpoints(folder, train.keep_checkpoints)
    restored = checkpoints.latest_step()
    if restored is None:
      now = jax.jit(make, out_shardings=shardings)()
      now = now._replace(params=initial_params(config, now.params))
    else:
      now = checkpoints.restore(restored, abstract)
    start = int(now.step)

    train_step = jax.jit(
        step.make_train_step(task.loss, task.totals, tx, config.seed,
                             config.mesh.zero1),
        out_shardings=(shardings, None), donate_argnums=0)
    evaluation = Evaluation(config, task, mesh)
    # The writer cuts metrics.jsonl back to the restored step, so it comes
    # after the restore and before the first number.
    writer = Writer(folder, restored)
    describe(config, now, mesh, task, start)
    progress = Progress(start, train.steps)

    def evaluated() -> dict[str, float]:
      metrics = evaluation(now.params)
      progress.say(table(metrics))
      return metrics

    with Interruption() as interruption, train_feed(
        config, task, mesh, start) as feed:
      # DO NOT CHANGE THE ORDER: a step's numbers are written before the
      # checkpoint of that step, for a kill between the two must leave no step
      # that is saved and not logged. What is logged and not saved is cut.
      try:
        if start == 0:
          writer.add(0, evaluated())
          writer.flush()
        window = Window(task.train_metrics, run_ahead(mesh))
        for number in range(start + 1, train.steps + 1):
          last = number == train.steps
          now, sums = train_step(now, next(feed))
          window.add(sums)
          progress.step(number)
          if last or number % train.log_every == 0:
            metrics = window.close(number, float(schedule(number - 1)))
            writer.add(number, metrics)
            progress.show(metrics)
          stopped = interruption.requested
          if last or number % train.eval_every == 0:
            writer.add(number, evaluated())
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
  return Run(folder, task, number, number - start, 0 if last else stopped)


def train_feed(config: Config, task: Any, mesh: jax.sharding.Mesh,
               start: int) -> data.Feed:
  """Batches from step `start` on, on the devices, made ahead of the step."""
  rows = data.host_rows(config.data.batch_size, config.train.micro_batches,
                        jax.process_index(), jax.process_count())
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
  print(f'{parameters / 1e6:.2f}M parameters, {config.data.batch_size} x '
        f'{config.data.sequence_length} tokens a step, '
        f'{task.describe_epochs(config.train.steps)} in '
        f'{config.train.steps} steps, on {mesh.size} x {device.device_kind} '
        f'({device.platform})', file=sys.stderr)
  if start:
    print(f'resuming at step {start}', file=sys.stderr)
