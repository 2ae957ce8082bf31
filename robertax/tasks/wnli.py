"""WNLI through WSC: the leaderboard's setting (RoBERTa, section 5.1).

Its training set is not used: a model is trained on WSC's spans (or, where
there are none, on WNLI's own rows laid out as spans), and answers which phrase
the pronoun of sentence1 stands for.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
import sys
from typing import Any

import numpy as np

from robertax.data.examples import Examples
from robertax.tasks import wnli_spans
from robertax.tasks.chance import why_degenerate
from robertax.tasks.finetune import Answers, Rows
from robertax.tasks.glue import SUBMISSION, archive, submission
from robertax.tasks.glue_files import GlueRow, Source
from robertax.tasks.glue_table import GLUE
from robertax.tasks.wsc import ANSWERS, PronounTask

LISTED = 20  # Unaligned rows that results.json names, a split.


class Wnli(PronounTask):
  """WNLI's rows, answered as WSC's; what cannot be aligned is answered 0."""

  def read(self) -> Mapping[str, Rows]:
    """train of WSC or positive rows of WNLI; dev, and test if asked for."""
    task = GLUE['wnli']
    source, found = Source(task, self.config.data.dir), {}
    if self.config.finetune.wsc_dir:
      found['train'] = self.read_wsc_train(self.config.finetune.wsc_dir)
    else:
      own = source.split('train', labelled=True)
      if own is None:
        raise source.missing('train')
      rows = wnli_spans.align(map(spans_row, own.rows)).sentences
      kept = [row for row in rows if row.label]
      found['train'] = Rows(kept, f'{own.source} ({len(kept)} positive of '
                            f'{len(rows)} aligned of {len(own.rows)} rows)')
    for name in ('dev', 'test')[:1 + self.config.finetune.predict_test]:
      split = source.split(name, labelled=name == 'dev')
      if split is None:
        raise source.missing(name)
      found[name] = split
    return found

  def encode(self, rows: Sequence[Any], split: str) -> tuple[Examples, int]:
    """Groups of a query and its candidates, of the rows that are aligned."""
    if split == 'train':
      return super().encode(rows, split)
    found = wnli_spans.align(map(spans_row, rows))
    if found.unaligned:
      print(f'{self.name} {split}: {len(found.unaligned)} of {len(rows)} rows '
            'name no phrase for a pronoun of sentence1; they are answered 0 '
            '(not entailment): '
            + ', '.join(row.id for row in found.unaligned), file=sys.stderr)
    return super().encode(found.sentences, split)

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """accuracy over all rows, those answered 0 included."""
    return {'accuracy': 100 * float(np.mean(
        self.predictions(split, answers) == self._labels(split)))}

  def predictions(self, split: str, answers: Answers) -> np.ndarray:
    """int64[rows]: 1 where no candidate scores more, 0 where none is aligned.
    """
    aligned = self._aligned(split)
    fits = iter(self.fitting(split, answers))
    return np.array([int(next(fits)) if there else 0 for there in aligned])

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    """index, prediction, label, and whether the row was aligned."""
    for row, found, there in zip(
        self.splits[split].rows, self.predictions(split, answers),
        self._aligned(split)):
      label = {'label': int(row.label)} if row.label else {}
      yield {'index': row.index, 'prediction': int(found), **label,
             'aligned': there}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """WNLI.tsv, zipped, where the test split was answered."""
    tables = {
        name: submission(self.splits[split].rows,
                         self.predictions(split, answers[split]).tolist())
        for split, name in GLUE['wnli'].tests if split in answers}
    return {SUBMISSION: archive(tables)} if tables else {}

  def degenerate(self, split: str, answers: Answers) -> str:
    """All answers the same, or no more right than the commoner one."""
    return why_degenerate(self.predictions(split, answers),
                          self._labels(split), ANSWERS, split)

  def facts(self) -> dict[str, Any]:
    """unaligned: of each split, how many rows, and which."""
    found = {}
    for name in (*self.dev_splits, *self.test_splits):
      rows = [row.index for row, there in zip(
          self.splits[name].rows, self._aligned(name)) if not there]
      found[name] = {'rows': len(rows), 'answered': 0, 'index': rows[:LISTED]}
    return {'unaligned': found}

  def _labels(self, split: str) -> np.ndarray:
    return np.array([int(row.label) for row in self.splits[split].rows])

  def _aligned(self, split: str) -> tuple[bool, ...]:
    return aligned_rows(tuple(self.splits[split].rows))


@functools.lru_cache(maxsize=8)
def aligned_rows(rows: tuple[GlueRow, ...]) -> tuple[bool, ...]:
  """Which rows have a pronoun and its phrase."""
  return tuple(wnli_spans.aligned(spans_row(row)) is not None for row in rows)


def spans_row(row: GlueRow) -> wnli_spans.Row:
  """A row of GLUE's files as wnli_spans takes it."""
  return wnli_spans.Row(row.index, *row.texts,
                        int(row.label) if row.label else None)


