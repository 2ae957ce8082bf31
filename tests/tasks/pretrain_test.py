"""The pretraining task: its loss and its baseline, against plain NumPy."""

import jax
import numpy as np
import pytest

from robertax.config import DataConfig, ModelConfig, TokenizerConfig
from robertax.corpus import records
from robertax.errors import InputError
from robertax.tasks.pretrain import Pretrain


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('pretrain')
  rng = np.random.default_rng(0)
  for name in ('first', 'second'):
    words = [f'{name[0]}{n}' for n in range(30)]
    (folder / f'{name}.txt').write_text('\n\n'.join(
        ' '.join(rng.choice(words, 40)) + '.' for _ in range(300)))
  return folder


def make(folder, tokenizer=None, **changes):
  return Pretrain(
      7, DataConfig(**(dict(
          corpora=f'{folder}/first.txt,{folder}/second.txt', sequence_length=32,
          batch_size=8, backend='numpy', cache_dir=str(folder / 'cache'),
          workers=1) | changes)),
      tokenizer or TokenizerConfig(vocab_size=330),
      ModelConfig(hidden_size=16, num_layers=1, num_heads=2, mlp_size=32,
                  max_positions=32))


@pytest.fixture(scope='module')
def task(folder):
  return make(folder)


def test_loss_is_cross_entropy_at_the_masked_tokens(task):
  batch = next(task.train_batches(0, lambda _: np.arange(8)))
  params = task.objective.init(jax.random.key(0))
  # Only the decoder's bias decides: the logits are the same everywhere.
  params = jax.tree.map(np.zeros_like, params)
  size = task.model.vocab_size
  bias = np.random.default_rng(1).normal(size=size).astype(np.float32)
  params['lm_head']['bias'] = bias
  mean, sums = task.objective.loss(params, batch, None,
                                   task.objective.totals(batch))
  log_p = bias - np.log(np.exp(bias.astype(np.float64)).sum())
  chosen = batch['mlm_weights'] > 0
  expected = -log_p[batch['mlm_targets'][chosen]].sum()
  assert float(sums['loss_sum']) == pytest.approx(expected, rel=1e-5)
  assert float(mean) == pytest.approx(expected / chosen.sum(), rel=1e-5)
  assert float(sums['weight_sum']) == chosen.sum()
  assert float(sums['token_sum']) == (batch['segment_ids'] > 0).sum()
  metrics = task.summarize({k: float(v) for k, v in sums.items()})
  assert metrics['loss'] == pytest.approx(expected / chosen.sum(), rel=1e-5)
  assert metrics['perplexity'] == pytest.approx(2 ** metrics['bits'])


def test_no_target_no_gradient(task):
  batch = next(task.train_batches(0, lambda _: np.arange(8)))
  batch['mlm_weights'] = np.zeros_like(batch['mlm_weights'])
  params = task.objective.init(jax.random.key(0))
  gradient = jax.jit(jax.grad(lambda params: task.objective.loss(
      params, batch, None, task.objective.totals(batch))[0]))(params)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_train_metrics_are_of_the_batch_and_the_records_so_far(folder, task):
  sums = {'loss_sum': 30.0, 'weight_sum': 12.0, 'correct_sum': 3.0,
          'token_sum': 192.0}
  metrics = task.train_metrics(50, sums)
  passes = 50 * 8 / task._train[0][0].num_records
  assert metrics == {
      'loss': 2.5, 'accuracy': 0.25, 'masked_tokens': 12,
      'padding_fraction': pytest.approx(1 - 192 / (8 * 32)),
      'epoch': passes, 'epoch/first': passes, 'epoch/second': passes}
  mixed = make(folder, mixture='second=3,first=1')
  first, second = mixed._train[0][0].records_DK[0].tolist()
  found = mixed.train_metrics(50, sums)
  assert found['epoch/first'] == pytest.approx(100 / first)
  assert found['epoch/second'] == pytest.approx(300 / second)
  alone = make(folder, corpora=f'{folder}/first.txt')
  found = alone.train_metrics(50, dict.fromkeys(sums, 0.0))
  assert found['epoch'] > 0 and 'epoch/first' not in found
  assert (found['loss'], found['padding_fraction']) == (0, 1)


def test_unigram_baseline_is_of_the_training_text(task):
  rows = np.arange(8)
  size = task.model.vocab_size
  counts = np.zeros(size)
  for number in range(task._train[0][0].num_records):
    found = task._train[0][0].gather(np.array([number]))
    np.add.at(counts, found.ids[0, :found.lengths.sum()], 1)
  log_p = np.log((counts + 1) / (counts.sum() + size))
  constants = task.eval_constants(8, 0)
  assert list(constants) == ['first', 'second']
  for name, begin in task.eval_sets(8, 0, rows).items():
    expected = sum(
        -log_p[b['mlm_targets'][b['mlm_weights'] > 0]].sum() for b in begin())
    assert constants[name]['unigram_sum'] == pytest.approx(expected)


