"""configs/paper: the rows of robertax.paper, with their figures."""

import dataclasses
import importlib.util
import pathlib
import re

import pytest

from robertax.config import parse
from robertax.errors import InputError
from robertax.paper import scales
from robertax.paper.tables import TABLES

FOLDER = pathlib.Path(__file__).parents[2] / 'configs'


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def parsed(path, arg=None):
  return parse(load(FOLDER / path).get_config(arg))


@pytest.mark.parametrize('number', '1234')
def test_every_row_builds_and_its_figures_stand_in_the_docstring(number):
  module = load(FOLDER / 'paper' / f'table{number}.py')
  words = ' '.join(module.__doc__.split())
  for row in TABLES[number].made:
    config = parse(module.get_config(f'row={row.name},seed=3'))
    assert config.seed == 3 and row.name in words
    for column, value in row.paper.items():
      assert re.search(rf'(?<![\d.]){value}(?![\d])', words), (row.name, column)
  with pytest.raises(InputError, match=f'unknown row of table {number}'):
    module.get_config('row=256k')


# What a row does not say: how often it is evaluated, and how it is cut to fit.
def alike(config):
  return dataclasses.replace(config, train=dataclasses.replace(
      config.train, eval_every=1, micro_batches=1))


@pytest.mark.parametrize('row, file', [
    ('3:256', 'table3_256'), ('3:2k', 'table3_2k'), ('3:8k', 'table3_8k'),
    ('3:32k', 'lamb_32k'), ('2:full_sentences', 'table3_256'),
    ('4:longest', 'roberta_large'), ('8:base', 'roberta_base')])
def test_one_recipe_has_one_set_of_numbers(row, file):
  here, there = (parse(scales.row_file(*row.split(':'), '')),
                 parsed(f'{file}.py'))
  there = dataclasses.replace(there, data=dataclasses.replace(
      there.data, corpora=here.data.corpora))
  assert alike(here) == alike(there)


@pytest.mark.parametrize('file', [
    'paper/table3', 'table3_256', 'table3_2k', 'table3_8k', 'lamb_32k'])
def test_the_rows_of_table_3_have_one_source(file, monkeypatch):
  scale = scales.SCALES['paper']
  monkeypatch.setitem(scales.SCALES, 'paper', dataclasses.replace(
      scale, changes=dict(scale.changes) | {'optim.eps': 3e-5}))
  assert parsed(f'{file}.py').optim.eps == 3e-5


def test_the_recipes_of_glue_have_one_source(monkeypatch):
  task = dataclasses.replace(scales.PAPER_TASKS['rte'], rate=7e-5, batch=24)
  monkeypatch.setitem(scales.PAPER_TASKS, 'rte', task)
  config = parsed('glue.py', 'task=rte')
  assert (config.optim.learning_rate, config.data.batch_size) == (7e-5, 24)
