"""The best evaluation of a run, and what one that fine-tunes ends with.

The paper reports the best epoch on the development set: the weights of the best
evaluation so far are kept in `W/best/<step>/`, and `results.json` and
`predictions.*`, written last, are theirs. Pretraining keeps those of the lowest
`eval/loss`, where `train.keep_best` asks for it.
"""

import sys
from typing import Any

import jax

from robertax import paths
from robertax.config import Config, TrainConfig
from robertax.errors import InputError
from robertax.tasks import TASKS
from robertax.tasks.task import RESULTS
from robertax.train.checkpoint import Checkpoints, finished_step
from robertax.train.scoring import Scoring
from robertax.train.writer import read_lines

FOLDER = 'best'


def concluded(folder: str, task: str) -> bool:
  """Whether nothing is left to do once the last step is saved.

  Args:
    folder: W.
    task: a row of TASKS.
  """
  return not TASKS[task].fine_tunes or paths.exists(
      f'{folder}/{RESULTS}')


class Best:
  """Keeps the best weights, if the task or the config wants that.

  Attributes:
    value, step: of the best evaluation so far (of a loss its negative); step
      -1: none yet.
  """

  def __init__(self, folder: str, task: Any, restored_step: int | None,
               train: TrainConfig):
    """What the lines of metrics.jsonl up to the restored step say was best.

    Args:
      folder: W.
      task: with `metric` where it fine-tunes.
      restored_step: None: the run begins anew.
      train: keep_best, on_write_error.
    """
    self._folder, self._task, self.value, self.step = folder, task, 0.0, -1
    self._metric = (f'eval/{task.metric}' if task.fine_tunes else
                    'eval/loss' if train.keep_best else '')
    self._goes_on = (not task.fine_tunes and jax.process_count() == 1
                     and train.on_write_error == 'go_on')
    path = f'{folder}/metrics.jsonl'
    if self._metric and restored_step is not None and paths.exists(path):
      for _, metrics in read_lines(path):
        if metrics['step'] <= restored_step:
          self._better(metrics['step'], metrics.get(self._metric))

  def note(self, step: int, metrics: dict[str, float], params: Any):
    """Keeps `params` if this evaluation is the best; step 0 is not one.

    Comes before the evaluation is written: a kill between the two leaves
    weights that the resumed run writes again.
    """
    before = self.step, self.value
    if not self._metric or not self._better(step, metrics[self._metric]):
      return
    try:
      # Two, for a run that is resumed from before the newest begins with the
      # other.
      checkpoints = Checkpoints(self._folder, 2, folder=FOLDER)
      checkpoints.replace_params(step, params)
      checkpoints.close()
    except InputError as e:
      if not self._goes_on:
        raise
      self.step, self.value = before
      print(f'the weights of step {step}, the best so far, are not kept: {e}',
            file=sys.stderr, flush=True)

  def _better(self, step: int, value: float | None) -> bool:
    if value is None or not step:
      return False
    value = value if self._task.fine_tunes else -value
    if self.step >= 0 and not value > self.value:
      return False
    self.step, self.value = step, value
    return True

  def params(self, last: Any, step: int) -> Any:
    """The best weights; others are removed.

    Args:
      last: those of `step`, to be laid out as they are.
      step: the run's last; if it is the best, they are what is returned.
    """
    checkpoints = Checkpoints(self._folder, 2, folder=FOLDER)
    try:
      checkpoints.keep_only(self.step)
      if self.step == step:
        return last
      return checkpoints.restore_params(self.step, jax.tree.map(
          lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype,
                                         sharding=x.sharding), last))
    finally:
      checkpoints.close()


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
      'init_step': finished_step(config.init_from) if config.init_from and
                   not config.finetune.from_scratch else None}
  # One process writes; all know what is written.
  return task.conclude('' if jax.process_index() else folder, answers, facts)
