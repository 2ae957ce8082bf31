"""Exact match and F1 of SQuAD, as its official scripts define them.

evaluate-v1.1.py and evaluate-v2.0.py of rajpurkar.github.io/SQuAD-explorer;
they differ: without a common word, v1.1 has an F1 of 0 even for two texts that
are both empty when normalised, v2.0 has 1 for those. All scores are in percent.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
import re
import string

from robertax.errors import InputError
from robertax.tasks.squad_files import Question

_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)
# A no-answer probability above it makes the answer empty; evaluate-v2.0.py's.
THRESHOLD = 1.0


def normalize(text: str) -> str:
  """Lower case, no ASCII punctuation, no articles, single spaces.

  >>> normalize("The  U.S. -- an 'Île'")
  'us île'

  Punctuation goes without leaving a space, then articles: 'a-b' is 'ab', and
  'the-end' keeps its article as 'theend'.
  """
  text = text.lower().translate(_PUNCTUATION)
  return ' '.join(_ARTICLES.sub(' ', text).split())


def exact_match(prediction: str, gold: str) -> float:
  """1.0 where the normalised texts are equal."""
  return float(normalize(prediction) == normalize(gold))


def f1(prediction: str, gold: str, version: str) -> float:
  """Of the words of the normalised texts, each as often as it stands there.

  Args:
    prediction: a text.
    gold: another.
    version: '1.1' or '2.0'; see above.

  Returns:
    From 0 to 1.
  """
  ours, theirs = normalize(prediction).split(), normalize(gold).split()
  if version == '2.0' and not (ours and theirs):
    return float(ours == theirs)
  shared = sum((Counter(ours) & Counter(theirs)).values())
  if not shared:
    return 0.0
  precision, recall = shared / len(ours), shared / len(theirs)
  return 2 * precision * recall / (precision + recall)


def score(questions: Iterable[Question], predictions: Mapping[str, str],
          version: str, no_answer_scores: Mapping[str, float] | None = None,
          threshold: float = THRESHOLD) -> dict[str, float | int]:
  """Scores predictions.

  A prediction for an unknown id is ignored. A missing one scores 0 in 1.1 and
  is an empty answer in 2.0. (evaluate-v2.0.py leaves it out of the total,
  or stops; so it is not scored there.)

  Args:
    questions: the references.
    predictions: answers by question id.
    version: '1.1' or '2.0'.
    no_answer_scores: 2.0 only; the larger the surer. Each question that has a
      prediction must have one.
    threshold: a larger one of the no_answer_scores makes the prediction ''.

  Returns:
    exact, f1 (percent), total, missing, unknown (counts). In 2.0 besides
    HasAns_ and NoAns_ exact, f1, total, of the questions that have an answer
    and those that have none (if there are any); with no_answer_scores,
    best_exact, best_exact_thresh, best_f1, best_f1_thresh: of the threshold at
    which the predictions as given score most.

  Raises:
    InputError: no questions, a question of 1.1 without an answer, a prediction
      without a no-answer score.
  """
  questions = list(questions)
  if not questions:
    raise InputError('no questions to score.')
  if version == '1.1' and no_answer_scores is not None:
    raise InputError('no_answer_scores go with version 2.0 only: in 1.1 each '
                     'question has an answer.')
  exact, overlap = {}, {}
  for question in questions:
    golds = [answer.text for answer in question.answers]
    if version == '2.0':
      # Both lines are the official script's.
      golds = [gold for gold in golds if normalize(gold)] or ['']
    elif not golds:
      raise InputError(f'question {question.id}: no answer, but in version 1.1 '
                       'each has one: 2.0 is for such.')
    prediction = predictions.get(question.id,
                                 '' if version == '2.0' else None)
    if prediction is None:
      exact[question.id] = overlap[question.id] = 0.0
    else:
      exact[question.id] = max(exact_match(prediction, g) for g in golds)
      overlap[question.id] = max(f1(prediction, g, version) for g in golds)
  found = {'missing': sum(q.id not in predictions for q in questions),
           'unknown': len(predictions.keys() - exact.keys())}
  if version == '1.1':
    return _means(exact, overlap, exact) | found

  has_answer = {q.id: bool(q.answers) for q in questions}
  best = {}
  if no_answer_scores is not None:
    without = [key for key in exact
               if key in predictions and key not in no_answer_scores]
    if without:
      raise InputError(f'no no-answer score for question {without[0]}'
                       + (f' and {len(without) - 1} more that have a '
                          'prediction.' if without[1:] else '.'))
    # Where the prediction is missing it is empty with any threshold.
    known = {key: value for key, value in no_answer_scores.items()
             if key in exact}
    for name, scores in (('exact', exact), ('f1', overlap)):
      best[f'best_{name}'], best[f'best_{name}_thresh'] = best_threshold(
          scores, predictions, known, has_answer)
    for scores in (exact, overlap):
      scores.update({key: float(not has_answer[key])
                     for key, value in known.items() if value > threshold})
  result = _means(exact, overlap, exact) | found
  for prefix, wanted in (('HasAns_', True), ('NoAns_', False)):
    keys = [key for key, has in has_answer.items() if has is wanted]
    if keys:
      result |= {prefix + name: value for name, value in
                 _means(exact, overlap, keys).items()}
  return result | best


def best_threshold(scores: Mapping[str, float],
                   predictions: Mapping[str, str],
                   no_answer_scores: Mapping[str, float],
                   has_answer: Mapping[str, bool]) -> tuple[float, float]:
  """The no-answer threshold that would have been best for these questions.

  evaluate-v2.0.py, `find_best_thresh`: questions are made answerable one by
  one, the surest first, those of equal score in the mapping's order; 0.0 stands
  for none.

  Args:
    scores: of each question's prediction as given, 0 to 1.
    predictions: answers by id; one that is missing is empty.
    no_answer_scores: of questions in `scores`.
    has_answer: of each question.

  Returns:
    (the best score in percent, its threshold: no answer where the no-answer
    score is larger).
  """
  now = sum(not has for has in has_answer.values())
  best, threshold = now, 0.0
  for key in sorted(no_answer_scores, key=no_answer_scores.get):
    if has_answer[key]:
      now += scores[key]
    elif predictions.get(key):
      now -= 1
    if now > best:
      best, threshold = now, no_answer_scores[key]
  return 100.0 * best / len(scores), threshold


def _means(exact: Mapping[str, float], overlap: Mapping[str, float],
           keys: Iterable[str]) -> dict[str, float | int]:
  keys = list(keys)
  return {'exact': 100.0 * sum(exact[key] for key in keys) / len(keys),
          'f1': 100.0 * sum(overlap[key] for key in keys) / len(keys),
          'total': len(keys)}
