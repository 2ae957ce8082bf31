"""Scores anyone's predictions like the task's official script.

  python -m robertax.score --task=squad --version=2.0 \
      --references=dev-v2.0.json --predictions=predictions.json \
      --no_answer_scores=na_prob.json

prints one JSON line: exact, f1 (percent), total, missing, unknown, and in 2.0
HasAns_*, NoAns_*, and best_* if there are no-answer scores. Other tasks take

  --task=glue/rte --references=RTE/dev.tsv --predictions=RTE.tsv
  --task=race --references=RACE/test --predictions=predictions.json

A prediction for an unknown id is ignored. A missing one scores 0, or in SQuAD
2.0 is an empty answer. Both are counted, and --strict makes either an error.
"""

import json

from absl import flags

from robertax.errors import InputError, print_result
from robertax.flags import run

_TASK = flags.DEFINE_string(
    'task', '', 'squad, race, or a task of GLUE, such as glue/rte.')
_REFERENCES = flags.DEFINE_string(
    'references', '', "The task's official file with the gold answers.")
_PREDICTIONS = flags.DEFINE_string(
    'predictions', '', 'For squad and race, a JSON object with an answer or a '
    'letter for each id; for GLUE, a table with columns index and prediction.')
_VERSION = flags.DEFINE_string('version', '', 'For squad: 1.1 or 2.0.')
_NO_ANSWER = flags.DEFINE_string(
    'no_answer_scores', '', 'For squad 2.0, a JSON object with a number for '
    'each id, larger where there is no answer (na_prob, null_odds).')
_THRESHOLD = flags.DEFINE_float(
    'no_answer_threshold', None, 'No-answer scores above this make the answer '
    "empty; the official script's default is 1.0.")
_STRICT = flags.DEFINE_bool(
    'strict', False, 'Make missing and unknown predictions errors.')


def main(argv):
  """Exits with 0 (scored) or 2 (wrong input)."""
  del argv
  for flag in (_TASK, _REFERENCES, _PREDICTIONS):
    if not flag.value:
      raise InputError(
          f'--{flag.name} is needed, as in: python -m robertax.score '
          '--task=squad --version=1.1 --references=dev-v1.1.json '
          '--predictions=predictions.json')
  from robertax.tasks.scoring import Request, score  # Not before: slow imports.
  found = score(Request(
      _TASK.value, _REFERENCES.value, _PREDICTIONS.value, _VERSION.value,
      _NO_ANSWER.value, _THRESHOLD.value), _STRICT.value)
  print_result(json.dumps(found), saved=False)


if __name__ == '__main__':
  run(main)
