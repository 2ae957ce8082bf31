"""Groups in packed rows: what each sequence gets alone, and plain NumPy."""

import jax
import numpy as np
import pytest

from robertax import model
from robertax.config import ModelConfig
from robertax.data.finetuning import Examples, TuningBatches, collect_answers
from robertax.tasks import objectives
from robertax.tasks.objectives import Choice, SpanRanking

V, MASK, MAX_LENGTH = 67, 66, 32
CONFIG = dict(vocab_size=V, hidden_size=32, num_layers=2, num_heads=4,
              mlp_size=64, max_positions=MAX_LENGTH)
# A group that needs two rows, small ones, and one of a single sequence.
SIZES = [[20, 18, 9, 12], [5, 7], [9], [4, 4, 4], [16, 16, 3]]


def make_examples(spans):
  rng = np.random.default_rng(3)
  sequences = [np.concatenate([[0], rng.integers(4, V - 1, n - 2), [2]])
               for sizes in SIZES for n in sizes]
  groups = np.repeat(np.arange(len(SIZES)), [len(s) for s in SIZES])
  if not spans:
    return Examples.of(sequences, groups=groups, group_values={
        'group_targets': np.array([2, 1, 1, 0, 2], np.int32)})
  width, count = 3, len(sequences)
  lengths = rng.integers(1, width + 1, count)
  positions = np.full((count, width), -1)
  targets = np.zeros((count, width), np.int32)
  for n, (ids, length) in enumerate(zip(sequences, lengths)):
    start = rng.integers(1, max(2, len(ids) - length))
    here = np.arange(start, min(start + length, len(ids) - 1))
    positions[n, :len(here)], targets[n, :len(here)] = here, ids[here]
    ids[here] = MASK
  return Examples.of(
      sequences, groups=groups, marks={'span_positions': positions},
      values={'span_targets': targets,
              'span_weights': (positions >= 0).astype(np.float32)})


def alone(tuning, examples, params):
  """The score of each sequence in a row of its own, from the head by hand."""
  ids = np.full((len(examples), MAX_LENGTH), 1, np.int32)
  for n in range(len(examples)):
    ids[n, :examples.lengths[n]] = examples.sequence(n)
  segments = np.arange(MAX_LENGTH) < examples.lengths[:, None]

  @jax.jit
  def head(params):
    module = model.bind(tuning.model, params)
    x = module.encode(ids, segments.astype(np.int32))
    if isinstance(tuning, Choice):
      return module.class_logits(x, np.zeros((len(ids), 1), np.int32))[:, 0, 0]
    return module.mlm_logits(x, np.maximum(
        examples.marks['span_positions'], 0))

  found = np.asarray(head(params)).astype(float)
  if isinstance(tuning, Choice):
    return found
  log_p = found - np.log(np.exp(found).sum(-1, keepdims=True))
  return np.array([
      np.mean([log_p[n, i, t] for i, t in enumerate(
          examples.values['span_targets'][n])
               if examples.marks['span_positions'][n, i] >= 0])
      for n in range(len(examples))])


def choice_loss(scores, target):
  if len(scores) == 1:
    scores = np.append(scores, 0.0)
  return np.log(np.exp(scores).sum()) - scores[target]


def margin(scores, target, alpha, beta):
  del target
  lq, *others = scores
  return sum(-lq + alpha * max(0, lc - lq + beta) for lc in others)


HEADS = dict(num_classes=1, lm_head=False), {}
CASES = {
    'choice': (Choice, {}, HEADS[0], choice_loss),
    'margin': (SpanRanking, dict(alpha=2.0, beta=0.3), HEADS[1],
               lambda s, t: margin(s, t, 2.0, 0.3)),
    'cross_entropy': (
        SpanRanking, dict(loss_name='cross_entropy'), HEADS[1],
        lambda s, t: choice_loss(s, 0) if len(s) > 1 else 0.0)}


@pytest.fixture(scope='module', params=CASES)
def case(request):
  kind, options, head, loss = CASES[request.param]
  # Several chunks of masked tokens, the last of them empty.
  patch = pytest.MonkeyPatch()
  patch.setattr(objectives, 'CHUNK', 8)
  request.addfinalizer(patch.undo)
  tuning = kind(ModelConfig(**CONFIG, **head), 1, **options)
  examples = make_examples(kind is SpanRanking)
  params = jax.jit(tuning.init)(jax.random.key(1))
  # A random model's scores are all alike: larger weights tell them apart.
  params = jax.tree.map(lambda x: 4 * x if x.ndim > 1 else x, params)
  batches = TuningBatches(examples, batch_size=4, seed=0,
                          max_length=MAX_LENGTH)
  return (tuning, examples, params, batches,
          alone(tuning, examples, params), loss)


def test_scores_packed_are_scores_alone(case):
  tuning, examples, params, batches, expected, _ = case
  outputs = jax.jit(tuning.outputs)
  found = collect_answers(examples, (
      (batch, outputs(params, {k: v for k, v in batch.items()
                               if k != 'example_ids'}))
      for batch in batches.evaluation(256)))
  np.testing.assert_allclose(found['scores'], expected, atol=1e-5)
  assert np.ptp(expected) > 0.1


def test_loss_of_a_packed_batch(case):
  tuning, examples, params, batches, scores, loss = case
  targets = examples.group_values.get(
      'group_targets', np.zeros(examples.num_groups, np.int32))
  for step in (0, 1):
    batch = batches.make_batch(step)
    batch.pop('example_ids')
    totals = tuning.totals(batch)
    objective, sums = jax.jit(tuning.loss)(params, batch, None, totals)
    groups = batches.groups(step)
    expected = sum(
        loss(scores[examples.firsts[g]:examples.firsts[g + 1]], targets[g])
        for g in groups)
    assert float(totals['weight_sum']) == len(groups)
    assert float(sums['weight_sum']) == len(groups)
    assert float(sums['loss_sum']) == pytest.approx(expected, abs=2e-4)
    assert float(objective) == pytest.approx(expected / len(groups), abs=1e-4)
    assert float(sums['token_sum']) == sum(
        sum(SIZES[g]) for g in groups)


def test_gradient_is_finite_with_empty_slots(case):
  tuning, _, params, batches, _, _ = case
  batch = batches.make_batch(1)  # The last of an epoch: one group.
  assert (batch['class_weights'] == 0).any()
  batch.pop('example_ids')
  gradient = jax.jit(jax.grad(lambda p: tuning.loss(
      p, batch, None, tuning.totals(batch))[0]))(params)
  leaves = jax.tree.leaves(gradient)
  assert all(np.isfinite(x).all() for x in leaves)
