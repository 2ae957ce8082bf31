"""Splits of labelled texts: GLUE's TSV files, CSV, JSON lines and TFDS.

Labels are in fairseq's order: a dictionary of the training labels, the most
frequent first (data/dictionary.py; examples/roberta/README.md:139 for MNLI).
Columns are those of the official files and of TFDS's `glue/*`.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import csv
import dataclasses
import itertools
import json
import math
import os
import re
from typing import Any, NamedTuple

from robertax import files
from robertax.data.finetuning import read_tfds_rows
from robertax.errors import InputError, reading
from robertax.progress import say, say_once
from robertax.tasks.finetune import TaskRows
from robertax.tasks.task import parse_json

TFDS = 'tfds:'
ENDINGS = ('tsv', 'csv', 'jsonl')
_LONGEST_FIELD = 1 << 27  # Characters; Python's own limit is 131,072.


@dataclasses.dataclass(frozen=True)
class GlueTask:
  """One task's files, labels and metrics."""
  folder: str  # In the official download.
  columns: tuple[str, ...]  # Those of one or two texts in the official files.
  labels: tuple[str, ...]  # By class; empty: a score from 0 to 5.
  metrics: tuple[str, ...]  # Rows of glue.METRICS; the first decides.
  rows: tuple[int, int]  # Official sizes of train and dev, for the docs.
  label: str = 'label'  # The label's column in the official files.
  dev: tuple[str, ...] = ('dev',)  # Files to evaluate, without their ending.
  test: tuple[tuple[str, str], ...] = ()  # Test files and their submissions'.
  no_header: tuple[str, ...] = ()  # Columns of train and dev without a header.
  # If not 0, lines of train and dev with another number of fields are dropped
  # and counted (fairseq preprocess_GLUE_tasks.sh).
  fields: int = 0
  any_label: bool = False  # Every label that is not empty is accepted.
  several: bool = False  # A row has any number of labels (commas between them).
  most: float = 5.0  # The largest score.
  renamed_columns: tuple[str, ...] = ()  # In TFDS, if they are not `columns`.
  tfds_labels: tuple[str, ...] = ('0', '1')  # What TFDS's integers stand for.

  @property
  def tests(self) -> tuple[tuple[str, str], ...]:
    """Returns (split, name of its submission file) of each test split."""
    return self.test or (('test', f'{self.folder}.tsv'),)

  @property
  def tfds(self) -> str:
    """Names the builder of TFDS's `glue/*`."""
    return self.folder.lower().replace('-', '')

  @property
  def tfds_columns(self) -> tuple[str, ...]:
    return self.renamed_columns or self.columns


_SENTENCES = ('sentence1', 'sentence2')
GLUE = {task.tfds: task for task in (
    GlueTask('CoLA', ('sentence',), ('1', '0'), ('matthews', 'accuracy'),
             (8551, 1043), no_header=('source', 'label', 'note', 'sentence')),
    GlueTask('SST-2', ('sentence',), ('1', '0'), ('accuracy',), (67349, 872)),
    GlueTask('MRPC', ('#1 String', '#2 String'), ('1', '0'),
             ('accuracy', 'f1'), (3668, 408), label='Quality',
             renamed_columns=_SENTENCES),
    GlueTask('STS-B', _SENTENCES, (), ('pearson', 'spearman'), (5749, 1500),
             label='score', tfds_labels=()),
    GlueTask('QQP', ('question1', 'question2'), ('0', '1'), ('accuracy', 'f1'),
             (363846, 40430), label='is_duplicate', fields=6),
    GlueTask('MNLI', _SENTENCES, ('contradiction', 'neutral', 'entailment'),
             ('accuracy',), (392702, 9815), label='gold_label',
             dev=('dev_matched', 'dev_mismatched'),
             test=(('test_matched', 'MNLI-m.tsv'),
                   ('test_mismatched', 'MNLI-mm.tsv'),
                   ('diagnostic', 'AX.tsv')),
             renamed_columns=('premise', 'hypothesis'),
             tfds_labels=('entailment', 'neutral', 'contradiction')),
    GlueTask('QNLI', ('question', 'sentence'),
             ('not_entailment', 'entailment'), ('accuracy',), (104743, 5463),
             tfds_labels=('entailment', 'not_entailment')),
    GlueTask('RTE', _SENTENCES, ('entailment', 'not_entailment'),
             ('accuracy',), (2490, 277),
             tfds_labels=('entailment', 'not_entailment')),
    GlueTask('WNLI', _SENTENCES, ('0', '1'), ('accuracy',), (635, 71)))}


