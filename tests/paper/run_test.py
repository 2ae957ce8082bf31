"""Tables made at a microscopic scale: equal tokens, one table whatever kills.

Everything is made once, undisturbed, and once with kills.
"""

import dataclasses
import json
import os
import pathlib
import signal
from unittest import mock

import jax
import pytest

from robertax import progress
from robertax.paper import inputs
from robertax.paper.inputs import make_ready, run_budget
from robertax.paper.run import Study, run_table
from robertax.paper.scales import SCALES
from robertax.paper.tables import TABLES
from robertax.train import loop
from tests.paper import tiny_paper

SCALE = tiny_paper.scale()


class Killed(BaseException):
  """Where a process would be gone."""


def study(folder, data, scale=SCALE):
  return Study('1', scale, str(data), str(folder / 'w'),
               str(folder / 'models'))


def make(one):
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    return run_table(one)


@pytest.fixture(name='data', scope='module')
def _data(tmp_path_factory):
  return tiny_paper.write_data(tmp_path_factory.mktemp('data'))


@pytest.fixture(name='made', scope='module')
def _made(tmp_path_factory, data):
  """(W, what it ended with) of Table 1, undisturbed."""
  one = study(tmp_path_factory.mktemp('made'), data)
  return pathlib.Path(one.workdir), make(one)


def test_the_table_has_every_row_seed_and_column(made):
  folder, ended = made
  assert ended.signal == 0
  found = json.loads((folder / 'results.json').read_text())
  assert found == ended.results and found['columns'] == [
      'loss', 'squad2', 'sst2']
  rows = {row['name']: row for row in found['rows']}
  assert list(rows) == ['reference', 'static', 'dynamic']
  for name in ('static', 'dynamic'):
    for column in ('loss', 'sst2'):
      assert len(rows[name]['values'][column]) == SCALE.seeds
    assert len(set(rows[name]['values']['loss'])) == SCALE.seeds
    assert all(0 <= x <= 100 for x in rows[name]['values']['sst2'])
  assert 'squad' in found['missing']['squad2']
  # Ten static masks are the dynamic ones for as many passes.
  assert rows['static']['passes'] < 10
  assert rows['static']['values'] == rows['dynamic']['values']
  text = (folder / 'table.md').read_text()
  assert 'static' in text and '92.5' in text and 'not run, no' in text
  assert (folder / 'table.png').read_bytes()[1:4] == b'PNG'


def test_made_again_nothing_runs(made, data):
  folder, ended = made
  before = {path: path.stat().st_mtime_ns
            for path in folder.parent.rglob('metrics.jsonl')}
  assert len(before) == 2 * 2 * SCALE.seeds
  with mock.patch.object(loop, 'run', side_effect=AssertionError):
    assert make(study(folder.parent, data)).results == ended.results
  assert before == {path: path.stat().st_mtime_ns for path in before}


def test_killed_at_any_run_it_is_the_same_table(made, data, tmp_path):
  """Gone before a run, stopped by SIGTERM in the middle of one, gone before its
  held-out text was asked, gone between two runs of a task.
  """
  one = study(tmp_path, data, dataclasses.replace(SCALE, seeds=1))
  run, told = loop.run, []

  def counted(config, folder, named=()):
    told.append(config.task)
    if len(told) in (2, 7):
      raise Killed
    if len(told) != 3:
      return run(config, folder, named)
    real = progress.Progress.step

    def step(self, number):
      if number == 7:
        os.kill(os.getpid(), signal.SIGTERM)
      return real(self, number)
    with mock.patch.object(progress.Progress, 'step', step):
      return run(config, folder, named)

  with mock.patch.object(loop, 'run', counted):
    with pytest.raises(Killed):
      make(one)
    ended = make(one)
    assert ended.signal == signal.SIGTERM and ended.results is None
    with mock.patch.object(inputs, 'measure_heldout', side_effect=Killed):
      with pytest.raises(Killed):
        make(one)
    with pytest.raises(Killed):
      make(one)
    last = make(one)
  assert told == ['pretrain'] * 5 + ['glue/sst2'] * 3
  # Of the undisturbed table's seeds the first, bit for bit.
  for here, there in zip(last.results['rows'], made[1].results['rows']):
    for key in ('steps', 'tokens', 'paper'):
      assert here.get(key) == there.get(key)
    for column, values in here.get('values', {}).items():
      assert values == there['values'][column][:1]


@pytest.mark.parametrize('table', ['2', '3', '4'])
def test_tokens_are_equal_within_half_a_step(data, tmp_path, table):
  """Whatever the padding of a format; k times of a row k times as long."""
  text = make_ready(table, TABLES[table], SCALE, str(data), str(tmp_path))
  steps = set()
  for row in TABLES[table].made:
    found = run_budget(row, SCALE, text.text, 0)
    wanted = SCALE.recipes[row.recipe].tokens * row.length
    a_step = found.tokens / found.config.train.steps
    assert abs(found.tokens - wanted) <= a_step / 2 + 1
    steps.add(found.config.train.steps)
  if table == '2':
    assert len(steps) > 1  # Formats differ in how full their rows are.


def test_all_rows_have_one_vocabulary(data, tmp_path):
  text = make_ready('4', TABLES['4'], SCALE, str(data), str(tmp_path))
  configs = [run_budget(row, SCALE, text.text, 0).config
             for row in TABLES['4'].made]
  assert len({config.tokenizer.path for config in configs}) == 1
  assert all(config.tokenizer.path for config in configs)
  corpora = {config.data.corpora for config in configs}
  assert {c.count(',') for c in corpora} == {1, 2}
  # Asked of text that none has seen, of all corpora.
  assert text.heldout.count(',') == 2 and text.split == 'train'
  assert not any(place in config.data.corpora for config in configs
                 for place in text.heldout.split(','))


def test_the_paper_takes_its_text_whole():
  assert not SCALES['paper'].characters
