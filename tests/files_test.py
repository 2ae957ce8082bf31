"""files: the same functions on a folder, and on a storage that epath knows."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading

import pytest

from benchmarks import fake_remote
from robertax import files
from robertax.errors import InputError, is_transient


@pytest.fixture(params=['local', 'remote'], name='root')
def root_fixture(request, tmp_path):
  if request.param == 'local':
    return str(tmp_path)
  fake_remote.mount(tmp_path)
  return 'fake://bucket'


@pytest.fixture(name='storage')
def storage_fixture(tmp_path):
  return fake_remote.mount(tmp_path)


def write(path, text):
  with files.open(path, 'w') as f:
    f.write(text)


def test_files_and_folders(root):
  folder = files.join(root, 'a', 'b')
  assert not files.exists(folder)
  files.makedirs(folder)
  files.makedirs(folder)
  write(files.join(folder, 'x.txt'), 'ä\nb\n')
  write(files.join(folder, 'y.txt'), '')
  assert files.isdir(folder) and not files.isdir(files.join(folder, 'x.txt'))
  assert files.listdir(folder) == ['x.txt', 'y.txt']
  assert files.stat(files.join(folder, 'x.txt')).size == 5
  assert files.stat(files.join(folder, 'x.txt')).modified > 1e18
  with files.open(files.join(folder, 'x.txt'), 'rb') as f:
    assert f.read() == 'ä\nb\n'.encode()
  with files.open(files.join(folder, 'x.txt')) as f:
    assert list(f) == ['ä\n', 'b\n']
  with files.open(files.join(folder, 'x.txt')) as f:
    assert f.readlines() == ['ä\n', 'b\n']
  assert files.glob(files.join(root, 'a', '*', '*.txt')) == [
      files.join(folder, name) for name in ('x.txt', 'y.txt')]
  assert list(files.walk(files.join(root, 'a')))[-1][::2] == (
      folder, ['x.txt', 'y.txt']) or sorted(
          list(files.walk(files.join(root, 'a')))[-1][2]) == ['x.txt', 'y.txt']
  files.replace(files.join(folder, 'x.txt'), files.join(folder, 'y.txt'))
  assert files.stat(files.join(folder, 'y.txt')).size == 5
  files.remove(files.join(folder, 'y.txt'))
  assert files.listdir(folder) == []
  files.rmtree(files.join(root, 'a'))
  assert not files.exists(folder)


def test_no_utf8_is_said_so(root):
  files.makedirs(root)
  files.write_bytes(files.join(root, 'x'), b'\xff')
  with pytest.raises(UnicodeDecodeError):
    read(files.join(root, 'x'))


def test_what_is_not_there_is_an_error_of_os(root):
  missing = files.join(root, 'missing')
  for look in (files.open, files.stat, files.remove, files.rmtree,
               lambda path: files.read_range(path, 0, 1)):
    with pytest.raises(FileNotFoundError):
      look(missing)


def test_ranges(root):
  files.makedirs(root)
  path = files.join(root, 'x')
  with files.open(path, 'wb') as f:
    f.write(bytes(range(200)))
  assert files.read_range(path, 7, 50) == bytes(range(7, 50))
  assert files.read_range(path, 7, 7) == b''
  with pytest.raises(OSError, match='ends before byte 201'):
    files.read_range(path, 190, 201)


def test_ranges_are_asked_for_again(storage, monkeypatch):
  waits = []
  monkeypatch.setattr(files.time, 'sleep', waits.append)
  with files.open('fake://x', 'wb') as f:
    f.write(b'abc')
  storage.failing = 2
  assert files.read_range('fake://x', 1, 3) == b'bc'
  assert [w for w in waits if w] == [0.25, 1.0]
  storage.failing = 9
  with pytest.raises(OSError, match='busy'):
    files.read_range('fake://x', 1, 3)


def test_ranges_of_buckets_go_through_tensorstore(tmp_path, monkeypatch):
  # file:// in place of gs://: the same library, the same calls.
  (tmp_path / 'k').write_bytes(bytes(range(100)))
  monkeypatch.setattr(files, '_KV_SCHEMES', ('file',))
  monkeypatch.setattr(files, '_TRIES', 1)
  url = f'file://{tmp_path}'
  monkeypatch.setattr(
      files, '_key_values',
      lambda root: pytest.importorskip('tensorstore').KvStore.open(
          f'{url}/').result())
  assert files.read_range('file://bucket/k', 10, 20) == bytes(range(10, 20))
  with pytest.raises(FileNotFoundError):
    files.read_range('file://bucket/none', 0, 1)
  with pytest.raises(OSError):
    files.read_range('file://bucket/k', 90, 120)


def test_copy(root, tmp_path):
  (tmp_path / 'here').write_text('some\ntext')
  files.copy(str(tmp_path / 'here'), files.join(root, 'there'))
  files.copy(files.join(root, 'there'), str(tmp_path / 'back'))
  assert (tmp_path / 'back').read_text() == 'some\ntext'
  assert not list(tmp_path.glob('**/*.partial'))


def read(path):
  with files.open(path) as f:
    return f.read()


def test_write_text_leaves_the_old_file_or_the_new(root, monkeypatch):
  path = files.join(root, 'x')
  files.write_text(path, 'old')
  files.write_text(path, 'new')
  assert read(path) == 'new'

  class Killed(BaseException):
    pass

  def killed(*_):
    raise Killed

  monkeypatch.setattr(os, 'replace', killed)
  with pytest.raises(Killed):
    files.write_text(path, 'half')
  assert read(path) == 'new'


def test_no_recursive_glob_of_a_bucket(storage):
  with pytest.raises(InputError, match=r'\*\* is for local paths'):
    files.glob('fake://bucket/**/x')


def test_local_paths_open_as_before(tmp_path):
  assert not files.is_remote('/a:b/c') and files.is_remote('gs://b')
  assert files.absolute('~') == os.path.expanduser('~')
  assert files.absolute('x') == os.path.join(os.getcwd(), 'x')
  assert files.absolute('gs://b/x/') == 'gs://b/x'
  with files.open(str(tmp_path / 'x'), 'w') as f:
    assert f.fileno()


def test_a_path_of_etils_is_absolute_or_a_url(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for url in ('gs://bucket', 'gs://bucket/x/y', 's3://bucket/x', 'az://b/x'):
    assert str(files.to_epath(url)) == url
    assert str(files.to_epath(url) / 'z') == f'{url}/z'
  assert str(files.to_epath('x')) == f'{tmp_path}/x'
  assert str(files.to_epath('/x')) == '/x'


def test_an_unknown_scheme_is_named():
  with pytest.raises(InputError, match='nothing here reads none://'):
    files.exists('none://x')


# In a process of its own: epath looks for tensorflow once.
PROBE = '''
import sys
from robertax import files
from robertax.errors import InputError
class Missing:
  def find_spec(self, name, *_):
    if name in ('gcsfs', 's3fs', 'adlfs'):
      raise ModuleNotFoundError(f'No module named {name}')
sys.meta_path.insert(0, Missing())
for path in ('gs://bucket-x/y', 's3://b/x'):
  try:
    files.exists(path)
  except InputError as e:
    print(e)
assert 'tensorflow' not in sys.modules
'''


def test_a_missing_package_is_named_with_the_command():
  pytest.importorskip('fsspec')
  done = subprocess.run(
      [sys.executable, '-c', PROBE], capture_output=True, text=True,
      timeout=120, env=os.environ | {'EPATH_USE_TF': 'no'})
  assert done.returncode == 0, done.stderr
  gs, s3 = done.stdout.splitlines()
  assert 'gs://bucket-x/y' in gs and 'pip install gcsfs' in gs
  assert 's3://b/x' in s3 and 'pip install s3fs' in s3


def test_words_of_a_storage_become_errors_of_os():
  class NotFoundError(Exception):
    pass

  class UnimplementedError(Exception):
    pass

  class FailedPreconditionError(Exception):
    pass

  def raised(error):
    with pytest.raises((OSError, InputError)) as e:
      with files._remote_errors('s3://b/x'):
        raise error
    return e.value

  assert isinstance(raised(NotFoundError('gone')), FileNotFoundError)
  found = raised(FailedPreconditionError('no host\n\t when reading'))
  assert found.errno == errno.EIO and found.strerror == 'no host'
  found = raised(TimeoutError('no answer'))  # As of tensorstore: no number.
  assert is_transient(found) and found.strerror == 'no answer'
  assert found.filename == 's3://b/x' and isinstance(found, TimeoutError)
  assert 'EPATH_USE_TF=no' in str(raised(UnimplementedError(
      "File system scheme 's3' not implemented (file: 's3://b/x')")))


def test_many_threads_read_at_once(storage):
  with files.open('fake://x', 'wb') as f:
    f.write(bytes(range(256)) * 4)
  wrong = []

  def look(number):
    for start in range(number, 1000, 13):
      if files.read_range('fake://x', start, start + 3) != bytes(
          (start + i) % 256 for i in range(3)):
        wrong.append(start)

  threads = [threading.Thread(target=look, args=(n,)) for n in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong


@pytest.fixture(name='calls')
def calls_fixture(monkeypatch):
  """What is forced to the disk and renamed, in order, by the real calls."""
  calls, fsync, replace = [], os.fsync, os.replace

  def synced(handle):
    calls.append(('sync', os.path.realpath(f'/proc/self/fd/{handle}')))
    fsync(handle)

  def replaced(path, target):
    replace(path, target)
    calls.append(('name', str(target)))

  monkeypatch.setattr(os, 'fsync', synced)
  monkeypatch.setattr(os, 'replace', replaced)
  return calls


@pytest.mark.skipif(not os.path.isdir('/proc/self/fd'), reason='no /proc')
def test_bytes_are_on_the_disk_before_the_name_and_the_name_at_the_end(
    tmp_path, calls):
  path = str(tmp_path / 'x')
  files.write_text(path, 'new')
  (how, partial), *rest = calls
  assert how == 'sync' and partial.startswith(f'{path}.')
  assert rest == [('name', path), ('sync', str(tmp_path))]
  calls.clear()
  made = tmp_path / 'made.partial'
  (made / 'inside').mkdir(parents=True)
  (made / 'a').write_text('a')
  (made / 'inside' / 'b').write_text('b')
  files.publish(str(made), str(tmp_path / 'made'))
  assert {name for how, name in calls[:4]} == {
      str(made / name) for name in ('', 'a', 'inside', 'inside/b')}
  assert calls[4:] == [('name', str(tmp_path / 'made')),
                       ('sync', str(tmp_path))]


def test_what_a_killed_process_staged_for_a_bucket_goes_with_the_next(
    tmp_path, monkeypatch):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  code = ('import sys\nfrom robertax import files\n'
          'files.staging("gs://bucket/x")\nprint("there", flush=True)\n'
          'sys.stdin.read()')
  killed = subprocess.Popen(
      [sys.executable, '-c', code], stdin=subprocess.PIPE,
      stdout=subprocess.PIPE, text=True, env=os.environ | {
          'TMPDIR': str(tmp_path), 'PYTHONPATH': os.pathsep.join(sys.path)})
  assert killed.stdout.readline() == 'there\n'
  theirs, = tmp_path.iterdir()
  mine = files.staging('gs://bucket/y')
  assert theirs.exists()  # It lives.
  files.discard(mine)
  killed.kill()
  killed.communicate(timeout=20)
  mine = files.staging('gs://bucket/y')
  assert [str(path) for path in tmp_path.iterdir()] == [mine]
  files.discard(mine)
  assert not list(tmp_path.iterdir())


def test_what_is_no_file_is_written_in_its_place(tmp_path):
  pipe = tmp_path / 'pipe'
  os.mkfifo(pipe)
  reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
  files.write_text(str(pipe), 'for a pipe')
  assert os.read(reader, 99) == b'for a pipe'
  os.close(reader)
  files.write_text(os.devnull, 'x')
  assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
  with open(tmp_path / 'out', 'w') as out:
    out.write('before ')
    out.flush()
    (tmp_path / 'link').symlink_to(f'/proc/self/fd/{out.fileno()}')
    for path in (f'/dev/fd/{out.fileno()}', str(tmp_path / 'link')):
      files.write_text(path, 'file ')
    out.write('after')
  assert (tmp_path / 'out').read_text() == 'before file file after'
  assert {p.name for p in tmp_path.iterdir()} == {'pipe', 'out', 'link'}


def test_a_similar_name_is_told(tmp_path):
  (tmp_path / 'glue').mkdir()
  assert files.similar(f'{tmp_path}/GLUEE') == f', but {tmp_path}/glue does'
  assert files.similar(f'{tmp_path}/other') == ''
  assert files.similar(f'{tmp_path}/no/such') == ''


def test_only_old_unfinished_files_of_ours_are_removed(tmp_path):
  names = ['metrics.jsonl.0123abcd.partial', 'report.html.89abcdef.partial',
           'dataset.partial', 'config.json']
  for name in names:
    (tmp_path / name).write_text('')
  (tmp_path / 'hf.01234567.partial').mkdir()
  for name in os.listdir(tmp_path):
    if name != names[1]:  # Somebody is writing it now.
      os.utime(tmp_path / name, (0, 0))
  files.remove_partials(str(tmp_path))
  assert sorted(os.listdir(tmp_path)) == sorted(
      [*names[1:], 'hf.01234567.partial'])
