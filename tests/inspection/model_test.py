"""load() and fill_mask, on a small run of their own."""

from unittest import mock

import jax
import numpy as np
import pytest

import robertax
from robertax import model as modelling
from robertax import text
from robertax.errors import InputError
from robertax.inspection import model, pictures
from robertax.train import loop
from robertax.train.config import parse

WORDS = 'one two three four five six seven eight nine ten'.split()


@pytest.fixture(scope='module')
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


@pytest.fixture(scope='module')
def loaded(run):
  return robertax.load(run.workdir)


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


@pytest.mark.parametrize('text, top_k, message', [
    ('no mask', 1, 'exactly one'), ('<mask> <mask>', 1, 'found 2'),
    ('one <mask>', 0, 'top_k=0'), ('one ' * 40 + '<mask>', 1, '40 positions')])
def test_wrong_questions(loaded, text, top_k, message):
  with pytest.raises(InputError, match=message):
    loaded.fill_mask(text, top_k)


@pytest.fixture(scope='module')
def wordpiece():
  """A model with random weights: what it guesses is of no interest."""
  tokenizer = text.train_wordpiece(lambda: [' '.join(WORDS) + '.'] * 9, 120)
  config = modelling.ModelConfig(
      hidden_size=16, num_layers=1, num_heads=2, mlp_size=32, max_positions=32,
      vocab_size=tokenizer.vocab_size, num_types=2, nsp_head=True)
  params = modelling.create(config, jax.random.key(0))
  return model.Model(params, config, tokenizer, 0)


def test_wordpiece_fills_either_mask(wordpiece):
  tok, size = wordpiece.tokenizer, wordpiece.config.vocab_size
  a, b = (wordpiece.fill_mask(f'One two {mask}, four.', size)
          for mask in ('<mask>', '[MASK]'))
  assert a == b and len(a) == size
  # A word brings its space, a continuation does not; at the start none does.
  assert {f.token for f in a} >= {' three', 't', ' t'}
  three = next(f for f in a if f.token == ' three')
  assert three.text == 'One two three, four.'
  start = wordpiece.fill_mask('<mask> two.', size)
  assert 'three two.' in {f.text for f in start}
  with pytest.raises(InputError, match='found 2'):
    wordpiece.fill_mask('<mask> [MASK]')
  ids = np.concatenate([[tok.bos_id], tok.encode('nine ten one two three four. '
                                                 'five six'), [tok.eos_id]])
  (sentence, word, _), = model.fill_examples(wordpiece, [ids])
  assert word in WORDS
  assert sentence.replace('<mask>', word) == (
      'nine ten one two three four . five six')


def test_wrong_folders(tmp_path):
  with pytest.raises(InputError, match='does not exist'):
    robertax.load(str(tmp_path / 'none'))
  with pytest.raises(InputError, match='no config.json'):
    robertax.load(str(tmp_path))


def test_examples_from_heldout_text(run, loaded):
  examples = model.fill_examples(loaded, run.task.heldout_ids(3))
  assert len(examples) == 3
  for sentence, word, guesses in examples:
    assert sentence.count('<mask>') == 1 and word in WORDS
    assert len(guesses) == 3


def test_the_curve_is_a_picture(run):
  path = pictures.learning_curve(run.workdir)
  with open(path, 'rb') as f:
    assert f.read(8) == b'\x89PNG\r\n\x1a\n'


def test_no_metrics_no_curve(tmp_path):
  with pytest.raises(InputError, match='metrics.jsonl'):
    pictures.learning_curve(str(tmp_path))
