"""Which noun phrases are candidates, and the optional chunker's manners."""

import sys
import types

import pytest

from robertax.errors import InputError
from robertax.tasks import wsc
from robertax.tasks.wsc import PronounSentence

SENTENCE = PronounSentence(
    '0', 'The old lawyer asked the witness a question, but ', 'he',
    ' was tired.', 'the witness', True)


def test_what_overlaps_the_query_is_none():
  assert wsc.without_query(
      ['The Lawyer', 'lawyer', 'the witness', 'witness', 'A witness stand',
       'a lawyer and the witness'], 'the WITNESS') == [
           'The Lawyer', 'lawyer', 'A witness stand']


def test_rules():
  found = wsc.find_candidates(SENTENCE)
  assert 'The old lawyer' in found and 'a question' in found
  assert not {'he', 'witness', 'the witness'} & set(found)


def test_an_unknown_chunker():
  with pytest.raises(InputError, match="finetune.chunker 'rule'.*'rules'"):
    wsc.find_candidates(SENTENCE, 'rule')


def test_spacy_that_is_not_installed(monkeypatch):
  monkeypatch.setitem(sys.modules, 'spacy', None)
  wsc._spacy.cache_clear()
  with pytest.raises(InputError, match="needs spaCy.*'rules'"):
    wsc.find_candidates(SENTENCE, 'spacy')


def test_spacy_without_its_model(monkeypatch):
  def load(name):
    raise OSError(name)
  monkeypatch.setitem(sys.modules, 'spacy', types.SimpleNamespace(load=load))
  wsc._spacy.cache_clear()
  with pytest.raises(InputError, match='download en_core_web_lg'):
    wsc.find_candidates(SENTENCE, 'spacy')


class Span(list):
  """What spaCy gives, as far as it is used."""

  @property
  def text(self):
    return ' '.join(token.text for token in self)

  def __getitem__(self, item):
    found = super().__getitem__(item)
    return Span(found) if isinstance(item, slice) else found


def test_spacys_chunks_and_runs_of_nouns(monkeypatch):
  """fairseq's extended_noun_chunks: chunks, and runs of NOUN or PROPN."""
  tagged = [('He', 'PRON'), ('saw', 'VERB'), ('the', 'DET'), ('big', 'ADJ'),
            ('water', 'NOUN'), ('bottle', 'NOUN'), ('Ann', 'PROPN'),
            ('bought', 'VERB'), ('in', 'ADP'), ('Rome', 'PROPN')]
  sentence = Span(types.SimpleNamespace(text=t, pos_=p) for t, p in tagged)
  sentence.noun_chunks = [types.SimpleNamespace(start=s, end=e)
                          for s, e in ((0, 1), (2, 6), (6, 7))]
  monkeypatch.setattr(wsc, '_spacy', lambda: lambda text: sentence)
  assert wsc.CHUNKERS['spacy']('') == [
      'the big water bottle', 'water bottle', 'Ann', 'Rome']
