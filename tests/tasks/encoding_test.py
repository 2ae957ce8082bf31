"""Texts as examples, by hand; tests/oracle/encoding_oracle_test.py has HF's."""

import numpy as np
import pytest

from robertax import text
from robertax.config import ModelConfig
from robertax.tasks.finetune import encode_texts, longest_first


@pytest.fixture(scope='module')
def tokenizer():
  return text.train_byte_bpe(['some words to learn from, and more words'] * 20,
                             vocab_size=270)


def test_one_and_two_texts(tokenizer):
  tok = tokenizer
  a, b = tok.encode('some words'), tok.encode('and more')
  one = encode_texts(tok, [[' some words\n']], 50)
  assert one.sequences[0].tolist() == [tok.bos_id, *a, tok.eos_id]
  assert one.second_starts.tolist() == [len(a) + 2] and not one.truncated
  for typed in (False, True):
    tok = tok.laid_out(ModelConfig(num_types=2 * typed))
    two = encode_texts(tok, [['some words', 'and more']], 50)
    assert two.sequences[0].tolist() == [
        tok.bos_id, *a, *[tok.eos_id] * (2 - typed), *b, tok.eos_id]
    assert two.sequences[0][two.second_starts[0]] == b[0]


def test_what_is_long_is_cut_and_counted(tokenizer):
  tok = tokenizer
  found = encode_texts(
      tok, [['some words to learn from', 'and more'], ['a', 'b']], 12)
  assert found.truncated == 1 and len(found.sequences[0]) == 12
  assert found.sequences[0][-1] == tok.eos_id
  assert (found.sequences[0] == tok.eos_id).sum() == 3


@pytest.mark.parametrize('room', range(0, 21))
def test_lengths_after_the_cut(room):
  for a, b in np.ndindex(11, 11):
    kept = longest_first([a, b], room)
    assert sum(kept) == min(room, a + b)
    assert kept[0] <= a and kept[1] <= b
    # The longer loses first: what was cut is no shorter than the other.
    if kept[0] < a:
      assert kept[0] >= kept[1] - 1
    if kept[1] < b:
      assert kept[1] >= kept[0] - 1
