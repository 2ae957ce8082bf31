"""Noun phrases of a sentence, by rules: no tagger and no model.

For WSC, fairseq takes spaCy's noun chunks and its runs of nouns (examples/
roberta/wsc/wsc_utils.py, extended_noun_chunks). Here a chunk is a determiner,
if there is one, and the open-class words behind it, up to a word of a closed
class (`word_classes`), a mark, or what looks like a verb. From each come the
phrase, the phrase without its determiner, and its head; neighbours joined by
's, `of` and `and` come besides.
"""

import dataclasses
import re

from robertax.tasks import word_classes as classes

_TOKEN = re.compile(
    r"(?:Mr|Mrs|Ms|Dr|Prof|St|Jr)\.|n['’]t\b|['’](?:s|ll|re|ve|d|m)\b"
    r"|\d[\d.,]*\d|\w+?(?=n['’]t\b)|\w+(?:-\w+)*|['’](?=\s)|[^\w\s]", re.U)
MAX_JOINED = 3  # Base phrases in one that is joined.


@dataclasses.dataclass(frozen=True)
class Word:
  """A word, a clitic or a mark, and where it stands: text[start:end]."""
  text: str
  start: int
  end: int

  @property
  def lower(self) -> str:
    return self.text.lower().replace('’', "'")

  @property
  def proper(self) -> bool:
    return self.text[0].isupper()


def chunks(text: str) -> list[str]:
  """Noun phrases in the order in which they begin; no text twice.

  Phrases that are pronouns alone are not among them; indefinite ones such as
  `anyone` are.

  Args:
    text: a sentence or several, in English.
  """
  found = words(text)
  spans = set()
  for start, end in _phrases(found):
    spans |= set(_variants(found, start, end))
  spans |= set(_joined(found, _phrases(found)))
  unique = {}
  for start, end in sorted(spans, key=lambda s: (s[0], -s[1])):
    phrase = text[found[start].start:found[end - 1].end]
    unique.setdefault(phrase.lower(), phrase)
  return list(unique.values())


def words(text: str) -> list[Word]:
  """Words, clitics (`n't`, `'s`) and marks, in order."""
  return [Word(m.group(), m.start(), m.end()) for m in _TOKEN.finditer(text)]


def _open(word: Word) -> bool:
  """Whether the word may be a noun, an adjective, or a verb of no list."""
  low = word.lower
  if not (word.text[0].isalnum()) or low in classes.PRONOUNS:
    return False
  return not (low in classes.FUNCTION or low in classes.DETERMINERS
              or low.endswith('ly') and low not in classes.LY_NOUNS
              and not word.proper)


def _phrases(found: list[Word]) -> list[tuple[int, int]]:
  """Base phrases as [start, end) of `found`; they do not overlap."""
  phrases, i = [], 0
  while i < len(found):
    word = found[i]
    if word.lower in classes.INDEFINITE:
      phrases.append((i, i + 1))
      i += 1
      continue
    begin = i
    while i < len(found) and found[i].lower in classes.DETERMINERS:
      i += 1
    # `Sam's drawing`: behind 's as behind a determiner.
    has_determiner = i > begin or i and found[i - 1].lower in ("'s", "'")
    first = i
    while i < len(found) and _open_here(found, i, first, has_determiner):
      i += 1
    if i == first:
      i = max(i, begin + 1)
      continue
    number = found[i - 1].text[0].isdigit()
    if not number and not (_clause(found, begin, first, i) if has_determiner
                           else _predicate(found, first, i)):
      phrases.append((begin, i))
  return phrases


