"""QNLI as ranking: which of a question's sentences holds its answer?

This is the leaderboard's setting (RoBERTa, section 5.1: candidate answers are
compared to one another). A question's sentences are scored. Training takes a
pair, one that holds the answer and one that does not, and the softmax over both
scores; the sentence with the highest score is `entailment`.

GLUE's second version of QNLI was made so that this hardly works: most questions
have one sentence only (2,738 of the 4,100 of dev). Such a row is trained alone,
and its prediction is whether its score is above a threshold.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from robertax.data.finetuning import Examples
from robertax.progress import say
from robertax.tasks import finetune
from robertax.tasks.finetune import Answers, Finetune, TaskRows
from robertax.tasks.glue import submission
from robertax.tasks.glue_files import GLUE, GlueFiles, GlueRow
from robertax.tasks.objectives import Choice

TASK = GLUE['qnli']
LABELS = ('entailment', 'not_entailment')
ENTAILMENT, NOT_ENTAILMENT = 0, 1


def by_question(questions: Sequence[str]) -> list[np.ndarray]:
  """Returns the row numbers of each question, in order of first rows."""
  rows = {}
  for number, question in enumerate(questions):
    rows.setdefault(' '.join(question.split()), []).append(number)
  return [np.array(numbers) for numbers in rows.values()]


def pair_rows(questions: Sequence[str], labels: Sequence[int]
              ) -> list[tuple[int, ...]]:
  """Returns the row numbers of each group that is trained together.

  A group is a pair of one question's rows, one that holds the answer and one
  that does not, or one row alone. Each row is in at least one group.

  >>> pair_rows(['a', 'b', 'a', 'a'], [0, 0, 1, 1])
  [(0, 2), (0, 3), (1,)]
  """
  groups = []
  for rows in by_question(questions):
    right = [n for n in rows.tolist() if labels[n] == ENTAILMENT]
    wrong = [n for n in rows.tolist() if labels[n] != ENTAILMENT]
    groups += ([(right[i % len(right)], wrong[i % len(wrong)])
                for i in range(max(len(right), len(wrong)))]
               if right and wrong else [(n,) for n in rows.tolist()])
  return groups


def predict_rows(questions: Sequence[str], scores: np.ndarray, threshold: float
                 ) -> np.ndarray:
  """Returns int64[rows]: a question's highest score is entailment, a single row
  only above the threshold.
  """
  found = np.full(len(scores), NOT_ENTAILMENT, np.int64)
  for rows in by_question(questions):
    best = rows[np.argmax(scores[rows])]
    if len(rows) > 1 or scores[best] > threshold:
      found[best] = ENTAILMENT
  return found


def best_threshold(questions: Sequence[str], scores: np.ndarray,
                   labels: np.ndarray) -> float:
  """Returns the threshold with which `predict_rows` is right most often.

  Among several it is the nearest to 0; 0.0 where no question has one row.
  """
  only = np.array([rows[0] for rows in by_question(questions)
                   if len(rows) == 1], np.int64)
  if not len(only):
    return 0.0
  order = only[np.argsort(scores[only], kind='stable')]
  ascending, right = scores[order], labels[order] == ENTAILMENT
  # The first k are not entailment, the others are.
  correct = np.concatenate([[0], np.cumsum(~right)]) + np.concatenate(
      [np.cumsum(right[::-1])[::-1], [0]])
  ends = np.concatenate([[ascending[0] - 1], (
      ascending[:-1] + ascending[1:]) / 2, [ascending[-1]]])
  # There is no threshold between equal scores.
  possible = np.concatenate([[True], ascending[:-1] < ascending[1:], [True]])
  # 0 itself is a threshold, in its place among the scores.
  ends[np.searchsorted(ascending, 0.0, side='right')] = 0.0
  best = correct[possible].max()
  chosen = ends[possible & (correct == best)]
  return float(chosen[np.argmin(np.abs(chosen))])


class QnliRanking(Finetune):
  """QNLI's sentences, ranked for each question."""
  objective_class = Choice
  heads = {'num_classes': 1}  # One score a sequence.
  # Of all questions, of those with several sentences, of those with one.
  metrics = ('accuracy', 'ranked', 'alone')

  def read(self) -> Mapping[str, TaskRows]:
    source = GlueFiles(TASK, self.config.data.dir)
    names = ('train', 'dev', 'test')[:2 + self.config.finetune.predict_test]
    found = {name: source.required(name, labelled=name != 'test')
             for name in names}
    own = found['train']
    groups = pair_rows([row.texts[0] for row in own.rows],
                       [_class(row) for row in own.rows])
    alone = sum(len(group) == 1 for group in groups)
    ranked = len(groups) - alone
    say(f'{self.name}: {len(own.rows)} rows of {own.source} give {ranked} '
        f'pairs of one question; {alone} rows have no partner and are '
        'trained alone')
    found['train'] = TaskRows(
        [tuple(own.rows[n] for n in group) for group in groups],
        f'{own.source} ({ranked} pairs and {alone} rows alone)')
    return found

  def encode(self, rows: Sequence[Any], split: str) -> tuple[Examples, int]:
    """Encodes pairs of question and sentence, in train by group."""
    groups = rows if split == 'train' else [(row,) for row in rows]
    encoded = finetune.encode_texts(
        self.tokenizer, [row.texts for group in groups for row in group],
        self.max_length)
    # 0: the first of a group is right; 1: it is not, and it is alone.
    # Others have zeros: the hash of a split includes them.
    targets = [_class(first) if split == 'train' else 0 for first, *_ in groups]
    return Examples.of(
        encoded.sequences,
        groups=np.repeat(np.arange(len(rows)), list(map(len, groups))),
        group_values={'group_targets': np.array(targets, np.int32)},
        second_starts=encoded.second_starts), encoded.truncated

  def predictions(self, split: str, answers: Answers, threshold: float
                  ) -> np.ndarray:
    return predict_rows(self._questions(split), answers['scores'], threshold)

  def threshold(self, answers: Answers) -> float:
    """The best threshold on the main dev split, which the answers belong to."""
    main = self.dev_splits[0]
    return best_threshold(
        self._questions(main), answers['scores'], self._labels(main))

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """Returns `metrics`; NaN where no question is of that kind."""
    found = self.predictions(split, answers, self.threshold(answers))
    right = found == self._labels(split)
    alone = np.zeros(len(right), bool)
    for rows in by_question(self._questions(split)):
      alone[rows] = len(rows) == 1
    return {'accuracy': 100 * float(right.mean())} | {
        name: 100 * float(right[which].mean()) if which.any() else float('nan')
        for name, which in (('ranked', ~alone), ('alone', alone))}

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    for row, score in zip(self.splits[split].rows, answers['scores']):
      label = {'label': row.label} if row.label else {}
      yield {'index': row.index, **label, 'score': round(float(score), 6)}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    threshold = self.threshold(answers[self.dev_splits[0]])
    return submission(TASK, self.splits, {
        split: [LABELS[n] for n in self.predictions(
            split, answers[split], threshold)]
        for split in self.test_splits if split in answers})

  def conclude(self, folder: str, answers: Mapping[str, Answers],
               facts: dict[str, Any]) -> dict[str, Any]:
    """Adds the threshold and its origin."""
    main = self.dev_splits[0]
    return super().conclude(folder, answers, facts | {
        'threshold': self.threshold(answers[main]),
        'threshold_from': f'{main}, of questions with one sentence'})

  def degenerate(self, split: str, answers: Answers) -> str:
    return finetune.why_degenerate(
        self.predictions(split, answers, self.threshold(answers)),
        self._labels(split), LABELS, split)

  def _questions(self, split: str) -> list[str]:
    return [row.texts[0] for row in self.splits[split].rows]

  def _labels(self, split: str) -> np.ndarray:
    return np.array([_class(row) for row in self.splits[split].rows])


def _class(row: GlueRow) -> int:
  return LABELS.index(row.label)
