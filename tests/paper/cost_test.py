"""Chip-hours of the tables: what is compiled, shared and summed."""

import dataclasses
import types

import pytest

from robertax.errors import InputError
from robertax.paper import scales
from robertax.paper.scales import (
    SCALES,
    check_scale,
    cost_json,
    cost_table,
    table_costs,
)
from robertax.paper.tables import TABLES
from robertax.studies import estimate as compiler

PAPER = SCALES['paper']
LIMIT = 15.75 * 2**30


def estimated(memory=1e9, devices=256, seconds=0.5):
  return types.SimpleNamespace(
      fits=memory <= LIMIT, memory=memory, devices=devices, seconds=seconds,
      timed=True, shares=devices, compile_seconds=1.0)


@pytest.fixture(name='compiled')
def _compiled(monkeypatch):
  """Configs that were compiled; rows on a chip decide what fits: 64 do."""
  seen = []

  def estimate(config, topology):
    a, b = map(int, topology.partition(':')[2].split('x'))
    rows = config.data.batch_size // config.train.micro_batches // (a * b)
    seen.append((config, topology))
    return estimated(LIMIT * rows / 64, a * b)

  monkeypatch.setattr(compiler, 'estimate', estimate)
  return seen


def test_each_shape_is_compiled_once_and_each_model_paid_once(compiled):
  found = table_costs(list(TABLES), PAPER)
  assert {(c.table, c.row) for c in found} == {
      (name, row.name) for name, table in TABLES.items() for row in table.made}
  kinds = [(c.model, c.optim.name, c.data.format, c.data.batch_size,
            c.train.micro_batches, c.tokenizer.vocab_size, t)
           for c, t in compiled]
  assert len(set(kinds)) == len(kinds) and len(kinds) <= 11
  said = cost_json(found)
  by_model = {c.model: c.pretraining for c in found if c.model}
  assert said['pretraining_chip_hours'] == round(sum(by_model.values()))
  assert said['models'] == len(by_model) < sum(bool(c.model) for c in found)
  assert said['fits'] and said['tuning_chip_hours'] > 0


def test_hours_are_steps_times_seconds_times_chips(compiled):
  (one,) = [c for c in table_costs(['8'], PAPER) if c.row == 'base']
  assert one.pretraining == pytest.approx(500_000 * .5 * 256 / 3600)
  random, large = (next(c for c in table_costs(['7'], PAPER)
                        if c.row == row) for row in ('random', 'roberta'))
  assert random.pretraining == 0 and random.found is None
  # Five seeds of four epochs of RACE; 6 FLOP a parameter of the blocks.
  tokens = 5 * 4 * 87_866 * 4 * 346
  assert random.tuning == large.tuning == pytest.approx(
      6 * 24 * 12 * 1024**2 * tokens / (.4 * 197e12) / 3600)
  assert large.tuned == 5


def test_micro_batches_are_doubled_until_it_fits(compiled):
  """On its own slice none is: else a run would not be what was compiled."""
  found = table_costs(list(TABLES), PAPER)
  for one in found:
    if one.found:
      row = TABLES[one.table].row(one.row)
      assert one.config.train.micro_batches == (
          scales.pretraining_config(row, PAPER).train.micro_batches)
  compiled.clear()
  (lamb,) = [c for c in table_costs(['3'], PAPER, 'v5e:8x8')
             if c.row == '32k']
  assert lamb.config.train.micro_batches == 8
  assert [c.train.micro_batches for c, _ in compiled
          if c.data.batch_size == 32768] == [2, 4, 8]


def test_a_task_of_a_model_is_paid_once(compiled):
  """MNLI of the longest run stands in Tables 4, 5 and 8."""
  found = {name: cost_json(table_costs([name], PAPER))
           for name in ('4', '8')}
  both = cost_json(table_costs(['4', '8'], PAPER))
  # 4 models x (MNLI, SST-2) x 6 settings x 5 seeds.
  assert both['tuning_runs'] == sum(
      one['tuning_runs'] for one in found.values()) - 4 * 2 * 30


def test_what_fits_nowhere_is_said(monkeypatch):
  monkeypatch.setattr(compiler, 'estimate',
                      lambda config, name: estimated(2 * LIMIT))
  found = table_costs(['4'], PAPER)
  assert not cost_json(found)['fits']
  assert cost_table(found).count('DOES NOT FIT') == 4


def test_the_table_pays_a_model_where_it_first_stands(compiled):
  text = cost_table(table_costs(['1', '2'], PAPER))
  lines = [line for line in text.splitlines() if 'v5e:4x8' in line]
  assert len(lines) == 6
  assert [line.split()[1] for line in lines if '(above)' in line] == [
      'segment_pair']
  assert 'nothing was run' in text and 'expected' in text


def test_another_topology_for_all(compiled):
  table_costs(['3'], PAPER, 'v5e:8x8')
  assert {name for _, name in compiled} == {'v5e:8x8'}


def test_a_scale_of_tokens_has_no_cost():
  check_scale(PAPER)
  with pytest.raises(InputError, match='--scale=tiny.*--scale=paper'):
    check_scale(SCALES['tiny'])


@pytest.mark.tpu_aot
def test_a_small_row_compiles():
  pytest.importorskip('libtpu', reason='pip install -r requirements-tpu.txt')
  shape = dict(hidden_size=256, num_layers=2, num_heads=4, mlp_size=1024,
               max_positions=128)
  recipe = dataclasses.replace(PAPER.recipes['formats'], batch_size=64,
                               topology='v5e:2x2')
  scale = dataclasses.replace(
      PAPER, shapes=dict.fromkeys(PAPER.shapes, shape),
      recipes=dict.fromkeys(PAPER.recipes, recipe), pieces={'byte_bpe': 512},
      changes=dict(PAPER.changes) | {'data.sequence_length': 128})
  found = table_costs(['1'], scale)
  assert [c.found.fits for c in found] == [True, True]
  assert found[0].found is found[1].found and found[0].pretraining > 0


def test_a_device_without_a_known_time_has_no_hours(monkeypatch):
  def untimed(config, topology):
    found = estimated()
    found.timed = False
    return found
  monkeypatch.setattr(compiler, 'estimate', untimed)
  found = table_costs(['8'], PAPER)
  assert cost_json(found)['pretraining_chip_hours'] is None
  assert 'models are pretrained: unknown chip-hours' in cost_table(found)
