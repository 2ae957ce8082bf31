
import os
import shutil

import numpy as np
import pytest

from robertax.corpus import records, shards
from robertax.corpus.records import Manifest
from robertax.data.source import open_source
from robertax.errors import InputError

BACKENDS = ('tf', 'numpy')


@pytest.fixture(params=BACKENDS, name='backend')
def backend_fixture(request):
  if request.param == 'tf' and records.array_record_module() is None:
    pytest.skip('array_record is not installed')
  return request.param


@pytest.fixture(name='copy')
def copy_fixture(two_corpora, tmp_path):
  """A corpus that may be damaged."""
  shutil.copytree(two_corpora[0].folder, tmp_path / 'a')
  return Manifest.read(tmp_path / 'a')


def test_gathers_the_rows_that_were_written(two_corpora, rows, backend):
  source = open_source(two_corpora, 'train', backend)
  assert source.num_records == 71 and source.corpora == ('a', 'b')
  want = rows(41, 32, seed=1) + rows(30, 32, seed=2)
  numbers = np.array([70, 3, 3, 40, 41, 0, 12, 55, 13, 14])
  got = source.gather(numbers)
  for place, number in enumerate(numbers):
    ids, lengths = want[number]
    assert got.ids[place].tolist() == ids.tolist() + [1] * (32 - len(ids))
    assert got.lengths[place].tolist() == lengths.tolist()
    corpus, local = (0, number) if number < 41 else (1, number - 41)
    assert got.documents[place] == 3 * local
    assert got.first_lengths is None
    assert got.example_ids[place] == corpus << 48 | local << 8
  assert (got.ids.dtype, got.lengths.dtype, got.example_ids.dtype) == (
      np.int32, np.int32, np.int64)


def test_gathers_packed_rows(packed_corpus, rows, backend):
  source = open_source(packed_corpus, 'train', backend)
  got = source.gather(np.arange(50)[::-1])
  for place, (ids, lengths) in enumerate(reversed(rows(50, 64, 4, seed=3))):
    assert got.ids[place, :len(ids)].tolist() == ids.tolist()
    n = len(lengths)
    assert got.lengths[place].tolist() == lengths.tolist() + [0] * (4 - n)
    assert got.example_ids[place].tolist() == [
        (49 - place) << 8 | slot for slot in range(n)] + [-1] * (4 - n)
    assert got.documents[place].tolist() == (
        [3 * (49 - place)] * n + [-1] * (4 - n))


def test_backends_agree(two_corpora, packed_corpus):
  pytest.importorskip('array_record')
  for manifests in (two_corpora, packed_corpus):
    a, b = (open_source(manifests, 'train', name) for name in BACKENDS)
    numbers = np.random.default_rng(0).integers(0, a.num_records, 200)
    for left, right in zip(a.gather(numbers), b.gather(numbers)):
      if left is None and right is None:
        continue
      np.testing.assert_array_equal(left, right)


def test_wide_ids(tmp_path, rows, backend):
  # More than 65,536 ids: uint32 on disk.
  folder = tmp_path / 'wide'
  os.makedirs(folder)
  ids = np.array([0, 70_000, 99_999, 2], np.uint32)
  shard = records.ShardWriter(records.shard_path(folder, 'train', 0, 1))
  row = records.RecordRow(ids, [4], [0])
  shard.write(records.encode_record(row))
  shard.close()
  mapped = shards.ArraysWriter(folder, 'train', 'uint32')
  mapped.write(row)
  mapped.close()
  info = records.SplitCounts(num_records=1, num_examples=1, num_tokens=4,
                             shard_lengths=(1,))
  Manifest(str(folder), records.VERSION, 'wide', 'f', 's', 6, 1, 'uint32',
           100_000, 't', ('array_record', 'memmap'), {'train': info}, {},
           0.0).write()
  source = open_source([str(folder)], 'train', backend, pad_id=9)
  assert source.gather([0]).ids.tolist() == [[0, 70_000, 99_999, 2, 9, 9]]


def test_numbers_outside(two_corpora, backend):
  source = open_source(two_corpora, 'train', backend)
  for number in (-1, 71):
    with pytest.raises(IndexError):
      source.gather(np.array([number]))
  assert source.gather(np.array([], np.int64)).ids.shape == (0, 32)


def test_manifests_must_agree(two_corpora, tmp_path, rows, write):
  other = write(tmp_path / 'c', rows(3, 16), length=16, tokenizer='t1')
  with pytest.raises(InputError) as e:
    open_source([two_corpora[0], other], 'train', 'numpy')
  assert str(tmp_path / 'c') in str(e.value)
  for part in ("tokenizer is 't1', not 't0'", 'sequence_length is 16, not 32'):
    assert part in str(e.value)


def test_unknown_backend_and_no_corpus(two_corpora):
  with pytest.raises(InputError, match='numpy, tf'):
    open_source(two_corpora, 'train', 'torch')
  with pytest.raises(InputError, match='no corpus'):
    open_source([], 'train', 'numpy')


def test_missing_file(copy, backend):
  path = (copy.shard_paths('train')[1] if backend == 'tf' else
          shards.array_path(copy.folder, 'train', 'lengths'))
  os.remove(path)
  with pytest.raises(InputError, match=os.path.basename(path)):
    open_source([copy], 'train', backend)


@pytest.mark.parametrize('how', ['truncated', 'empty', 'flipped', 'shorter'])
def test_damaged_shard(copy, how):
  pytest.importorskip('array_record')
  path = copy.shard_paths('train')[1]
  with open(path, 'rb') as f:
    data = bytearray(f.read())
  if how == 'truncated':
    del data[len(data) // 2:]
  elif how == 'empty':
    data.clear()
  elif how == 'flipped':
    for at in range(100, 900):
      data[at] ^= 255
  else:  # A good file that is not this one.
    with open(copy.shard_paths('train')[2], 'rb') as f:
      data = f.read()
  with open(path, 'wb') as f:
    f.write(data)
  source = open_source([copy], 'train', 'tf')
  assert source.gather(np.arange(10)).ids.shape == (10, 32)  # Shard 0.
  with pytest.raises(InputError) as e:
    source.gather(np.arange(copy.splits['train'].num_records))
  assert os.path.basename(path) in str(e.value)
  # Where the manifest has a checksum, it says so.
  assert ('--verify' if how == 'flipped' else 'prepare again') in str(e.value)
  assert '\n' not in str(e.value)


def test_other_record_in_a_shard(copy):
  pytest.importorskip('array_record')
  path = copy.shard_paths('train')[0]
  shard = records.ShardWriter(path)
  for number in range(14):
    shard.write(b'no tf.train.Example' if number == 6 else
                next(iter(read(copy.shard_paths('train')[1]))))
  shard.close()
  with pytest.raises(InputError, match='00000-of-00003: record 6 is damaged'):
    open_source([copy], 'train', 'tf').gather(np.arange(14))


def read(path):
  return records.array_record_module().ArrayRecordReader(path).read_all()


def test_row_longer_than_its_manifest_says(tmp_path, rows, write, backend):
  manifest = write(tmp_path / 'a', rows(5, 32), length=16)
  with pytest.raises(InputError, match='damaged'):
    open_source([manifest], 'train', backend).gather(np.arange(5))


def test_ids_outside_the_vocabulary(tmp_path, rows, write, backend):
  manifest = write(tmp_path / 'a', rows(5, 32), length=32, vocab_size=50)
  with pytest.raises(InputError, match='vocabulary size 50'):
    open_source([manifest], 'train', backend).gather(np.arange(5))
