
import os
import signal
import sys
import time

import pytest

from robertax.corpus import workers
from robertax.corpus.workers import map_in_order
from robertax.errors import InputError


class Square:
  """Lives here: the worker imports this module by its path."""

  def __init__(self, plus):
    self._plus = plus

  def __call__(self, n):
    if n == 'die':
      os.kill(os.getpid(), signal.SIGKILL)
    if n == 'fail':
      raise InputError('line 3: wrong')
    print('a stray print must not hurt')
    time.sleep(.02 * (n % 3))
    return n * n + self._plus, os.getpid()


@pytest.fixture(autouse=True)
def importable(monkeypatch):
  """pytest's importlib mode gives this module a name workers cannot import."""
  monkeypatch.syspath_prepend(os.path.dirname(__file__))
  monkeypatch.setattr(Square, '__module__', 'workers_test')
  monkeypatch.setitem(sys.modules, 'workers_test',
                      sys.modules.get(__name__) or _this())


def _this():
  import types
  module = types.ModuleType('workers_test')
  module.Square = Square
  return module


@pytest.mark.parametrize('number', [1, 3])
def test_results_come_in_order(number):
  found = list(map_in_order(Square, 7, range(20), number))
  assert [square for square, _ in found] == [n * n + 7 for n in range(20)]
  assert len({pid for _, pid in found}) == number
  assert (os.getpid() in {pid for _, pid in found}) == (number == 1)


def test_few_items_are_taken_ahead():
  taken = []

  def items():
    for n in range(20):
      taken.append(n)
      yield n

  for done, _ in enumerate(map_in_order(Square, 0, items(), 2)):
    assert len(taken) - done <= 3


@pytest.mark.parametrize('item, says', [
    ('die', 'because memory ran out'), ('fail', 'line 3: wrong')])
def test_errors_arrive_and_workers_end(item, says, monkeypatch):
  processes = []
  make = workers._Worker.__init__

  def noted(self, function):
    make(self, function)
    processes.append(self._process)

  monkeypatch.setattr(workers._Worker, '__init__', noted)
  with pytest.raises(InputError, match=says):
    list(map_in_order(Square, 0, [1, item, 2, 3], 2))
  assert len(processes) == 2
  assert all(process.poll() is not None for process in processes)


def test_cores():
  assert 1 <= workers.available_cores() <= os.cpu_count()
