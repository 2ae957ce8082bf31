"""Small models with random weights, without torch."""

import jax
import numpy as np
import pytest

from robertax import model, text
from robertax.config import ModelConfig
from robertax.inspection.verification import SENTENCES
from robertax.interop import Pretrained

LINES = [' '.join(SENTENCES)] * 3
SMALL = dict(hidden_size=24, num_layers=2, num_heads=2, mlp_size=40,
             max_positions=30)


@pytest.fixture(scope='session')
def tokenizers():
  return {'byte_bpe': text.train_byte_bpe(LINES, 300),
          'wordpiece': text.train_wordpiece(lambda: LINES, 200)}


def filled(config, seed=0):
  """Parameters in which biases and scales matter too, in main memory."""
  random = np.random.RandomState(seed)
  shapes = jax.eval_shape(lambda: model.create(config, jax.random.key(0)))
  return jax.tree.map(
      lambda x: random.randn(*x.shape).astype(np.float32), shapes)


@pytest.fixture(scope='session')
def make(tokenizers):
  """(kind of tokenizer, **ModelConfig) -> a Pretrained."""
  def make(kind='byte_bpe', labels=(), choice=False, **values):
    tokenizer = tokenizers[kind]
    config = ModelConfig(vocab_size=tokenizer.vocab_size,
                               **{**SMALL, **values})
    return Pretrained(filled(config), config, tokenizer, 'random',
                      labels=labels, choice=choice)
  return make