class GlueRow(NamedTuple):
  """A row; `index` counts from 0, and `label` is '' in a test split."""
  index: str
  texts: tuple[str, ...]
  label: str


class GlueFiles:
  """The splits of one task."""

  def __init__(self, task: GlueTask, folder: str):
    """Opens the folder of a task or of all of GLUE, `tfds:` or `tfds:DIR`.

    Raises InputError if there is no such folder.
    """
    self._task, self._folder = task, folder
    if folder.startswith(TFDS):
      return
    inside = os.path.join(folder, task.folder)
    if folder and os.path.isdir(inside):
      self._folder = inside
    elif not task.folder:
      raise InputError(
          f'data.dir={folder!r}: a folder with train and dev is needed, each '
          f'.{", .".join(ENDINGS)}.')
    elif not folder or not os.path.isdir(folder):
      missing = f' does not exist{files.similar(folder)}' if folder else ''
      raise InputError(
          f'data.dir={folder!r}{missing}: the folder of {task.folder} (or of '
          'all of GLUE) is needed, or `tfds:`, or `tfds:DIR` with prepared '
          'TFDS data.')

  def split(self, name: str, labelled: bool) -> TaskRows | None:
    """Reads a split, or returns None; a damaged file raises InputError."""
    if self._folder.startswith(TFDS):
      return self._from_tfds(name, labelled)
    for folder in (self._folder, os.path.join(self._folder, '..', 'AX')):
      if name != 'diagnostic' and folder != self._folder:
        continue  # AX has one file, in a folder of its own.
      for ending in ENDINGS:
        path = os.path.normpath(os.path.join(folder, f'{name}.{ending}'))
        if os.path.exists(path):
          return self.file(path, labelled)
    return None

  def file(self, path: str, labelled: bool) -> TaskRows:
    read = {'tsv': self._tsv, 'csv': self._csv, 'jsonl': self._jsonl}
    rows = read.get(path.rpartition('.')[2], self._tsv)(path, labelled)
    return TaskRows(list(rows), path, labelled)

  def required(self, name: str, labelled: bool) -> TaskRows:
    """Reads a split; a missing one is an InputError."""
    found = self.split(name, labelled)
    if found is not None:
      return found
    others = ' or '.join(f'{name}.{ending}' for ending in ENDINGS[1:])
    official = (f': the official file of {self._task.folder}, which is looked '
                f'for here and in {self._task.folder}/'
                if self._task.folder else '')
    raise InputError(f'{os.path.join(self._folder, name)}.tsv: missing (no '
                     f'{others} is there either){official}.')

  def _tsv(self, path: str, labelled: bool) -> Iterator[GlueRow]:
    task, dropped = self._task, 0
    if not task.folder and _is_quoted(path):  # GLUE's files quote nothing.
      yield from self._csv(path, labelled, '\t')
      return
    header = list(task.no_header) if labelled else []
    for number, line in enumerate(_lines(path), 1):
      fields = line.rstrip('\n').removesuffix('\r').split('\t')
      if not header:
        header = [f.removeprefix('\ufeff') for f in fields]
        self._check_header(path, header, labelled)
        continue
      if labelled and task.fields and len(fields) != task.fields:
        dropped += 1
        continue
      row = _by_column(path, number, header, fields)
      first = number - 1 - (not (labelled and task.no_header))
      yield self._row(path, number, row, row.get('index', str(first)),
                      task.columns, labelled)
    if dropped:
      say(f'{path}: {dropped} lines without {task.fields} columns are left '
          'out, as in fairseq')

  def _csv(self, path: str, labelled: bool, delimiter: str = ','
           ) -> Iterator[GlueRow]:
    header, number, first = [], 0, 0
    # A byte order mark may come before a quote.
    reader = csv.reader(
        (line.removeprefix('\ufeff') for line in _lines(path)), strict=True,
        delimiter=delimiter)
    try:
      for fields in _long_fields(reader):
        start, number = number + 1, reader.line_num
        if not fields:
          continue
        if not header:
          header = fields
          self._check_header(path, header, labelled)
          continue
        row = _by_column(path, start, header, fields)
        yield self._row(path, start, row, row.get('index', str(first)),
                        self._task.columns, labelled)
        first += 1
    except csv.Error as e:
      raise InputError(f'{path}, near line {reader.line_num}: not CSV: {e}. '
                       'A quote in a quoted field is written twice.') from e

  def _jsonl(self, path: str, labelled: bool) -> Iterator[GlueRow]:
    task = self._task
    for number, line in enumerate(_lines(path), 1):
      if not line.strip():
        continue
      row = parse_json(line, f'{path}, line {number}')
      columns = next((c for c in (task.columns, task.tfds_columns)
                      if isinstance(row, dict) and set(c) <= set(row)), None)
      if columns is None:
        either = ' (or '.join(dict.fromkeys(
            map(', '.join, (task.columns, task.tfds_columns))))
        raise InputError(f'{path}, line {number}: an object with {either}'
                         f'{")" if " (or " in either else ""} is needed.')
      row[task.label] = row.get(task.label, row.get('label', ''))
      yield self._row(path, number, row, str(row.get('index', number - 1)),
                      columns, labelled)

  def _from_tfds(self, name: str, labelled: bool) -> TaskRows | None:
    task = self._task
    builder, split = (('ax', 'test') if name == 'diagnostic' else
                      (task.tfds, name.replace('dev', 'validation')))
    found = read_tfds_rows(f'glue/{builder}', split, self._folder[len(TFDS):])
    if found is None:
      return None
    source, rows = f'TFDS glue/{builder} {split}', []
    for number, row in enumerate(found, 1):
      label = row.get('label', '')
      if labelled and task.labels:
        label = task.tfds_labels[int(label)]
      rows.append(self._row(source, number, {**row, task.label: label},
                            str(row.get('idx', number - 1)),
                            task.tfds_columns, labelled))
    # TFDS shuffles rows when it prepares them; the official order is by idx.
    rows.sort(key=lambda row: int(row.index))
    return TaskRows(rows, source, labelled)

  def _row(self, path: str, number: int, row: Mapping[str, Any], index: str,
           columns: Sequence[str], labelled: bool) -> GlueRow:
    label = ''
    if labelled:
      label = _label_text(f'{path}, line {number}', row[self._task.label],
                          self._task)
    if labelled and not self._known(label):
      known = ('all but an empty one' if self._task.any_label else
               ', '.join(map(repr, self._task.labels))
               or f'a number from 0 to {self._task.most:g}'
               * math.isfinite(self._task.most) or 'a number')
      raise InputError(f'{path}, line {number}: label {label!r}; known are: '
                       f'{known}.')
    for column in columns:
      if not isinstance(row[column], str):
        raise InputError(f'{path}, line {number}: {column} is '
                         f'{row[column]!r:.60}; a text is needed.')
    return GlueRow(index, tuple(row[c] for c in columns), label)

  def _check_header(self, path: str, header: list[str], labelled: bool):
    needed = self._task.columns + ((self._task.label,) if labelled else ())
    missing = [name for name in needed if name not in header]
    if missing:
      raise InputError(f'{path}, line 1: no column {", ".join(missing)} among '
                       f'{", ".join(header)}.')

  def _known(self, label: str) -> bool:
    if self._task.any_label:
      return bool(label.strip()) or self._task.several
    if self._task.several:
      return all(one in self._task.labels for one in label.split(',') if label)
    if self._task.labels:
      return label in self._task.labels
    try:
      return (0 <= float(label) <= self._task.most
              or math.isfinite(float(label)) and math.isinf(self._task.most))
    except ValueError:
      return False


