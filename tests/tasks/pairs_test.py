"""Pretraining on pairs: BERT's loss and its metrics, against plain NumPy."""

import jax
import numpy as np
import pytest

from robertax.config import DataConfig, ModelConfig, TokenizerConfig
from robertax.corpus import formats
from robertax.data.feed import split_micro_batches
from robertax.errors import InputError
from robertax.tasks import pretrain
from robertax.tasks.pretrain import Pretrain

CONFIG = ModelConfig(
    hidden_size=16, num_layers=1, num_heads=2, mlp_size=32, max_positions=32,
    dropout_rate=0., attention_dropout_rate=0., num_types=2, nsp_head=True)


@pytest.fixture(scope='module')
def task(tmp_path_factory):
  """A task whose model takes pairs; its own format has none."""
  folder = tmp_path_factory.mktemp('pairs')
  rng = np.random.default_rng(0)
  (folder / 'text.txt').write_text('\n\n'.join(
      ' '.join(rng.choice([f'w{n}' for n in range(30)], 40)) + '.'
      for _ in range(200)))
  return Pretrain(
      7, DataConfig(corpora=f'{folder}/text.txt', sequence_length=32,
                    batch_size=8, backend='numpy', workers=1,
                    cache_dir=str(folder / 'cache')),
      TokenizerConfig(vocab_size=300), CONFIG)


@pytest.fixture
def batch(task):
  """Masked rows of the task, each with none to three pairs, made by hand."""
  batch = next(task.train_batches(0, lambda _: np.arange(8)))
  del batch['example_ids']
  rng = np.random.default_rng(1)
  starts = np.array([0, 9, 20])
  number = np.minimum(np.searchsorted(starts, np.arange(32), 'right'), 3)
  batch['segment_ids'] = number * (batch['segment_ids'] > 0)
  batch['type_ids'] = ((np.arange(32) - starts[number - 1]) > 4) * (
      batch['segment_ids'] > 0).astype(np.int32)
  asked = np.arange(3) < np.array([0, 0, 1, 3, 2, 0, 1, 3])[:, None]
  return batch | {
      'nsp_positions': np.where(asked, starts, 0).astype(np.int32),
      'nsp_targets': (rng.integers(0, 2, (8, 3)) * asked).astype(np.int32),
      'nsp_weights': asked.astype(np.float32)}


@pytest.fixture(scope='module')
def params(task):
  random = np.random.RandomState(0)
  return jax.tree.map(
      lambda x: x + .1 * random.randn(*x.shape).astype(np.float32),
      task.objective.init(jax.random.key(0)))


@pytest.fixture(scope='module')
def gradient(task):
  return jax.jit(jax.value_and_grad(task.objective.loss, has_aux=True))


def test_loss_is_the_sum_of_two_means(task, batch, gradient):
  params = jax.tree.map(np.zeros_like, task.objective.init(jax.random.key(0)))
  # Only the biases decide: the answers are the same everywhere.
  rng = np.random.default_rng(2)
  mlm, nsp = rng.normal(size=task.model.vocab_size), np.array([.3, -.8])
  params['lm_head']['bias'] = mlm.astype(np.float32)
  params['nsp_head']['output']['bias'] = nsp.astype(np.float32)
  totals = task.objective.totals(batch)
  (mean, sums), _ = gradient(params, batch, None, totals)

  def nats(bias, targets, weights):
    log_p = bias - np.log(np.exp(bias).sum())
    return -log_p[targets[weights > 0]]
  words = nats(mlm, batch['mlm_targets'], batch['mlm_weights'])
  answers = nats(nsp, batch['nsp_targets'], batch['nsp_weights'])
  assert len(answers) == 10
  assert totals == {'weight_sum': len(words), 'nsp_weight_sum': 10}
  assert float(mean) == pytest.approx(words.mean() + answers.mean(), rel=1e-5)
  follows = (batch['nsp_targets'] == 0)[batch['nsp_weights'] > 0].mean()
  assert 0 < follows < 1
  sums = {name: float(value) for name, value in sums.items()}
  for metrics in (task.summarize(sums), task.train_metrics(1, sums)):
    # The loss that is reported stays that of the masked tokens.
    assert metrics['loss'] == pytest.approx(words.mean(), rel=1e-5)
    assert metrics['nsp_loss'] == pytest.approx(answers.mean(), rel=1e-5)
    assert metrics['nsp_accuracy'] == pytest.approx(follows)


