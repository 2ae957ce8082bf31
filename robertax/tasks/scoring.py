"""Official scores of predictions that were made anywhere."""

from collections.abc import Callable, Mapping
import dataclasses
import json
import math
import os
from typing import TYPE_CHECKING, Any

from robertax.errors import InputError, reading, unknown
from robertax.tasks import squad_files

if TYPE_CHECKING:
  from robertax.tasks.glue_files import GlueTask


# The references' ids, predictions by id, and a function that scores them.
Scorer = tuple[list[str], Mapping[str, Any],
               Callable[[], dict[str, float | int]]]


@dataclasses.dataclass(frozen=True)
class Request:
  """The official files to score: references and predictions."""
  task: str  # A row of SCORERS, with a name behind a `/` where it has several.
  references: str
  predictions: str
  version: str = ''  # For squad: '1.1' or '2.0'.
  no_answer_scores: str = ''  # For squad 2.0: a file of no-answer scores.
  # A larger score makes the answer empty; None: the official script's, 1.0.
  no_answer_threshold: float | None = None


def score(request: Request, strict: bool = False) -> dict[str, float | int]:
  """Computes the official metrics of one prediction file, in percent, and the
  counts total, missing and unknown.

  If `strict`, a missing or an unknown prediction is an InputError. Else an
  unknown one is ignored, and a missing one scores 0 (in SQuAD 2.0: is empty).
  """
  kind = request.task.partition('/')[0]
  if kind not in SCORERS:
    raise unknown('task', request.task, SCORERS)
  if kind != 'squad':
    for key in ('version', 'no_answer_scores', 'no_answer_threshold'):
      if getattr(request, key) not in ('', None):
        raise InputError(f'{key} goes with task=squad only.')
  ids, predictions, metrics = SCORERS[kind](request)
  ids = dict.fromkeys(ids)
  missing = [key for key in ids if key not in predictions]
  strange = [key for key in predictions if key not in ids]
  if strict and (missing or strange):
    raise InputError(f'{request.predictions}: ' + ' and '.join(
        f'{len(keys)} {words}, such as {keys[0]}'
        for keys, words in ((missing, 'predictions are missing'),
                            (strange, 'are for unknown ids')) if keys) + '.')
  return metrics() | {'total': len(ids), 'missing': len(missing),
                      'unknown': len(strange)}


def _squad(request: Request) -> Scorer:
  version = request.version.removeprefix('v')
  if version not in squad_files.VERSIONS:
    raise InputError(f'version={request.version!r}: task=squad needs 1.1 or '
                     '2.0, whose official scores differ.')
  threshold = request.no_answer_threshold
  if threshold is None:
    threshold = squad_files.THRESHOLD
  elif not request.no_answer_scores:
    raise InputError('no_answer_threshold goes with no_answer_scores.')
  questions = squad_files.read_questions(request.references, version,
                                         spans=False)
  predictions = squad_files.read_predictions(request.predictions)
  scores = (squad_files.read_no_answer_scores(request.no_answer_scores)
            if request.no_answer_scores else None)

  def metrics():
    try:
      return squad_files.score_predictions(questions, predictions, version,
                                           scores, threshold)
    except InputError as e:
      where = request.no_answer_scores or request.references
      raise InputError(f'{where}: {e}') from e
  return [q.id for q in questions], predictions, metrics


def _race(request: Request) -> Scorer:
  from robertax.tasks import race
  questions = race.read_questions(*_race_split(request.references))
  predictions = squad_files.read_predictions(request.predictions)
  for key, letter in predictions.items():
    if letter not in tuple(race.LETTERS):
      raise InputError(f'{request.predictions}: {key}: {letter!r} is none of '
                       f'{", ".join(race.LETTERS)}.')
  right = {}
  for question in questions:
    if question.answer is None:
      raise InputError(f'{request.references}: question {question.id} has no '
                       'answer there.')
    right.setdefault(question.part, []).append(
        predictions.get(question.id) == race.LETTERS[question.answer])
  parts = {part: 100.0 * sum(one) / len(one) for part, one in right.items()}
  accuracy = 100.0 * sum(map(sum, right.values())) / len(questions)
  return [q.id for q in questions], predictions, lambda: {
      'accuracy': accuracy} | (parts if len(parts) > 1 else {})


