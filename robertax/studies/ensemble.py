"""Several runs of one GLUE task answer together.

Probabilities are averaged, of STS-B scores (fairseq #984).
"""

from collections.abc import Sequence
import json
from typing import Any

import numpy as np

from robertax.errors import InputError
from robertax.tasks import glue
from robertax.tasks.glue_files import GLUE, GlueRow
from robertax.tasks.task import json_lines


def check(task: str):
  """Refuses tasks whose answers are not averaged.

  Raises:
    InputError: not a row of GLUE.
  """
  if task.removeprefix('glue/') not in GLUE or not task.startswith('glue/'):
    raise InputError(f'task={task!r}: runs of GLUE answer together, of other '
                     'tasks they do not.')


def together(folders: Sequence[str]) -> tuple[dict[str, Any], dict[str, bytes]]:
  """One answer of several workdirs.

  Args:
    folders: finished runs of one task.

  Returns:
    ({'runs', 'scores': {split: {metric: percent}}}, content by name).

  Raises:
    InputError: they are of different tasks or answered different rows.
  """
  found = [_read(f'{folder}/results.json') for folder in folders]
  name = found[0]['task']
  check(name)
  if {f['task'] for f in found} != {name}:
    raise InputError(f'{", ".join(folders)}: of different tasks; runs of one '
                     'answer together.')
  task = GLUE[name.removeprefix('glue/')]
  scores, content, tables = {}, {}, {}
  submissions = dict(task.tests)
  for file in found[0]['files']:
    if not file.startswith('predictions.') or not file.endswith('.jsonl'):
      continue
    split = file.removeprefix('predictions.').removesuffix('.jsonl')
    lines = [_lines(f'{folder}/{file}') for folder in folders]
    if len({tuple(line['index'] for line in run) for run in lines}) > 1:
      raise InputError(f'{file} of {", ".join(folders)}: different rows.')
    answers = combine(np.array([[line['logits'] for line in run]
                                for run in lines]))
    said = ([float(x) * glue.LARGEST_SCORE for x in answers[:, 0]]
            if not task.labels else
            [task.labels[n] for n in answers.argmax(-1)])
    labels = [line.get('label', '') for line in lines[0]]
    if all(labels):
      scores[split] = glue.glue_scores(task.metrics, labels, said)
    content[file] = json_lines(
        {k: v for k, v in {**line, 'prediction': word,
                           'probabilities': list(p)}.items() if k != 'logits'}
        for line, word, p in zip(lines[0], said, answers))
    if split in submissions:
      tables[submissions[split]] = glue.submission_table(
          [GlueRow(line['index'], (), '') for line in lines[0]], said)
  if tables:
    content[glue.SUBMISSION] = glue.submission_archive(tables)
  return {'runs': list(folders), 'scores': scores}, content


def combine(logits: np.ndarray) -> np.ndarray:
  """[R, E, C] of R runs -> [E, C]: mean probabilities; of one logit, mean."""
  logits = np.asarray(logits, np.float64)
  if logits.shape[-1] == 1:
    return logits.mean(0)
  odds = np.exp(logits - logits.max(-1, keepdims=True))
  return (odds / odds.sum(-1, keepdims=True)).mean(0)


def _read(path: str) -> Any:
  with open(path, encoding='utf-8') as f:
    return json.load(f)


def _lines(path: str) -> list[dict[str, Any]]:
  with open(path, encoding='utf-8') as f:
    return [json.loads(line) for line in f]
