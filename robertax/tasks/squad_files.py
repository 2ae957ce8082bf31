"""SQuAD's files and scores (Rajpurkar et al. 2016, 2018).

Exact match and F1 are those of evaluate-v1.1.py and evaluate-v2.0.py of
rajpurkar.github.io/SQuAD-explorer. They differ: two texts that are both empty
when normalised have an F1 of 0 in v1.1 and of 1 in v2.0.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import json
import math
import os
import re
import string
from typing import Any

from robertax.errors import InputError, reading

VERSIONS = ('1.1', '2.0')
_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)
# evaluate-v2.0.py's: a larger no-answer probability makes the answer empty.
THRESHOLD = 1.0
# `dev-v2.0.json[1::2]`: Python's slice of the file's articles.
_SLICE = re.compile(r'(.+)\[(-?\d+)?:(-?\d+)?(?::(-?[1-9]\d*)?)?\]')


@dataclasses.dataclass(frozen=True)
class GoldAnswer:
  """A gold answer; start is -1 where places were not read."""
  text: str
  start: int = -1

  @property
  def end(self) -> int:
    return self.start + len(self.text)


@dataclasses.dataclass(frozen=True)
class Question:
  """A question on a paragraph; offsets count characters of its context."""
  id: str
  article: str  # The title.
  question: str
  context: str
  answers: tuple[GoldAnswer, ...]


def read_questions(paths: str, version: str,
                   spans: bool = True) -> list[Question]:
  """Reads the questions of one or more files.

  `[a:b]` or `[a:b:step]` behind a path takes a slice of the file's articles, as
  Python slices a list: dev-v2.0.json[::2] and dev-v2.0.json[1::2] are two
  halves that share no article.

  Args:
    paths: a path, or several with commas between.
    version: '1.1', where each question has an answer, or '2.0', which reads
      files of 1.1 too.
    spans: contexts, and the places of answers in them, must be there and right.
      Without, for scoring, ids and texts of answers are enough.

  Raises InputError, naming file, article and question, for what is missing, is
  there twice, is not at its place, or has another form or version.
  """
  if version not in VERSIONS:
    raise InputError(f'version={version!r}: 1.1 or 2.0.')
  questions, places = [], {}
  for path in paths.split(','):
    for question, where in _read_one(path.strip(), version, spans):
      if question.id in places:
        raise InputError(f'{where}: this id is there twice; first at '
                         f'{places[question.id]}.')
      places[question.id] = where
      questions.append(question)
  if not questions:
    raise InputError(f'{paths}: no questions.')
  return questions


def _read_one(path: str, version: str, spans: bool
              ) -> Iterator[tuple[Question, str]]:
  """Yields (question, where it is) of one file or a slice of it."""
  part = None if os.path.exists(path) else _SLICE.fullmatch(path)
  name = part[1] if part else path
  content = _json_object(name)
  articles = _typed_field(content, 'data', list, name)
  found = str(content.get('version', '')).removeprefix('v')
  if version == '1.1' and found == '2.0':
    raise InputError(
        f'{name}: its "version" is {content["version"]!r}, which has questions '
        'without answers, and 1.1 is asked for: ask for 2.0.')
  numbers = range(len(articles))
  if part:
    numbers = numbers[slice(*(n and int(n) for n in part.groups()[1:]))]
    if not numbers:
      raise InputError(f'{path}: none of the {len(articles)} articles of that '
                       'file.')
  for a in numbers:
    title = articles[a].get('title') if isinstance(articles[a], dict) else ''
    title = title if isinstance(title, str) else ''
    article = f'{name}: article {a}' + (f' ({title})' if title else '')
    paragraphs = _typed_field(articles[a], 'paragraphs', list, article)
    for p, paragraph in enumerate(paragraphs):
      where = f'{article}, paragraph {p}'
      context = _text_field(paragraph, 'context', where) if spans else ''
      for q, entry in enumerate(_typed_field(paragraph, 'qas', list, where)):
        place = f'{where}, question {q}'
        # Official ids are strings; those of some other sets numbers.
        key = _typed_field(entry, 'id', (str, int), place)
        place = f'{where}, question {key}'
        text = _text_field(entry, 'question', place) if spans else ''
        answers = _answers(entry, context, spans, place)
        if version == '1.1' and not answers:
          raise InputError(f'{place}: no answer, but in version 1.1 each '
                           'question has one: 2.0 is for such.')
        yield Question(str(key), title, text, context, answers), place


def _answers(entry: Any, context: str, spans: bool, place: str
             ) -> tuple[GoldAnswer, ...]:
  answers = []
  for answer in _typed_field(entry, 'answers', list, place):
    text = _text_field(answer, 'text', f'{place}, an answer')
    start = -1
    if spans:
      start = _typed_field(answer, 'answer_start', int,
                           f'{place}, answer {text!r}')
      if not text.strip():
        raise InputError(f'{place}: an answer without text.')
      if start < 0 or context[start:start + len(text)] != text:
        at = [m.start() for m in re.finditer(re.escape(text), context)][:3]
        raise InputError(
            f'{place}: the answer {text!r} is not at its answer_start '
            f'{start}: there is {context[max(start, 0):][:len(text)]!r}. '
            + (f'It is at {", ".join(map(str, at))}.' if at else
               'The context does not have it at all.'))
    answers.append(GoldAnswer(text, start))
  if answers and entry.get('is_impossible') is True:
    raise InputError(f'{place}: "is_impossible" is true, and yet it has '
                     'answers.')
  return tuple(answers)


def read_predictions(path: str) -> dict[str, str]:
  """Reads answers by question id: the official prediction file."""
  return _values_by_id(path, str, 'a text, "" for no answer')


def read_no_answer_scores(path: str) -> dict[str, float]:
  """Reads the official na_prob file, or Hugging Face's null_odds, in its order.

  The larger a score, the surer that there is no answer.
  """
  scores = _values_by_id(path, (int, float), 'a number')
  for key, value in scores.items():
    if isinstance(value, bool) or math.isnan(value):
      raise InputError(f'{path}: {key}: expected a number, found {value!r}.')
  return {key: float(value) for key, value in scores.items()}


def _values_by_id(path: str, kind, words: str) -> dict:
  content = _json_object(path)
  for key, value in content.items():
    if not isinstance(value, kind):
      raise InputError(f'{path}: {key}: expected {words}, found {value!r}.')
  return content


def _json_object(path: str) -> dict:
  """Reads a JSON object, in which no key may be twice."""
  def once(pairs: Iterable[tuple[str, Any]]) -> dict:
    pairs = list(pairs)
    content = dict(pairs)
    if len(content) < len(pairs):
      seen = set()
      twice = next(k for k, _ in pairs if k in seen or seen.add(k))
      raise InputError(f'{path}: {twice!r} is twice in one object.')
    return content

  with reading(path, 'not JSON in UTF-8'), open(path, encoding='utf-8') as f:
    content = json.load(f, object_pairs_hook=once)
  if not isinstance(content, dict):
    raise InputError(f'{path}: expected a JSON object, found a '
                     f'{type(content).__name__}.')
  return content


def _typed_field(entry: Any, key: str, kind, where: str) -> Any:
  if not isinstance(entry, dict) or key not in entry:
    raise InputError(f'{where}: "{key}" is missing.')
  value = entry[key]
  if not isinstance(value, kind) or isinstance(value, bool):
    wanted = kind.__name__ if isinstance(kind, type) else 'str'
    raise InputError(f'{where}: "{key}" is {str(value)[:80]!r}: expected a '
                     f'value of type {wanted}.')
  return value


def _text_field(entry: Any, key: str, where: str) -> str:
  text = _typed_field(entry, key, str, where)
  try:
    text.encode()
  except UnicodeEncodeError as e:
    raise InputError(f'{where}: "{key}" holds a lone surrogate (half a '
                     'character): replace it.') from e
  return text


def normalize(text: str) -> str:
  """Drops upper case, ASCII punctuation, articles and double spaces.

  Punctuation goes without leaving a space, then articles: 'a-b' is 'ab', and
  'the-end' keeps its article as 'theend'.

  >>> normalize("The  U.S. -- an 'Île'")
  'us île'
  """
  text = text.lower().translate(_PUNCTUATION)
  return ' '.join(_ARTICLES.sub(' ', text).split())


def exact_match(prediction: str, gold: str) -> float:
  return float(normalize(prediction) == normalize(gold))


def f1(prediction: str, gold: str, version: str) -> float:
  """Returns F1, from 0 to 1, of the multisets of words when normalised."""
  ours, theirs = normalize(prediction).split(), normalize(gold).split()
  if version == '2.0' and not (ours and theirs):
    return float(ours == theirs)
  shared = sum((Counter(ours) & Counter(theirs)).values())
  if not shared:
    return 0.0
  precision, recall = shared / len(ours), shared / len(theirs)
  return 2 * precision * recall / (precision + recall)


def score_predictions(questions: Iterable[Question],
                      predictions: Mapping[str, str], version: str,
                      no_answer_scores: Mapping[str, float] | None = None,
                      threshold: float = THRESHOLD) -> dict[str, float | int]:
  """Scores predictions, in percent.

  A prediction for an unknown id is ignored. A missing one scores 0 in 1.1 and
  is an empty answer in 2.0 (evaluate-v2.0.py leaves it out, or stops).

  Args:
    questions: the references.
    predictions: answers by question id.
    version: '1.1' or '2.0'.
    no_answer_scores: 2.0 only; the larger the surer, for each prediction.
    threshold: a larger no-answer score makes the prediction ''.

  Returns:
    exact, f1, total, missing, unknown (counts). In 2.0 also HasAns_ and NoAns_
    exact, f1, total of the questions with and without an answer (if there are
    any); with no_answer_scores best_exact, best_exact_thresh, best_f1,
    best_f1_thresh, at the threshold where the predictions score most.

  Raises InputError without questions, an answer (1.1) or a no-answer score.
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
    prediction = predictions.get(question.id, '' if version == '2.0' else None)
    if prediction is None:
      exact[question.id] = overlap[question.id] = 0.0
    else:
      exact[question.id] = max(exact_match(prediction, g) for g in golds)
      overlap[question.id] = max(f1(prediction, g, version) for g in golds)
  found = {'missing': sum(q.id not in predictions for q in questions),
           'unknown': len(predictions.keys() - exact.keys())}
  if version == '1.1':
    return _mean_scores(exact, overlap, exact) | found

  has_answer = {q.id: bool(q.answers) for q in questions}
  best = {}
  if no_answer_scores is not None:
    without = [key for key in exact
               if key in predictions and key not in no_answer_scores]
    if without:
      raise InputError(f'no no-answer score for question {without[0]}'
                       + (f' and {len(without) - 1} more that have a '
                          'prediction.' if without[1:] else '.'))
    # A missing prediction is empty with any threshold.
    known = {key: value for key, value in no_answer_scores.items()
             if key in exact}
    for name, scores in (('exact', exact), ('f1', overlap)):
      best[f'best_{name}'], best[f'best_{name}_thresh'] = best_threshold(
          scores, predictions, known, has_answer)
    for scores in (exact, overlap):
      scores.update({key: float(not has_answer[key])
                     for key, value in known.items() if value > threshold})
  result = _mean_scores(exact, overlap, exact) | found
  for prefix, wanted in (('HasAns_', True), ('NoAns_', False)):
    keys = [key for key, has in has_answer.items() if has is wanted]
    if keys:
      result |= {prefix + name: value for name, value in
                 _mean_scores(exact, overlap, keys).items()}
  return result | best


def best_threshold(scores: Mapping[str, float], predictions: Mapping[str, str],
                   no_answer_scores: Mapping[str, float],
                   has_answer: Mapping[str, bool]) -> tuple[float, float]:
  """Returns the best score in percent, and its no-answer threshold.

  evaluate-v2.0.py, `find_best_thresh`: questions are made answerable one by
  one, the surest first, those of equal score in the mapping's order; 0.0 means
  none. `scores`, from 0 to 1, are those of the predictions as given.
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


def _mean_scores(exact: Mapping[str, float], overlap: Mapping[str, float],
                 keys: Iterable[str]) -> dict[str, float | int]:
  keys = list(keys)
  return {'exact': 100.0 * sum(exact[key] for key in keys) / len(keys),
          'f1': 100.0 * sum(overlap[key] for key in keys) / len(keys),
          'total': len(keys)}
