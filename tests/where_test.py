"""The table "Where is ...?" of WORKSPACE.md names what is there."""

import importlib
import pathlib
import re

import pytest

TEXT = (pathlib.Path(__file__).parents[1] / 'WORKSPACE.md').read_text()
SECTION = TEXT.split('## Where is ...?')[1].split('\n## ')[0]
ROWS = re.findall(r'^\| ([WI].*\?) \| `([\w/]+):([\w.]+)` \|$', SECTION, re.M)


def test_every_row_of_the_table_is_read():
  assert len(ROWS) >= 25
  assert len(ROWS) == SECTION.count('\n| ') - 1  # Its head.


@pytest.mark.parametrize('place, symbol', [row[1:] for row in ROWS],
                         ids=[f'{p}:{s}' for _, p, s in ROWS])
def test_what_is_named_is_there(place, symbol):
  found = importlib.import_module(f'robertax.{place.replace("/", ".")}')
  for name in symbol.split('.'):
    found = getattr(found, name)
  assert found is not None
