"""configs/paper: the rows of robertax.paper, with their figures."""

import dataclasses
import importlib.util
import pathlib
import re

import pytest

from robertax.config import parse
from robertax.errors import InputError
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
    ('table3.py:256', 'table3_256'), ('table3.py:2k', 'table3_2k'),
    ('table3.py:8k', 'table3_8k'), ('table3.py:32k', 'lamb_32k'),
    ('table2.py:full_sentences', 'table3_256'),
    ('table4.py:longest', 'roberta_large')])
def test_one_recipe_has_one_set_of_numbers(row, file):
  path, name = row.split(':')
  here, there = parsed(f'paper/{path}', f'row={name}'), parsed(f'{file}.py')
  there = dataclasses.replace(there, data=dataclasses.replace(
      there.data, corpora=here.data.corpora))
  assert alike(here) == alike(there)
