"""RACE's sequences, against the paper's law written out once more."""

import re

import numpy as np
import pytest

from robertax import text
from robertax.tasks import race
from robertax.tasks.race import RaceQuestion

TEXT = ('The quick brown fox jumps over the lazy dog. Who saw it? Tom did, and '
        'his friends: Ann, Bob and a boy of 12.')


@pytest.fixture(scope='module')
def tokenizer():
  return text.train_byte_bpe([TEXT] * 4, 300)


def asked(passage, question, options, number=1):
  return RaceQuestion(f'middle1.txt/{number}', 'middle', passage, question,
                      options, 0)


QUESTIONS = [
    asked('The  fox\njumps\t over\u00a0the dog. ', 'Who _ saw _ ?',
          ('Tom', ' Ann ', 'the dog', 'a _')),
    asked(TEXT, 'Who saw it?', ('Tom did.', 'no one', 'Ann', 'Bob'), 2),
    asked(TEXT * 3, TEXT, ('Tom', 'Ann', 'Bob', ''), 3),
    asked('Tom.', TEXT, ('Tom', 'Ann', 'Bob', 'fox'), 4)]


def law(tokenizer, question, option, max_length, max_option_length):
  """fairseq's steps, one after another, on plain lists."""
  if '_' in question.question:
    qa = question.question.replace('_', option)
  else:
    qa = ' '.join([question.question, option])
  qa = re.sub(r'\s+', ' ', qa).strip()
  context = re.sub(r'\s+', ' ', question.passage).strip()
  option_ids = tokenizer.encode(qa).tolist() + [tokenizer.eos_id]
  input0 = tokenizer.encode(context).tolist() + [tokenizer.eos_id]
  input0 = [tokenizer.eos_id] + input0  # PrependTokenDataset
  option_ids = [tokenizer.bos_id] + option_ids
  option_ids = option_ids[:max_option_length]  # TruncateDataset
  return (option_ids + input0)[:max_length]


@pytest.mark.parametrize('max_length, max_option_length', [
    (512, 128), (64, 24), (40, 40), (24, 128)])
def test_sequences_are_fairseqs(tokenizer, max_length, max_option_length):
  found = race.encode_questions(QUESTIONS, tokenizer, max_length,
                                max_option_length)
  assert len(found.sequences) == 4 * len(QUESTIONS)
  wanted = [law(tokenizer, q, o, max_length, max_option_length)
            for q in QUESTIONS for o in q.options]
  for sequence, expected in zip(found.sequences, wanted):
    assert sequence.dtype == tokenizer.dtype
    assert sequence.tolist() == expected
  whole = [law(tokenizer, q, o, 1 << 30, 1 << 30)
           for q in QUESTIONS for o in q.options]
  options = [w.index(tokenizer.eos_id) + 1 for w in whole]
  assert found.options_cut == sum(n > max_option_length for n in options)
  assert found.sequences_cut == sum(
      len(w) - max(n - max_option_length, 0) > max_length
      for w, n in zip(whole, options))


def test_the_last_end_may_vanish(tokenizer):
  (long,) = race.encode_questions(
      [QUESTIONS[2]], tokenizer, 60, 20).sequences[:1]
  assert len(long) == 60 and long[-1] != tokenizer.eos_id
  # The option's own end is cut; the passage's first one follows.
  assert long[19] != tokenizer.eos_id and long[20] == tokenizer.eos_id
  (short,) = race.encode_questions(
      [QUESTIONS[3]], tokenizer, 600, 500).sequences[:1]
  assert short[-1] == tokenizer.eos_id
  assert (short == tokenizer.eos_id).sum() == 3


def test_golden(tokenizer):
  """Ids by hand: a byte each, where the pieces are bytes."""
  letters = text.train_byte_bpe([TEXT], 261)
  found = race.encode_questions(
      [asked('A\n b.', 'Is_?', ('x', 'y', 'z', ''))], letters, 12)
  assert [letters.decode(s) for s in found.sequences] == [
      '<s>Isx?</s></s>A b.</s>', '<s>Isy?</s></s>A b.</s>',
      '<s>Isz?</s></s>A b.</s>', '<s>Is?</s></s>A b.</s>']
  assert [len(s) for s in found.sequences] == [12, 12, 12, 11]
  np.testing.assert_array_equal(
      found.sequences[0][[0, 5, 6, 11]],
      [letters.bos_id, letters.eos_id, letters.eos_id, letters.eos_id])
