"""QNLI as pairwise ranking, the leaderboard's setting; see qnli_ranking."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import sys
from typing import Any

import numpy as np

from robertax.config import ModelConfig
from robertax.data.finetuning import Examples
from robertax.tasks.finetune import Answers, FinetuneTask, Rows, encode_texts
from robertax.tasks.glue import SUBMISSION, submission_archive, submission_table
from robertax.tasks.glue_files import GLUE, GlueRow, Source
from robertax.tasks.objectives import Choice
from robertax.tasks.task import why_degenerate

# QNLI as ranking: which sentence of a question's holds its answer?
#
# The leaderboard's setting (RoBERTa, section 5.1: candidate answers are
# compared to one another). A question's sentences are scored; of a pair, one
# that holds the answer and one that does not, the softmax over both scores is
# trained, and the sentence with the highest score is `entailment`.
#
# GLUE's second version of QNLI was made so that this hardly works: most
# questions have one sentence only (2,738 of the 4,100 of dev). Such a row is
# trained by itself, whether its score is above 0, and predicted by whether it
# is above a threshold.


ENTAILMENT, NOT_ENTAILMENT = 0, 1


@dataclasses.dataclass(frozen=True)
class RowPairs:
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


def pair_rows(questions: Sequence[str], labels: Sequence[int]) -> RowPairs:
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
  return RowPairs(members, alone)


def predict_rows(questions: Sequence[str], scores: np.ndarray, threshold: float
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


TASK = GLUE['qnli']
# By the numbers of qnli_ranking.
LABELS = ('entailment', 'not_entailment')


@dataclasses.dataclass(frozen=True)
class Pair:
  """Rows that are trained together: (the right one, a wrong one), or one."""
  rows: tuple[GlueRow, ...]

  @property
  def target(self) -> int:
    """0, the first is right; 1, it is not."""
    return _class(self.rows[0])


class QnliRanking(FinetuneTask):
  """QNLI's sentences, ranked for each question.

  Attributes:
    metrics: accuracy; and of the questions with several sentences and with one
      apart, `ranked` and `alone`.
  """
  metrics = ('accuracy', 'ranked', 'alone')

  def heads(self, config: ModelConfig) -> ModelConfig:
    """One score a sequence."""
    return dataclasses.replace(config, num_classes=1)

  def make_objective(self) -> Choice:
    """Cross-entropy of the softmax over a pair."""
    return Choice(self.model, self.tokenizer.pad_id)

  def read(self) -> Mapping[str, Rows]:
    """train (pairs), dev, and test if asked for."""
    source, found = Source(TASK, self.config.data.dir), {}
    names = ('train', 'dev', 'test')
    for name in names[:2 + self.config.finetune.predict_test]:
      split = source.split(name, labelled=name != 'test')
      if split is None:
        raise source.missing(name)
      found[name] = split
    own = found['train']
    made = pair_rows([row.texts[0] for row in own.rows],
                     [_class(row) for row in own.rows])
    ranked = len(made.members) - made.alone
    print(f'{self.name}: {len(own.rows)} rows of {own.source} give {ranked} '
          f'pairs of one question; {made.alone} rows have no partner and are '
          'trained alone', file=sys.stderr)
    found['train'] = Rows(
        [Pair(tuple(own.rows[n] for n in pair)) for pair in made.members],
        f'{own.source} ({ranked} pairs and {made.alone} rows alone)')
    return found

  def encode(self, rows: Sequence[Any], split: str) -> tuple[Examples, int]:
    """`<s> question </s></s> sentence </s>`; in train, groups of two or one."""
    members = [row.rows if split == 'train' else (row,) for row in rows]
    encoded = encode_texts(
        self.tokenizer, [row.texts for group in members for row in group],
        self.max_length, separators=1 if self.model.num_types else 2)
    targets = [row.target if split == 'train' else 0 for row in rows]
    return Examples.of(
        encoded.sequences,
        groups=np.repeat(np.arange(len(rows)), [len(m) for m in members]),
        group_values={'group_targets': np.array(targets, np.int32)},
        second_starts=encoded.second_starts), encoded.truncated

  def predictions(self, split: str, answers: Answers, threshold: float
                  ) -> np.ndarray:
    """int64[rows], numbers of classes."""
    return predict_rows(self._questions(split), answers['scores'],
                        threshold)

  def threshold(self, answers: Answers) -> float:
    """Of questions with one sentence: the best on the main dev split.

    Args:
      answers: of that split.
    """
    main = self.dev_splits[0]
    return best_threshold(
        self._questions(main), answers['scores'], self._labels(main))

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """`metrics`; NaN where no question is of that kind."""
    found = self.predictions(split, answers, self.threshold(answers))
    right = found == self._labels(split)
    alone = np.zeros(len(right), bool)
    for rows in by_question(self._questions(split)):
      alone[rows] = len(rows) == 1
    return {'accuracy': 100 * float(right.mean())} | {
        name: 100 * float(right[which].mean()) if which.any() else float('nan')
        for name, which in (('ranked', ~alone), ('alone', alone))}

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    """index, label (of a labelled split) and score."""
    for row, score in zip(self.splits[split].rows, answers['scores']):
      label = {'label': row.label} if row.label else {}
      yield {'index': row.index, **label, 'score': round(float(score), 6)}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """QNLI.tsv, zipped, where the test split was answered."""
    threshold = self.threshold(answers[self.dev_splits[0]])
    tables = {
        name: submission_table(self.splits[split].rows, [
            LABELS[n] for n in self.predictions(
                split, answers[split], threshold)])
        for split, name in TASK.tests if split in answers}
    return {SUBMISSION: submission_archive(tables)} if tables else {}

  def conclude(self, folder: str, answers: Mapping[str, Answers],
               facts: dict[str, Any]) -> dict[str, Any]:
    """As FinetuneTask; and what the threshold is and where it is from."""
    main = self.dev_splits[0]
    return super().conclude(folder, answers, facts | {
        'threshold': self.threshold(answers[main]),
        'threshold_from': f'{main}, of questions with one sentence'})

  def degenerate(self, split: str, answers: Answers) -> str:
    """All rows one class, or no better than that."""
    return why_degenerate(
        self.predictions(split, answers, self.threshold(answers)),
        self._labels(split), LABELS, split)

  def _questions(self, split: str) -> list[str]:
    return [row.texts[0] for row in self.splits[split].rows]

  def _labels(self, split: str) -> np.ndarray:
    return np.array([_class(row) for row in self.splits[split].rows])


def _class(row: GlueRow) -> int:
  return LABELS.index(row.label)
