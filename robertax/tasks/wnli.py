"""WNLI through WSC: the leaderboard's setting (RoBERTa, section 5.1).

Its training set is not used: a model is trained on WSC's spans (or, where
there are none, on WNLI's own rows laid out as spans), and answers which phrase
the pronoun of sentence1 stands for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import sys
from typing import Any

import numpy as np

from robertax.data.finetuning import Examples
from robertax.tasks.finetune import Answers, Rows
from robertax.tasks.glue import SUBMISSION, submission_archive, submission_table
from robertax.tasks.glue_files import GLUE, GlueRow, Source
from robertax.tasks.noun_chunks import Word, text_words
from robertax.tasks.task import why_degenerate
from robertax.tasks.wsc import ANSWERS, PronounSentence, PronounTask

# WNLI's rows as WSC's: which pronoun sentence2 replaces, and by what.
#
# WNLI (Wang et al. 2018) was made from Winograd schemas: sentence2 is a part of
# sentence1 in which one pronoun is replaced by a phrase. Both are laid side by
# side here: what is before the phrase must be what is before the pronoun, what
# is behind must follow it. So a model of WSC answers WNLI, as in the paper.


PRONOUNS = frozenset(
    'he him his she her hers it its they them their theirs that'.split())
MAX_QUERY = 10  # Words.
_ARTICLES = ('the', 'a', 'an', 'this', 'that', 'these', 'those')


@dataclasses.dataclass(frozen=True)
class WnliRow:
  """A row of WNLI.

  Attributes:
    id: its index.
    premise, hypothesis: sentence1, sentence2.
    label: 1, the hypothesis follows; 0; None where it is not known.
  """
  id: str
  premise: str
  hypothesis: str
  label: int | None


@dataclasses.dataclass(frozen=True)
class Aligned:
  """Rows of which the pronoun is known, and those of which it is not."""
  sentences: list[PronounSentence]
  unaligned: list[WnliRow]


def align_rows(rows: Iterable[WnliRow]) -> Aligned:
  """Lays each row's sentences side by side.

  A row is unaligned where no pronoun of sentence1 has the words around the
  phrase on both its sides, or the phrase is not in sentence1.
  """
  sentences, unaligned = [], []
  for row in rows:
    found = align_row(row)
    if found is None:
      unaligned.append(row)
    else:
      sentences.append(found)
  return Aligned(sentences, unaligned)


def align_row(row: WnliRow) -> PronounSentence | None:
  """The row with its pronoun and its query, None where there is none.

  Of several pronouns that would do, the one with the most words of sentence2
  around it; of these, the last.
  """
  premise, hypothesis = _bare_words(row.premise), _bare_words(row.hypothesis)
  said, claimed = [w.lower for w in premise], [w.lower for w in hypothesis]
  best, most = None, 0
  if not claimed:
    return None
  for i, pronoun in enumerate(premise):
    if pronoun.lower not in PRONOUNS:
      continue
    left, right = _words_around(said[:i], said[i + 1:], claimed)
    middle = hypothesis[left:len(hypothesis) - right]
    if left + right < max(most, 1) or len(middle) > MAX_QUERY:
      continue
    query = _find_query(row.premise, premise, middle)
    if query:
      best, most = (pronoun, query), left + right
  if best is None:
    return None
  pronoun, query = best
  return PronounSentence(
      row.id, row.premise[:pronoun.start], pronoun.text,
      row.premise[pronoun.end:], query,
      None if row.label is None else bool(row.label))


def _bare_words(text: str) -> list[Word]:
  """Words and clitics, no marks."""
  return [w for w in text_words(text) if any(c.isalnum() for c in w.text)]


def _words_around(before: list[str], behind: list[str], claimed: list[str]
                  ) -> tuple[int, int]:
  """(words of `claimed` at its start that end `before`, at its end that begin
  `behind`): the most in sum that leave one word between them."""
  size = len(claimed)
  lefts = [n for n in range(min(size, len(before) + 1))
           if claimed[:n] == before[len(before) - n:]]
  rights = [n for n in range(min(size, len(behind) + 1))
            if claimed[size - n:] == behind[:n]]
  return max(((left, right) for left in lefts for right in rights
              if left + right < size), key=sum)


def _find_query(text: str, premise: list[Word],
                middle: list[Word]) -> str | None:
  """The phrase as sentence1 has it, or None where it is not there.

  A possessive's 's is dropped: WSC has `Mark` for `his`.
  """
  if len(middle) > 1 and middle[-1].lower == "'s":
    middle = middle[:-1]
  wanted = [w.lower for w in middle]
  bare = wanted[1:] if wanted[0] in _ARTICLES and wanted[1:] else wanted
  for phrase in (wanted, bare):
    for i in range(len(premise) - len(phrase) + 1):
      if [w.lower for w in premise[i:i + len(phrase)]] == phrase:
        found = text[premise[i].start:premise[i + len(phrase) - 1].end]
        return found if phrase is wanted else f'{wanted[0]} {found}'
  # `his and Tatyana's`: the words stand apart.
  if set(bare) <= {w.lower for w in premise} | {'and', 'of', "'s"}:
    return ' '.join(bare)
  return None


MOST_LISTED = 20  # Unaligned rows that results.json names, a split.


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
      rows = align_rows(map(wnli_row, own.rows)).sentences
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
    found = align_rows(map(wnli_row, rows))
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
        name: submission_table(self.splits[split].rows,
                               self.predictions(split, answers[split]).tolist())
        for split, name in GLUE['wnli'].tests if split in answers}
    return {SUBMISSION: submission_archive(tables)} if tables else {}

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
      found[name] = {
          'rows': len(rows),
          'answered': 0,
          'index': rows[:MOST_LISTED]
      }
    return {'unaligned': found}

  def _labels(self, split: str) -> np.ndarray:
    return np.array([int(row.label) for row in self.splits[split].rows])

  def _aligned(self, split: str) -> tuple[bool, ...]:
    return aligned_glue_rows(tuple(self.splits[split].rows))


@functools.lru_cache(maxsize=8)
def aligned_glue_rows(rows: tuple[GlueRow, ...]) -> tuple[bool, ...]:
  """Which rows have a pronoun and its phrase."""
  return tuple(align_row(wnli_row(row)) is not None for row in rows)


def wnli_row(row: GlueRow) -> WnliRow:
  """A row of GLUE's files as wnli_spans takes it."""
  return WnliRow(row.index, *row.texts,
                 int(row.label) if row.label else None)
