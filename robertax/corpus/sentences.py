"""Splitters: they cut a document into sentences.

The paper does not say how its sentences were found, and fairseq expects one
sentence per line (fairseq #1928 asks, without an answer). So the config
chooses: `lines` for text that is split already, `prose` for running English,
`sentencex` for a library's rules, `none` for text whose lines and indentation
count, such as source code. `benchmarks/sentences.py` compares them with other
libraries.
"""

import re

from robertax.errors import InputError
from robertax.tables import LazyTable

# Each row is a function from a document to its sentences.
SPLITTERS = LazyTable(lines='robertax.corpus.sentences:lines',
                      prose='robertax.corpus.sentences:prose',
                      sentencex='robertax.corpus.sentences:sentencex',
                      none='robertax.corpus.sentences:none')

# A full stop after one of these words seldom ends a sentence,
ABBREVIATIONS = frozenset('''
    mr mrs ms dr prof rev hon st sr jr gen col lt capt sgt gov sen rep pres
    messrs mme mlle vs viz cf al ed eds dept univ inc ltd co corp bros
    jan feb mar apr jun jul aug sep sept oct nov dec mt ft
'''.split())
# and after one of these only if no number follows: "No. 5", but "no. Then".
BEFORE_NUMBERS = frozenset('''
    no nos p pp fig figs eq eqs sec secs ch vol vols op approx
'''.split())

# A sentence ends at . ! or ?, closing marks, and space, if opening marks, a
# capital or a digit follow.
_END = re.compile(
    r'[.!?…]["\'”’)\]]*(\s+)(?=["\'“‘(\[¿¡]*(?:[A-Z0-9]|[^\W\d_a-z\x00-\x7f]))')
_WORD_BEFORE = re.compile(r'[^\s("\'“‘\[]*\Z')


def lines(document: str) -> list[str]:
  """Takes each line as a sentence.

  Space around lines and empty lines are dropped (as in fairseq
  examples/roberta/multiprocessing_bpe_encoder.py:114).

  >>> lines('One.\\n\\n  Two. Three. ')
  ['One.', 'Two. Three.']
  """
  return [line for line in map(str.strip, document.split('\n')) if line]


def prose(document: str) -> list[str]:
  """Splits lines, which are paragraphs, into English sentences.

  >>> prose('Mr. Bo said "Go!" Then J. S. Bach, e.g. Bach, left. 3 men sat.')
  ['Mr. Bo said "Go!"', 'Then J. S. Bach, e.g. Bach, left.', '3 men sat.']

  It is a rule, not a model. An error joins two sentences or splits one; no text
  is lost except the space between sentences. In languages without spaces a
  paragraph stays whole.
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
  # Words like 'J.', 'U.S.' and 'e.g.' are; 'I.' more often ends a sentence.
  single = len(word) == 1 and word.isupper() and word != 'I'
  return single or '.' in word[:-1] and len(word) <= 5 or (
      word.lower() in ABBREVIATIONS) or (
          number_follows and word.lower() in BEFORE_NUMBERS)


def sentencex(document: str) -> list[str]:
  """Splits lines, which are paragraphs, with Wikimedia's sentencex.

  It ends no sentence inside a quotation, and knows more abbreviations. If it is
  not installed, an InputError is raised.
  """
  try:
    from sentencex import segment
  except ImportError as e:
    raise InputError(
        "data.sentences='sentencex' needs the package: pip install sentencex "
        "(or '.[sentences]' in robertax's folder).") from e
  return [found for line in lines(document)
          for found in map(str.strip, segment('en', line)) if found]


def none(document: str) -> list[str]:
  """Takes the document as one sentence, with its line ends and indentation."""
  return [document] if document.strip() else []
