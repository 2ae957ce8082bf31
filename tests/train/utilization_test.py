"""MFU, against the reference's own figures."""

import types

import jax
import numpy as np
import pytest

from robertax.config import ModelConfig, parse, to_dict
from robertax.data.finetuning import Examples, TuningBatches
from robertax.tasks.objectives import Classification
from robertax.tasks.squad import SpanTuning
from robertax.train.clock import Utilization

LARGE = {'model': {'hidden_size': 1024, 'num_layers': 24, 'num_heads': 16,
                   'mlp_size': 4096, 'vocab_size': 50265},
         'data': {'sequence_length': 512}}


def sums(tokens):
  return {'token_sum': tokens, 'weight_sum': 0.15 * tokens}


def device(kind):
  return types.SimpleNamespace(device_kind=kind)


def test_a_known_rate_of_roberta_large():
  """246k tokens/s on one H200 is half of its 989 TFLOP/s: 2.010 GFLOP each."""
  mfu = Utilization(parse(LARGE), [device('NVIDIA H200')])
  assert mfu(1, sums(246e3 * 7), 7.0) == pytest.approx(0.5, rel=2e-3)
  eight = Utilization(parse(LARGE), [device('NVIDIA H200')] * 8)
  assert eight(1, sums(246e3 * 7), 7.0) == pytest.approx(0.5 / 8, rel=2e-3)


def test_short_rows_cost_less():
  """1.897 GFLOP a token at 128 tokens."""
  config = parse({**LARGE, 'data': {
      'sequence_length': 512, 'first_sequence_length': 128,
      'first_sequence_steps': 10}})
  mfu = Utilization(config, [device('NVIDIA H200')])
  short, long = mfu(10, sums(1e6), 1.0), mfu(11, sums(1e6), 1.0)
  assert short / long == pytest.approx(1.897 / 2.010, rel=1e-3)


def test_a_cpu_has_no_known_peak():
  assert Utilization(parse(LARGE), [device('cpu')])(1, sums(1), 1.0) is None


@pytest.mark.parametrize('objective_class, heads', [
    (Classification, dict(num_classes=3)),
    (SpanTuning, dict(num_classes=2, span_head=True))])
def test_of_fine_tuning_what_xla_counts_counts(objective_class, heads):
  """Rows of 64 tokens where 512 are allowed; no head over the vocabulary."""
  model = ModelConfig(
      vocab_size=500, hidden_size=128, num_layers=2, num_heads=4, mlp_size=512,
      max_positions=512, dropout_rate=0.0, attention_dropout_rate=0.0,
      attention='xla', lm_head=False, layers_unrolled=2, **heads)
  zeros = np.zeros(8, np.int32)
  examples = Examples.of(
      [np.full(64, 5)] * 8, values={'class_targets': zeros},
      marks={'span_starts': zeros + 3, 'span_ends': zeros + 5})
  batch = TuningBatches(examples, batch_size=8, seed=0, max_length=64
                        ).make_batch(0)
  del batch['example_ids']
  objective = objective_class(model)
  # XLA counts the body of a loop once: the layers are unrolled.
  counted = jax.jit(lambda params: jax.grad(objective.loss, has_aux=True)(
      params, batch, None, objective.totals(batch))).lower(
          jax.eval_shape(objective.init, jax.random.key(0))
          ).cost_analysis()['flops']
  _, sums = objective.mean_loss(
      {'loss_sum': 0.0}, objective.totals(batch), batch)
  config = parse({'task': 'glue/sst2', 'model': to_dict(model),
                  'data': {'sequence_length': 512}})
  mfu = Utilization(config, [device('NVIDIA H200')])
  found = mfu(1, {k: float(v) for k, v in sums.items()}, 1e-6) * 989.4e6
  assert found == pytest.approx(counted, rel=0.03)


def test_the_head_on_predicted_tokens_counts():
  """6 FLOP for each parameter of the head and predicted token, WSC's kind."""
  config = parse({**LARGE, 'task': 'wsc'})
  counted = {'token_sum': 800.0, 'attended_sum': 800.0 * 100,
             'sequence_sum': 8.0}
  without, found = (Utilization(config, [device('NVIDIA H200')], masked)(
      1, counted, 1e-6) for masked in (0.0, 2.5))
  assert (found - without) * 989.4e6 == pytest.approx(
      6 * 8 * 2.5 * (1024 * 50265 + 1024**2), rel=1e-3)
