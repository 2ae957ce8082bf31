"""Guesses for masks: fairseq's spaces, several masks, given words, lists."""

import jax
import numpy as np
import pytest

from robertax import model as modelling
from robertax.errors import InputError


def test_the_mask_is_filled_with_what_follows(loaded):
  found = loaded.fill_mask('three four five <mask> seven eight nine.', top_k=3)
  assert len(found) == 3
  assert found[0].token == ' six'
  assert found[0].text == 'three four five six seven eight nine.'
  assert 0.5 < found[0].probability <= 1
  assert found[0].probability >= found[1].probability


def test_a_mask_at_the_beginning_brings_no_space(loaded):
  found = loaded.fill_mask('<mask> three four five six.', top_k=1)[0]
  assert found.text == found.token + ' three four five six.'


def test_probabilities_are_of_the_padded_model(loaded):
  """fill_mask pads to a power of two; by hand, without padding, the same."""
  tok = loaded.tokenizer
  text = 'three four <mask> six seven.'
  ids = np.concatenate([[0], tok.encode(text, allow_mask=True), [2]])[None]
  module = modelling.bind(loaded.config, loaded.params)
  x = module.encode(ids.astype(np.int32), np.ones_like(ids, np.int32))
  logits = module.mlm_logits(x, np.argmax(ids == tok.mask_id)[None, None])
  p = np.asarray(jax.nn.softmax(logits))[0, 0]
  for guess in loaded.fill_mask(text, top_k=5):
    token = tok.encode(guess.token)
    assert guess.probability == pytest.approx(float(p[token[0]]), rel=1e-4)


def test_spaces_are_fairseqs(loaded):
  """hub_interface.py:156-217, rule by rule: what goes in and what comes back.
  """
  tok = loaded.tokenizer
  mask = tok.mask_id

  def ids(text):
    return tok.encode(text, allow_mask=True).tolist()

  def piece(text):
    return tok.encode(text).tolist()

  # The space before the mask goes; the one behind it belongs to what follows.
  assert ids('two <mask> four') == [*piece('two'), mask, *piece(' four')]
  assert ids('two<mask>four') == [*piece('two'), mask, *piece('four')]
  assert ids('two   <mask>\n ') == [*piece('two'), mask]
  assert ids('<mask> <mask>') == [mask, mask]
  for text, filled in (
      ('three four <mask> six.', 'three four{} six.'),
      ('three four<mask> six.', 'three four{} six.'),
      ('three four  <mask> six.', 'three four {} six.'),
      ('<mask> four', '{} four')):
    for guess in loaded.fill_mask(text, 40):
      assert guess.text == filled.format(guess.token)


def test_several_masks_are_guessed_at_once(loaded):
  found = loaded.fill_mask('three <mask> five <mask> seven.', top_k=2)
  assert [[g.token for g in guesses][0] for guesses in found] == [
      ' four', ' six']
  assert found[0][0].text == 'three four five <mask> seven.'
  assert found[1][0].text == 'three <mask> five six seven.'


def test_a_list_gives_what_each_text_gives(loaded):
  texts = ['three four <mask> six.', 'one <mask> three <mask> five.',
           '<mask>', 'six ' * 12 + '<mask> eight.']
  together = loaded.fill_mask(texts, 3)
  for text, found in zip(texts, together):
    alone = loaded.fill_mask(text, 3)
    flat = [alone] if hasattr(alone[0], 'token') else alone
    for a, b in zip(flat, [found] if hasattr(found[0], 'token') else found):
      assert [g.token for g in a] == [g.token for g in b]
      np.testing.assert_allclose([g.probability for g in a],
                                 [g.probability for g in b], rtol=1e-4)
  assert loaded.fill_mask([]) == []


def test_given_words_alone(loaded):
  everything = {g.token: g for g in loaded.fill_mask(
      'three four <mask> six.', loaded.config.vocab_size)}
  found = loaded.fill_mask('three four <mask> six.',
                           targets=['nine', ' five', 'five', 'two'])
  assert found[0].token == ' five' and len(found) == 3
  for guess in found:
    assert guess.probability == pytest.approx(
        everything[guess.token].probability, rel=1e-4)
  # At the start of a text no space stands before a word.
  first = loaded.fill_mask('<mask> two', targets=['t', 'o'])
  assert {g.token for g in first} == {'t', 'o'}


@pytest.mark.parametrize('text, keywords, message', [
    ('no mask', {}, 'found none'), ('one <mask>', {'top_k': 0}, 'top_k=0'),
    ('one ' * 40 + '<mask>', {}, '40 positions'),
    (3, {}, 'expected a string'),
    ('one <mask>', {'targets': ['hippopotamus']}, 'not one token'),
    ('one <mask>', {'targets': 'two'}, 'a list of words'),
    ('one <mask>', {'targets': []}, 'a list of words')])
def test_wrong_questions(loaded, text, keywords, message):
  with pytest.raises(InputError, match=message):
    loaded.fill_mask(text if text != 3 else [3], **keywords)


def test_wordpiece_fills_either_mask(wordpiece):
  size = wordpiece.config.vocab_size
  a, b = (wordpiece.fill_mask(f'One two {mask}, four.', size)
          for mask in ('<mask>', '[MASK]'))
  assert a == b and len(a) == size
  # A word brings its space, a continuation does not; at the start none does.
  assert {f.token for f in a} >= {' three', 't', ' t'}
  three = next(f for f in a if f.token == ' three')
  assert three.text == 'One two three, four.'
  start = wordpiece.fill_mask('<mask> two.', size)
  assert 'three two.' in {f.text for f in start}
  both = wordpiece.fill_mask('<mask> [MASK]', 2)
  assert [len(guesses) for guesses in both] == [2, 2]
