"""The loop: the order in which a run does things, and why in that order."""

from collections.abc import Collection
import dataclasses
from typing import Any

import jax

from robertax.config import MASKED_LM, Config
from robertax.errors import Diverged, InputError, first_line
from robertax.parallel.mesh import find_devices, make_mesh, steps_ahead
from robertax.parallel.processes import Peers, first, together
from robertax.progress import say
from robertax.tasks import Task
from robertax.train import optimizer, session
from robertax.train.checkpoint import hushed
from robertax.train.clock import Clock, Watchdog
from robertax.train.divergence import rolling_back
from robertax.train.evaluate import conclude, is_concluded
from robertax.train.session import Interruption, Moment, Session
from robertax.train.workdir import Lock


@dataclasses.dataclass(frozen=True)
class Run:
  """How a call of `run` ended."""
  workdir: str
  task: Task | None  # With its data open; None: nothing was left to do.
  step: int  # Updates done so far, over all calls.
  trained: int  # Updates done by this call.
  signal: int = 0  # The signal that stopped it; 0: it came to its end.
  results: dict[str, Any] | None = None  # The results.json of a fine-tuning.


def run(config: Config, workdir: str, named: Collection[str] = ()) -> Run:
  """Prepares, trains or resumes, evaluates, saves.

  `init_from` may not overrule the `named` keys, set on the command line. Raises
  InputError for wrong input, and Diverged if the run may not go on.
  """
  find_devices()
  try:
    with hushed(), Lock(workdir) as lock, session.compile_cache(config):
      return rolling_back(lambda: _attempt(config, workdir, named, lock),
                          workdir, config.optim)
  except jax.errors.JaxRuntimeError as e:
    if e.error_code_string != 'RESOURCE_EXHAUSTED':
      raise
    raise InputError(
        f'the memory of the devices is not enough: {first_line(e)}. A larger '
        f'train.micro_batches (now {config.train.micro_batches}) computes the '
        "same update in smaller parts; model.remat='full', a shorter "
        'data.sequence_length or a smaller model takes less.') from e


def _attempt(config: Config, workdir: str, named: Collection[str], lock: Lock
             ) -> Run:
  """Runs from the newest checkpoint on; a roll-back calls it again."""
  clock, wanted = Clock(), config
  config, finished = session.admit_run(config, workdir, named)
  done = finished is not None and (
      finished >= config.train.steps > 0) and is_concluded(
          workdir, config.task)
  if done and wanted.train.steps:
    return Run(workdir, None, finished, trained=0)
  mesh = make_mesh(config.mesh)
  if config.task == MASKED_LM and finished is None:
    together(lambda: session.check_size(config, mesh))
  try:
    task = session.open_task(config, mesh)
  except InputError as e:
    if not done:
      raise
    say(f'The steps of finetune.epochs cannot be compared: {e}')
    return Run(workdir, None, finished, trained=0)
  # The data tell how many steps the epochs of this command are.
  session.check_steps(wanted, config, task, workdir)
  if done:
    return Run(workdir, None, finished, trained=0)
  if finished is None:  # One process reads; what it finds wrong stops all.
    together(lambda: task.judge() if first() else None)
  config = session.settle_config(config, task)
  train, rates = config.train, optimizer.learning_rates(config)
  with jax.set_mesh(mesh), Watchdog(
      workdir, clock, train.watchdog_seconds, train.on_stall), Peers(
          train.peer_timeout_seconds, clock.where):
    opened = session.open_session(config, workdir, task, mesh, clock, finished,
                                  lock, rates)
    ended = take_steps(opened)
    with clock.at('checkpoint'):
      opened.saves.checkpoints.close()
    with clock.at('evaluation'):
      evaluations, params = opened.evaluations, opened.state.params
      results = conclude(config, task, evaluations.evaluate, evaluations.best,
                         params, workdir) if ended.last else None
    say(opened.goodput.describe())
    opened.goodput.close()
  return Run(workdir, task, ended.step, ended.step - opened.start,
             0 if ended.last else ended.stopped, results)


def take_steps(run: Session) -> Moment:
  """Runs the remaining updates, and returns the last step that was reached."""
  steps, clock = run.config.train.steps, run.clock
  moment = Moment(run.start, run.start == steps)
  with Interruption(
      run.mesh, steps_ahead(run.mesh)) as interruption, session.train_feed(
          run.config, run.task, run.mesh, run.start, run.passed) as feed:
    # DO NOT CHANGE THE ORDER, neither here nor of Session.parts.
    try:
      # The score of a new head says nothing, and costs a pass over dev.
      if run.start == 0 and not run.task.fine_tunes:
        run.evaluations.act(run, moment)
        run.lines.act(run, moment)
      for number in range(run.start + 1, steps + 1):
        with clock.at('input_wait'):
          batch = next(feed)
        # The first call compiles: its time is not a step's.
        with run.trace.step(number), clock.at(
            'start' if number == run.start + 1 else 'step'):
          run.state, sums = run.programs.train(
              run.state, batch, run.seed, run.rates[number - 1])
        clock.turn('step', number)
        for part in run.parts:
          part.on_step(number, sums)
        moment = Moment(number, number == steps, interruption.agreed())
        for part in run.parts:
          if part.due(moment):
            if part.settles:
              run.log.window.settle()
            part.act(run, moment)
        if moment.stopped and not moment.last:
          break
    except Diverged:
      run.saves.checkpoints.close_to_go_back()
      raise
    finally:
      session.close_all(run.parts)
  return moment
