
import json
import os
import pathlib
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest

from robertax import files
from robertax.config import DataConfig
from robertax.data import remote
from robertax.data.remote import Chunk, ChunkCache
from robertax.errors import InputError


@pytest.fixture(name='cache')
def cache_fixture(tmp_path):
  cache = ChunkCache(str(tmp_path), 1000, threads=4)
  yield cache
  cache.close()


def chunk(name, size=100, fetched=None):
  """`size - 24` bytes of its name's first letter; 24 are the head's."""
  def fetch():
    if fetched is not None:
      fetched.append(name)
    return [np.full(size - 24, ord(name[0]), np.uint8)]
  return Chunk(name, size, fetch)


def on_disk(cache):
  return sum(os.stat(os.path.join(cache.folder, name)).st_size
             for name in os.listdir(cache.folder))


def test_gives_what_was_fetched_and_fetches_it_once(cache):
  fetched = []
  for _ in range(3):
    entry = cache.pin(chunk('x', fetched=fetched))
    assert bytes(entry.arrays.result()) == b'x' * 76
    cache.unpin(entry)
  assert fetched == ['x'] and cache.bytes == on_disk(cache) == 100


def test_the_longest_unused_makes_room_and_what_is_pinned_stays(cache):
  fetched = []
  pinned = cache.pin(chunk('p', 400, fetched))
  pinned.arrays.result()
  for name in 'abcdefghab':
    entry = cache.pin(chunk(name, 200, fetched))
    entry.arrays.result()
    cache.unpin(entry)
    assert on_disk(cache) <= cache.bytes <= 1000
  assert ''.join(fetched) == 'pabcdefghab'  # a and b had made room.
  for name in 'bah':
    cache.unpin(cache.pin(chunk(name, 200, fetched)))
  assert ''.join(fetched) == 'pabcdefghab'
  assert bytes(pinned.arrays.result()) == b'p' * 376
  assert cache.peak <= 1000


def test_no_room_while_all_is_pinned(cache):
  entries = [cache.pin(chunk(name, 250)) for name in 'abcd']
  assert cache.pin(chunk('e')) is None
  assert cache.pin(chunk('a', 250)) is entries[0]
  cache.unpin(entries[0])
  assert cache.pin(chunk('e')) is None  # a is pinned twice.
  waiter = threading.Timer(0.1, cache.unpin, entries[:1])
  waiter.start()
  assert bytes(cache.wait_to_pin(chunk('e')).arrays.result()) == b'e' * 76
  waiter.join()


def test_a_share_of_the_room(cache):
  assert cache.pin(chunk('a', 700), share=.75)
  assert cache.pin(chunk('b', 100), share=.75) is None
  assert cache.pin(chunk('b', 100))


def test_a_bound_that_is_too_small_is_named(cache, monkeypatch):
  with pytest.raises(InputError, match='data.remote_cache_gib'):
    cache.wait_to_pin(chunk('a', 1001))
  monkeypatch.setattr(remote, '_PATIENCE', 0.05)
  cache.pin(chunk('a', 1000))
  with pytest.raises(InputError, match='data.remote_cache_gib'):
    cache.wait_to_pin(chunk('b'))


def test_a_chunk_may_turn_out_smaller(cache):
  entry = cache.pin(Chunk('x', 900, lambda: [np.zeros(10, np.uint8)]))
  entry.arrays.result()
  assert cache.bytes == 34 and cache.peak == 900
  assert cache.pin(chunk('y', 900))


def test_what_fails_is_raised_and_tried_again(cache):
  def fail():
    raise InputError('no such thing')

  entry = cache.pin(Chunk('x', 100, fail))
  with pytest.raises(InputError, match='no such thing'):
    entry.arrays.result()
  cache.unpin(entry)
  assert cache.bytes == 0
  assert cache.pin(chunk('x')).arrays.result()[0] == ord('x')


def test_what_has_not_begun_is_called_off(cache):
  hold, fetched = threading.Event(), []

  def slow():
    hold.wait(20)
    return [np.zeros(1, np.uint8)]

  slow_ones = [cache.pin(Chunk(f's{n}', 100, slow)) for n in range(4)]
  waiting = cache.pin(chunk('w', fetched=fetched))
  cache.unpin(waiting)
  hold.set()
  for entry in slow_ones:
    entry.arrays.result()
  assert not fetched and cache.bytes == 4 * 25


def test_what_is_on_disk_and_was_not_reopened_is_still_counted(cache):
  for name in 'abc':
    entry = cache.pin(chunk(name, 300))
    entry.arrays.result()
    cache.unpin(entry)
  hold = threading.Event()
  for _ in range(4):  # All threads have something else to do.
    cache._pool.submit(hold.wait, 20)
  for name in 'abc':  # Pinned again and unpinned before it is reopened.
    cache.unpin(cache.pin(chunk(name, 300)))
  assert cache.bytes == on_disk(cache) == 900
  hold.set()
  for name in 'xyz':
    cache.wait_to_pin(chunk(name, 300)).arrays.result()
    assert on_disk(cache) <= cache.bytes <= 1000


def test_what_could_not_be_written_or_read_leaves_no_bytes(tmp_path):
  def fail():
    raise InputError('no such thing')

  cache = ChunkCache(str(tmp_path), 1000)
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
  try:
    with pytest.raises(InputError, match='may not grow that large'):
      cache.pin(chunk('x', 300)).arrays.result()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert cache.bytes == on_disk(cache) == 0
  damaged = cache.pin(chunk('y', 300))
  damaged.arrays.result()
  cache.unpin(damaged)
  (tmp_path / '0' / 'y').write_bytes(b'b' * 300)
  with pytest.raises(InputError, match='no such thing'):
    cache.pin(Chunk('y', 300, fail)).arrays.result()
  assert cache.bytes == on_disk(cache) == 0
  cache.close()


