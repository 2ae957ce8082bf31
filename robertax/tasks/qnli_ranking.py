"""QNLI as ranking: which sentence of a question's holds its answer?

The leaderboard's setting (RoBERTa, section 5.1: candidate answers are compared
to one another). A question's sentences are scored; of a pair, one that holds
the answer and one that does not, the softmax over both scores is trained, and
the sentence with the highest score is `entailment`.

GLUE's second version of QNLI was made so that this hardly works: most questions
have one sentence only (2,738 of the 4,100 of dev). Such a row is trained by
itself, whether its score is above 0, and predicted by whether it is above a
threshold.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

ENTAILMENT, NOT_ENTAILMENT = 0, 1


@dataclasses.dataclass(frozen=True)
class Pairs:
  """What is trained together.

  Attributes:
    members: rows of each group: (one that holds the answer, one that does not),
      or one row alone.
    alone: how many of the groups are one row.
  """
  members: list[tuple[int, ...]]
  alone: int


def by_question(questions: Sequence[str]) -> list[np.ndarray]:
  """Row numbers of each question, questions in the order of their first rows.
  """
  rows = {}
  for number, question in enumerate(questions):
    rows.setdefault(' '.join(question.split()), []).append(number)
  return [np.array(numbers) for numbers in rows.values()]


def pairs(questions: Sequence[str], labels: Sequence[int]) -> Pairs:
  """Pairs of the same question: each row is in one at least, where it can be.

  >>> pairs(['a', 'b', 'a', 'a'], [0, 0, 1, 1]).members
  [(0, 2), (0, 3), (1,)]
  """
  members, alone = [], 0
  for rows in by_question(questions):
    right = [n for n in rows.tolist() if labels[n] == ENTAILMENT]
    wrong = [n for n in rows.tolist() if labels[n] != ENTAILMENT]
    if not right or not wrong:
      members += [(n,) for n in rows.tolist()]
      alone += len(rows)
      continue
    members += [(right[i % len(right)], wrong[i % len(wrong)])
                for i in range(max(len(right), len(wrong)))]
  return Pairs(members, alone)


def predict(questions: Sequence[str], scores: np.ndarray, threshold: float
            ) -> np.ndarray:
  """The classes of rows: of a question's, the highest is entailment.

  Args:
    questions: of the rows.
    scores: float[rows].
    threshold: a question's only row is entailment where it scores more.

  Returns:
    int64[rows] of ENTAILMENT and NOT_ENTAILMENT.
  """
  found = np.full(len(scores), NOT_ENTAILMENT, np.int64)
  for rows in by_question(questions):
    best = rows[np.argmax(scores[rows])]
    if len(rows) > 1 or scores[best] > threshold:
      found[best] = ENTAILMENT
  return found


def best_threshold(questions: Sequence[str], scores: np.ndarray,
                   labels: np.ndarray) -> float:
  """That with which `predict` is right most often.

  Where several are, the one nearest to 0; 0.0 where no question has one row.
  """
  only = np.array([rows[0] for rows in by_question(questions)
                   if len(rows) == 1], np.int64)
  if not len(only):
    return 0.0
  order = only[np.argsort(scores[only], kind='stable')]
  ascending, right = scores[order], labels[order] == ENTAILMENT
  # Of the first k not entailment, of the others entailment.
  correct = np.concatenate([[0], np.cumsum(~right)]) + np.concatenate(
      [np.cumsum(right[::-1])[::-1], [0]])
  ends = np.concatenate([[ascending[0] - 1], (
      ascending[:-1] + ascending[1:]) / 2, [ascending[-1]]])
  # Between equal scores no threshold lies.
  possible = np.concatenate([[True], ascending[:-1] < ascending[1:], [True]])
  # 0 itself is one, at the place that it has among the scores.
  ends[np.searchsorted(ascending, 0.0, side='right')] = 0.0
  best = correct[possible].max()
  chosen = ends[possible & (correct == best)]
  return float(chosen[np.argmin(np.abs(chosen))])
