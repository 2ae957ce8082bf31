"""A model pretrained here, in PyTorch: the same loss, the same guesses.

And a fine-tuned one: the same logits, by the names of its classes.
"""

from unittest import mock

import jax
import numpy as np
import pytest

import robertax
from robertax import data, tasks
from robertax.inspection import conversion
from robertax.train import loop
from robertax.train.config import parse

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.oracle

WORDS = 'one two three four five six seven eight nine ten'.split()
TEXTS = ['three four five <mask> seven eight nine.', '<mask> three four five.',
         'nine ten one two<mask>', 'seven eight <mask>, ten one two three.']


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  """(config, W, the folder of Hugging Face) after 60 steps."""
  folder = tmp_path_factory.mktemp('export')
  torch.set_num_threads(1)
  rng = np.random.default_rng(0)
  lines = []
  for number in range(600):
    start = rng.integers(10)
    lines.append(' '.join(WORDS[(start + i) % 10] for i in range(10)) + '.')
    lines += [''] * (number % 10 == 9)
  (folder / 'counting.txt').write_text('\n'.join(lines))
  config = parse({
      'data': {'corpora': str(folder / 'counting.txt'), 'batch_size': 16,
               'sequence_length': 32, 'backend': 'numpy', 'workers': 1,
               'cache_dir': str(folder / 'cache')},
      'tokenizer': {'vocab_size': 300},
      'model': {'hidden_size': 40, 'num_layers': 2, 'num_heads': 4,
                'mlp_size': 64, 'max_positions': 40},
      'optim': {'learning_rate': 1e-2, 'warmup_steps': 20},
      'train': {'steps': 60, 'log_every': 20}})
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    loop.run(config, str(folder / 'w'))
  lines = conversion.convert(str(folder / 'w'), f'hf:{folder}/hf', verify=True)
  assert any('transformers' in line for line in lines)
  return config, str(folder / 'w'), str(folder / 'hf')


def test_the_same_loss_on_the_same_masked_batch(exported):
  config, workdir, folder = exported
  model = robertax.load(workdir)
  task = tasks.TASKS['pretrain'].of(config, 1)
  batch = next(task.train_batches(1000, data.host_rows(16, 1, 0, 1)))
  rows, slots = np.nonzero(batch['mlm_weights'])
  targets = batch['mlm_targets'][rows, slots]
  ours = -model.target_log_probs(
      batch['input_ids'], batch['segment_ids'], batch['mlm_positions'],
      batch['mlm_targets'])[rows, slots].mean()
  hf = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
  labels = np.full(batch['input_ids'].shape, -100)
  labels[rows, batch['mlm_positions'][rows, slots]] = targets
  with torch.no_grad():
    theirs = hf(input_ids=torch.tensor(batch['input_ids']).long(),
                attention_mask=torch.tensor(batch['segment_ids'] > 0).long(),
                labels=torch.tensor(labels)).loss.item()
  assert len(targets) > 50 and .1 < theirs < 5
  assert abs(ours - theirs) < 1e-4


def test_the_same_five_guesses_by_the_pipeline(exported):
  _, workdir, folder = exported
  model = robertax.load(workdir)
  fill = transformers.pipeline('fill-mask', model=folder, tokenizer=folder)
  for text in TEXTS:
    ours = model.fill_mask(text, top_k=5)
    theirs = fill(text, top_k=5)
    assert [guess.token for guess in ours] == [
        fill.tokenizer.decode([guess['token']]) for guess in theirs]
    np.testing.assert_allclose([guess.probability for guess in ours],
                               [guess['score'] for guess in theirs], atol=1e-4)
  assert 'six' in model.fill_mask(TEXTS[0])[0].text
  several = fill('one <mask> three <mask> five.', top_k=2)
  assert [[g.token for g in guesses] for guesses in model.fill_mask(
      'one <mask> three <mask> five.', top_k=2)] == [
          [fill.tokenizer.decode([g['token']]) for g in guesses]
          for guesses in several]


def test_their_folder_is_ours_again(exported):
  _, workdir, folder = exported
  a, b = robertax.load(workdir), robertax.load(folder)
  jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