def test_rows_of_hosts_are_parts_of_the_same_batch(task):
  whole = next(task.train_batches(5, lambda _: np.arange(8)))
  parts = [next(task.train_batches(5, lambda _: np.arange(4) + 4 * h))  # noqa: B023
           for h in (0, 1)]
  for key, value in whole.items():
    np.testing.assert_array_equal(
        value, np.concatenate([p[key] for p in parts]))


def test_heldout_rows_come_from_every_corpus(task):
  texts = [task.tokenizer.decode(ids) for ids in task.heldout_ids(4)]
  plain = [t.replace('</s>', '').replace('<s>', '') for t in texts]
  letters = [set(t) & set('fs') for t in plain]
  assert letters == [{'f'}, {'s'}, {'f'}, {'s'}]


def test_wordpiece_in_the_place_of_bytes(folder):
  """Nothing knows an id by heart: [PAD] is 0 and [UNK] 1 here."""
  task = make(folder, TokenizerConfig(vocab_size=150, kind='wordpiece'))
  tok = task.tokenizer
  batch = next(task.train_batches(0, lambda _: np.arange(8)))
  padding = batch['segment_ids'] == 0
  assert padding.any() and (batch['input_ids'][padding] == tok.pad_id).all()
  begins = batch['input_ids'][:, 0]
  assert (begins == tok.bos_id).sum() > 4  # One or two are masked.
  assert (batch['input_ids'] == tok.mask_id).any()
  params = task.objective.init(jax.random.key(0))
  tokens = np.asarray(params['embeddings']['tokens'])
  assert not tokens[tok.pad_id].any() and tokens[tok.unk_id].any()
  mean, sums = task.objective.loss(params, batch, None,
                                   task.objective.totals(batch))
  assert np.isfinite(float(mean)) and float(sums['weight_sum']) > 0


def test_a_mixture(folder, task):
  mixed = make(folder, mixture='second=3,first=1')
  examples = np.concatenate([
      batch['example_ids'] for _, batch in zip(
          range(8), mixed.train_batches(0, lambda _: np.arange(8)))])
  assert (examples >> 48 == 1).sum() == 48
  first, second = mixed._train[0][0].records_DK[0].tolist()
  assert mixed.epochs(8) == {'first': 16 / first, 'second': 48 / second}
  assert (f'epochs (first {1600 / first:.2f}, second {4800 / second:.2f}) in'
          in mixed.describe(800))
  assert task.describe(800) == (
      f'8 x 32 tokens a step, {task.epoch(800):.2f} epochs in 800 steps')


def test_a_wrong_mixture_is_said_before_preparing(folder, tmp_path):
  with pytest.raises(InputError, match='3 weights for 2 corpora'):
    make(folder, mixture='1,2,3', cache_dir=str(tmp_path / 'cache'))
  assert not (tmp_path / 'cache').exists()


def test_damaged_held_out_records_are_counted(folder, capfd):
  if records.array_record_module() is None:
    pytest.skip('array_record is not installed')
  task = make(folder, backend='tf', bad_records='skip',
              cache_dir=str(folder / 'damaged'))
  with open(task._manifests[0].shard_paths('eval')[0], 'r+b') as f:
    f.seek(120)  # Of the first record, behind the heads of file and chunk.
    byte = f.read(1)[0]
    f.seek(120)
    f.write(bytes([byte ^ 1]))
  for _ in range(2):
    for begin in task.eval_sets(8, 0, np.arange(8)).values():
      list(begin())
  assert task.eval_bad_records() == {'first': 1, 'second': 0}
  assert capfd.readouterr().err.count('record 0 is left out') == 1
  assert make(folder).eval_bad_records() == {}


def test_evaluation_sets_of_their_own(folder, capsys):
  (folder / 'held').mkdir(exist_ok=True)
  text = (folder / 'second.txt').read_text()
  (folder / 'held' / 'first.txt').write_text(text[:2000])
  (folder / 'held' / 'new.txt').write_text(text[2000:5000])
  (folder / 'none.txt').write_text('')
  task = make(folder, corpora=','.join(
      f'{folder}/{name}.txt' for name in ('first', 'none', 'second')),
              eval_corpora=f'{folder}/held/*.txt', mixture='1,5,3')
  assert 'none holds no text' in capsys.readouterr().err
  assert task.corpora == ('first', 'second')
  assert list(task.eval_sets(4, 0, np.arange(4))) == ['first', 'new']
  assert len(task.heldout_ids(5)) == 5
  assert {name.rpartition('/')[0] for name in task.identity()} == {
      'first/32', 'second/32', 'eval/first/32', 'eval/new/32'}
  passes = task.epochs(50)
  records = dict(zip(task.corpora, task._train[0][0].records_DK[0].tolist()))
  assert passes['second'] * records['second'] == pytest.approx(
      3 * passes['first'] * records['first'], rel=.1)
