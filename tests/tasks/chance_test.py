"""Runs at chance are told from others."""

from robertax.tasks.finetune import why_degenerate


def test_constant_answers():
  assert why_degenerate([1, 1, 1], [1, 1, 0], 'ab', 'dev') == (
      'all answers on dev are b.')


def test_no_better_than_constant():
  labels = [0, 0, 0, 1, 2]
  assert 'accuracy 60.00 on dev is not above 60.00' in why_degenerate(
      [0, 0, 1, 1, 1], labels, 'abc', 'dev')
  assert why_degenerate([0, 0, 0, 1, 1], labels, 'abc', 'dev') == ''
