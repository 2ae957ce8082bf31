"""The best evaluation of a run, and what one that fine-tunes ends with.

The paper reports the best epoch on the development set: the weights of the best
evaluation so far are kept in `W/best/<step>/`, and `results.json` and
`predictions.*`, written last, are theirs. Pretraining keeps those of the lowest
`eval/loss`, where `train.keep_best` asks for it.

What is kept and what metrics.jsonl says agree whatever befalls the run
(train.best_steps): an evaluation is the best if it is better than all whose
weights are kept; weights are there before its line is written; with them stay
those that a start from an earlier checkpoint would find to be the best; and
nothing is removed before newer weights are there.
"""

import sys
from typing import Any

import jax

from robertax import files
from robertax.config import Config, TrainConfig
from robertax.errors import InputError, writing
from robertax.parallel import processes
from robertax.tasks import TASKS
from robertax.tasks.task import RESULTS
from robertax.train import step_folders
from robertax.train.best_steps import FOLDER, evaluations, is_value, step_taken
from robertax.train.checkpoint import Checkpoints
from robertax.train.facts import Damaged
from robertax.train.scoring import Scoring


def concluded(folder: str, task: str) -> bool:
  """Whether nothing is left to do once the last step is saved.

  Args:
    folder: W.
    task: a row of TASKS.
  """
  return not TASKS[task].fine_tunes or files.exists(
      f'{folder}/{RESULTS}')


class Best:
  """Keeps the best weights, if the task or the config wants that.

  Attributes:
    value, step: of the best evaluation whose weights are kept (of a loss its
      negative); step -1: none yet.
  """

  def __init__(self, folder: str, task: Any, restored_step: int | None,
               train: TrainConfig, checkpoints: Checkpoints, params: Any):
    """What is kept of what metrics.jsonl says up to the restored step.

    Comes before the first line is written: weights of steps that will be taken
    again, or that no line is of, are taken out of sight.

    Args:
      folder: W.
      task: with `metric` where it fine-tunes.
      restored_step: None: the run begins anew.
      train: steps, keep_best, on_write_error.
      checkpoints: of the run.
      params: those of the restored step.

    Raises:
      InputError: a line is damaged, or W cannot be written.
    """
    self._folder, self._checkpoints = folder, checkpoints
    self._place = f'{folder}/{FOLDER}'
    self._keeps = task.fine_tunes or train.keep_best
    self._metric = f'eval/{task.metric}' if task.fine_tunes else 'eval/loss'
    self._sign = 1.0 if task.fine_tunes else -1.0
    self._goes_on = (not task.fine_tunes and jax.process_count() == 1
                     and train.on_write_error == 'go_on')
    # Of the run so far, and of that what is kept: step -> value.
    known, kept = self._agree(restored_step)
    self._kept = {step: known[step] for step in kept}
    self.step, self.value = _largest(self._kept)
    self._heard = _largest(known)  # The best of all, kept or not.
    if task.fine_tunes and (restored_step or 0) < train.steps:
      self._withdraw()
    if restored_step in known:  # The checkpoint has the weights of this one.
      self._offer(restored_step, known[restored_step], params)
    if self._keeps and self._heard[0] not in (-1, self.step):
      print(f'{self._lost()}. Evaluations are compared with '
            + (f'that of step {self.step} from here on.' if self.step >= 0
               else 'none before them.'), file=sys.stderr, flush=True)

  def note(self, step: int, metrics: dict[str, float], params: Any):
    """Keeps `params` if this evaluation is the best; step 0 is not one.

    Comes before the evaluation is written: a kill between the two leaves
    weights that the resumed run does not take for its own.
    """
    if step and is_value(metrics.get(self._metric)):
      value = self._sign * metrics[self._metric]
      if self._heard[0] < 0 or value > self._heard[1]:
        self._heard = step, value
      self._offer(step, value, params)

  def params(self, last: Any, step: int) -> Any:
    """The best weights that are kept and whole; others are removed.

    If there are none, the last ones. `self.step` is that of what is returned.

    Args:
      last: those of `step`, to be laid out as they are.
      step: the run's last; if it is the best, they are what is returned.
    """
    found, checkpoints = None, Checkpoints(self._folder, folder=FOLDER)
    try:
      while self._kept and found is None:
        self.step, self.value = _largest(self._kept)
        try:
          found = last if self.step == step else checkpoints.restore_params(
              self.step, jax.tree.map(lambda x: jax.ShapeDtypeStruct(
                  x.shape, x.dtype, sharding=x.sharding), last))
        except Damaged as e:
          checkpoints.set_aside(self.step, e)
          del self._kept[self.step]
      if found is None:
        found, self.step = last, step
        checkpoints.replace_params(step, last)
    finally:
      checkpoints.close()
    if self._heard[0] not in (-1, self.step):
      print(f'{self._lost()}. What the run ends with is of step {self.step}.',
            file=sys.stderr, flush=True)
    self._keep([self.step])
    return found

  def _agree(self, restored: int | None) -> tuple[dict[int, float], list[int]]:
    """(step -> value of the run so far, those of them that are kept)."""
    def look():
      if not processes.first():
        return None
      known = ({} if restored is None else
               evaluations(self._folder, self._metric, restored))
      saved = step_folders.saved_steps(self._place)
      with writing(self._place):
        for step in saved:
          if step not in known:
            step_folders.abandon(self._place, step)
      return [list(known.items()), [step for step in saved if step in known]]

    # One process looks: the others may see a folder as it was.
    known, kept = processes.gather(processes.together(look))[0]
    return {step: self._sign * value for step, value in known}, kept

  def _withdraw(self):
    """Removes results of a future that was given up: the run would pass for
    concluded by them.
    """
    path = f'{self._folder}/{RESULTS}'

    def remove():
      if processes.first() and files.exists(path):
        with writing(path):
          files.remove(path)
    processes.together(remove)

  def _offer(self, step: int, value: float, params: Any):
    """Keeps the weights of an evaluation if it is the best."""
    if not self._keeps or self.step >= 0 and not value > self.value:
      return
    try:
      checkpoints = Checkpoints(self._folder, folder=FOLDER)
      checkpoints.replace_params(step, params)
      checkpoints.close()
      before, self.step, self.value = self.step, step, value
      self._kept[step] = value
      # The one before it stays until the next: a kill before the line of this
      # evaluation is written leaves that to be the best. And a later start
      # may go on from an earlier checkpoint.
      self._keep([step, before, *(
          max((k for k in self._kept if k <= saved), default=-1)
          for saved in self._checkpoints.restorable())])
    except InputError as e:
      if not self._goes_on:
        raise
      print(f'the weights of step {step}, the best so far, are not kept: {e}',
            file=sys.stderr, flush=True)

  def _keep(self, steps: list[int]):
    """Removes the others; all processes do as the first one sees it."""
    steps = processes.gather(steps)[0]

    def remove():
      if processes.first():
        with writing(self._place):
          step_folders.keep(self._place, steps)
    processes.together(remove)
    self._kept = {k: v for k, v in self._kept.items() if k in steps}

  def _lost(self) -> str:
    step, value = self._heard
    return (f'{self._place}: the weights of step {step}, the best evaluation '
            f'({self._metric} {self._sign * value:.6g}), are not kept')


