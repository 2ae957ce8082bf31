"""The four formats on paper: golden/*.txt, where a word is a token.

A file is its documents, with blank lines between, then after `# Examples` what
each of their examples is. Lines that begin with `# [` say what an example is,
other comments why; all but these are compared, word for word.
"""

from collections import Counter
import pathlib
import random

import numpy as np
import pytest

from robertax.corpus.formats import FORMATS, PairLaw

GOLDEN = pathlib.Path(__file__).parent / 'golden'
SEEDS = dict(segment_pair=2, sentence_pair=3)


class Recorded(random.Random):
  """Remembers what it drew."""
  drawn = ()

  def random(self):
    number = super().random()
    self.drawn += number,
    return number


def is_why(line):
  return line.startswith('#') and not line.startswith('# [')


def read(name):
  """The documents, as words of sentences, and the lines of their examples."""
  text, examples = (GOLDEN / f'{name}.txt').read_text().split('# Examples\n')
  examples = examples.split('# Rows\n')[0]
  text, examples = (
      [line for line in part.split('\n') if not is_why(line)]
      for part in (text, examples))
  documents = '\n'.join(text).strip().split('\n\n')
  return ([[line.split() for line in d.split('\n')] for d in documents],
          [line for line in examples if line])


def write(name, documents, length):
  """The lines of the examples that a format makes."""
  words = ['<s>', '<pad>', '</s>', *sorted({
      word for d in documents for sentence in d for word in sentence})]
  kind, counts, rng = FORMATS[name], Counter(), None
  more = {}
  if kind.pairs:
    rng = Recorded(SEEDS[name])
    more = dict(law=PairLaw(), rng=rng)
  examples = kind.pack(
      [[np.array([words.index(w) for w in s]) for s in d] for d in documents],
      sequence_length=length, bos_id=0, eos_id=2, counts=counts, **more)
  for i, e in enumerate(examples):
    text = [words[id] for id in e.ids]
    if not kind.pairs:
      yield f'# [{i}] from document {e.document}, {len(text)} tokens'
      yield ' '.join(text)
      continue
    cut = e.first_length
    is_next = e.document == e.second_document
    yield (f'# [{i}] {"IS NEXT" if is_next else "RANDOM"}, {len(text)} tokens; '
           'drawn ' + ' '.join(f'{n:.3f}' for n in rng.drawn))
    rng.drawn = ()
    yield f'A, document {e.document}: ' + ' '.join(text[:cut])
    yield f'B, document {e.second_document}: ' + ' '.join(text[cut:])
  for key, value in sorted(counts.items()):
    yield f'# [{key}] {value}'


@pytest.mark.parametrize('name, length', [
    ('full_sentences', 12), ('doc_sentences', 12),
    ('segment_pair', 14), ('sentence_pair', 14)])
def test_the_page_is_what_the_format_makes(name, length):
  documents, expected = read(name)
  assert list(write(name, documents, length)) == expected


def test_there_is_a_page_for_each_format():
  assert {path.stem for path in GOLDEN.glob('*.txt')} == set(FORMATS)
