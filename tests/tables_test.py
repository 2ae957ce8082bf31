import doctest
import importlib
import pathlib
import pkgutil

import pytest

import robertax
from robertax import tables


def test_a_row_is_imported_when_it_is_asked_for():
  table = tables.LazyTable(there='math:ceil', missing='no.such.module:x')
  assert sorted(table) == ['missing', 'there'] and len(table) == 2
  assert 'missing' in table and 'other' not in table
  assert table['there'](1.5) == 2
  with pytest.raises(ModuleNotFoundError):
    table['missing']
  with pytest.raises(KeyError):
    table['other']
  assert table.get('other') is None


def test_worked_example():
  assert doctest.testmod(tables).attempted


def test_every_row_of_every_table_is_there():
  """A row is a string until it is chosen, which may be long after a merge."""
  found = 0
  for module in pkgutil.walk_packages(robertax.__path__, 'robertax.'):
    path = pathlib.Path(module.module_finder.path,
                        module.name.rpartition('.')[2])
    source = path / '__init__.py' if module.ispkg else path.with_suffix('.py')
    if 'LazyTable(' not in source.read_text():
      continue
    for table in [*vars(importlib.import_module(module.name)).values()]:
      if isinstance(table, tables.LazyTable):
        found += 1
        assert all(table[name] is not None for name in table)
  assert found >= 6
