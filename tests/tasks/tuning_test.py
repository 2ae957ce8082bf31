"""An example's logits: the same alone, padded, bucketed and packed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax.config import ModelConfig
from robertax.data.finetuning import Examples, TuningBatches, collect_answers
from robertax.tasks.objectives import Classification

CONFIG = ModelConfig(
    vocab_size=90, hidden_size=32, num_layers=2, num_heads=4, mlp_size=64,
    max_positions=64, lm_head=False, num_classes=3)
LENGTHS = [3, 40, 9, 25, 64, 7, 12, 5, 17, 30]


@pytest.fixture(scope='module')
def examples():
  rng = np.random.default_rng(0)
  return Examples.of([rng.integers(4, 90, n) for n in LENGTHS], values={
      'class_targets': rng.integers(0, 3, len(LENGTHS)).astype(np.int32)})


@pytest.fixture(scope='module')
def objective():
  return Classification(CONFIG, 1)


@pytest.fixture(scope='module')
def params(objective):
  random = np.random.RandomState(3)
  return jax.tree.map(lambda x: x + .1 * random.randn(*x.shape).astype('f'),
                      objective.init(jax.random.key(0)))


def ask(objective, params, examples, batches):
  run = jax.jit(objective.outputs)
  device = lambda batch: {k: v for k, v in batch.items()
                          if k != 'example_ids'}
  return collect_answers(examples, ((b, jax.device_get(run(params, device(b))))
                                    for b in batches))['logits']


@pytest.fixture(scope='module')
def alone(objective, params, examples):
  """Each in a row of 64, with nothing beside it."""
  found = []
  for n in range(len(examples)):
    one = Examples.of([examples.sequence(n)], values={
        name: value[[n]] for name, value in examples.values.items()})
    batch = TuningBatches(one, batch_size=1, seed=0, max_length=64).make_batch(
        0)
    ids = np.full((1, 64), 1, np.int32)
    ids[0, :LENGTHS[n]] = one.sequence(0)
    batch |= {'input_ids': ids, 'segment_ids': (
        np.arange(64) < LENGTHS[n]).astype(np.int32)[None]}
    found.append(ask(objective, params, one, [batch])[0])
  return np.array(found)


@pytest.mark.parametrize('tokens, batch_size', [(64, 1), (256, 4), (4096, 10)])
def test_packed_is_as_alone(objective, params, examples, alone, tokens,
                            batch_size):
  batches = TuningBatches(examples, batch_size=batch_size, seed=0,
                          max_length=64)
  np.testing.assert_allclose(
      ask(objective, params, examples, batches.evaluation(tokens)), alone,
      atol=1e-5)
  steps = map(batches.make_batch, range(batches.epoch_steps))
  np.testing.assert_allclose(ask(objective, params, examples, steps), alone,
                             atol=1e-5)


def test_blocks_of_rows_are_as_alone(objective, params, examples, alone):
  """Groups of two that no row holds: rows of a block are read as one."""
  grouped = Examples.of([examples.sequence(n) for n in range(10)],
                        groups=np.arange(10) // 2)
  batches = TuningBatches(grouped, batch_size=3, seed=0, max_length=64)
  batch = batches.make_batch(0)
  assert len(batch['input_ids']) == 2 * len(batch['class_positions'])
  np.testing.assert_allclose(
      ask(objective, params, grouped, batches.evaluation(512)), alone,
      atol=1e-5)


def test_the_loss_is_the_mean_over_examples(objective, params, examples,
                                            alone):
  batch = TuningBatches(examples, batch_size=10, seed=0,
                        max_length=64).make_batch(0)
  mean, sums = objective.loss(params, batch, None, objective.totals(batch))
  targets = examples.values['class_targets']
  shifted = alone - alone.max(-1, keepdims=True)
  nats = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(10), targets]
  assert float(mean) == pytest.approx(nats.mean(), rel=1e-4)
  assert float(sums['correct_sum']) == (alone.argmax(-1) == targets).sum()
  assert float(sums['token_sum']) == sum(LENGTHS)
  assert float(sums['place_sum']) == batch['input_ids'].size


def test_one_class_is_a_score(examples):
  """The squared error of the raw logit (fairseq sentence_prediction.py)."""
  objective = Classification(dataclasses.replace(CONFIG, num_classes=1), 1)
  params = objective.init(jax.random.key(1))
  scores = np.linspace(0, 1, 10, dtype=np.float32)
  scored = dataclasses.replace(examples, values={'class_targets': scores})
  batch = TuningBatches(scored, batch_size=10, seed=0,
                        max_length=64).make_batch(0)
  mean, _ = objective.loss(params, batch, None, objective.totals(batch))
  logits = ask(objective, params, scored, [batch])[:, 0]
  assert float(mean) == pytest.approx(((logits - scores)**2).mean(), rel=1e-4)


def test_pads_are_where_the_tokenizer_has_them():
  objective = Classification(CONFIG, 7)
  tokens = objective.init(jax.random.key(0))['embeddings']['tokens']
  assert not jnp.any(tokens[7]) and jnp.any(tokens[1])
