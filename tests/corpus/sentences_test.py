import doctest
import sys

from hypothesis import given
from hypothesis import strategies as st
import pytest

from robertax.corpus import sentences
from robertax.corpus.sentences import SPLITTERS, prose
from robertax.errors import InputError


def test_worked_examples():
  assert doctest.testmod(sentences).failed == 0


@pytest.mark.parametrize('text, expected', [
    ('One. Two! Three? Four', ['One.', 'Two!', 'Three?', 'Four']),
    ('He said "No." She left.', ['He said "No."', 'She left.']),
    ('"Go!" he said.', ['"Go!" he said.']),
    ('Dr. Who met Mrs. Hall at St. Ives.', [
        'Dr. Who met Mrs. Hall at St. Ives.']),
    ('In the U.S. Army. Then J. R. Smith.', [
        'In the U.S. Army.', 'Then J. R. Smith.']),
    ('It is I. You know.', ['It is I.', 'You know.']),
    ('Version 3.11 is out. See p. 5.', [
        'Version 3.11 is out.', 'See p. 5.']),
    ('He said no. No. 5 left.', ['He said no.', 'No. 5 left.']),
    ('Oh… And? (Yes.) No.', ['Oh…', 'And?', '(Yes.)', 'No.']),
    ('C’est ça. Élan vital.', ['C’est ça.', 'Élan vital.']),
    ('a line\nanother', ['a line', 'another']),
    (' \n\t\n', []),
])
def test_prose(text, expected):
  assert prose(text) == expected


TEXTS = st.text(st.one_of(st.sampled_from('Aa.!? \n\t"\')’é1…'),
                          st.characters(exclude_categories=['Cs'])))


@pytest.mark.parametrize('name', SPLITTERS)
@given(TEXTS)
def test_nothing_but_space_is_lost(name, text):
  found = SPLITTERS[name](text)
  assert ''.join(''.join(found).split()) == ''.join(text.split())
  assert all(s and s == s.strip() and '\n' not in s for s in found) or (
      name == 'none' and found == [text])


def test_sentencex():
  assert SPLITTERS['sentencex']('Mr. Bo met J. S. Bach.  He left.\nEnd') == [
      'Mr. Bo met J. S. Bach.', 'He left.', 'End']


def test_a_missing_package_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'sentencex', None)
  with pytest.raises(InputError, match='pip install sentencex'):
    SPLITTERS['sentencex']('One.')