def _race_split(path: str) -> tuple[str, str, tuple[str, ...]]:
  """Splits a path to a split of RACE, or one part of it, into its names.

  >>> _race_split('RACE/test'), _race_split('race/dev-high.jsonl.zst')
  (('RACE', 'test', ('middle', 'high')), ('race', 'dev', ('high',)))
  """
  from robertax.tasks import race
  folder, name = os.path.split(path.rstrip('/'))
  stem = name.partition('.')[0]
  if stem in race.ALL_PARTS:
    (folder, split), parts = os.path.split(folder), (stem,)
  else:
    split, _, part = stem.partition('-')
    parts = (part,) if part else race.ALL_PARTS
  if split not in race.SPLITS or not set(parts) <= set(race.ALL_PARTS):
    raise InputError(
        f'references={path!r}: RACE needs a split, such as RACE/test, or one '
        'part of it, such as RACE/test/middle or RACE/test-middle.jsonl.')
  return folder or '.', split, parts


def _glue(request: Request) -> Scorer:
  from robertax.tasks import glue
  from robertax.tasks.glue_files import GLUE, GlueFiles
  name = request.task.partition('/')[2]
  # The official spellings, such as SST-2, are accepted too.
  row = GLUE.get(name.lower().replace('-', ''))
  if row is None:
    raise unknown('task', request.task, [f'glue/{known}' for known in GLUE])
  folder = os.path.dirname(request.references) or '.'
  if not os.path.isfile(request.references):
    raise InputError(f'cannot read {request.references}: no such file; the '
                     f'official dev.tsv of {row.folder} would do.')
  rows = GlueFiles(row, folder).file(request.references, labelled=True).rows
  predictions = _glue_predictions(request.predictions, row)
  def metrics():
    labels = [one.label for one in rows]
    # A missing label is scored as a wrong one, a missing score as 0.
    wrong = [next((x for x in row.labels if x != label), '0')
             for label in labels]
    return glue.glue_scores(row.metrics, labels, [
        predictions.get(one.index, other) for one, other in zip(rows, wrong)])
  return [one.index for one in rows], predictions, metrics


def _glue_predictions(path: str, row: 'GlueTask') -> dict[str, str]:
  """Reads labels by index, from TSV with a header or from JSON lines."""
  found = {}
  with reading(path), open(path, encoding='utf-8', newline='\n') as f:
    lines = f.read().removesuffix('\n').split('\n')
  for number, line in enumerate(lines, 1):
    where = f'{path}, line {number}'
    if path.endswith('.jsonl'):
      try:
        entry = json.loads(line)
        fields = [str(entry['index']), str(entry['prediction'])]
      except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise InputError(f'{where}: expected a JSON object with index and '
                         'prediction.') from e
    else:
      fields = line.removesuffix('\r').split('\t')
      if number == 1:
        if fields != ['index', 'prediction']:
          raise InputError(f'{where}: expected the header '
                           f'index<tab>prediction, found {line[:80]!r}.')
        continue
    if len(fields) != 2:
      raise InputError(f'{where}: {len(fields)} columns, 2 are needed.')
    index, label = fields
    if index in found:
      raise InputError(f'{where}: index {index} is there twice.')
    if not _is_label(label, row):
      raise InputError(f'{where}: {label!r} is no label of {row.folder}: '
                       f'{", ".join(row.labels) or "a number"}.')
    found[index] = label
  return found


def _is_label(label: str, row: 'GlueTask') -> bool:
  if row.labels:
    return label in row.labels
  try:
    return math.isfinite(float(label))
  except ValueError:
    return False


# By the part of a task's name before '/'.
SCORERS = {'glue': _glue, 'race': _race, 'squad': _squad}
