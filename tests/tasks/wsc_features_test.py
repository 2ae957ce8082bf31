"""WSC's sequences, against the text encoded as a whole."""

import os

import numpy as np
import pytest

from robertax import text
from robertax.tasks import wsc
from robertax.tasks.wsc import PronounSentence

TEXT = ('The trophy does not fit into the brown suitcase because it is too '
        'large. Ann met Bob, and she saw his old dog.')
SENTENCES = [
    PronounSentence('0', 'The trophy did not fit into the suitcase because ',
                    'it', ' was too large.', 'the suitcase', True),
    PronounSentence('1', '', 'It', "'s old, Bob.", 'the dog', False),
    PronounSentence('2', 'Ann said: "', 'he', '" to Bob', 'Bob', None)]


@pytest.fixture(scope='module', params=['byte_bpe', 'wordpiece'])
def tokenizer(request):
  if request.param == 'byte_bpe':
    return text.train_byte_bpe([TEXT] * 4, 320)
  return text.train_wordpiece(lambda: [TEXT] * 4, 120)


def test_the_phrase_stands_where_the_pronoun_stood(tokenizer):
  found = wsc.encode_sentences(SENTENCES, tokenizer, 512)
  examples = found.examples
  assert found.phrases[0][0] == 'the suitcase'
  assert {'The trophy', 'trophy'} == set(found.phrases[0][1:])
  assert np.diff(examples.firsts).tolist() == [len(p) for p in found.phrases]
  number = 0
  for sentence, phrases in zip(SENTENCES, found.phrases):
    for phrase in phrases:
      ids = examples.sequence(number).copy()
      places = examples.marks['span_positions'][number]
      weights = examples.values['span_weights'][number] > 0
      targets = examples.values['span_targets'][number]
      assert ((places >= 0) == weights).all() and weights.any()
      assert (ids[places[weights]] == tokenizer.mask_id).all()
      assert (ids == tokenizer.mask_id).sum() == weights.sum()
      ids[places[weights]] = targets[weights]
      whole = tokenizer.encode(sentence.prefix + phrase + sentence.suffix)
      assert ids.tolist() == [tokenizer.bos_id, *whole, tokenizer.eos_id]
      # As many as the phrase has by itself, behind the same prefix.
      space = ' ' if sentence.prefix.endswith(' ') else ''
      assert targets[weights].tolist() == tokenizer.encode(
          space + phrase).tolist()
      number += 1
  assert number == len(examples) and found.truncated == 0


def test_long_sentences_keep_what_is_around(tokenizer):
  long = PronounSentence('0', TEXT * 3 + ' ', 'it', ' ' + TEXT * 3, 'Ann', True)
  found = wsc.encode_sentences([long], tokenizer, 40)
  whole = wsc.encode_sentences([long], tokenizer, 4096)
  assert found.truncated == len(found.examples) == len(whole.examples)
  for number in range(len(found.examples)):
    ids, all_ids = (f.examples.sequence(number).tolist()
                    for f in (found, whole))
    assert len(ids) == 40
    start, there = (f.examples.marks['span_positions'][number, 0]
                    for f in (found, whole))
    assert ids[1:-1] == all_ids[1 + there - start:][:38]
    assert ids[0] == tokenizer.bos_id and ids[-1] == tokenizer.eos_id


def test_a_phrase_longer_than_all(tokenizer):
  found = wsc.encode_sentences([PronounSentence(
      '0', 'See ', 'it', ' now.', 'the ' * 50, True)], tokenizer, 10)
  assert len(found.examples.sequence(0)) == 10
  assert (found.examples.sequence(0)[1:-1] == tokenizer.mask_id).all()


@pytest.mark.parametrize('before, behind, room', [
    (5, 5, 20), (50, 5, 20), (5, 50, 20), (50, 50, 21), (0, 50, 7), (9, 9, 0)])
def test_window(before, behind, room):
  left, right = wsc.context_window(before, behind, room)
  assert 0 <= left <= before and 0 <= right <= behind
  assert left + right == min(room, before + behind)
  assert min(left, right) >= min(room // 2, before, behind)


def test_on_the_real_rows_with_gpt2s_pieces():
  """What is put together of parts is the text encoded as a whole."""
  data = os.environ.get('ROBERTAX_TEST_DATA')
  if not data or not os.path.isdir(f'{data}/superglue/WSC'):
    pytest.skip('ROBERTAX_TEST_DATA names no folder with superglue/WSC in it')
  tokenizer = text.load(f'{data}/bpe')
  sentences = wsc.read_sentences(f'{data}/superglue/WSC', 'train').sentences
  found = wsc.encode_sentences(sentences, tokenizer, 512)
  number = 0
  for sentence, phrases in zip(sentences, found.phrases):
    for phrase in phrases:
      ids = found.examples.sequence(number).copy()
      weights = found.examples.values['span_weights'][number] > 0
      ids[found.examples.marks['span_positions'][number][weights]] = (
          found.examples.values['span_targets'][number][weights])
      assert ids[1:-1].tolist() == tokenizer.encode(
          sentence.prefix + phrase + sentence.suffix).tolist()
      number += 1
  assert found.truncated == 0
