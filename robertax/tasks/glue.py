"""GLUE: single texts and pairs, classes and scores (Wang et al. 2019)."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import io
from typing import Any
import zipfile

import numpy as np

from robertax.config import ModelConfig
from robertax.data.examples import Examples
from robertax.tasks.encoding import encode_texts
from robertax.tasks.finetune import Answers, FinetuneTask, Rows
from robertax.tasks.glue_files import GlueRow, Source
from robertax.tasks.glue_table import GLUE, GlueTask
from robertax.tasks.metrics import METRICS
from robertax.tasks.tuning import Classification

# A score of 0 to 5 is learned as 0 to 1 (preprocess_GLUE_tasks.sh:180-183).
LARGEST_SCORE = 5.0
SUBMISSION = 'predictions.zip'


class Glue(FinetuneTask):
  """A row of GLUE; config.task is `glue/<row>`."""

  def __init__(self, config: Any, shares: int):
    """See FinetuneTask."""
    self.row = self.row_of(config)
    self.metrics, self.labels = self.row.metrics, self.row.labels
    super().__init__(config, shares)

  def row_of(self, config: Any) -> GlueTask:
    """The task's row; labels that only its files know stand in them."""
    return GLUE[config.task.removeprefix('glue/')]

  def heads(self, config: ModelConfig) -> ModelConfig:
    """A class for each label, or one score."""
    return dataclasses.replace(
        config, num_classes=len(self.row.labels) or 1)

  def make_objective(self) -> Classification:
    """Cross-entropy, or squared error."""
    return Classification(self.model, self.tokenizer.pad_id)

  def read(self) -> Mapping[str, Rows]:
    """train, one or two to evaluate, and, if asked for, those without labels.
    """
    source = Source(self.row, self.config.data.dir)
    found = {}
    for name in ('train', *self.row.dev):
      split = source.split(name, labelled=True)
      if split is not None:
        found[name] = split
      elif name in ('train', self.row.dev[0]):
        raise source.missing(name)
    for name, _ in self.row.tests if self.config.finetune.predict_test else ():
      split = source.split(name, labelled=False)
      if split is None:
        raise source.missing(name)
      found[name] = split
    return found

  def encode(self, rows: Sequence[GlueRow], split: str
             ) -> tuple[Examples, int]:
    """`<s> A </s>` or `<s> A </s></s> B </s>`."""
    encoded = encode_texts(
        self.tokenizer, [row.texts for row in rows], self.max_length,
        separators=1 if self.model.num_types > 1 else 2)
    values = {}
    if all(row.label for row in rows):
      values['class_targets'] = self.targets(rows)
    else:
      kind = np.int32 if self.row.labels else np.float32
      values['class_targets'] = np.zeros(len(rows), kind)
    return Examples.of(encoded.sequences, values=values,
                       second_starts=encoded.second_starts), encoded.truncated

  def targets(self, rows: Sequence[GlueRow]) -> np.ndarray:
    """int32[E], numbers of classes; of scores, float32[E], from 0 to 1."""
    if not self.row.labels:
      return np.array([float(row.label) for row in rows],
                      np.float32) / LARGEST_SCORE
    return np.array([self.row.labels.index(row.label) for row in rows],
                    np.int32)

  def predictions(self, answers: Answers) -> list[Any]:
    """What the official files hold: labels, or scores from 0 to 5."""
    logits = answers['logits']
    if not self.row.labels:
      return [float(x) for x in logits[:, 0] * LARGEST_SCORE]
    return [self.row.labels[n] for n in logits.argmax(-1)]

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """The task's metrics of a labelled split, in percent."""
    return score(self.row.metrics, [r.label for r in self.splits[split].rows],
                 self.predictions(answers))

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    """index, prediction, label (of a labelled split) and logits."""
    found = zip(self.splits[split].rows, self.predictions(answers),
                answers['logits'])
    for row, prediction, logits in found:
      label = {'label': row.label} if row.label else {}
      yield {'index': row.index, 'prediction': prediction, **label,
             'logits': [round(float(x), 6) for x in logits]}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """A zip of what gluebenchmark.com takes, where test splits were answered.
    """
    tables = {name: submission(self.splits[split].rows,
                               self.predictions(answers[split]))
              for split, name in self.row.tests if split in answers}
    return {SUBMISSION: archive(tables)} if tables else {}

  def degenerate(self, split: str, answers: Answers) -> str:
    """All of one class, or no better than always saying the commonest."""
    found = self.predictions(answers)
    if len(set(found)) == 1:
      return f'all predictions on {split} are {found[0]!r}.'
    value = self.score(split, answers)[self.metric]
    labels = [row.label for row in self.splits[split].rows]
    chance = 0.0
    if self.metric == 'accuracy':
      chance = 100 * max(map(labels.count, set(labels))) / len(labels)
    if value <= chance:
      return (f'{self.metric} {value:.2f} on {split} is not above '
              f'{chance:.2f}, what a constant answer has.')
    return ''


def score(metrics: Sequence[str], labels: Sequence[str],
          predictions: Sequence[Any]) -> dict[str, float]:
  """GLUE's metrics of labels as the official files spell them, in percent.

  Args:
    metrics: rows of METRICS.
    labels: '0', '1', names of classes, or scores.
    predictions: likewise.
  """
  def numbers(values):
    try:
      return [float(v) for v in values]
    except ValueError:
      return list(map(str, values))
  targets, found = numbers(labels), numbers(predictions)
  return {name: METRICS[name](targets, found) for name in metrics}


def submission(rows: Sequence[GlueRow], predictions: Sequence[Any]) -> str:
  """The text of an official prediction file."""
  lines = ['index\tprediction']
  for row, value in zip(rows, predictions):
    if isinstance(value, float):
      value = f'{min(max(value, 0.0), LARGEST_SCORE):.3f}'
    lines.append(f'{row.index}\t{value}')
  return '\n'.join(lines) + '\n'


def archive(tables: Mapping[str, str]) -> bytes:
  """A zip of files; the same bytes whenever it is made."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as zipped:
    for name, table in tables.items():
      zipped.writestr(zipfile.ZipInfo(name), table,
                      compress_type=zipfile.ZIP_DEFLATED)
  return buffer.getvalue()
