"""Where words begin, in ids that were made up and in real text."""

import os

import numpy as np
import pytest

from robertax.data.hashing import train_keys
from robertax.data.masking import Masking, word_begins


def test_word_begins():
  starts = np.array([0, 0, 0, 0, 1, 0, 0], bool)  # Only piece 4 says so.
  special = np.array([1, 1, 1, 1, 0, 0, 1], bool)
  ids = np.array([[0, 5, 5, 4, 5, 2, 5, 5, 2, 1, 1],
                  [5, 5, 4, 5, 5, 5, 4, 6, 5, 5, 5]], np.int32)
  segment_ids = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0],
                          [1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3]], np.int32)
  # <s>, the sentence's first piece, piece 4, </s>, the next one's first, ...
  want = [[1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 1],
          [1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 0]]
  got = word_begins(ids, segment_ids, starts, special)
  assert got.astype(int).tolist() == want


def test_words_of_real_text():
  folder = os.environ.get('ROBERTAX_TEST_DATA')
  if not folder:
    pytest.skip('ROBERTAX_TEST_DATA is not set: it names the folder with bpe/')
  from robertax import text
  tokenizer = text.load(os.path.join(folder, 'bpe'))
  words = 'Supercalifragilistic masquerading: un-thinkable, isn\'t it?'.split()
  pieces = [tokenizer.encode(w if i == 0 else f' {w}')
            for i, w in enumerate(words)]
  assert max(map(len, pieces)) > 3
  line = np.concatenate([[0], *pieces, [2]]).astype(np.int32)
  function = Masking(
      mask_rate=0.5, random_rate=0.0, keep_rate=0.0, specials='fairseq',
      vocab_size=tokenizer.vocab_size, mask_id=tokenizer.mask_id,
      special_ids=tokenizer.special_ids, unit='whole_word',
      word_starts=tokenizer.word_starts)
  ids = np.tile(line, (200, 1))
  keys = train_keys(0, np.zeros(200, int), np.arange(200)[:, None])
  mask = function.numpy(ids, np.ones_like(ids), keys)['input_ids'] != ids
  ends = np.cumsum([1, *map(len, pieces), 1])
  for a, b in zip([0, *ends[:-1]], ends):
    assert (mask[:, a:b] == mask[:, a:a + 1]).all()
    assert 0 < mask[:, a].sum() < 200
