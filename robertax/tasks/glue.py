"""GLUE: single texts and pairs, classes and scores (Wang et al. 2019)."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import io
import sys
from typing import Any
import warnings
import zipfile

import numpy as np

from robertax.config import ModelConfig
from robertax.data.finetuning import Examples
from robertax.errors import InputError
from robertax.tasks.finetune import Answers, FinetuneTask, Rows, encode_texts
from robertax.tasks.glue_files import GLUE, TFDS, GlueRow, GlueTask, Source
from robertax.tasks.objectives import Classification

# Metrics of classes and scores, in percent, by scikit-learn and scipy.


Numbers = Sequence[int] | Sequence[float] | np.ndarray


def accuracy(targets: Numbers, predictions: Numbers) -> float:
  """Share of equal ones."""
  from sklearn import metrics
  return 100 * float(metrics.accuracy_score(targets, predictions))


def f1_of_class_1(targets: Numbers, predictions: Numbers) -> float:
  """Of class 1; 0 where none is predicted."""
  from sklearn import metrics
  return 100 * float(metrics.f1_score(targets, predictions, zero_division=0))


def f1_macro(targets: Numbers, predictions: Numbers) -> float:
  """Mean over the classes that occur, of F1; 0 where none is predicted."""
  from sklearn import metrics
  return 100 * float(metrics.f1_score(
      targets, predictions, average='macro', zero_division=0))


def matthews(targets: Numbers, predictions: Numbers) -> float:
  """Matthews' correlation; 0 where all predictions are one class."""
  from sklearn import metrics
  return 100 * float(metrics.matthews_corrcoef(targets, predictions))


def pearson(targets: Numbers, predictions: Numbers) -> float:
  """Pearson's correlation; 0 where all predictions are equal."""
  from scipy import stats
  return _correlation(stats.pearsonr, targets, predictions)


def spearman(targets: Numbers, predictions: Numbers) -> float:
  """Spearman's rank correlation; 0 where all predictions are equal."""
  from scipy import stats
  return _correlation(stats.spearmanr, targets, predictions)


def _correlation(function, targets, predictions):
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # Constant input, told as 0.
    found = float(function(targets, predictions)[0])
  return 100 * found if np.isfinite(found) else 0.0


METRICS: dict[str, Callable[[Numbers, Numbers], float]] = {
    'accuracy': accuracy, 'f1': f1_of_class_1, 'f1_macro': f1_macro,
    'matthews': matthews, 'pearson': pearson, 'spearman': spearman}


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
    return glue_scores(self.row.metrics,
                       [r.label for r in self.splits[split].rows],
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
    tables = {name: submission_table(self.splits[split].rows,
                                     self.predictions(answers[split]))
              for split, name in self.row.tests if split in answers}
    return {SUBMISSION: submission_archive(tables)} if tables else {}

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


def glue_scores(metrics: Sequence[str], labels: Sequence[str],
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


def submission_table(rows: Sequence[GlueRow],
                     predictions: Sequence[Any]) -> str:
  """The text of an official prediction file."""
  lines = ['index\tprediction']
  for row, value in zip(rows, predictions):
    if isinstance(value, float):
      value = f'{min(max(value, 0.0), LARGEST_SCORE):.3f}'
    lines.append(f'{row.index}\t{value}')
  return '\n'.join(lines) + '\n'


def submission_archive(tables: Mapping[str, str]) -> bytes:
  """A zip of files; the same bytes whenever it is made."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as zipped:
    for name, table in tables.items():
      zipped.writestr(zipfile.ZipInfo(name), table,
                      compress_type=zipfile.ZIP_DEFLATED)
  return buffer.getvalue()


# Texts, or pairs of them, with labels of your own.
#
# `data.dir` holds train, dev and, where finetune.predict_test asks for it, test
# (without labels), each .tsv, .csv or .jsonl in the form of GLUE's files: a
# header, finetune.text_columns, finetune.label_column.


CLASSIFICATION_METRICS = ('accuracy', 'f1_macro')
_SHOWN = 20  # Labels that are told with their counts.


class TextClassification(Glue):
  """A row of GLUE's table whose labels are those of the training file."""

  def row_of(self, config: Any) -> GlueTask:
    """Of the config's columns and labels, or of the training file's.

    Raises:
      InputError: no or too many columns, a missing or damaged train file, one
        label for all rows, or one that config.json cannot hold.
    """
    asked = config.finetune
    columns = _column_names(asked.text_columns)
    if len(columns) not in (1, 2) or not asked.label_column:
      raise InputError(
          f'finetune.text_columns={asked.text_columns!r}, '
          f'label_column={asked.label_column!r}: names of one or two columns '
          'of text, with a comma between, and of one of labels.')
    if config.data.dir.startswith(TFDS):
      raise InputError(f'data.dir={config.data.dir!r}: {config.task} reads '
                       'files; TFDS is for glue/*.')
    labels = _column_names(asked.labels)
    row = GlueTask('', '', columns, columns, labels, (), CLASSIFICATION_METRICS,
                   (0, 0), label=asked.label_column, test=(('test', ''),),
                   any_label=not labels)
    source = Source(row, config.data.dir)
    train = source.split('train', labelled=True)
    if train is None:
      raise source.missing('train')
    labels = _labels(train, labels, asked.label_column)
    return dataclasses.replace(row, labels=labels, any_label=False)

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """Accuracy and macro F1, in percent."""
    targets = self.targets(self.splits[split].rows)
    found = answers['logits'].argmax(-1)
    return {
        name: METRICS[name](targets, found) for name in CLASSIFICATION_METRICS
    }

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """None: predictions.<split>.jsonl says it all."""
    del answers
    return {}


def _column_names(text: str) -> tuple[str, ...]:
  return tuple(name for name in text.split(',') if name)


def _labels(train: Rows, asked: tuple[str, ...], column: str
            ) -> tuple[str, ...]:
  """Those asked for, or as in fairseq's dictionary (data/dictionary.py) the
  most frequent first, equal ones by name. Says them.
  """
  counts = Counter(row.label for row in train.rows)
  labels = asked or tuple(sorted(counts, key=lambda x: (-counts[x], x)))
  if len(labels) < 2:
    raise InputError(
        f'{train.source}: {column} is {"".join(labels) or "nothing"!r} in all '
        'rows: there must be two labels or more.')
  for label in labels:
    if ',' in label or '\n' in label:
      raise InputError(f'{train.source}: label {label!r}: one with a comma or '
                       'a line break cannot be named in config.json.')
  said = ', '.join(f'{label} ({counts[label]})' for label in labels[:_SHOWN])
  more = f' and {len(labels) - _SHOWN} more' if len(labels) > _SHOWN else ''
  print(f'{len(labels)} labels: {said}{more}', file=sys.stderr)
  return labels
