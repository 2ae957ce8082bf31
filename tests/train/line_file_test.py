"""Lines on a disk that fails wait, and come once, whole and in order."""

import builtins
import errno
import os

import pytest

from benchmarks import fake_remote
from robertax.errors import InputError, TakenOver
from robertax.train import writer
from robertax.train.writer import LineFile


class Failing:
  """A file that takes so many bytes more, then says the disk is full."""

  def __init__(self, file, room):
    self._file, self._room = file, room

  def write(self, data):
    room = self._room[0]
    if not room:
      raise OSError(errno.ENOSPC, 'full')
    done = self._file.write(data[:room])
    self._room[0] -= done
    return done

  def __getattr__(self, name):
    return getattr(self._file, name)


@pytest.fixture
def room(monkeypatch):
  """Bytes that the disk still takes; a list of one."""
  left = [10 ** 9]
  plain = builtins.open

  def opened(path, mode='r', **named):
    file = plain(path, mode, **named)
    return Failing(file, left) if '+' in mode else file

  monkeypatch.setattr('robertax.train.writer.open', opened, raising=False)
  return left


def test_what_a_full_disk_refused_is_written_later(tmp_path, room, capfd):
  path = tmp_path / 'a.jsonl'
  file = LineFile(str(path), 'kept\n')
  file.add('one\n')
  room[0] = 2
  for line in ('two\n', 'three\n', 'four\n'):
    file.add(line)  # Half of `two` is there now.
  assert file.waiting == ['two\n', 'three\n', 'four\n']
  said = capfd.readouterr().err
  assert said.count('the disk is full') == 1 and str(path) in said
  room[0] = 10 ** 9
  file.add('five\n')
  assert 'written again; 4 lines' in capfd.readouterr().err
  file.close()
  assert path.read_text() == 'kept\none\ntwo\nthree\nfour\nfive\n'


def test_lines_that_are_lost_at_the_end_are_an_error(tmp_path, room):
  file = LineFile(str(tmp_path / 'a'))
  room[0] = 0
  file.add('one\n')
  with pytest.raises(InputError, match='the last 1 lines'):
    file.close()
  file = LineFile(str(tmp_path / 'b'), strict=True)
  with pytest.raises(InputError, match='the disk is full'):
    file.add('one\n')
  file.close(must=False)


def test_in_a_storage_lines_wait_for_a_minute_and_none_is_lost(
    tmp_path, monkeypatch):
  fake_remote.mount(tmp_path)
  path = tmp_path / 'a.jsonl'
  file = LineFile('fake://a.jsonl', 'kept\n')
  for line in ('one\n', 'two\n'):
    file.add(line)
  assert path.read_text() == 'kept\n'
  monkeypatch.setattr(writer, 'REMOTE_SECONDS', 0)
  file.add('three\n')
  assert path.read_text() == 'kept\none\ntwo\nthree\n'
  monkeypatch.undo()
  file.add('four\n')
  file.flush()  # As before a checkpoint.
  assert path.read_text().endswith('three\nfour\n')
  file.add('five\n')
  file.close()
  assert path.read_text() == 'kept\none\ntwo\nthree\nfour\nfive\n'


def test_who_has_lost_the_workdir_writes_nothing_and_it_is_no_full_disk(
    tmp_path):
  lost = []

  def check():
    if lost:
      raise TakenOver('gone')

  path = tmp_path / 'a'
  file = LineFile(str(path), check=check)
  file.add('one\n')
  lost.append(True)
  with pytest.raises(TakenOver):
    file.add('two\n')
  file.close()
  assert path.read_text() == 'one\n'


def test_a_file_that_vanishes_and_comes_back(tmp_path, capfd):
  """As with a network disk that is away for a while."""
  path = tmp_path / 'w' / 'a'
  path.parent.mkdir()
  file = LineFile(str(path))
  file.add('one\n')
  os.rename(tmp_path / 'w', tmp_path / 'away')
  file.add('two\n')
  assert 'does not exist, or vanished' in capfd.readouterr().err
  os.rename(tmp_path / 'away', tmp_path / 'w')
  file.add('three\n')
  file.close()
  assert path.read_text() == 'one\ntwo\nthree\n'
