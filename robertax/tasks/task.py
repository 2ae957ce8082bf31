"""The interface of a task, and the files that its run ends with.

train/, inspection/, studies/ and paper/ know a task by these protocols alone,
which `Pretrain` and the subclasses of `Finetune` implement; TASKS has a row for
each. A fine-tuning run writes its predictions, and then results.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
import json
import math
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from robertax import files
from robertax.errors import reading, writing
from robertax.tables import LazyTable

if TYPE_CHECKING:
  import jax

  from robertax.config import Config, ModelConfig
  from robertax.data.finetuning import HostRows, TuningBatches
  from robertax.data.masking import Batch
  from robertax.data.pipeline import Pipeline
  from robertax.text import Tokenizer

Answers = dict[str, np.ndarray]  # What a step gives for each example.
TASKS = LazyTable({
    'pretrain': 'robertax.tasks.pretrain:Pretrain',
    **{f'glue/{name}': 'robertax.tasks.glue:Glue' for name in (
        'cola', 'sst2', 'mrpc', 'stsb', 'qqp', 'mnli', 'qnli', 'rte', 'wnli')},
    'text_classification': 'robertax.tasks.glue:TextClassification',
    'qnli_ranking': 'robertax.tasks.qnli:QnliRanking',
    'wnli_spans': 'robertax.tasks.wnli:Wnli', 'wsc': 'robertax.tasks.wsc:Wsc',
    **dict.fromkeys(('race', 'race/middle', 'race/high'),
                    'robertax.tasks.race:Race'),
    **dict.fromkeys(('squad', 'squad2'), 'robertax.tasks.squad:Squad')})


class Objective(Protocol):
  """A loss of a compiled step; equal objectives share the step."""

  def init(self, key: jax.Array) -> Any:
    """Returns random parameters. Traceable."""

  def totals(self, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns the scalars that the loss is divided by."""

  def loss(self, params: Any, batch: Mapping[str, jax.Array],
           dropout_keys: jax.Array | None, totals: Mapping[str, jax.Array]
           ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the loss in nats of a batch or a micro-batch.

    Args:
      params, batch: by name.
      dropout_keys: uint32[B,2]; None: no dropout.
      totals: those of the whole batch.

    Returns:
      The share of these rows in the whole batch's loss, and sums over them,
      such as loss_sum, weight_sum and token_sum (without padding).
    """


class AnsweringObjective(Objective, Protocol):
  """An objective that gives outputs, per token [B, T, ...] or per slot."""
  token_outputs: ClassVar[frozenset[str]]

  def outputs(self, params: Any, batch: Mapping[str, jax.Array]
              ) -> dict[str, jax.Array]:
    """Returns the answers to a batch, without dropout."""


class Task(Protocol):
  """What training needs from any task; `model` has its vocabulary and heads."""
  fine_tunes: ClassVar[bool]
  tokenizer: Tokenizer
  model: ModelConfig
  objective: Objective

  @classmethod
  def of(cls, config: Config, shares: int) -> Task:
    """Prepares data, or InputError; `shares` devices share a micro-batch."""

  def describe(self, steps: int) -> str:
    """Says how much data so many steps read."""

  def judge(self) -> None:
    """Refuses, before a run's first step, data that would teach nothing."""

  def identity(self) -> dict[str, str]:
    """Returns hashes of the data, which a checkpoint keeps."""

  def train_batches(self, start_step: int, rows: HostRows) -> Iterator[Batch]:
    """Makes endless batches, each of them a function of seed and step.

    `rows` maps a whole batch's size to the rows that this host makes.
    """

  def train_metrics(self, step: int, sums: dict[str, float]
                    ) -> dict[str, float]:
    """Turns the sums of update number `step` into metrics."""


class PretrainingTask(Task, Protocol):
  """A task over prepared records, evaluated by sums of its loss."""
  corpora: tuple[str, ...]

  def pipeline(self, step: int) -> Pipeline:
    """Returns what makes batch `step`, with all rows."""

  def epoch(self, step: int) -> float:
    """Returns the passes over all training records before `step`."""

  def epochs(self, step: int) -> dict[str, float]:
    """Returns the passes over each corpus before `step`."""

  def eval_sets(self, batch_size: int, max_examples: int, rows: np.ndarray
                ) -> dict[str, Callable[[], Iterator[Batch]]]:
    """Returns for each set what begins its batches of this host's rows."""

  def eval_constants(self, batch_size: int, max_examples: int
                     ) -> dict[str, dict[str, float]]:
    """Returns for each set the sums that depend on no parameters."""

  def eval_bad_records(self) -> dict[str, int]:
    """Returns how many damaged records of each set were left out."""

  def summarize(self, sums: dict[str, float]) -> dict[str, float]:
    """Turns sums over a set into metrics; InputError: it has no target."""

  def heldout_ids(self, count: int) -> list[np.ndarray]:
    """Returns the ids of `count` held-out examples."""


class FinetuningTask(Task, Protocol):
  """A task of labelled splits, evaluated by a score of all answers, which are
  those of data.finetuning.collect_answers; the first metric is the main one.
  """
  objective: AnsweringObjective
  masked_per_sequence: float  # Predicted tokens of a training sequence.
  metrics: tuple[str, ...]
  labels: tuple[str, ...]
  epoch_steps: int

  @property
  def metric(self) -> str:
    """The first of `metrics`."""

  @property
  def dev_splits(self) -> list[str]:
    """Names of the splits that are scored, the main one first."""

  @property
  def test_splits(self) -> list[str]:
    """Names of the splits without labels."""

  def batches(self, split: str) -> TuningBatches:
    """Returns what makes the evaluation batches of a split."""

  def eval_batches(self, split: str) -> Iterator[Batch]:
    """Makes the batches of a split, all rows of each."""

  def score(self, split: str, answers: dict[str, np.ndarray]
            ) -> dict[str, float]:
    """Returns `metrics` of a labelled split, in percent."""

  def conclude(self, folder: str, answers: Mapping[str, dict[str, np.ndarray]],
               facts: dict[str, Any]) -> dict[str, Any]:
    """Scores the best weights; writes predictions, then results.json.

    It adds `facts` of the run to results.json, whose content it returns. If
    `folder`, the workdir, is '', nothing is written.
    """


RESULTS = 'results.json'
# A converted workdir also has this file: labels, and where it came from.
ORIGIN = 'origin.json'


def write_results(folder: str, found: Mapping[str, Any],
                  texts: Mapping[str, bytes]) -> dict[str, Any]:
  """Writes the files, then results.json, each whole or not at all.

  `found` is what results.json holds beside the names of the files, `texts` has
  their contents by name. If `folder`, the workdir, is '', nothing is written.
  Returns the content of results.json; raises InputError if writing fails.
  """
  found = plain_values({**found, 'files': sorted(texts)})
  last = json.dumps(found, indent=2, ensure_ascii=False) + '\n'
  for name, data in {**texts, RESULTS: last.encode()}.items():
    if folder:
      path = files.join(folder, name)
      with writing(path):
        files.write_bytes(path, data)
  return found


def read_object(path: str) -> dict[str, Any]:
  """Reads results.json or another object, {} if there is none; InputError."""
  if not files.exists(path):
    return {}
  with reading(path, 'not an object in JSON, as a run writes it',
               '. Move it away.'):
    return dict(files.read_json(path))


def softmax(logits: np.ndarray) -> np.ndarray:
  """float64[..., C]: the probabilities of logits along the last dim."""
  odds = np.exp(np.asarray(logits, np.float64)
                - np.max(logits, -1, keepdims=True))
  return odds / odds.sum(-1, keepdims=True)


def parse_json(content: str | bytes, where: str) -> Any:
  """Reads JSON in UTF-8; an InputError says `where` it is damaged."""
  with reading(where, 'not JSON'):
    return json.loads(content if isinstance(content, str)
                      else content.decode('utf-8'))


def json_lines(lines: Iterable[Mapping[str, Any]]) -> bytes:
  """Writes one JSON object per line; stray bytes of tokens are escaped."""
  return ''.join(json.dumps(plain_values(line), ensure_ascii=False) + '\n'
                 for line in lines).encode(errors='backslashreplace')


def plain_values(value: Any) -> Any:
  """Turns NumPy's numbers into Python's, NaN and infinity into None."""
  if isinstance(value, Mapping):
    return {key: plain_values(v) for key, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain_values(v) for v in value]
  if hasattr(value, 'tolist'):
    return plain_values(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def score_text(value: float | None) -> str:
  """Formats a score for people."""
  return ('none' if value is None or not math.isfinite(value) else
          f'{value:.2f}')


def describe_results(found: Mapping[str, Any]) -> str:
  """Says a score with its data set, split, rows and seed."""
  scores = '; '.join(f'{split} ' + ', '.join(f'{name} {score_text(value)}'
                                             for name, value in values.items())
                     for split, values in found['scores'].items())
  return (
      f'{found["task"]}: {found["metric"]} {score_text(found["value"])} on '
      f'{found["split"]} ({found["rows"]} rows of {found["data"]}), seed '
      f'{found["seed"]}, best epoch {found["best_epoch"]:g} of training on '
      f'{found["train_rows"]} rows of {found["train_data"]}. All: {scores}.'
      + (f'\nDEGENERATE: {found["degenerate_because"]}'
         if found['degenerate'] else ''))
