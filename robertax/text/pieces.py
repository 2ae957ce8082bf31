"""Pieces of texts that are too long to be encoded at once.

The library keeps about 100 bytes a character of what it encodes, so a text of
50 MB without a line end would take gigabytes.
"""

from collections.abc import Iterator
import re

MAX_CHARS = 1 << 18
_BETWEEN_WORDS = re.compile(r'(?<=\S) (?=\S)')


def pieces(text: str, most: int = MAX_CHARS) -> Iterator[str]:
  """Cuts a text; joined, the pieces are the text.

  >>> list(pieces('some words, nospacehere', 8))
  ['some', ' words,', ' nospace', 'here']

  Each has at most so many characters and ends where a single space stands
  between two words, where byte-level BPE and WordPiece cut as well: the ids of
  the pieces are the text's. Only a text of as many characters without such a
  place is cut anywhere.
  """
  start = 0
  while len(text) - start > most:
    window = text[start + 1:start + most + 1]
    # From the end: a word is found in its last part.
    for width in (256, most):
      begin = max(0, len(window) - width)
      places = [m.start() for m in _BETWEEN_WORDS.finditer(window, begin)]
      if places:
        break
    end = start + 1 + places[-1] if places else start + most
    yield text[start:end]
    start = end
  yield text[start:]
