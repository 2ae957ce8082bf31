
import numpy as np
import pytest

from robertax.corpus import records, shards
from robertax.corpus.records import Manifest, RecordRow, SplitCounts
from robertax.corpus.shards import ArraysWriter
from robertax.errors import InputError

ROWS = [RecordRow(np.array([0, 5, 2, 0, 6, 2]), [3, 3], [0, 1]),
        RecordRow(np.array([0, 7]), [2], [4])]


@pytest.fixture
def manifest(tmp_path):
  return Manifest(
      folder=str(tmp_path), version=records.VERSION, corpus='a', format='f',
      sentences='s', sequence_length=8, max_examples_per_row=2,
      dtype='uint16', vocab_size=400, tokenizer='t', forms=('memmap',),
      counts={}, seconds=0.,
      splits={'train': SplitCounts(num_records=2, num_examples=3,
                                   num_tokens=8)})


def write(folder):
  writer = ArraysWriter(folder, 'train', np.uint16)
  for row in ROWS:
    writer.write(row)
  return writer


def test_arrays_are_the_rows(manifest):
  write(manifest.folder).close()
  arrays = shards.open_arrays(manifest, 'train')
  assert [a.tolist() for a in arrays] == [
      [0, 5, 2, 0, 6, 2, 0, 7], [0, 6, 8], [3, 3, 2], [0, 2, 3], [0, 1, 4],
      [], []]
  assert [a.dtype for a in arrays] == [
      np.uint16, np.int64, np.int32, np.int64, np.int32, np.int32, np.int32]


def test_the_files_are_numpys(manifest):
  write(manifest.folder).close()
  path = shards.array_path(manifest.folder, 'train', 'row_starts')
  np.testing.assert_array_equal(np.load(path), [0, 6, 8])
  assert open(path, 'rb').read(6) == b'\x93NUMPY'


def test_unfinished_files_have_no_name(manifest, tmp_path):
  writer = write(manifest.folder)
  assert all(p.name.endswith('.partial') for p in tmp_path.iterdir())
  writer.abandon()
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('field', shards.MappedArrays._fields)
def test_missing_and_short_files_are_named(manifest, field):
  write(manifest.folder).close()
  path = shards.array_path(manifest.folder, 'train', field)
  content = open(path, 'rb').read()
  with open(path, 'wb') as f:
    f.write(content[:-2])
  with pytest.raises(InputError, match='rename its folder'):
    shards.open_arrays(manifest, 'train')
  with open(path, 'wb'):
    pass
  with pytest.raises(InputError, match=field):
    shards.open_arrays(manifest, 'train')
