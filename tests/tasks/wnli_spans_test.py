"""WNLI's rows laid beside themselves, and beside SuperGLUE's WSC."""

import os
import pathlib

import pytest

from robertax.tasks.glue_files import GlueRow
from robertax.tasks.wnli import align_row, align_rows
from robertax.tasks.wsc import read_sentences


@pytest.mark.parametrize('premise, hypothesis, before, pronoun, query', [
    ('The drain is clogged with hair. It has to be cleaned.',
     'The hair has to be cleaned.', 'hair. ', 'It', 'the hair'),
    ("Jane knocked on Susan's door but she did not answer.",
     'Susan did not answer.', 'but ', 'she', 'Susan'),
    ('The trophy did not fit into the bag; it was too small.',
     'The bag was too small.', 'bag; ', 'it', 'the bag'),
    ('When the wind blew, he opened them, as he had to.',
     'He opened the wind.', 'he opened ', 'them', 'the wind'),
    ('The boy sat in his chair.', "The boy sat in the boy's chair.", 'in ',
     'his', 'The boy'),
    ('Later he would cook them for their dinners.',
     "Later, he would cook them for he and them's dinners.", 'for ', 'their',
     'he and them'),
    ('Now, I have to get it repaired: my roof.',
     'Now I have to get The roof repaired.', 'to get ', 'it', 'the roof'),
    # Two pronouns would do: the one with more of sentence2 around it.
    ('She said it. Bob said it was old.', 'Bob said the it was old.',
     'Bob said ', 'it', 'the it'),
])
def test_aligned(premise, hypothesis, before, pronoun, query):
  found = align_row(GlueRow('5', (premise, hypothesis), '1'))
  assert found.pronoun == pronoun and found.query == query
  assert found.prefix.endswith(before) and found.text == premise
  assert (found.id, found.label) == ('5', True)


@pytest.mark.parametrize('premise, hypothesis', [
    ('Bob met Tom. He fell.', 'Eve fell.'),  # Of whom nothing was said.
    ('Bob met Tom. He fell.', 'Bob stood.'),  # No word around.
    ('Bob met Tom. Tom fell.', 'Bob fell.'),  # No pronoun.
    ('Bob met Tom. He fell.', ''), ('', 'Bob fell.')])
def test_unaligned_rows_are_listed(premise, hypothesis):
  found, unaligned = align_rows((
      GlueRow('0', ('Bob fell, and he cried.', 'Bob cried.'), ''),
      GlueRow('1', (premise, hypothesis), '0')))
  assert unaligned is None
  assert found.id == '0' and found.label is None


def test_against_superglues_spans():
  """The same schemas, annotated by hand there: the oracle of the alignment."""
  data = pathlib.Path(os.environ.get('ROBERTAX_TEST_DATA') or '.')
  wsc, wnli = data / 'superglue' / 'WSC', data / 'glue' / 'WNLI'
  if not wsc.is_dir() or not wnli.is_dir():
    pytest.skip('ROBERTAX_TEST_DATA names no folder with superglue/WSC and '
                'glue/WNLI in it')

  def key(s):
    return ''.join(s.text.lower().split()).rstrip('.'), (
        s.query.lower().removeprefix('the '))

  annotated = {}
  for split in ('train', 'val'):
    for sentence in read_sentences(str(wsc), split).sentences:
      annotated.setdefault(key(sentence), []).append(sentence)
  counts = {}
  same = labels = shared = 0
  for split in ('train', 'dev', 'test'):
    lines = (wnli / f'{split}.tsv').read_text().splitlines()[1:]
    rows = [GlueRow(f[0], (f[1], f[2]), f[3] if len(f) > 3 else '')
            for f in (line.split('\t') for line in lines)]
    found = [row for row in align_rows(tuple(rows)) if row]
    counts[split] = len(found), len(rows)
    if split == 'test':
      continue
    for sentence in found:
      there = annotated.get(key(sentence), [])
      shared += bool(there)
      labels += any(s.label == sentence.label for s in there)
      same += any(s.label == sentence.label and ''.join(s.prefix.split())
                  == ''.join(sentence.prefix.split()) for s in there)
  assert counts == {'train': (603, 635), 'dev': (68, 71), 'test': (128, 146)}
  # 8 rows ask of a pronoun that WSC does not ask of with that query.
  assert (shared, labels, same) == (508, 507, 499)
