"""QNLI as pairwise ranking, the leaderboard's setting; see qnli_ranking."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import sys
from typing import Any

import numpy as np

from robertax.config import ModelConfig
from robertax.data.examples import Examples
from robertax.tasks import qnli_ranking
from robertax.tasks.chance import why_degenerate
from robertax.tasks.encoding import encode_texts
from robertax.tasks.finetune import Answers, FinetuneTask, Rows
from robertax.tasks.glue import SUBMISSION, archive, submission
from robertax.tasks.glue_files import GlueRow, Source
from robertax.tasks.glue_table import GLUE
from robertax.tasks.objectives import Choice

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
    made = qnli_ranking.pairs([row.texts[0] for row in own.rows],
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
    return qnli_ranking.predict(self._questions(split), answers['scores'],
                                threshold)

  def threshold(self, answers: Answers) -> float:
    """Of questions with one sentence: the best on the main dev split.

    Args:
      answers: of that split.
    """
    main = self.dev_splits[0]
    return qnli_ranking.best_threshold(
        self._questions(main), answers['scores'], self._labels(main))

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """`metrics`; NaN where no question is of that kind."""
    found = self.predictions(split, answers, self.threshold(answers))
    right = found == self._labels(split)
    alone = np.zeros(len(right), bool)
    for rows in qnli_ranking.by_question(self._questions(split)):
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
        name: submission(self.splits[split].rows, [
            LABELS[n] for n in self.predictions(
                split, answers[split], threshold)])
        for split, name in TASK.tests if split in answers}
    return {SUBMISSION: archive(tables)} if tables else {}

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
