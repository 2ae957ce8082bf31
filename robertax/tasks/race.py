"""RACE: four options a question, one of them right (Lai et al. 2017)."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import sys
from typing import Any

import numpy as np

from robertax.config import ModelConfig
from robertax.data.examples import Examples
from robertax.tasks import race_questions
from robertax.tasks.chance import why_degenerate
from robertax.tasks.finetune import Answers, FinetuneTask, Rows
from robertax.tasks.objectives import Choice
from robertax.tasks.race_features import features
from robertax.tasks.race_questions import LETTERS, Question

OPTIONS = len(LETTERS)
# By the name of the task.
PARTS = {'race': race_questions.PARTS, 'race/middle': ('middle',),
         'race/high': ('high',)}


class Race(FinetuneTask):
  """RACE, or its middle or high part alone; config.task is a row of PARTS.

  The test split is answered and scored once, by the best weights on dev.
  """

  def __init__(self, config: Any, shares: int):
    """See FinetuneTask."""
    self.parts = PARTS[config.task]
    self.metrics = ('accuracy',) + (
        self.parts if len(self.parts) > 1 else ())
    super().__init__(config, shares)

  def heads(self, config: ModelConfig) -> ModelConfig:
    """One score a sequence."""
    return dataclasses.replace(config, num_classes=1)

  def make_objective(self) -> Choice:
    """Cross-entropy of the softmax over four scores."""
    return Choice(self.model, self.tokenizer.pad_id)

  def read(self) -> Mapping[str, Rows]:
    """train and dev, and test if it is to be answered: without labels, as far
    as the choice of the best weights goes.
    """
    folder, found = self.config.data.dir, {}
    names = ('train', 'dev') + (
        ('test',) if self.config.finetune.predict_test else ())
    for name in names:
      rows = race_questions.read(folder, name, self.parts)
      if name != 'test':
        race_questions.check_answers(rows, f'{folder}, {name}')
      found[name] = Rows(
          rows, f'{folder}, {name} ({" and ".join(self.parts)})',
          labelled=name != 'test')
    return found

  def encode(self, rows: Sequence[Question], split: str
             ) -> tuple[Examples, int]:
    """Groups of four sequences."""
    found = features(rows, self.tokenizer, self.max_length,
                     self.config.finetune.max_option_length)
    if found.options_cut:
      print(f'{self.name} {split}: {found.options_cut} of {OPTIONS * len(rows)}'
            ' questions with an option cut to '
            f'{self.config.finetune.max_option_length} tokens',
            file=sys.stderr)
    return Examples.of(
        found.sequences, groups=np.repeat(np.arange(len(rows)), OPTIONS),
        group_values={'group_targets': np.array(
            [row.answer or 0 for row in rows], np.int32)}), found.sequences_cut

  def choices(self, answers: Answers) -> list[int]:
    """0 to 3 for each question: the option with the highest score."""
    return answers['scores'].reshape(-1, OPTIONS).argmax(-1).tolist()

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """accuracy, and that of each part where there are two."""
    right = {part: [] for part in self.parts}
    for row, choice in zip(self.splits[split].rows, self.choices(answers)):
      right[row.part].append(choice == row.answer)
    parts = {part: 100 * float(np.mean(one)) if one else float('nan')
             for part, one in right.items()}
    found = {'accuracy': 100 * float(np.mean(sum(right.values(), [])))}
    return found | (parts if len(parts) > 1 else {})

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    """id, prediction (a letter), answer and scores."""
    scores = answers['scores'].reshape(-1, OPTIONS)
    for row, choice, four in zip(self.splits[split].rows,
                                 self.choices(answers), scores):
      answer = {} if row.answer is None else {'answer': LETTERS[row.answer]}
      yield {'id': row.id, 'prediction': LETTERS[choice], **answer,
             'scores': [round(float(x), 6) for x in four]}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """predictions.<split>.json, a letter for each id: robertax.score reads it.
    """
    return {
        f'predictions.{name}.json': (json.dumps({
            row.id: LETTERS[choice] for row, choice in zip(
                self.splits[name].rows, self.choices(found))}, indent=0)
                                     + '\n').encode()
        for name, found in answers.items()}

  def degenerate(self, split: str, answers: Answers) -> str:
    """All answers one letter, or no more right than the commonest letter has.
    """
    return why_degenerate(
        self.choices(answers), [r.answer for r in self.splits[split].rows],
        LETTERS, split)

  def conclude(self, folder: str, answers: Mapping[str, Answers],
               facts: dict[str, Any]) -> dict[str, Any]:
    """As FinetuneTask; test_scores too, where the test split has answers."""
    tested = {}
    for name in self.test_splits:
      rows = self.splits[name].rows
      if name in answers and all(row.answer is not None for row in rows):
        tested[name] = self.score(name, answers[name])
    if tested:
      facts = facts | {'test_scores': tested}
    return super().conclude(folder, answers, facts)
