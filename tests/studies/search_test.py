"""The largest micro-batch, found with few compilations."""

import importlib
import types

from hypothesis import assume, given
from hypothesis import strategies as st

from robertax.config import check_batch, parse
from robertax.studies.estimate import bracket, largest_micro_batch

# The package's front door has a function of that name.
search = importlib.import_module('robertax.studies.estimate')
LIMIT = 15.75 * 2**30


def estimated(memory, arguments=0.0):
  return types.SimpleNamespace(
      memory=memory, fits=memory <= LIMIT, arguments=arguments, shares=4,
      chip=types.SimpleNamespace(memory=LIMIT))


@given(arguments=st.floats(0, 5e9), fixed=st.floats(0, 3e9),
       row=st.floats(1e6, 2e9), start=st.floats(.02, 1),
       noise=st.lists(st.floats(0, .02), min_size=40, max_size=40))
def test_within_a_fifth_of_the_limit(arguments, fixed, row, start, noise):
  """Memory is linear in rows but for 2 %, as the compiler's is."""
  most = (LIMIT - arguments - fixed) / (1.02 * row)
  assume(most >= 1)
  rows = max(1, int(most * start))
  tried = []

  def compiled(rows):
    tried.append(rows)
    return estimated(arguments + fixed
                     + row * rows * (1 + noise[rows % len(noise)]))

  first = estimated(arguments + fixed + row * rows, arguments)
  fits, memory, beyond = bracket(compiled, rows, first, LIMIT)
  assert memory <= LIMIT and fits < beyond <= max(fits + 1, 1.2 * fits)
  assert beyond in tried and (fits in tried or fits == rows)
  assert not compiled(beyond).fits
  # Each that fits is a minute.
  assert sum(compiled(rows).fits for rows in set(tried)) <= 4


def test_a_batch_of_the_rows_that_are_tried(monkeypatch):
  """Two micro-batches where the config has more than one."""
  seen = []

  def estimate(config, name):
    assert name == 'v5e:2x2'
    seen.append((config.data.batch_size, config.train.micro_batches))
    rows = config.data.batch_size // config.train.micro_batches // 4
    return estimated(1e9 + 4e8 * rows)

  monkeypatch.setattr(search, 'estimate', estimate)
  config = parse({'data': {'batch_size': 256}, 'train': {'micro_batches': 8}})
  found = largest_micro_batch(config, 'v5e:2x2', estimated(1e9 + 8 * 4e8, 1e9))
  true = int((LIMIT - 1e9) / 4e8)
  assert found.rows <= true < found.beyond <= 1.2 * found.rows
  assert all(parts == 2 and size % 8 == 0 for size, parts in seen)
  assert found.summary()['rows'] == 4 * found.rows
  assert f'{found.beyond} do not fit' in found.describe()


def test_where_nothing_fits_the_nearest_is_told(monkeypatch, capsys):
  """Exit code 1 is aot's, with its JSON line, as without a search."""
  def estimate(config, name):
    check_batch(config, 4)
    least = 3e9 if config.model.remat == 'full' else 4e9
    return estimated(LIMIT + least / config.train.micro_batches)

  monkeypatch.setattr(search, 'estimate', estimate)
  tried, found = search.search(parse({'data': {'batch_size': 256}}), 'v5e:2x2')
  assert not found.fits and found.memory == LIMIT + 3e9 / 64
  assert (tried.model.remat, tried.train.micro_batches) == ('full', 64)
  assert 'no remat policy and number of micro-batches fits' in (
      capsys.readouterr().err)
