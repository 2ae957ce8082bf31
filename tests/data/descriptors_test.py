"""Few descriptors, and caches of other users: both in a process of their own.

The tests' own process has its limit and its user, which they cannot change.
"""

import errno
import gc
import glob
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from robertax import corpus, descriptors, files
from robertax.config import DataConfig, TokenizerConfig
from robertax.descriptors import Kept, mapped
from robertax.errors import InputError, raise_unless_damage, writing

NOBODY = 65534
SCRIPT = '''
import os, resource, sys
sys.path[:] = {path!r}
import numpy as np
from robertax import corpus
from robertax.config import DataConfig, TokenizerConfig
from robertax.data.source import open_source
from robertax.corpus.records import array_record_module
array_record_module()

def read():
  for backend in ('tf', 'numpy'):
    made = corpus.prepare(DataConfig(**{data!r}, backend=backend),
                          TokenizerConfig(vocab_size=270), progress=False)
    train = open_source(made.manifests, 'train', backend)
    held = [open_source([m], 'eval', backend) for m in made.manifests]
    for source in (train, *held, train):
      source.gather(np.arange(source.num_records))
    print(len(held), resource.getrlimit(resource.RLIMIT_NOFILE)[0])

if {user}:
  read()  # Another user may not enter the folder of the packages.
  if not os.geteuid():
    os.setgroups([])
    os.setgid({user})
    os.setuid({user})
  try:
    open({data!r}['cache_dir'] + '/x', 'w')
    sys.exit('the cache can be written')
  except OSError:
    pass
else:
  resource.setrlimit(resource.RLIMIT_NOFILE, (30, 50))
read()
'''


def write_many(folder, count):
  """Prepares corpora; returns the section of their config."""
  for number in range(count):
    with open(f'{folder}/c{number:03d}.txt', 'w') as f:
      f.write('\n\n'.join(f'Text {n} is about gears. It ends.'
                          for n in range(20)))
  data = dict(corpora=f'{folder}/*.txt', cache_dir=f'{folder}/cache',
              sequence_length=32, workers=1)
  corpus.prepare(DataConfig(**data), TokenizerConfig(vocab_size=270),
                 memmap=True, progress=False)
  return data


def run(data, user=0):
  return subprocess.run(
      [sys.executable, '-c', SCRIPT.format(
          path=sys.path, data=data, user=user)],
      capture_output=True, text=True, timeout=120)


def test_many_corpora_under_a_hard_limit(tmp_path, monkeypatch):
  monkeypatch.setattr(files, '_sync', lambda path: None)  # It is slow.
  ended = run(write_many(tmp_path, 25))  # 50 shards and 250 arrays.
  assert ended.stdout == '25 50\n25 50\n', ended.stderr


def test_a_finished_cache_of_another_user_is_read(monkeypatch):
  """Root gives up its rights; another user's own rights are taken away."""
  folder = tempfile.mkdtemp()  # Others may not enter pytest's own.
  try:
    os.chmod(folder, 0o755)
    data = write_many(folder, 2)
    inside = glob.glob(f'{folder}/cache/**', recursive=True)
    for path in inside:
      os.chmod(path, 0o555 if os.path.isdir(path) else 0o444)
    before = {path: os.stat(path).st_mtime_ns for path in inside}
    ended = run(data, user=os.geteuid() or NOBODY)
    assert ended.stdout.count('2 ') == 4, ended.stderr
    inside = glob.glob(f'{folder}/cache/**', recursive=True)
    assert before == {path: os.stat(path).st_mtime_ns for path in inside}
  finally:
    for path in glob.glob(f'{folder}/**/', recursive=True):
      os.chmod(path, 0o755)
    shutil.rmtree(folder)


def test_a_mapped_file_keeps_no_descriptor(tmp_path):
  path = tmp_path / 'a.bin'
  path.write_bytes(bytes(range(256)) * 50)
  before = len(os.listdir('/proc/self/fd'))
  array = mapped(str(path))
  np.testing.assert_array_equal(array, np.fromfile(path, np.uint8))
  assert len(os.listdir('/proc/self/fd')) == before
  part = array[4:].view('<i4')
  del array
  gc.collect()
  assert part[0] == np.fromfile(path, '<i4')[1] and not part.flags.writeable
  del part
  gc.collect()
  assert str(path) not in open('/proc/self/maps').read()
  (tmp_path / 'empty').touch()
  assert not len(mapped(str(tmp_path / 'empty')))
  with pytest.raises(FileNotFoundError):
    mapped(str(tmp_path / 'absent'))


def test_the_least_recently_used_is_let_go():
  class Owner:
    pass
  kept, made, owners = Kept(2), [], [Owner()]

  def get(key):
    return kept.get(owners[0], key, lambda: made.append(key) or [key])
  first = get('a')
  for key in 'abacab':
    get(key)
  assert ''.join(made) == 'abcb' and get('a') is first
  kept.drop(id(owners[0]), 'a')
  assert get('a') == ['a'] and get('a') is not first
  owners.clear()
  gc.collect()
  assert not kept._held


@pytest.mark.parametrize('error', [
    OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    RuntimeError('open() failed: Too many open files; opening x'),
    OSError('IOError: Too many open files')])
def test_too_many_open_files_are_no_damage(error):
  with pytest.raises(InputError, match='cannot read x: Too many.*ulimit -n'):
    raise_unless_damage(error, 'x')
  raise_unless_damage(RuntimeError('hash mismatch'), 'x')
  raise_unless_damage(OSError('Invalid thrift'), 'x')
  with pytest.raises(OSError, match='Input/output') as e:
    raise_unless_damage(RuntimeError('pread() failed: Input/output error'), 'x')
  assert e.value.errno == errno.EIO


def test_too_many_open_files_are_named_when_writing(tmp_path):
  with pytest.raises(InputError, match='Too many open files'):
    with writing(tmp_path):
      raise OSError(errno.EMFILE, 'x', f'{tmp_path}/a')
  assert descriptors.limit() >= 64
