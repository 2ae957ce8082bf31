"""Splitters: a document becomes its sentences.

The paper does not say how its sentences were found, and fairseq takes them as
given, one a line (fairseq #1928 asks, nobody answers). So the choice is ours
and named in the config: `lines` for text that is split already, `prose` for
running English, `sentencex` for a library's rules. `benchmarks/sentences.py`
measures them beside other libraries.
"""

import re

from robertax.errors import InputError
from robertax.tables import Table

# Each row is a function from a document to its sentences.
SPLITTERS = Table(lines='robertax.corpus.sentences:lines',
                  prose='robertax.corpus.sentences:prose',
                  sentencex='robertax.corpus.sentences:sentencex')

# Words before a full stop that seldom ends a sentence.
ABBREVIATIONS = frozenset('''
    mr mrs ms dr prof rev hon st sr jr gen col lt capt sgt gov sen rep pres
    messrs mme mlle vs viz cf al ed eds dept univ inc ltd co corp bros
    jan feb mar apr jun jul aug sep sept oct nov dec mt ft
'''.split())
# And those that do so only before a number: "No. 5", but "He said no. Then".
BEFORE_NUMBERS = frozenset('''
    no nos p pp fig figs eq eqs sec secs ch vol vols op approx
'''.split())

# The end of a sentence: . ! or ?, closing marks, space, and what may begin the
# next one: perhaps opening marks, then a capital or a digit.
_END = re.compile(
    r'[.!?…]["\'”’)\]]*(\s+)(?=["\'“‘(\[¿¡]*(?:[A-Z0-9]|[^\W\d_a-z\x00-\x7f]))')
_WORD_BEFORE = re.compile(r'[^\s("\'“‘\[]*\Z')


def lines(document: str) -> list[str]:
  """Each line is a sentence.

  The space around lines is dropped, and so are empty lines (as fairseq
  examples/roberta/multiprocessing_bpe_encoder.py:114).

  >>> lines('One.\\n\\n  Two. Three. ')
  ['One.', 'Two. Three.']
  """
  return [line for line in map(str.strip, document.split('\n')) if line]


def prose(document: str) -> list[str]:
  """A line is a paragraph, and its sentences end as English ones do.

  >>> prose('Mr. Bo said "Go!" Then J. S. Bach, e.g. Bach, left. 3 men sat.')
  ['Mr. Bo said "Go!"', 'Then J. S. Bach, e.g. Bach, left.', '3 men sat.']

  A rule, not a model: where it errs, two sentences stay one or one becomes two;
  no text is lost but the space between sentences. Languages without spaces
  keep whole paragraphs.
  """
  sentences = []
  for line in lines(document):
    start = 0
    for end in _END.finditer(line):
      if line[end.start()] == '.' and _is_abbreviation(
          line, end.start(), line[end.end()].isdigit()):
        continue
      sentences.append(line[start:end.start(1)])
      start = end.end()
    sentences.append(line[start:])
  return sentences


def _is_abbreviation(line: str, stop: int, number_follows: bool) -> bool:
  """Whether the full stop at `stop` belongs to the word before it."""
  word = _WORD_BEFORE.search(line, max(0, stop - 12), stop).group()
  # 'J.' and 'U.S.' and 'e.g.'; but 'I.' ends more sentences than names.
  single = len(word) == 1 and word.isupper() and word != 'I'
  return single or '.' in word[:-1] and len(word) <= 5 or (
      word.lower() in ABBREVIATIONS) or (
          number_follows and word.lower() in BEFORE_NUMBERS)


def sentencex(document: str) -> list[str]:
  """A line is a paragraph, and its sentences end as Wikimedia's sentencex says.

  It does not end one inside a quotation, and knows more abbreviations.

  Raises:
    InputError: the package is not installed.
  """
  try:
    from sentencex import segment
  except ImportError as e:
    raise InputError(
        "data.sentences='sentencex' needs the package: pip install sentencex "
        "(or '.[sentences]' in robertax's folder).") from e
  return [found for line in lines(document)
          for found in map(str.strip, segment('en', line)) if found]
