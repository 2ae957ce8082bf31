
import builtins
import dataclasses
import re
import resource
import subprocess
import sys

import numpy as np
import pytest

from robertax.corpus import records
from robertax.corpus.records import (
    Manifest,
    RecordRow,
    ShardWriter,
    SplitCounts,
    encode_record,
)
from robertax.errors import InputError


@pytest.fixture
def manifest(tmp_path):
  return Manifest(
      folder=str(tmp_path), version=records.VERSION, corpus='a',
      format='full_sentences', sentences='prose', sequence_length=32,
      max_examples_per_row=1, dtype='uint16', vocab_size=400, tokenizer='f',
      forms=('array_record',), counts={'over_long_sentences': 1}, seconds=1.5,
      splits={'train': SplitCounts(num_records=3, shard_lengths=(2, 1)),
              'eval': SplitCounts(num_records=1, shard_lengths=(1,))})


def test_manifest_is_read_as_written(manifest):
  manifest.write()
  assert Manifest.read(manifest.folder) == manifest
  assert manifest.shard_paths('train')[1].endswith(
      'robertax-train.array_record-00001-of-00002')
  assert manifest.splits['train']['num_records'] == 3


def test_check_names_every_difference(manifest):
  manifest.check(tokenizer='f', sequence_length=32)
  with pytest.raises(InputError) as e:
    manifest.check(tokenizer='g', format='x', sequence_length=32)
  assert "tokenizer is 'f', wanted 'g'" in str(e.value)
  assert "format is 'full_sentences', wanted 'x'" in str(e.value)
  assert 'sequence_length' not in str(e.value)


@pytest.mark.parametrize('content, says', [
    (None, 'no finished records'), ('', 'damaged'), ('{}', 'damaged'),
    ('[]', 'damaged'), ('{"version": 2}', 'damaged'),
    ('{"version": 0}', 'version 0')])
def test_a_wrong_manifest_is_named(tmp_path, content, says):
  if content is not None:
    (tmp_path / 'manifest.json').write_text(content)
  with pytest.raises(InputError, match=says) as e:
    Manifest.read(tmp_path)
  assert str(tmp_path) in str(e.value)


def write_shard(path, number=3):
  writer = ShardWriter(str(path))
  for i in range(number):
    writer.write(encode_record(RecordRow(
        np.array([0, i, 2], np.uint16), [3], [i])))
  return writer


def test_a_shard_appears_when_it_is_whole(tmp_path, manifest):
  first, second = manifest.shard_paths('train')
  writer = write_shard(first, 2)
  (partial,) = tmp_path.iterdir()
  assert re.fullmatch(r'robertax-train.array_record-00000-of-00002\.\w+'
                      r'\.partial', partial.name)
  writer.close()
  write_shard(second, 1).close()
  assert [(row.ids.tolist(), *row.documents) for row in
          records.read_rows(manifest, 'train')] == [
              ([0, 0, 2], 0), ([0, 1, 2], 1), ([0, 0, 2], 0)]
  write_shard(tmp_path / 'x').abandon()
  assert len(list(tmp_path.iterdir())) == 2


def test_missing_and_damaged_shards_are_named(manifest):
  (path,) = manifest.shard_paths('eval')
  with pytest.raises(InputError, match='00000-of-00001: damaged or missing'):
    list(records.read_rows(manifest, 'eval'))
  with open(path, 'wb') as f:
    f.write(b'no shard' * 99)
  with pytest.raises(InputError, match='00000-of-00001: damaged or missing'):
    list(records.read_rows(manifest, 'eval'))


def test_a_folder_that_is_not_there_is_named(tmp_path):
  with pytest.raises(InputError, match='does not exist'):
    ShardWriter(str(tmp_path / 'absent' / 'x'))


def test_a_file_too_large_for_the_disk_is_named(tmp_path):
  """array_record tells of a failed write in words, when closed."""
  code = (f'from robertax.corpus.records import ShardWriter\n'
          f'import os\n'
          f'w = ShardWriter({str(tmp_path / "x")!r})\n'
          f'for _ in range(3000): w.write(os.urandom(1000))\n'
          f'w.close()')
  done = subprocess.run(
      [sys.executable, '-c', 'import sys; sys.path[:] = '
       f'{sys.path!r}\n{code}'], capture_output=True, text=True,
      preexec_fn=lambda: resource.setrlimit(
          resource.RLIMIT_FSIZE, (100_000, 100_000)))
  assert done.returncode
  assert 'InputError: cannot write' in done.stderr
  assert 'files may not grow that large' in done.stderr


@pytest.mark.parametrize('words, says', [
    ('write() failed: No space left on device; at byte 5', 'disk is full'),
    ('open() failed: Permission denied; opening the/file.1.partial',
     'no permission'),
    ('something new', 'something new')])
def test_array_records_words_are_understood(words, says):
  with pytest.raises(InputError, match=says) as e:
    with records.writing_records('the/file'):
      raise RuntimeError(words)
  assert 'the/file' in str(e.value)


def test_json_appears_whole_or_not_at_all(tmp_path, manifest):
  manifest.write()
  with pytest.raises(TypeError):
    dataclasses.replace(manifest, counts={'a': object()}).write()
  assert Manifest.read(tmp_path) == manifest


def test_a_manifest_that_contradicts_itself_is_damaged(manifest):
  split = SplitCounts(num_records=7, shard_lengths=(2, 1))
  dataclasses.replace(
      manifest, splits=manifest.splits | {'train': split}).write()
  with pytest.raises(InputError, match='damaged .*num_records'):
    Manifest.read(manifest.folder)


@pytest.mark.parametrize('error, absent', [
    (ModuleNotFoundError('none'), True),
    # What a Ctrl-C in the middle of the import becomes, too.
    (ImportError('while initializing the extension'), False)])
def test_a_broken_array_record_is_not_an_absent_one(
    monkeypatch, error, absent):
  real = builtins.__import__

  def fake(name, *rest):
    if name.startswith('array_record'):
      raise error
    return real(name, *rest)

  monkeypatch.setattr(builtins, '__import__', fake)
  if absent:
    assert records.array_record_module() is None
  else:
    with pytest.raises(ImportError):
      records.array_record_module()
