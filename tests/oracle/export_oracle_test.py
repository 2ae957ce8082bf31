"""A model pretrained here, in PyTorch: the same loss, the same guesses.

And a fine-tuned one: the same logits, by the names of its classes.
"""

import dataclasses
import json
from unittest import mock

import jax
import numpy as np
import pytest

import robertax
from robertax import tasks
from robertax.config import ModelConfig, TokenizerConfig, parse
from robertax.inspection import conversion, opening
from robertax.train import loop
from robertax.train.writer import read_metrics
from tests.tasks.tiny_glue import config as tiny_glue
from tests.tasks.tiny_glue import write_sst2

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
  last = conversion.convert(str(folder / 'w'), f'hf:{folder}/hf', verify='full')
  found = json.loads(last[-1])
  assert found['ids_equal'] and not found['not_compared']
  assert 0 < found['max_logit_difference'] < 1e-4
  return config, str(folder / 'w'), str(folder / 'hf')


def test_the_same_loss_on_the_same_masked_batch(exported):
  config, workdir, folder = exported
  model = robertax.load(workdir)
  task = tasks.TASKS['pretrain'].of(config, 1)
  batch = next(task.train_batches(1000, np.arange))
  rows, slots = np.nonzero(batch['mlm_weights'])
  targets = batch['mlm_targets'][rows, slots]
  ours = -model.log_probs(
      batch['input_ids'], batch['segment_ids'], batch['mlm_positions'])[
          rows, slots, targets].mean()
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
  several = fill('one <mask> three <mask> five.', top_k=2)
  assert [[g.token for g in guesses] for guesses in model.fill_mask(
      'one <mask> three <mask> five.', top_k=2)] == [
          [fill.tokenizer.decode([g['token']]) for g in guesses]
          for guesses in several]


def test_their_folder_is_ours_again(exported):
  _, workdir, folder = exported
  a, b = robertax.load(workdir), robertax.load(folder)
  jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


def run_on_one(config, folder):
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    loop.run(config, str(folder))
  return [m for _, m in read_metrics(f'{folder}/metrics.jsonl')]


def test_pretraining_goes_on_from_it(exported, tmp_path):
  """Its weights, not its step: the first evaluation is the other's last."""
  config, workdir, folder = exported
  more = dataclasses.replace(
      config, init_from=f'hf:{folder}', model=ModelConfig(),
      tokenizer=TokenizerConfig(), train=dataclasses.replace(
          config.train, steps=2))
  lines = run_on_one(more, tmp_path / 'w')
  last = [m for _, m in read_metrics(f'{workdir}/metrics.jsonl')][-1]
  assert lines[0]['step'] == 0 and lines[-1]['step'] == 2
  assert lines[0]['eval/loss'] == pytest.approx(last['eval/loss'], rel=1e-5)


def test_fine_tuned_from_it_and_back_again(exported, tmp_path):
  """hf: -> classes -> hf: -> pipeline('text-classification')."""
  data_dir = write_sst2(tmp_path / 'glue')
  run_on_one(parse(tiny_glue(data_dir, f'hf:{exported[2]}')), tmp_path / 'w')
  conversion.convert(str(tmp_path / 'w'), f'hf:{tmp_path}/hf', verify='full')
  model = opening.read_model(str(tmp_path / 'w'))
  assert model.config.num_classes == 2 and not model.config.lm_head
  classify = transformers.pipeline('text-classification',
                                   model=str(tmp_path / 'hf'),
                                   tokenizer=str(tmp_path / 'hf'))
  assert type(classify.model).__name__ == 'RobertaForSequenceClassification'
  assert tuple(classify.model.config.id2label.values()) == model.labels
  ours = robertax.load(str(tmp_path / 'w'))
  for text in ('one two five ten zero', 'six seven nine ten'):
    said, found = classify(text)[0], ours.classify(text)
    assert said['label'] == found.label
    assert said['score'] == pytest.approx(found.probability, abs=1e-4)
