"""A text too long to be encoded at once is cut where ids do not change."""

import doctest

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from robertax import text
from robertax.text import tokenizer
from robertax.text.tokenizer import split_long

TEXTS = st.text(st.sampled_from('ab é. \n\t🙂'), max_size=200)


def test_worked_example():
  assert doctest.testmod(tokenizer).failed == 0


@given(TEXTS, st.integers(1, 30))
def test_parts_are_the_text(whole, most):
  found = list(split_long(whole, most))
  assert ''.join(found) == whole
  assert all(0 < len(p) <= most for p in found) or whole == ''


@pytest.fixture(scope='module', params=['byte_bpe', 'wordpiece'])
def some_tokenizer(request):
  texts = [['the cat sat on the mat', 'a dog. and then, the end of it all']] * 9
  return (text.train_byte_bpe(texts, 300) if request.param == 'byte_bpe'
          else text.train_wordpiece(lambda: texts, 100, True))


@pytest.mark.parametrize('whole', [
    'the cat sat  on the mat \n and then ' * 40,
    'é🙂 the end. ' * 40, ' ' * 30 + 'the cat ' * 50 + '\t' * 20])
def test_long_texts_have_the_same_ids(some_tokenizer, monkeypatch, whole):
  expected = some_tokenizer.encode_batch([whole, 'a dog'])
  monkeypatch.setattr(tokenizer, 'MAX_CHARS', 100)
  monkeypatch.setattr(tokenizer, 'split_long',
                      lambda text: split_long(text, 100))
  assert len(list(split_long(whole, 100))) > 3
  found = some_tokenizer.encode_batch([whole, 'a dog'])
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_array_equal(a, b)
    assert a.dtype == b.dtype
