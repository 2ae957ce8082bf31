"""WSC: does a pronoun stand for a phrase? (SuperGLUE, Wang et al. 2019)

Phrases are put in the pronoun's place and scored by the masked-LM head; it
stands for the query if no other phrase of the sentence scores higher. Only rows
in which it does are trained on.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import sys
from typing import Any

import numpy as np

from robertax.config import ModelConfig
from robertax.data.examples import Examples
from robertax.tasks import pronouns
from robertax.tasks.chance import why_degenerate
from robertax.tasks.finetune import Answers, FinetuneTask, Rows
from robertax.tasks.objectives import SpanRanking
from robertax.tasks.pronouns import PronounSentence
from robertax.tasks.wsc_features import features

ANSWERS = ('no', 'yes')


class PronounTask(FinetuneTask):
  """What is trained on WSC's sentences; subclasses say what is asked of it."""

  metrics = ('accuracy',)

  def heads(self, config: ModelConfig) -> ModelConfig:
    """The masked-LM head, as it was pretrained."""
    return dataclasses.replace(config, lm_head=True)

  def make_objective(self) -> SpanRanking:
    """finetune.ranking_loss."""
    finetune = self.config.finetune
    return SpanRanking(self.model, self.tokenizer.pad_id,
                       finetune.ranking_loss, finetune.margin_alpha,
                       finetune.margin_beta)

  def encode(self, rows: Sequence[PronounSentence], split: str
             ) -> tuple[Examples, int]:
    """Groups of a query and its candidates."""
    found = features(rows, self.tokenizer, self.max_length,
                     self.config.finetune.chunker)
    sizes = np.array([len(p) for p in found.phrases])
    alone = int((sizes == 1).sum())
    print(f'{self.name} {split}: {sizes.mean() - 1:.1f} candidates a sentence '
          f'(at most {sizes.max() - 1})'
          + (f'; {alone} sentences have none, which teach nothing and are '
             'answered yes' if alone else ''), file=sys.stderr)
    return found.examples, found.truncated

  def fitting(self, split: str, answers: Answers) -> np.ndarray:
    """bool[groups]: whether no candidate scores more than the query."""
    firsts = self.splits[split].examples.firsts
    scores = answers['scores']
    return np.array([scores[a] >= scores[a:b].max()
                     for a, b in zip(firsts, firsts[1:])], bool)

  def read_wsc_train(self, folder: str) -> Rows:
    """The rows of WSC's train.jsonl in which the query is right."""
    rows = self.read_wsc(folder, 'train', labelled=True)
    kept = [row for row in rows if row.label]
    return Rows(kept, f'{folder}/train.jsonl ({len(kept)} positive of '
                f'{len(rows)} rows)')

  def read_wsc(self, folder: str, split: str, labelled: bool
               ) -> list[PronounSentence]:
    """A split; says how many rows do not stand where their indices say."""
    found, where = pronouns.read(folder, split), f'{folder}/{split}.jsonl'
    if found.moved or found.elsewhere:
      print(f'{where}: {found.moved} pronouns stand one word behind their '
            f'index, {found.elsewhere} queries elsewhere', file=sys.stderr)
    if labelled:
      return list(pronouns.labelled(found.sentences, where))
    return found.sentences


class Wsc(PronounTask):
  """SuperGLUE's WSC."""

  def read(self) -> Mapping[str, Rows]:
    """train (positive rows), val, and test if asked for."""
    folder = self.config.data.dir
    found = {'train': self.read_wsc_train(folder), 'val': Rows(
        self.read_wsc(folder, 'val', labelled=True), f'{folder}/val.jsonl')}
    if self.config.finetune.predict_test:
      found['test'] = Rows(self.read_wsc(folder, 'test', labelled=False),
                           f'{folder}/test.jsonl', labelled=False)
    return found

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """accuracy."""
    labels = [row.label for row in self.splits[split].rows]
    return {'accuracy': 100 * float(np.mean(
        self.fitting(split, answers) == labels))}

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    """idx, prediction, label, and the margin over the best candidate."""
    firsts = self.splits[split].examples.firsts
    for row, fits, a, b in zip(self.splits[split].rows, self.fitting(
        split, answers), firsts, firsts[1:]):
      others = answers['scores'][a + 1:b]
      label = {} if row.label is None else {'label': row.label}
      yield {'idx': int(row.id), 'prediction': bool(fits), **label,
             'query': row.query,
             'score': round(float(answers['scores'][a]), 6),
             'best_candidate': round(float(others.max()), 6) if len(others)
                               else None}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """WSC.jsonl, SuperGLUE's form, where the test split was answered."""
    if 'test' not in answers:
      return {}
    return {'WSC.jsonl': ''.join(
        json.dumps({'idx': int(row.id), 'label': str(bool(fits))}) + '\n'
        for row, fits in zip(self.splits['test'].rows,
                             self.fitting('test', answers['test']))).encode()}

  def degenerate(self, split: str, answers: Answers) -> str:
    """All answers the same, or no more right than the commoner one."""
    labels = np.array([row.label for row in self.splits[split].rows])
    return why_degenerate(self.fitting(split, answers), labels, ANSWERS, split)