def _largest(values: dict[int, float]) -> tuple[int, float]:
  """(the step of the largest value, the value); of equal ones the first."""
  step = max(sorted(values), key=values.get, default=-1)
  return step, values.get(step, 0.0)


def conclude(config: Config, task: Any, scoring: Any, best: Best, params: Any,
             folder: str) -> dict[str, Any] | None:
  """Answers every split with the best weights and writes what they say.

  Args:
    config: of the run, settled.
    task: of the run; where it does not fine-tune, nothing is done.
    scoring: Scoring.
    best: of the run.
    params: the last ones.
    folder: W.

  Returns:
    What results.json holds.
  """
  if not task.fine_tunes:
    return None
  assert isinstance(scoring, Scoring)
  params = best.params(params, config.train.steps)
  splits = [*task.dev_splits]
  if config.finetune.predict_test:
    splits += task.test_splits
  answers = {name: scoring.answers(params, name) for name in splits}
  facts = {
      'seed': config.seed, 'best_step': best.step, 'steps': config.train.steps,
      'best_epoch': round(best.step / task.epoch_steps, 2),
      'learning_rate': config.optim.learning_rate,
      'batch_size': config.data.batch_size, 'init_from': config.init_from,
      'from_scratch': config.finetune.from_scratch,
      'init_step': step_taken(config.init_from) if config.init_from and
                   not config.finetune.from_scratch else None}
  # One process writes; all know what is written.
  return task.conclude('' if jax.process_index() else folder, answers, facts)
