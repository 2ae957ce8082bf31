"""Texts, or pairs of them, with labels of your own.

`data.dir` holds train, dev and, where finetune.predict_test asks for it, test
(without labels), each .tsv, .csv or .jsonl in the form of GLUE's files: a
header, finetune.text_columns, finetune.label_column.
"""

from collections import Counter
from collections.abc import Mapping
import dataclasses
import sys
from typing import Any

from robertax.errors import InputError
from robertax.tasks import metrics
from robertax.tasks.finetune import Answers, Rows
from robertax.tasks.glue import Glue
from robertax.tasks.glue_files import TFDS, Source
from robertax.tasks.glue_table import GlueTask

METRICS = ('accuracy', 'f1_macro')
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
    columns = _names(asked.text_columns)
    if len(columns) not in (1, 2) or not asked.label_column:
      raise InputError(
          f'finetune.text_columns={asked.text_columns!r}, '
          f'label_column={asked.label_column!r}: names of one or two columns '
          'of text, with a comma between, and of one of labels.')
    if config.data.dir.startswith(TFDS):
      raise InputError(f'data.dir={config.data.dir!r}: {config.task} reads '
                       'files; TFDS is for glue/*.')
    labels = _names(asked.labels)
    row = GlueTask('', '', columns, columns, labels, (), METRICS, (0, 0),
                   label=asked.label_column, test=(('test', ''),),
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
    return {name: metrics.METRICS[name](targets, found) for name in METRICS}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """None: predictions.<split>.jsonl says it all."""
    del answers
    return {}


def _names(text: str) -> tuple[str, ...]:
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
