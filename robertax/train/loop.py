"""The loop: the order in which a run does things, and why in that order."""

from collections.abc import Collection
import dataclasses
from typing import Any

import jax

from robertax.config import Config, fitting_warmup, settled
from robertax.errors import Diverged
from robertax.kernels.dropout import seed_words
from robertax.parallel import processes
from robertax.parallel.mesh import make_mesh
from robertax.progress import Progress
from robertax.train import optimizer, session, workdir
from robertax.train.checkpoint import Checkpoints
from robertax.train.clock import Clock, Goodput, Watchdog
from robertax.train.divergence import Judge, PassedOver, rolling_back
from robertax.train.evaluate import (
    Best,
    conclude,
    evaluation_table,
    is_concluded,
    open_evaluation,
)
from robertax.train.facts import identity
from robertax.train.initial import initial_params
from robertax.train.parts import Interruption, Trace, Utilization, Window
from robertax.train.session import steps_ahead, train_feed
from robertax.train.step import compiled
from robertax.train.workdir import Lock
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
    Diverged: and the policy is not to go on (optim.on_divergence).
  """
  with Lock(folder) as lock:
    return rolling_back(lambda: _run(config, folder, named, lock), folder,
                        config.optim)


def _run(config: Config, folder: str, named: Collection[str], lock: Lock
         ) -> Run:
  """As `run`, which begins it again where it is rolled back."""
  clock = Clock()
  config, finished = session.admit_run(config, folder, named)
  if finished is not None and (
      finished >= config.train.steps > 0) and is_concluded(
          folder, config.task):
    return Run(folder, None, finished, trained=0)
  session.turn_on_compile_cache(config)
  mesh = make_mesh(config.mesh)
  task = session.open_task(config, mesh)
  config = settled(config, task)
  train, first = config.train, processes.first()
  _, schedule = optimizer.create(fitting_warmup(config), train.steps)
  rates, seed = optimizer.rates(schedule, train.steps), seed_words(config.seed)

  with jax.set_mesh(mesh), Watchdog(
      folder, clock, train.watchdog_seconds, train.on_stall), processes.Peers(
          train.peer_timeout_seconds, clock.where):
    programs = compiled(task.objective, config.optim, mesh, config.mesh.zero1)
    restored = finished
    if restored is None:
      now = programs.create(jax.random.key(config.seed))
      now = now._replace(params=initial_params(config, now.params))
    # All that can be wrong has been seen: now W is written.
    processes.together(
        lambda: workdir.claim_workdir(folder, config, task.tokenizer, lock))
    checkpoints = Checkpoints(
        folder, train.keep_checkpoints, keep_every=train.keep_every,
        strict=train.on_write_error == 'stop', belongs=identity(task))
    if restored is not None:
      now = checkpoints.restore_newest(programs.abstract, train.allow_changed)
      restored = int(now.step)  # What is damaged is passed over.
    start = int(now.step)
    passed = PassedOver.read(folder)
    evaluate = open_evaluation(config, task, mesh)
    best = Best(folder, task, restored, train, checkpoints, now.params)
    # The writer cuts metrics.jsonl back to the restored step, so it comes
    # after the restore and before the first number.
    writer = Writer(folder, restored, write=first,
                    strict=train.on_write_error == 'stop')
    goodput = Goodput(folder, clock, start, write=first)
    trace = Trace(folder, train.profile_steps, write=first)
    session.describe_run(config, now, mesh, task, start)
    progress = Progress(start, train.steps)

    def evaluated(step: int) -> dict[str, float]:
      with clock.at('evaluation'):
        metrics = evaluate(now.params)
        progress.say(evaluation_table(metrics))
        best.note(step, metrics, now.params)
      return metrics

    ahead = steps_ahead(mesh)
    with Interruption(mesh, ahead) as interruption, train_feed(
        config, task, mesh, start, passed) as feed:
      # DO NOT CHANGE THE ORDER: a step's numbers are written before the
      # checkpoint of that step, for a kill between the two must leave no step
      # that is saved and not logged. What is logged and not saved is cut.
      try:
        # A new head's score says nothing, and costs a pass over dev.
        if start == 0 and not task.fine_tunes:
          writer.add(0, evaluated(0))
          writer.flush()
        number, last, stopped = start, start == train.steps, 0
        window = Window(passed.counted(task.train_metrics), ahead, clock,
                        Utilization(config, mesh.devices.ravel()),
                        Judge(config.optim, now.params))
        for number in range(start + 1, train.steps + 1):
          last = number == train.steps
          with clock.at('input_wait'):
            batch = next(feed)
          # The first call compiles, and that is no step's time.
          with trace.step(number), clock.at(
              'start' if number == start + 1 else 'step'):
            now, sums = programs.train(now, batch, seed, rates[number - 1])
          clock.turn('step', number)
          window.add(number, sums)
          progress.step(number)
          trace.done(number, sums)
          stopped = interruption.agreed()
          evaluates = last or number % train.eval_every == 0
          saves = last or stopped or number % train.checkpoint_every == 0
          if last or number % train.log_every == 0:
            metrics = window.close(number, float(rates[number - 1]))
            metrics['train/goodput'] = goodput.note(number)
            writer.add(number, metrics)
            progress.show(metrics)
          if evaluates or saves:
            window.settle()
          if evaluates:
            writer.add(number, evaluated(number))
          writer.flush()
          if saves:
            # Noted before it is saved: a start from there counts these steps.
            goodput.note(number)
            with clock.at('checkpoint'):
              checkpoints.save(number, now, last=last or stopped)
              if not train.save_in_background:
                checkpoints.wait()
          if stopped and not last:
            break
      except Diverged:
        checkpoints.close()  # What is being saved is what it goes back to.
        raise
      finally:
        trace.close()
        progress.close()
        writer.close()
    with clock.at('checkpoint'):
      checkpoints.close()
    with clock.at('evaluation'):
      results = conclude(
          config, task, evaluate, best, now.params, folder) if last else None
    progress.say(goodput.describe())
    goodput.close()
  return Run(folder, task, number, number - start, 0 if last else stopped,
             results)