def test_micro_batches_add_up_to_the_batch(task, batch, params, gradient):
  """Some have no pair at all; each is given the whole batch's counts."""
  totals = task.objective.totals(batch)
  (whole, _), expected = gradient(params, batch, None, totals)
  parts = split_micro_batches(batch, 4)
  assert (parts['nsp_weights'].sum((1, 2)) == 0).any()
  found = [gradient(params, {n: x[i] for n, x in parts.items()}, None, totals)
           for i in range(4)]
  assert sum(float(loss) for (loss, _), _ in found) == pytest.approx(
      float(whole), rel=1e-5)
  added = jax.tree.map(lambda *x: sum(map(np.float64, x)),
                       *[part for _, part in found])
  for a, b in zip(jax.tree.leaves(added), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  assert task.objective.totals(parts) == totals


@pytest.mark.parametrize('name', ['mlm', 'nsp'])
def test_nothing_asked_is_no_gradient_and_no_nan(
    task, batch, params, gradient, name):
  """The one task goes on where the other has no target."""
  other = {'mlm': 'nsp', 'nsp': 'mlm'}[name]
  heads = {'mlm': 'lm_head', 'nsp': 'nsp_head'}
  silent = batch | {f'{name}_weights': np.zeros_like(batch[f'{name}_weights'])}
  (loss, _), found = gradient(params, silent, None,
                              task.objective.totals(silent))
  assert np.isfinite(float(loss))
  assert not any(np.any(x) for x in jax.tree.leaves(found[heads[name]]))
  assert all(np.any(x) for x in jax.tree.leaves(found[heads[other]]))
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))
  none = silent | {f'{other}_weights': 0 * batch[f'{other}_weights']}
  _, found = gradient(params, none, None, task.objective.totals(none))
  assert not any(np.any(x) for x in jax.tree.leaves(found))


def test_a_batch_without_pairs_is_all_of_type_0(task, batch, params):
  plain = {name: x for name, x in batch.items()
           if name != 'type_ids' and not name.startswith('nsp_')}
  zeros = plain | {'type_ids': np.zeros_like(batch['type_ids'])}
  run = jax.jit(task.objective.loss)
  (got, sums), (expected, _), (other, _) = (
      run(params, b, None, task.objective.totals(b))
      for b in (plain, zeros, plain | {'type_ids': batch['type_ids']}))
  assert float(got) == float(expected) != float(other)
  assert not any(name.startswith('nsp_') for name in sums)
  sums = {name: float(value) for name, value in sums.items()}
  assert 'nsp_loss' not in task.summarize(sums) | task.train_metrics(1, sums)


def test_a_format_of_pairs_fills_the_model_in(monkeypatch, capsys):
  monkeypatch.setitem(formats.FORMATS, 'pairs',
                      formats.FORMATS['sentence_pair'])
  filled = pretrain.model_for_format(ModelConfig(), 'pairs')
  assert (filled.num_types, filled.nsp_head) == (2, True)
  assert pretrain.model_for_format(filled, 'pairs') == filled
  assert pretrain.model_for_format(ModelConfig(),
                                   'full_sentences') == ModelConfig()
  assert not capsys.readouterr().err
  assert pretrain.model_for_format(CONFIG, 'full_sentences') == CONFIG
  assert 'has no pairs' in capsys.readouterr().err
  with pytest.raises(InputError, match='model.num_types=3'):
    pretrain.model_for_format(ModelConfig(num_types=3), 'pairs')
