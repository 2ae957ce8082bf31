import pytest

from robertax.errors import InputError
from robertax.text import train_byte_bpe

TEXTS = ['low lower lowest newer newest widest', 'the <mask> and <s> </s>'] * 30


def test_size_counts_everything():
  tokenizer = train_byte_bpe(TEXTS, 270)
  assert tokenizer.vocab_size == 270
  assert tokenizer.mask_id == 269


def test_the_smallest_is_bytes_only():
  tokenizer = train_byte_bpe(TEXTS, 261)
  assert tokenizer.encode('low é').size == len('low é'.encode())
  with pytest.raises(InputError, match='261'):
    train_byte_bpe(TEXTS, 260)


def test_the_same_text_gives_the_same_tokenizer():
  a, b = (train_byte_bpe(iter(TEXTS), 280) for _ in range(2))
  assert a.to_json() == b.to_json()
  # Lists of texts, and another order: counts are all that matters.
  assert train_byte_bpe([TEXTS[::-1]], 280).fingerprint == a.fingerprint


def test_the_first_merge_is_the_most_frequent_pair():
  tokenizer = train_byte_bpe(['zq zq zq zq ab'], 262)
  assert tokenizer.decode([260]) == 'zq'


def test_literal_specials_never_become_pieces():
  tokenizer = train_byte_bpe(['<mask><s></s><pad><unk>'] * 1000, 400)
  ids = tokenizer.encode('<mask><s></s><pad><unk>')
  assert not set(ids.tolist()) & set(tokenizer.special_ids)


def test_too_little_text_gives_fewer():
  assert train_byte_bpe(['ab'], 1000).vocab_size == 262
