"""What else a pronoun may stand for: the candidates beside the query.

fairseq's law (examples/roberta/wsc/wsc_utils.py, filter_noun_chunks): the noun
phrases of the sentence, but pronouns, and but those that hold the query's text
or are held by it. Here a text is a candidate once.
"""

from collections.abc import Callable
import functools

from robertax.errors import InputError, unknown
from robertax.tasks import noun_chunks
from robertax.tasks.pronouns import PronounSentence

SPACY_MODEL = 'en_core_web_lg'  # fairseq's choice.


def candidates(sentence: PronounSentence, chunker: str = 'rules') -> list[str]:
  """The candidates of a sentence, in the order in which they stand there.

  Args:
    sentence: its text and query.
    chunker: a row of CHUNKERS.

  Raises:
    InputError: no such chunker, or its library is not installed.
  """
  if chunker not in CHUNKERS:
    raise unknown('finetune.chunker', chunker, CHUNKERS)
  return without(CHUNKERS[chunker](sentence.text), sentence.query)


def without(phrases: list[str], query: str) -> list[str]:
  """Those that neither hold the query's text nor are held by it."""
  query = query.lower()
  return [p for p in phrases
          if p.lower() not in query and query not in p.lower()]


def _spacy_chunks(text: str) -> list[str]:
  """spaCy's noun chunks and its runs of nouns, pronouns left out."""
  sentence = _spacy()(text)
  spans = {(c.start, c.end) for c in sentence.noun_chunks}
  start, kind = 0, None
  for i, token in enumerate([*sentence, None]):
    now = token.pos_ if token is not None and token.pos_ in (
        'NOUN', 'PROPN') else None
    if now != kind:
      if kind:
        spans.add((start, i))
      start, kind = i, now
  found = {}
  for start, end in sorted(spans):
    span = sentence[start:end]
    if not all(token.pos_ == 'PRON' for token in span):
      found.setdefault(span.text.lower(), span.text)
  return list(found.values())


@functools.lru_cache(maxsize=1)
def _spacy():
  try:
    import spacy
    return spacy.load(SPACY_MODEL)
  except ImportError as e:
    raise InputError("finetune.chunker='spacy' needs spaCy: pip install spacy "
                     "(or '.[spacy]' in robertax's folder), or take 'rules'."
                     ) from e
  except OSError as e:
    raise InputError(
        f"finetune.chunker='spacy' needs its model {SPACY_MODEL}: python -m "
        f"spacy download {SPACY_MODEL}, or take 'rules'.") from e


CHUNKERS: dict[str, Callable[[str], list[str]]] = {
    'rules': noun_chunks.chunks, 'spacy': _spacy_chunks}