def _label_text(where: str, value: Any, task: GlueTask) -> str:
  """A label as text; of several labels, their names with commas between."""
  names = value if isinstance(value, list) else (
      _list_in(where, value) if isinstance(value, str) and not task.folder
      else None)
  if isinstance(value, dict) or names is not None and not task.several:
    raise InputError(
        f'{where}: {task.label} is {str(value)[:60]}: one label is needed. '
        "finetune.problem_type='multi_label_classification' takes several.")
  if not task.several:
    return '' if value is None else str(value)
  if names is None:
    names = str(value).split(',') if value not in (None, '') else []
  if any(isinstance(x, bool) or not isinstance(x, str | int) for x in names):
    raise InputError(f'{where}: {task.label} is {str(value)[:60]}: the names '
                     'of its labels are needed.')
  texts = [str(name).strip() for name in names]
  if len(set(texts)) < len(texts) or not all(texts):
    raise InputError(
        f'{where}: {task.label} is {str(value)[:60]}: each label of the row is '
        'needed once, by its name (and not a 0 or 1 for every label).')
  if any(',' in text for text in texts):
    raise InputError(f'{where}: {task.label} is {str(value)[:60]}: a label '
                     'with a comma cannot be named in config.json.')
  return ','.join(texts)


def _list_in(where: str, text: str) -> list | None:
  """The list that a cell of a table holds, as JSON or as pandas writes it."""
  text = text.strip()
  if not (text.startswith('[') and text.endswith(']')):
    return None
  if re.search(r"""['"]\s+['"]""", text):  # An array of numpy; Python joins.
    raise InputError(f'{where}: {text[:60]}: a list needs commas.')
  for read in (json.loads, ast.literal_eval):
    with contextlib.suppress(ValueError, SyntaxError, RecursionError,
                             MemoryError):
      found = read(text)
      return found if isinstance(found, list) else None
  return None


