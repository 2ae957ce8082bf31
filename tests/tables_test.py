import doctest

import pytest

from robertax import tables


def test_a_row_is_imported_when_it_is_asked_for():
  table = tables.Table(there='math:ceil', missing='no.such.module:x')
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
