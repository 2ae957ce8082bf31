"""WNLI's rows as WSC's: which pronoun sentence2 replaces, and by what.

WNLI (Wang et al. 2018) was made from Winograd schemas: sentence2 is a part of
sentence1 in which one pronoun is replaced by a phrase. Both are laid side by
side here: what is before the phrase must be what is before the pronoun, what is
behind must follow it. So a model of WSC answers WNLI, as in the paper.
"""

from collections.abc import Iterable
import dataclasses

from robertax.tasks.noun_chunks import Word, words
from robertax.tasks.pronouns import PronounSentence

PRONOUNS = frozenset(
    'he him his she her hers it its they them their theirs that'.split())
MAX_QUERY = 10  # Words.
_ARTICLES = ('the', 'a', 'an', 'this', 'that', 'these', 'those')


@dataclasses.dataclass(frozen=True)
class Row:
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
  unaligned: list[Row]


def align(rows: Iterable[Row]) -> Aligned:
  """Lays each row's sentences side by side.

  A row is unaligned where no pronoun of sentence1 has the words around the
  phrase on both its sides, or the phrase is not in sentence1.
  """
  sentences, unaligned = [], []
  for row in rows:
    found = aligned(row)
    if found is None:
      unaligned.append(row)
    else:
      sentences.append(found)
  return Aligned(sentences, unaligned)


def aligned(row: Row) -> PronounSentence | None:
  """The row with its pronoun and its query, None where there is none.

  Of several pronouns that would do, the one with the most words of sentence2
  around it; of these, the last.
  """
  premise, hypothesis = _words(row.premise), _words(row.hypothesis)
  said, claimed = [w.lower for w in premise], [w.lower for w in hypothesis]
  best, most = None, 0
  if not claimed:
    return None
  for i, pronoun in enumerate(premise):
    if pronoun.lower not in PRONOUNS:
      continue
    left, right = _around(said[:i], said[i + 1:], claimed)
    middle = hypothesis[left:len(hypothesis) - right]
    if left + right < max(most, 1) or len(middle) > MAX_QUERY:
      continue
    query = _query(row.premise, premise, middle)
    if query:
      best, most = (pronoun, query), left + right
  if best is None:
    return None
  pronoun, query = best
  return PronounSentence(
      row.id, row.premise[:pronoun.start], pronoun.text,
      row.premise[pronoun.end:], query,
      None if row.label is None else bool(row.label))


def _words(text: str) -> list[Word]:
  """Words and clitics, no marks."""
  return [w for w in words(text) if any(c.isalnum() for c in w.text)]


def _around(before: list[str], behind: list[str], claimed: list[str]
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


def _query(text: str, premise: list[Word], middle: list[Word]) -> str | None:
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
