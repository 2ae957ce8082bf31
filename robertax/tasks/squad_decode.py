"""From start and end logits of windows to one answer a question."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from robertax.errors import InputError
from robertax.tasks.squad_files import Question
from robertax.tasks.squad_metrics import f1
from robertax.tasks.squad_windows import EncodedQuestion, Window


@dataclasses.dataclass(frozen=True)
class DecodingLaw:
  """Which spans are answers.

  Attributes:
    n_best: spans that are kept of each question.
    max_answer_length: most tokens of an answer (run_qa.py's 30).
  """
  n_best: int = 20
  max_answer_length: int = 30

  def __post_init__(self):
    for key in ('n_best', 'max_answer_length'):
      if getattr(self, key) < 1:
        raise InputError(f'{key}={getattr(self, key)}: at least 1.')


@dataclasses.dataclass(frozen=True)
class Span:
  """A candidate answer: characters of the context, and its two logits."""
  text: str
  start_logit: float
  end_logit: float

  @property
  def score(self) -> float:
    return self.start_logit + self.end_logit


@dataclasses.dataclass(frozen=True)
class Decoded:
  """What the model says of one question.

  Attributes:
    spans: the best first, at most n_best, no text twice.
    null: the logits at <s>, of the window that gives the least for no answer
      (run_qa.py's `min_null_prediction`).
    no_answer: probability that there is no answer, by the classifier on <s>:
      the least over the windows, for one that has an answer is enough. None
      where no such logits were given.
  """
  spans: tuple[Span, ...]
  null: Span
  no_answer: float | None

  @property
  def answer(self) -> str:
    """The best span's text; '' if there is none, which only white space has."""
    return self.spans[0].text if self.spans else ''

  @property
  def null_odds(self) -> float:
    """How far the logits at <s> are above the best span's (run_qa.py)."""
    best = self.spans[0].score if self.spans else np.finfo(np.float32).min
    return float(self.null.score - best)


def best_pairs(starts: np.ndarray, ends: np.ndarray, law: DecodingLaw
               ) -> list[tuple[int, int]]:
  """The n_best pairs (first, last) of largest starts[first] + ends[last].

  first <= last < first + max_answer_length. All such pairs are looked at, not
  only those of the 20 best starts and the 20 best ends as in run_qa.py, which
  may have no pair in order. Of equal ones, the shorter first, then the earlier.

  Args:
    starts, ends: float[T], of the context's tokens.
    law: how many, how long.
  """
  size, longest = len(starts), min(law.max_answer_length, len(starts))
  sums = np.full((longest, size), -np.inf)
  for more in range(longest):
    sums[more, :size - more] = starts[:size - more] + ends[more:]
  flat = sums.ravel()
  few = min(law.n_best, flat.size)
  if few < flat.size:
    # Everything that ties with the last of them, or the cut would be by chance.
    least = np.partition(flat, flat.size - few)[flat.size - few]
    found = np.flatnonzero(flat >= least)
  else:
    found = np.arange(flat.size)
  found = found[np.argsort(-flat[found], kind='stable')][:few]
  return [(int(first), int(first + more))
          for more, first in zip(*np.unravel_index(found, sums.shape))
          if flat[more * size + first] > -np.inf]


def decode(encoded: Sequence[EncodedQuestion], windows: Sequence[Window],
           start_logits: Sequence[np.ndarray], end_logits: Sequence[np.ndarray],
           law: DecodingLaw, answerable: Sequence[float] | None = None
           ) -> dict[str, Decoded]:
  """Answers over all windows of each question.

  Args:
    encoded: the questions.
    windows: of them; each question has at least one.
    start_logits, end_logits: for each window, float[T] over its tokens or more.
    law: which spans are answers.
    answerable: for each window, the classifier's log-odds that it has the
      answer.

  Returns:
    By question id, in the questions' order.
  """
  candidates = [{} for _ in encoded]
  nulls = [None] * len(encoded)
  odds = np.full(len(encoded), -np.inf)
  for i, (window, starts, ends) in enumerate(zip(
      windows, start_logits, end_logits, strict=True)):
    one, known = encoded[window.number], candidates[window.number]
    null = Span('', float(starts[0]), float(ends[0]))
    if nulls[window.number] is None or (
        null.score < nulls[window.number].score):
      nulls[window.number] = null
    if answerable is not None:
      odds[window.number] = max(odds[window.number], answerable[i])
    here = slice(window.offset, window.offset + window.end - window.start)
    for first, last in best_pairs(starts[here], ends[here], law):
      text = one.text(window.start + first, window.start + last).strip()
      span = Span(text, float(starts[window.offset + first]),
                  float(ends[window.offset + last]))
      if text and (text not in known or known[text].score < span.score):
        known[text] = span
  return {one.question.id: Decoded(
      tuple(sorted(known.values(), key=lambda s: -s.score)[:law.n_best]), null,
      float(1 / (1 + np.exp(odd))) if answerable is not None else None)
          for one, known, null, odd in zip(encoded, candidates, nulls, odds)}


def answers(decoded: Mapping[str, Decoded], threshold: float | None = None
            ) -> dict[str, str]:
  """The prediction file: an answer by question id.

  Args:
    decoded: of each question.
    threshold: no answer, '', where `no_answer` is larger. None: always one.
  """
  return {key: '' if threshold is not None and one.no_answer > threshold
          else one.answer for key, one in decoded.items()}


def choose_threshold(questions: Sequence[Question],
                     decoded: Mapping[str, Decoded]) -> float:
  """The no-answer threshold of best F1 on these questions; 0.0 for no answers.

  As best_f1_thresh of the official script, but for questions of equal
  `no_answer`: those get an answer together or not at all, as they will in
  `answers`, where the script counts them one by one.
  """
  has = np.array([bool(question.answers) for question in questions])
  given = answers(decoded)
  gains = np.array([
      max(f1(given[q.id], answer.text, '2.0') for answer in q.answers)
      if q.answers else -bool(given[q.id]) for q in questions])
  scores = np.array([decoded[q.id].no_answer for q in questions])
  order = np.argsort(scores, kind='stable')
  values, sums = scores[order], has.size - has.sum() + gains[order].cumsum()
  last = np.append(values[1:] != values[:-1], True)
  best = np.argmax(np.where(last, sums, -np.inf))
  return float(values[best]) if sums[best] > has.size - has.sum() else 0.0


def n_best(decoded: Mapping[str, Decoded], version: str
           ) -> dict[str, list[dict[str, str | float]]]:
  """The nbest_predictions file of run_qa.py.

  Returns:
    By question id, the best first: text, start_logit, end_logit, and
    probability, the softmax over the list. In 2.0 '' is one of them, with the
    logits at <s>.
  """
  result = {}
  for key, one in decoded.items():
    spans = list(one.spans)
    if version == '2.0' or not spans:
      spans = sorted([*spans, one.null], key=lambda s: -s.score)
    scores = np.array([span.score for span in spans])
    shares = np.exp(scores - scores.max())
    result[key] = [
        {**dataclasses.asdict(span), 'probability': float(share)}
        for span, share in zip(spans, shares / shares.sum())]
  return result
