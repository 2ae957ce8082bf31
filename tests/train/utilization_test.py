"""MFU, against the reference's own figures."""

import types

import pytest

from robertax.config import parse
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