# A row of a table in tabs whose fields with quotes are quoted as in CSV.
_FIELD = r'(?:"(?:[^"]|"")*"|[^"\t\r\n]*)'
_QUOTED_ROW = re.compile(rf'{_FIELD}(?:\t{_FIELD})*(?:\r?\n|\Z)')


def _is_quoted(path: str) -> bool:
  """Whether a TSV's fields are quoted as pandas and spreadsheets quote them.

  They are if no field has a quote that is not so. Files that quote nothing
  stay as they are, with a line if there are quotes.
  """
  text, at = ''.join(_lines(path)).removeprefix('\ufeff'), 0
  if '"' not in text:
    return False
  while at < len(text):
    row = _QUOTED_ROW.match(text, at)
    if not row:
      say(f'{path}: its quotes are read as they stand: not all of them are '
          f'those of CSV (line {text.count(chr(10), 0, at) + 1}).')
      return False
    at = row.end()
  say_once(f'{path}: fields in quotes are read as CSV writes them.')
  return True


def _lines(path: str) -> Iterator[str]:
  """Yields lines; an error about bytes that are not UTF-8 names the line."""
  with reading(path):
    # Texts may hold other characters at which Python ends a line.
    file = open(path, encoding='utf-8', newline='\n')
  with file:
    for number in itertools.count(1):
      try:
        line = file.readline()
      except UnicodeDecodeError as e:
        raise InputError(f'{path}, near line {number}: not UTF-8: {e}') from e
      if not line:
        return
      yield line


def _long_fields(reader: Iterator[list[str]]) -> Iterator[list[str]]:
  """Yields the rows of a csv.reader, whose limit is the whole process's."""
  while True:
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, _LONGEST_FIELD))
    try:
      fields = next(reader, None)
    finally:
      csv.field_size_limit(before)
    if fields is None:
      return
    yield fields


def _by_column(path: str, number: int, header: list[str], fields: list[str]
               ) -> dict[str, str]:
  if len(fields) != len(header):
    raise InputError(f'{path}, line {number}: {len(fields)} columns, '
                     f'{len(header)} are needed ({", ".join(header)}).')
  return dict(zip(header, fields))