def _open_here(found, i, first, has_determiner) -> bool:
  """Whether word i goes on with the phrase whose words begin at `first`."""
  word, low = found[i], found[i].lower
  ahead = found[i + 1] if i + 1 < len(found) else None
  inner = i == first and has_determiner
  adjective = low in classes.ADJECTIVES
  if not (_open(word) or adjective and (inner or i > first or ahead and _open(
      ahead))):
    return False
  if adjective:
    # `a poodle asleep`: none behind a noun.
    return i == first or found[i - 1].lower in classes.ADJECTIVES
  sentence_start = i == 0 or found[i - 1].text in '.!?"'
  if word.proper and not sentence_start:
    # A name does not go on with common nouns.
    return i == first or found[i - 1].proper or not _name_before(found, i)
  if (i > first and found[i - 1].proper
      and found[i - 1].lower not in classes.TITLES):
    return not _verb_behind(found, i) and has_determiner
  if inner:
    return True
  if _verb(low) and not (i == first and word.proper):
    # `the sleeping boy`, `a broken toy`: between determiner and noun.
    return False
  if i > first:
    return not _verb_behind(found, i)
  return True


def _name_before(found, i) -> bool:
  return found[i - 1].text[0].isalnum() and not found[i - 1].proper


def _verb(low: str) -> bool:
  return (low in classes.VERBS or low.endswith('ed') and len(low) > 4
          or low.endswith('ing') and len(low) > 5)


def _verb_behind(found, i) -> bool:
  """Whether word i, behind a noun, is rather the verb of a clause."""
  if i + 1 == len(found):
    return False
  ahead = found[i + 1]
  if not found[i].text[0].islower():
    return False
  if ahead.lower in classes.RELATIVES:
    return False
  if ahead.lower in classes.DETERMINERS or ahead.lower in classes.PRONOUNS:
    return True
  # Not `his rival Bill`.
  return found[i].lower.endswith('s') and (
      ahead.proper or ahead.lower in classes.PREPOSITIONS
      or ahead.lower in classes.ADVERBS)


def _clause(found, begin, first, end) -> bool:
  """Whether `Those slept` is no phrase: a pronoun with its verb."""
  return (first == begin + 1 and found[begin].lower in classes.PRONOUNS
          and all(w.lower in classes.VERBS for w in found[first:end]))


def _predicate(found, start, end) -> bool:
  """Whether words without a determiner are a verb or an adjective instead."""
  low = [w.lower for w in found[start:end]]
  if found[start].proper and start:
    return False
  if all(w in classes.ADJECTIVES or _verb(w) for w in low):
    return not found[start].proper
  if (start and _open(found[start - 1]) and end - start == 1
      and _verb_behind(found, start)):
    return True  # `Pete envies Martin`
  back = start - 1
  while back >= 0 and (found[back].lower in classes.ADVERBS
                       or found[back].lower.endswith('ly')):
    back -= 1
  if back < 0:
    return False
  before = found[back].lower
  if before in classes.SUBJECTS or before in classes.MODALS:
    return True
  return before in classes.BE and end - start == 1 and not low[-1].endswith('s')


def _variants(found, start, end):
  """The phrase, without its determiner, and its last word; names apart."""
  yield start, end
  bare = start
  while bare < end - 1 and found[bare].lower in classes.DETERMINERS:
    bare += 1
  yield bare, end
  yield end - 1, end
  # `his rival Bill`, `Uncle Vernon`: the name alone, and what is before it.
  name = end
  while name > bare and found[name - 1].proper:
    name -= 1
  if bare < name < end:
    yield name, end
    yield start, name
  # Nouns without adjectives.
  noun = bare
  while noun < end - 1 and (found[noun].lower in classes.ADJECTIVES
                            or _verb(found[noun].lower)):
    noun += 1
  yield noun, end


def _joined(found, phrases):
  """Neighbours with 's, `of` or `and` between them."""
  for i in range(len(phrases)):
    start, end = phrases[i]
    for j in range(i + 1, min(i + MAX_JOINED, len(phrases))):
      between = [w.lower for w in found[end:phrases[j][0]]]
      if between not in (["'s"], ["'"], ['of'], ['and']):
        break
      end = phrases[j][1]
      yield start, end
      if found[start].lower in classes.DETERMINERS and end - start > 1:
        yield start + 1, end
