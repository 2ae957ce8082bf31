
import gc
import threading
import time

import pytest

from robertax.data.feed import Prefetch
from robertax.errors import InputError


def threads():
  return [t for t in threading.enumerate() if t.name == 'robertax-prefetch']


def assert_all_end():
  deadline = time.monotonic() + 60
  while threads() and time.monotonic() < deadline:
    time.sleep(0.01)
  assert not threads()


def test_order_and_end():
  with Prefetch(range(100), 3, lambda x: x * x) as items:
    assert list(items) == [x * x for x in range(100)]
    with pytest.raises(StopIteration):
      next(items)
  assert not threads()


def test_runs_ahead_but_not_too_far():
  made = []
  def numbers():
    for i in range(100):
      made.append(i)
      yield i
  with Prefetch(numbers(), 3) as items:
    deadline = time.monotonic() + 60
    while len(made) < 4 and time.monotonic() < deadline:
      time.sleep(0.01)
    time.sleep(0.05)
    # Three wait, one is in the thread's hand.
    assert len(made) == 4
    assert next(items) == 0


def test_exceptions_keep_their_type_and_place():
  def numbers():
    yield 1
    raise InputError('shard 7 is damaged')
  items = Prefetch(numbers(), 5)
  assert next(items) == 1
  with pytest.raises(InputError, match='shard 7'):
    next(items)
  with pytest.raises(StopIteration):
    next(items)
  assert not threads()


def test_close_ends_the_thread_and_what_is_beneath():
  ended = []
  def endless():
    try:
      while True:
        yield 0
    finally:
      ended.append(True)
  items = Prefetch(endless(), 2)
  next(items)
  items.close()
  items.close()
  assert ended and not threads()


def test_a_forgotten_one_ends_its_thread():
  items = Prefetch(iter(int, 1), 2)
  next(items)
  del items
  gc.collect()
  assert_all_end()


def test_waited_seconds():
  def slow():
    for i in range(3):
      time.sleep(0.1)
      yield i
  with Prefetch(slow(), 1) as items:
    list(items)
    assert 0.2 < items.waited_seconds < 60


def test_a_consumer_that_waits_sees_the_end():
  # As when the process ends while a Feed waits for a pipeline.
  begun = threading.Event()
  def slow():
    begun.set()
    time.sleep(0.3)
    yield 0
  inner = Prefetch(slow(), 1)
  outer = Prefetch(inner, 1)
  begun.wait(60)
  inner._stop.set()
  assert list(outer) == []
  assert_all_end()
