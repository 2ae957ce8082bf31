
import os
import subprocess
import sys

import pytest

from robertax.errors import InputError
from robertax.files import locked

HOLD = ('import sys; sys.path[:] = {path!r}\n'
        'from robertax.files import locked\n'
        'with locked({folder!r}):\n  print("held", flush=True)\n  {then}')


def start(folder, then):
  process = subprocess.Popen(
      [sys.executable, '-c',
       HOLD.format(path=sys.path, folder=str(folder), then=then)],
      stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True,
      stderr=subprocess.PIPE)
  return process


def test_the_second_waits_for_the_first(tmp_path):
  first = start(tmp_path / 'a', 'input()')
  assert first.stdout.readline() == 'held\n'
  second = start(tmp_path / 'a', 'pass')
  assert 'Waiting for another' in second.stderr.readline()
  assert second.poll() is None
  first.kill()  # However it ends, the lock goes with it.
  assert second.communicate(timeout=20)[0] == 'held\n'
  assert second.returncode == 0
  first.communicate()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='file/a'):
    with locked(str(tmp_path / 'file' / 'a')):
      pass


def test_it_is_free_again(tmp_path):
  for _ in range(2):
    with locked(str(tmp_path)):
      assert os.path.isdir(tmp_path)
