"""What the paper's models are fine-tuned on, with its numbers.

Appendix, Table 10, and fairseq's examples/roberta/config/finetuning; the same
numbers stand in configs/glue.py, squad.py and race.py, for one run by itself.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from robertax.config import Config
from robertax.paper.scales import Scale
from robertax.studies.paper_rows import changed
from robertax.studies.sweep import BATCHES, RATES

GLUE, SQUAD, RACE = 'glue', 'squad', 'race'  # Folders below --data.


@dataclasses.dataclass(frozen=True)
class Task:
  """A fine-tuning.

  Attributes:
    task: of tasks.TASKS.
    folder: below --data.
    rate, batch: of a run by itself.
    tokens: of the training split, an epoch of it (expected: official rows x
      mean tokens by GPT-2's pieces, for the cost).
    epochs: passes.
    weight_decay: decoupled.
    warmup: share of the steps.
    after: the task whose model it begins with, in the paper.
    changes: other keys.
  """
  task: str
  folder: str
  rate: float
  batch: int
  tokens: float
  epochs: int = 10
  weight_decay: float = 0.1
  warmup: float = 0.06
  after: str = ''
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_SQUAD = dict(folder=SQUAD, rate=1.5e-5, batch=48, epochs=2, weight_decay=0.01)

TASKS = {
    'mnli': Task('glue/mnli', GLUE, 1e-5, 32, 392_702 * 39),
    'qnli': Task('glue/qnli', GLUE, 1e-5, 32, 104_743 * 50),
    'qqp': Task('glue/qqp', GLUE, 1e-5, 32, 363_846 * 31, warmup=0.25),
    'rte': Task('glue/rte', GLUE, 2e-5, 16, 2_490 * 66, after='mnli'),
    'sst2': Task('glue/sst2', GLUE, 1e-5, 32, 67_349 * 13),
    'mrpc': Task('glue/mrpc', GLUE, 1e-5, 16, 3_668 * 53, after='mnli'),
    'cola': Task('glue/cola', GLUE, 1e-5, 16, 8_551 * 11),
    'stsb': Task('glue/stsb', GLUE, 2e-5, 16, 5_749 * 31, after='mnli'),
    'wnli': Task('glue/wnli', GLUE, 1e-5, 16, 635 * 38),
    # Windows of 173 tokens in the mean; 2.0 has half as many questions again.
    'squad1': Task('squad', tokens=88_000 * 173, **_SQUAD),
    'squad2': Task('squad2', tokens=1.49 * 88_000 * 173, **_SQUAD),
    'race': Task('race', RACE, 1e-5, 16, 87_866 * 4 * 346, epochs=4,
                 changes={'finetune.predict_test': True}),
}


def tuning(name: str, scale: Scale, data: Mapping[str, Any], init_from: str,
           seed: int, random: bool = False) -> Config:
  """The Config of a fine-tuning.

  Args:
    name: of TASKS.
    scale: its `tuning` and `tasks` go over the paper's numbers.
    data: keys of where the task's data lies (paper_data.Place).
    init_from: the model's workdir.
    seed: of the first run.
    random: its weights are not taken, only its shape and tokenizer.
  """
  task = TASKS[name]
  values = {
      'task': task.task, 'init_from': init_from, 'seed': seed,
      'data.batch_size': task.batch, 'data.sequence_length': 512,
      'model.dropout_rate': 0.1, 'model.attention_dropout_rate': 0.1,
      'optim.name': 'adamw_fairseq', 'optim.schedule': 'linear',
      'optim.learning_rate': task.rate, 'optim.warmup_steps': 0,
      'optim.warmup_rate': task.warmup, 'optim.weight_decay': task.weight_decay,
      'train.steps': 0, 'train.log_every': 10, 'train.eval_every': 0,
      'train.checkpoint_every': 0, 'train.keep_checkpoints': 1,
      'finetune.epochs': task.epochs, 'finetune.from_scratch': random}
  values |= dict(task.changes) | dict(data) | dict(scale.tuning)
  return changed(Config(), values | dict(scale.tasks.get(name, {})))


def settings(name: str, scale: Scale) -> tuple[tuple[float, ...],
                                               tuple[int, ...]]:
  """Rates and batches that are tried; empty: the config's own alone."""
  swept = scale.sweep and TASKS[name].folder == GLUE
  return (RATES, BATCHES) if swept else ((), ())


def updates_tokens(name: str, scale: Scale) -> float:
  """Tokens that all runs of a task train on (expected)."""
  rates, batches = settings(name, scale)
  runs = max(1, len(rates) * len(batches)) * scale.tuning_seeds
  return TASKS[name].tokens * TASKS[name].epochs * runs
