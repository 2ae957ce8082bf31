"""Vectors of tokens, texts and words."""

import dataclasses

import jax
import numpy as np
import pytest

from robertax.errors import InputError
from robertax.inspection import model
from tests.inspection.unpadded import states

TEXT = 'three four five, six seven!'


def test_the_last_layer(loaded):
  expected, _ = states(loaded, TEXT)
  np.testing.assert_allclose(loaded.encode(TEXT), expected, atol=1e-5)


def test_all_layers_begin_with_the_embeddings(loaded):
  found = loaded.encode(TEXT, layers='all')
  expected, ids = states(loaded, TEXT)
  assert found.shape == (loaded.config.num_layers + 1, *expected.shape)
  np.testing.assert_allclose(found[-1], expected, atol=1e-5)
  tables = jax.device_get(loaded.params['embeddings'])
  x = tables['tokens'][ids] + tables['positions'][2 + np.arange(len(ids))]
  x = x - x.mean(-1, keepdims=True)
  x /= np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
  np.testing.assert_allclose(
      found[0], x * tables['norm']['scale'] + tables['norm']['bias'],
      atol=1e-5)
  # The layer between: that of the first layer alone.
  first = jax.tree.map(lambda leaf: leaf[:1], loaded.params['layers'])
  one = model.Model({**loaded.params, 'layers': first}, dataclasses.replace(
      loaded.config, num_layers=1), loaded.tokenizer, 0)
  np.testing.assert_allclose(found[1], states(one, TEXT)[0], atol=1e-5)


def test_pooling_and_lists(loaded):
  texts = [TEXT, 'six', '', 'one two three four five six seven eight nine']
  tokens = loaded.encode(texts)
  for text, x in zip(texts, tokens):
    np.testing.assert_allclose(x, states(loaded, text)[0], atol=1e-5)
  np.testing.assert_allclose(loaded.encode(texts, pooling='mean'),
                             [x.mean(0) for x in tokens], atol=1e-5)
  np.testing.assert_allclose(loaded.encode(texts, pooling='first'),
                             [x[0] for x in tokens], atol=1e-5)
  deep = loaded.encode(texts, layers='all', pooling='mean')
  assert deep.shape == (4, loaded.config.num_layers + 1, 32)
  np.testing.assert_allclose(
      deep[3], loaded.encode(texts[3], layers='all').mean(1), atol=1e-5)
  assert loaded.encode([], pooling='mean').shape == (0, 32)


def test_words_are_means_of_their_tokens(loaded):
  tok = loaded.tokenizer
  text = "three  Überzahl, don't: six."
  found = loaded.encode(text, words=True)
  assert found.words == ['three', 'Überzahl', ',', "don't", ':', 'six', '.']
  assert [text[a:b] for a, b in found.spans] == found.words
  expected, ids = states(loaded, text)
  # Which bytes of the text each token is, by the tokenizer's own account.
  ends = np.cumsum([len(tok.token_bytes(i)) for i in ids[1:-1]])
  starts = np.concatenate([[0], ends[:-1]])
  for word, (a, b), vector in zip(*found):
    a, b = (len(text[:i].encode()) for i in (a, b))
    own = 1 + np.flatnonzero((starts < b) & (ends > a))
    assert len(own) > 0, word
    np.testing.assert_allclose(vector, expected[own].mean(0), atol=1e-5)
  deep = loaded.encode([text, 'six'], layers='all', words=True)
  assert deep[0].vectors.shape == (3, 7, 32) and deep[1].words == ['six']
  np.testing.assert_allclose(deep[0].vectors[-1], found.vectors, atol=1e-5)


def test_words_of_wordpieces(wordpiece):
  found = wordpiece.encode('One two, THREE.', words=True)
  assert found.words == ['One', 'two', ',', 'THREE', '.']
  assert np.abs(found.vectors).sum(-1).min() > 0
  assert wordpiece.encode('', words=True).vectors.shape == (0, 16)


@pytest.mark.parametrize('keywords, message', [
    ({'layers': 'first'}, 'layers'), ({'pooling': 'max'}, 'pooling'),
    ({'pooling': 'mean', 'words': True}, 'a vector a word')])
def test_wrong_questions(loaded, keywords, message):
  with pytest.raises(InputError, match=message):
    loaded.encode('one', **keywords)
  with pytest.raises(InputError, match='40 positions'):
    loaded.encode(['one', 'one ' * 50])
