"""score(): each token masked in turn, whatever the batches."""

import math

import numpy as np
import pytest

from robertax.errors import InputError
from robertax.inspection import model
from tests.inspection.unpadded import masked_log_probs


def test_each_token_given_all_others(loaded):
  text = 'three four five six.'
  found = loaded.score(text)
  np.testing.assert_allclose(
      found.log_probs, masked_log_probs(loaded, text), atol=1e-4)
  assert ''.join(found.tokens) == text
  assert found.total == pytest.approx(found.log_probs.sum(), rel=1e-5)
  assert found.perplexity == pytest.approx(
      math.exp(-found.log_probs.mean()), rel=1e-5)


def test_batches_change_nothing(loaded, monkeypatch):
  texts = ['three four five six.', 'six four nine.', '', 'one ' * 12, 'two']
  scores = loaded.score(texts)
  assert scores[0].perplexity < scores[1].perplexity
  assert scores[2].total == 0 and scores[2].perplexity == 1
  monkeypatch.setattr(model, 'SCORE_MAX_ROWS', 7)
  monkeypatch.setattr(model, 'SCORE_MAX_TOKENS', 64)
  for text, score, again in zip(texts, scores, loaded.score(texts)):
    np.testing.assert_allclose(score.log_probs, again.log_probs, atol=1e-4)
    np.testing.assert_allclose(score.log_probs, loaded.score(text).log_probs,
                               atol=1e-4)
  assert loaded.score([]) == []


def test_too_long_a_text(loaded):
  with pytest.raises(InputError, match='40 positions'):
    loaded.score('one ' * 50)
  with pytest.raises(InputError, match='expected a string'):
    loaded.score(['one', 3])