def test_survives_a_restart(tmp_path):
  fetched = []
  for limit in (1000, 1000, 250):
    cache = ChunkCache(str(tmp_path), limit)
    assert cache.bytes == on_disk(cache) <= limit
    for name in 'abc':
      entry = cache.wait_to_pin(chunk(name, fetched=fetched))
      assert bytes(entry.arrays.result()) == name.encode() * 76
      cache.unpin(entry)
    (tmp_path / '0' / 'd.partial').write_bytes(b'RBXBLK1\0half')
    cache.close()
  assert fetched[:3] == ['a', 'b', 'c'] and len(fetched) == 6


@pytest.mark.parametrize('how', ['flipped', 'cut', 'gone', 'other'])
def test_a_damaged_chunk_is_fetched_again(tmp_path, how):
  fetched = []
  cache = ChunkCache(str(tmp_path), 1000)
  cache.pin(chunk('x', fetched=fetched)).arrays.result()
  cache.close()
  path = tmp_path / '0' / 'x'
  data = bytearray(path.read_bytes())
  if how == 'flipped':
    data[50] ^= 1
  path.write_bytes(data[:40] if how == 'cut' else
                   b'another kind' if how == 'other' else data)
  cache = ChunkCache(str(tmp_path), 1000)
  if how == 'gone':
    path.unlink()
  entry = cache.pin(chunk('x', fetched=fetched))
  assert bytes(entry.arrays.result()) == b'x' * 76
  assert fetched == ['x', 'x'] and cache.bytes == on_disk(cache) == 100
  cache.close()


OTHER = '''
import sys
from robertax.data.remote import ChunkCache
print(ChunkCache(sys.argv[1], 1000).folder, flush=True)
sys.stdin.read()
'''


def test_two_processes_have_a_folder_each(tmp_path, cache):
  assert cache.folder == str(tmp_path / '0')
  other = subprocess.Popen([sys.executable, '-c', OTHER, str(tmp_path)],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           text=True)
  try:
    assert other.stdout.readline().strip() == str(tmp_path / '1')
  finally:
    other.kill()
    other.communicate(timeout=60)
  # A killed one leaves its folder to the next.
  next_one = ChunkCache(str(tmp_path), 1000)
  assert next_one.folder == str(tmp_path / '1')
  next_one.close()


def test_what_the_dead_left_is_removed_and_said(
    tmp_path, monkeypatch, capsys):
  others = [ChunkCache(str(tmp_path), 1000) for _ in range(2)]
  for other in others:
    other.pin(chunk('x')).arrays.result()
  with monkeypatch.context() as patch:  # A disk without locks.
    patch.setattr(files, 'lock', lambda *_: (None, None))
    unlocked = [ChunkCache(str(tmp_path), 1000) for _ in range(2)]
  for other in unlocked:
    other.pin(chunk('x')).arrays.result()
  dead = pathlib.Path(unlocked[1].folder)
  (dead / '.owner').write_text(json.dumps(
      files.this_process() | {'born': 'earlier'}))
  others[1].close()
  mine = [tmp_path / '1' / 'a.jpg', tmp_path / '2024' / 'a.partial']
  for file in mine:  # A person may give any folder as the cache's.
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b'picture')
  remote.empty_untaken(str(tmp_path))
  assert all(file.exists() for file in mine)
  assert len(list(mine[1].parent.iterdir())) == 1
  assert not list((tmp_path / '1').glob('x')) and not list(dead.iterdir())
  assert on_disk(others[0]) == 100 and (
      pathlib.Path(unlocked[0].folder) / 'x').exists()
  said = capsys.readouterr().err
  assert said.count('of a process that is gone are removed') == 2
  assert str(dead) in said and str(tmp_path / '1') in said
  for other in (others[0], *unlocked):
    other.close()


def test_the_dead_are_looked_for_after_a_while(tmp_path, monkeypatch):
  first = ChunkCache(str(tmp_path), 1000)
  second = ChunkCache(str(tmp_path), 1000)
  second.pin(chunk('x')).arrays.result()
  second.close()
  first.close()
  monkeypatch.setattr(remote, '_UNTAKEN', 0.01)
  cache = ChunkCache(str(tmp_path), 1000)
  cache._emptier.join(20)
  assert not list((tmp_path / '1').glob('x'))
  cache.close()


def test_many_threads(cache):
  wrong = []

  def work(seed):
    rng = np.random.default_rng(seed)
    for _ in range(150):
      name = chr(97 + rng.integers(20))
      entry = cache.wait_to_pin(chunk(name, 150))
      if bytes(entry.arrays.result()) != name.encode() * 126:
        wrong.append(name)
      cache.unpin(entry)

  threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong and cache.peak <= 1000
  assert cache.bytes == on_disk(cache) and cache._pinned == 0


def test_one_cache_for_one_config(tmp_path):
  config = DataConfig(remote_cache_dir=str(tmp_path), remote_cache_gib=.5)
  cache = ChunkCache.of(config)
  assert cache is ChunkCache.of(config) and cache.limit == 1 << 29
  cache.close()
  again = ChunkCache.of(config)
  assert again is not cache and again.folder == cache.folder
  again.close()
