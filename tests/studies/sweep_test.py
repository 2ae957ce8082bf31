"""Which setting of a sweep is the best, where a run has no score."""

import pytest

from robertax.studies.sweep import summarize_sweep, sweep_table
from robertax.tasks.task import plain_values

RUN = {'task': 'glue/stsb', 'metric': 'pearson', 'split': 'dev', 'rows': 9,
       'data': 'dev.tsv', 'train_rows': 9, 'train_data': 'train.tsv',
       'degenerate': False}


def swept(**values):
  """Values of three seeds by rate; null is what NaN is in results.json."""
  return {(float(rate[1:]), 16, seed): (RUN | {'value': value},
                                        f'{rate}-{seed}')
          for rate, row in values.items() for seed, value in enumerate(row)}


@pytest.mark.parametrize('none', [None, float('nan')])
def test_a_run_without_a_score_is_below_all_others(none):
  found = plain_values(summarize_sweep(swept(
      r1=[none, none, 90.0], r2=[70.0, none, 80.0], r3=[60.0, 65.0, 66.0]),
      best=2))
  assert (found['learning_rate'], found['value']) == (2.0, 70.0)
  assert found['together'] == ['r2-2', 'r2-0']
  first, second, third = found['settings']
  assert (first['median'], first['lowest'], first['highest']) == (
      None, None, 90.0)
  assert (second['deviation'], second['highest']) == (None, 80.0)
  assert third['deviation'] == pytest.approx(2.6247, abs=1e-4)
  table = sweep_table(found).splitlines()
  assert table[2].split()[2:6] == ['none', 'none', '90.00', 'none']
  assert table[-1].startswith('best median: 70.00 with rate 2')


def test_a_sweep_without_any_score():
  found = summarize_sweep(swept(r1=[None] * 3, r2=[None] * 3), best=1)
  assert found['together'] == ['r1-0']
  assert 'best median: none' in sweep_table(found)
  assert plain_values(found)['value'] is None
  assert sweep_table(plain_values(found)) == sweep_table(found)
