"""GLUE's tasks (Wang et al. 2019), and texts with labels of your own.

An example is one text or two, and has a class or a score. The metrics are those
of scikit-learn and scipy.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import io
from typing import Any
import warnings
import zipfile

import numpy as np

from robertax.config import Config
from robertax.data.finetuning import Examples
from robertax.errors import InputError
from robertax.progress import say
from robertax.tasks import finetune
from robertax.tasks.finetune import Answers, Finetune
from robertax.tasks.glue_files import GLUE, TFDS, GlueFiles, GlueRow, GlueTask
from robertax.tasks.objectives import Classification

# A score of 0 to 5 is learned as 0 to 1 (preprocess_GLUE_tasks.sh:180-183).
LARGEST_SCORE = 5.0
SUBMISSION = 'predictions.zip'
_SHOWN = 20  # Labels that are printed with their counts.
Numbers = Sequence[int] | Sequence[float] | np.ndarray
Metric = Callable[[Numbers, Numbers], float]


def _sklearn_metric(name: str, **options: Any) -> Metric:
  def metric(targets: Numbers, predictions: Numbers) -> float:
    from sklearn import metrics
    return 100 * float(getattr(metrics, name)(targets, predictions, **options))
  return metric


def _correlation(name: str) -> Metric:
  """Makes a correlation: 0 for equal predictions, or for fewer than two."""
  def metric(targets: Numbers, predictions: Numbers) -> float:
    if len(targets) < 2:
      return 0.0
    from scipy import stats
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # A constant input.
      found = float(getattr(stats, name)(targets, predictions)[0])
    return 100 * found if np.isfinite(found) else 0.0
  return metric


# In percent. `f1` is that of class 1, 0 where it is never predicted; `f1_macro`
# is the mean over the classes that occur. With several labels a row `accuracy`
# counts rows without a wrong label, and `f1_micro` takes all labels together.
METRICS: dict[str, Metric] = {
    'accuracy': _sklearn_metric('accuracy_score'),
    'f1': _sklearn_metric('f1_score', zero_division=0),
    'f1_macro': _sklearn_metric('f1_score', average='macro', zero_division=0),
    'f1_micro': _sklearn_metric('f1_score', average='micro', zero_division=0),
    'matthews': _sklearn_metric('matthews_corrcoef'),
    'pearson': _correlation('pearsonr'), 'spearman': _correlation('spearmanr')}
# finetune.problem_type of text_classification -> its metrics.
OWN_METRICS = {
    '': ('accuracy', 'f1_macro'),
    'single_label_classification': ('accuracy', 'f1_macro'),
    'multi_label_classification': ('f1_micro', 'f1_macro', 'accuracy'),
    'regression': ('pearson', 'spearman')}


class Glue(Finetune):
  """A row of GLUE; config.task is `glue/<row>`."""
  objective_class = Classification

  def __init__(self, config: Config, shares: int):
    self.row = self.row_of(config)
    self.metrics, self.labels = self.row.metrics, self.row.labels
    self.heads = {'num_classes': len(self.labels) or 1}
    super().__init__(config, shares)

  def make_objective(self) -> Classification:
    return Classification(self.model, self.tokenizer.pad_id, self.row.several)

  def row_of(self, config: Config) -> GlueTask:
    return GLUE[config.task.removeprefix('glue/')]

  def read(self) -> Mapping[str, finetune.TaskRows]:
    source = GlueFiles(self.row, self.config.data.dir)
    main, *others = self.row.dev
    found = {name: source.required(name, labelled=True)
             for name in ('train', main)}
    found |= {name: split for name in others
              if (split := source.split(name, labelled=True)) is not None}
    if self.config.finetune.predict_test:
      found |= {name: source.required(name, labelled=False)
                for name, _ in self.row.tests}
    return found

  def encode(self, rows: Sequence[GlueRow], split: str) -> tuple[Examples, int]:
    encoded = finetune.encode_texts(
        self.tokenizer, [row.texts for row in rows], self.max_length)
    labelled = self.row.several or all(row.label for row in rows)
    targets = (self.targets(rows) if labelled else
               np.zeros(len(rows), np.int32 if self.row.labels else np.float32))
    return Examples.of(encoded.sequences, values={'class_targets': targets},
                       second_starts=encoded.second_starts), encoded.truncated

  def targets(self, rows: Sequence[GlueRow]) -> np.ndarray:
    """Returns classes, int32[E], scores, float32[E] (GLUE's from 0 to 1), or
    of several labels a row 0 or 1 for each, float32[E, C].
    """
    if self.row.several:
      return np.array([[name in row.label.split(',') for name in self.labels]
                       for row in rows], np.float32)
    if not self.row.labels:
      return np.array([float(row.label) for row in rows],
                      np.float32) / self._scale
    return np.array([self.row.labels.index(row.label) for row in rows],
                    np.int32)

  def predictions(self, answers: Answers) -> list[Any]:
    """Returns labels, or scores from 0 to 5, as official files hold them."""
    logits = answers['logits']
    if self.row.several:
      return [','.join(name for name, x in zip(self.labels, row) if x > 0)
              for row in logits]
    if not self.row.labels:
      return [float(x) for x in logits[:, 0] * self._scale]
    return [self.row.labels[n] for n in logits.argmax(-1)]

  @property
  def _scale(self) -> float:
    return self.row.most if np.isfinite(self.row.most) else 1.0

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    return glue_scores(self.row.metrics,
                       [r.label for r in self.splits[split].rows],
                       self.predictions(answers))

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    for row, prediction, logits in zip(
        self.splits[split].rows, self.predictions(answers), answers['logits']):
      label = {'label': row.label} if row.label else {}
      if self.row.several:
        prediction = prediction.split(',') if prediction else []
        label = {'label': row.label.split(',') if row.label else []} if (
            self.splits[split].labelled) else {}
      yield {'index': row.index, 'prediction': prediction, **label,
             'logits': [round(float(x), 6) for x in logits]}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """Returns gluebenchmark.com's zip, if test splits were answered."""
    return submission(self.row, self.splits, {
        split: self.predictions(answers[split]) for split in self.test_splits
        if split in answers})

  def degenerate(self, split: str, answers: Answers) -> str:
    """Finds answers of one class, or no better than a constant answer."""
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
  """Computes rows of METRICS in percent; labels are as in official files."""
  def numbers(values):
    try:
      return [float(v) for v in values]
    except ValueError:
      return list(map(str, values))
  targets, found = numbers(labels), numbers(predictions)
  return {name: METRICS[name](targets, found) for name in metrics}


def submission_table(rows: Sequence[GlueRow],
                     predictions: Sequence[Any]) -> str:
  lines = ['index\tprediction']
  for row, value in zip(rows, predictions):
    if isinstance(value, float):
      value = f'{min(max(value, 0.0), LARGEST_SCORE):.3f}'
    lines.append(f'{row.index}\t{value}')
  return '\n'.join(lines) + '\n'


def submission(task: GlueTask, splits: Mapping[str, finetune.Split],
               predictions: Mapping[str, Sequence[Any]]) -> dict[str, bytes]:
  """Makes GLUE's zip of predictions by test split; {} if there are none."""
  tables = {name: submission_table(splits[split].rows, predictions[split])
            for split, name in task.tests if name and split in predictions}
  return {SUBMISSION: submission_archive(tables)} if tables else {}


def submission_archive(tables: Mapping[str, str]) -> bytes:
  """Zips files; the bytes depend on their content alone."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as zipped:
    for name, table in tables.items():
      zipped.writestr(zipfile.ZipInfo(name), table,
                      compress_type=zipfile.ZIP_DEFLATED)
  return buffer.getvalue()


class TextClassification(Glue):
  """Texts, or pairs of them, with labels or scores of your own.

  `data.dir` holds train, dev and, with finetune.predict_test, test (without
  labels), each .tsv, .csv or .jsonl in the form of GLUE's files: a header,
  finetune.text_columns, finetune.label_column.
  """

  def row_of(self, config: Config) -> GlueTask:
    """Takes the config's labels, or those of train; raises InputError."""
    section = config.finetune
    columns = _names(section.text_columns)
    if len(columns) not in (1, 2) or not section.label_column:
      raise InputError(
          f'finetune.text_columns={section.text_columns!r}, '
          f'label_column={section.label_column!r}: names of one or two columns '
          'of text, with a comma between, and of one of labels.')
    if config.data.dir.startswith(TFDS):
      raise InputError(f'data.dir={config.data.dir!r}: {config.task} reads '
                       'files; TFDS is for glue/*.')
    labels, kind = _names(section.labels), section.problem_type
    scores = kind == 'regression'
    row = GlueTask('', columns, labels, OWN_METRICS[kind], (0, 0),
                   label=section.label_column,
                   any_label=not labels and not scores,
                   several=kind == 'multi_label_classification', most=np.inf,
                   test=(('test', ''),))  # Nobody takes a submission.
    if scores:
      if labels:
        raise InputError(f"finetune.labels={section.labels!r} with "
                         f'finetune.problem_type={kind!r}: a score has none.')
      return row
    source = GlueFiles(row, config.data.dir)
    labels = _labels(source.required('train', labelled=True), labels, row)
    return dataclasses.replace(row, labels=labels, any_label=False)

  def facts(self) -> dict[str, Any]:
    kind = self.config.finetune.problem_type
    return {'problem_type': kind} if kind else {}

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    if not self.labels:
      return super().score(split, answers)
    targets = self.targets(self.splits[split].rows)
    found = (answers['logits'] > 0 if self.row.several else
             answers['logits'].argmax(-1))
    return {name: METRICS[name](targets, found) for name in self.metrics}


def _names(text: str) -> tuple[str, ...]:
  return tuple(name for name in text.split(',') if name)


def _labels(train: finetune.TaskRows, given: tuple[str, ...], task: GlueTask
            ) -> tuple[str, ...]:
  """Prints and returns labels: as given, or as fairseq's by frequency."""
  counts = Counter(label for row in train.rows for label in (
      _names(row.label) if task.several else [row.label]))
  labels = given or tuple(sorted(counts, key=lambda x: (-counts[x], x)))
  if len(labels) < 2 - task.several:
    raise InputError(
        f'{train.source}: {task.label} is {"".join(labels) or "nothing"!r} in '
        'all rows: there must be two labels or more.')
  if not given and (number := _score_among(labels)):
    raise InputError(
        f'{train.source}: {task.label} is a number in all rows, such as '
        f"{number}: finetune.problem_type='regression' learns a score; if they "
        'are classes, finetune.labels names them.')
  for label in labels:
    if ',' in label or '\n' in label:
      raise InputError(f'{train.source}: label {label!r}: one with a comma or '
                       'a line break cannot be named in config.json.')
  shown = ', '.join(f'{label} ({counts[label]})' for label in labels[:_SHOWN])
  more = f' and {len(labels) - _SHOWN} more' if len(labels) > _SHOWN else ''
  say(f'{len(labels)} labels: {shown}{more}')
  return labels


def _score_among(labels: Sequence[str]) -> str:
  """The first label with a fraction, if all labels are numbers."""
  try:
    numbers = [float(label) for label in labels]
  except ValueError:
    return ''
  return next((label for label, x in zip(labels, numbers)
               if not x.is_integer()), '')
