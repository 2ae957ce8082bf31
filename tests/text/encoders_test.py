"""Encoders give the ids of the tokenizers library, or are not used."""

import importlib.util

import numpy as np
import pytest

from robertax import config
from robertax.config import TokenizerConfig
from robertax.errors import InputError
from robertax.text import encoders, tokenizer, train

TEXTS = ['the river was low', '', "We'll go, don't they? 1234", 'Zürich  東京',
         '\n', 'the the the low river'] * 20
installed = pytest.mark.skipif(
    importlib.util.find_spec('fastokens') is None,
    reason='pip install fastokens')


@pytest.fixture(scope='module')
def made():
  return train(TokenizerConfig(vocab_size=300), lambda: iter([TEXTS]))[0]


def test_two_arrays_are_the_library_s_ids(made):
  ids, lengths = made.encode_flat(TEXTS)
  library = made._plain.encode_batch(TEXTS, add_special_tokens=False)
  assert lengths.tolist() == [len(x.ids) for x in library]
  assert ids.tolist() == [i for x in library for i in x.ids]
  assert ids.dtype == made.dtype
  assert [x.tolist() for x in made.encode_batch(TEXTS)] == [
      x.ids for x in library]
  assert made.encode_flat([])[0].tolist() == []


@installed
def test_fastokens_gives_the_same_ids(made):
  assert made.choose_encoder('auto', TEXTS) == ('fastokens', '')
  fast = made.with_encoder('fastokens')
  long = ' '.join(TEXTS * 200)
  assert len(long) > tokenizer.MAX_CHARS  # It is encoded in parts.
  texts = [*TEXTS, long, *encoders.hard_texts()]
  for ours, theirs in zip(fast.encode_flat(texts), made.encode_flat(texts)):
    assert np.array_equal(ours, theirs)
  assert fast.fingerprint == made.fingerprint
  with pytest.raises(InputError, match='surrogate'):
    fast.encode_batch(['a\ud800'])


@installed
def test_what_fastokens_cannot_encode_the_library_does():
  wordpiece = train(TokenizerConfig(kind='wordpiece', vocab_size=120),
                    lambda: iter([TEXTS]))[0]
  assert wordpiece.choose_encoder('auto', TEXTS) == ('tokenizers', '')
  with pytest.raises(InputError, match="data.encoder='auto' does"):
    wordpiece.choose_encoder('fastokens', TEXTS)


@pytest.mark.parametrize('where', ['pieces', 'sample', 'hard texts'])
def test_an_encoder_that_differs_once_is_not_used(made, monkeypatch, where):
  wrong = {'pieces': made.token_text(270), 'sample': 'a text of the corpus',
           'hard texts': list(encoders.hard_texts())[700]}[where]

  def row(made):
    right = encoders.reference(made)

    def encode(texts):
      ids, lengths = right(texts)
      if wrong in texts:
        ids = ids.copy()
        ids[lengths[:texts.index(wrong) + 1].sum() - 1] += 1
      return ids, lengths
    return encode
  # `json` stands for a package that is installed.
  monkeypatch.setattr(encoders, 'ENCODERS', {
      'tokenizers': encoders.reference, 'json': row})
  found = made.choose_encoder('auto', [*TEXTS, 'a text of the corpus'])
  assert found.name == 'tokenizers'
  assert found.said.startswith(
      f'tokenizing: json gives other ids than the tokenizers library for '
      f'{wrong[:40]!r}')


def test_the_config_knows_the_table():
  assert config.ENCODERS == encoders.NAMES


def test_what_is_not_installed_is_said(made, monkeypatch):
  monkeypatch.setattr(encoders, 'ENCODERS', {
      'tokenizers': encoders.reference, 'no_such_package': None})
  found = made.choose_encoder('auto', TEXTS)
  assert found == ('tokenizers', 'tokenizing: `pip install no_such_package` '
                   'would make it some ten times faster, with the same ids.')
  with pytest.raises(InputError, match='pip install no_such_package'):
    made.choose_encoder('no_such_package', TEXTS)
  assert made.choose_encoder('tokenizers', TEXTS) == ('tokenizers', '')


def test_hard_texts_have_letters_of_every_plane_in_use():
  numbers = {ord(c) for text in encoders.hard_texts() for c in text}
  assert len(numbers) > 75_000
  assert {0x300, 0x10FF, 0x1E4D0, 0x11F00, 0x4E00, 0xAC00} <= numbers
