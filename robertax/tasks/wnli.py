"""WNLI through WSC: the leaderboard's setting (RoBERTa, section 5.1).

WNLI (Wang et al. 2018) was made from Winograd schemas: sentence2 is a part of
sentence1 in which a phrase replaces one pronoun. Both are aligned here: the
words around the phrase must be those around the pronoun. So a model that is
trained on WSC's spans (or, without finetune.wsc_dir, on WNLI's own rows as
spans) answers WNLI, as in the paper.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
from typing import Any

import numpy as np

from robertax.data.finetuning import Examples
from robertax.progress import say
from robertax.tasks.finetune import Answers, TaskRows
from robertax.tasks.glue import submission
from robertax.tasks.glue_files import GLUE, GlueFiles, GlueRow
from robertax.tasks.noun_chunks import Word, text_words
from robertax.tasks.wsc import PronounSentence, PronounTask

TASK = GLUE['wnli']
MOST_LISTED = 20  # Unaligned rows of a split that results.json names.
PRONOUNS = frozenset(
    'he him his she her hers it its they them their theirs that'.split())
MAX_QUERY = 10  # Words.
_ARTICLES = ('the', 'a', 'an', 'this', 'that', 'these', 'those')


@functools.lru_cache(maxsize=8)
def align_rows(rows: tuple[GlueRow, ...]) -> tuple[PronounSentence | None, ...]:
  return tuple(map(align_row, rows))


def align_row(row: GlueRow) -> PronounSentence | None:
  """Returns the row with its pronoun and its query; None where it has none.

  The pronoun with the most words of sentence2 around it counts, then the last.
  """
  premise, hypothesis = (
      [w for w in text_words(text) if any(c.isalnum() for c in w.text)]
      for text in row.texts)
  words, claimed = [w.lower for w in premise], [w.lower for w in hypothesis]
  best, most = None, 0
  if not claimed:
    return None
  for i, pronoun in enumerate(premise):
    if pronoun.lower not in PRONOUNS:
      continue
    left, right = _words_around(words[:i], words[i + 1:], claimed)
    middle = hypothesis[left:len(hypothesis) - right]
    if left + right < max(most, 1) or len(middle) > MAX_QUERY:
      continue
    query = _find_query(row.texts[0], premise, middle)
    if query:
      best, most = (pronoun, query), left + right
  if best is None:
    return None
  pronoun, query = best
  return PronounSentence(row.index, row.texts[0][:pronoun.start], pronoun.text,
                         row.texts[0][pronoun.end:], query,
                         bool(int(row.label)) if row.label else None)


def _words_around(before: list[str], behind: list[str], claimed: list[str]
                  ) -> tuple[int, int]:
  """Counts words that begin `claimed` and end `before`, and the reverse."""
  size = len(claimed)
  lefts = [n for n in range(min(size, len(before) + 1))
           if claimed[:n] == before[len(before) - n:]]
  rights = [n for n in range(min(size, len(behind) + 1))
            if claimed[size - n:] == behind[:n]]
  # The most in sum that leave a word between them.
  return max(((left, right) for left in lefts for right in rights
              if left + right < size), key=sum)


def _find_query(text: str, premise: list[Word],
                middle: list[Word]) -> str | None:
  """Returns the phrase as sentence1 has it, without 's; None: not there."""
  if len(middle) > 1 and middle[-1].lower == "'s":
    middle = middle[:-1]
  wanted = [w.lower for w in middle]
  bare = wanted[1:] if wanted[0] in _ARTICLES and wanted[1:] else wanted
  for phrase in (wanted, bare):
    for i in range(len(premise) - len(phrase) + 1):
      if [w.lower for w in premise[i:i + len(phrase)]] == phrase:
        found = text[premise[i].start:premise[i + len(phrase) - 1].end]
        return found if phrase is wanted else f'{wanted[0]} {found}'
  # `his and Tatyana's`: the words are apart in sentence1.
  if set(bare) <= {w.lower for w in premise} | {'and', 'of', "'s"}:
    return ' '.join(bare)
  return None


class Wnli(PronounTask):
  """WNLI's rows, answered like WSC's, or 0 where they cannot be aligned."""

  def read(self) -> Mapping[str, TaskRows]:
    source, found = GlueFiles(TASK, self.config.data.dir), {}
    if self.config.finetune.wsc_dir:
      found['train'] = self.read_wsc_train(self.config.finetune.wsc_dir)
    else:
      own = source.required('train', labelled=True)
      aligned = [row for row in align_rows(tuple(own.rows)) if row]
      kept = [row for row in aligned if row.label]
      found['train'] = TaskRows(
          kept, f'{own.source} ({len(kept)} positive of {len(aligned)} aligned '
          f'of {len(own.rows)} rows)')
    for name in ('dev', 'test')[:1 + self.config.finetune.predict_test]:
      found[name] = source.required(name, labelled=name == 'dev')
    return found

  def encode(self, rows: Sequence[Any], split: str) -> tuple[Examples, int]:
    """Makes groups of a query and its candidates from the aligned rows."""
    if split == 'train':
      return super().encode(rows, split)
    aligned = align_rows(tuple(rows))
    others = [row.index for row, found in zip(rows, aligned) if found is None]
    if others:
      say(f'{self.name} {split}: {len(others)} of {len(rows)} rows '
          'name no phrase for a pronoun of sentence1; they are answered 0 '
          f'(not entailment): {", ".join(others)}')
    return super().encode([row for row in aligned if row], split)

  def predictions(self, split: str, answers: Answers) -> np.ndarray:
    """Returns int64[rows]: 1 where no candidate scores more; unaligned 0."""
    fits = iter(super().predictions(split, answers))
    return np.array([int(next(fits)) if there else 0
                     for there in self._aligned(split)])

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    for row, found, there in zip(
        self.splits[split].rows, self.predictions(split, answers),
        self._aligned(split)):
      label = {'label': int(row.label)} if row.label else {}
      yield {'index': row.index, 'prediction': int(found), **label,
             'aligned': there}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    return submission(TASK, self.splits, {
        split: self.predictions(split, answers[split]).tolist()
        for split in self.test_splits if split in answers})

  def facts(self) -> dict[str, Any]:
    """Returns `unaligned`: how many rows of each split, and which."""
    found = {}
    for name in (*self.dev_splits, *self.test_splits):
      rows = [row.index for row, there in zip(
          self.splits[name].rows, self._aligned(name)) if not there]
      found[name] = {'rows': len(rows), 'answered': 0,
                     'index': rows[:MOST_LISTED]}
    return {'unaligned': found}

  def row_labels(self, split: str) -> np.ndarray:
    return np.array([int(row.label) for row in self.splits[split].rows])

  def _aligned(self, split: str) -> list[bool]:
    return [row is not None
            for row in align_rows(tuple(self.splits[split].rows))]
