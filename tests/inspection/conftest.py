"""Two models that the tests of this room share: one has learned to count."""

from unittest import mock

import jax
import numpy as np
import pytest

import robertax
from robertax import model as modelling
from robertax import text
from robertax.config import ModelConfig, TokenizerConfig, parse
from robertax.inspection import model
from robertax.train import loop

WORDS = 'one two three four five six seven eight nine ten'.split()


@pytest.fixture(scope='session')
def run(tmp_path_factory):
  """A model that has learned to count; text of the form 'two three four.'"""
  folder = tmp_path_factory.mktemp('counting')
  rng = np.random.default_rng(0)
  lines = []
  for number in range(1500):
    start = rng.integers(10)
    lines.append(' '.join(WORDS[(start + i) % 10] for i in range(10)) + '.')
    lines += [''] * (number % 10 == 9)
  (folder / 'counting.txt').write_text('\n'.join(lines))
  config = parse({
      'data': {'corpora': str(folder / 'counting.txt'), 'batch_size': 32,
               'sequence_length': 32, 'backend': 'numpy', 'workers': 1,
               'cache_dir': str(folder / 'cache')},
      'tokenizer': {'vocab_size': 300},
      'model': {'hidden_size': 32, 'num_layers': 2, 'num_heads': 4,
                'mlp_size': 64, 'max_positions': 40, 'dropout_rate': 0.0,
                'attention_dropout_rate': 0.0},
      'optim': {'learning_rate': 1e-2, 'warmup_steps': 20},
      'train': {'steps': 250, 'log_every': 50}})
  # One device: eight on two cores only take longer.
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    return loop.run(config, str(folder / 'w'))


@pytest.fixture(scope='session')
def loaded(run):
  return robertax.load(run.workdir)


@pytest.fixture(scope='session')
def wordpiece():
  """A model with random weights: what it guesses is of no interest."""
  tokenizer = text.train_wordpiece(lambda: [' '.join(WORDS) + '.'] * 9, 120)
  config = ModelConfig(
      hidden_size=16, num_layers=1, num_heads=2, mlp_size=32, max_positions=32,
      vocab_size=tokenizer.vocab_size, num_types=2, nsp_head=True)
  params = modelling.create(config, jax.random.key(0))
  return model.Model(params, config, tokenizer, 0)


@pytest.fixture(scope='session')
def of_letters():
  """The same of proteins, whose letters are tokens."""
  tokenizer, _ = text.train(
      TokenizerConfig(kind='char', vocab_size=40),
      lambda: ['ACDEFGHIKLMNPQRSTVWY'] * 9)
  config = ModelConfig(
      hidden_size=16, num_layers=1, num_heads=2, mlp_size=32, max_positions=32,
      vocab_size=tokenizer.vocab_size)
  params = modelling.create(config, jax.random.key(0))
  return model.Model(params, config, tokenizer, 0)
