"""Damaged records: each is seen or harmless, and may be left out and counted.
"""

import os
import random
import shutil

import numpy as np
import pytest

from robertax import files
from robertax.config import DataConfig
from robertax.corpus import records, shards
from robertax.corpus.records import Manifest
from robertax.data.rows import Pieces
from robertax.data.source import open_source
from robertax.errors import InputError

FLIPS = int(os.environ.get('ROBERTAX_FLIPS', 40))
SKIP = DataConfig(bad_records='skip')


@pytest.fixture(name='copy')
def copy_fixture(two_corpora, tmp_path):
  """A corpus with the checksums that `prepare` writes; it may be damaged."""
  shutil.copytree(two_corpora[0].folder, tmp_path / 'a')
  manifest = Manifest.read(str(tmp_path / 'a'))
  names = [name for name in os.listdir(manifest.folder)
           if name != records.MANIFEST]
  manifest.checksums.update(files.checksums(manifest.folder, names))
  manifest.write()
  return Manifest.read(manifest.folder)


def data_files(manifest, backend):
  if backend == 'tf':
    return manifest.shard_paths('train')
  return [f'{manifest.folder}/{name}' for name in shards.array_names('train')]


@pytest.mark.parametrize('backend', ['tf', 'numpy'])
def test_a_flipped_bit_is_seen_or_harmless(copy, backend):
  if backend == 'tf' and records.array_record_module() is None:
    pytest.skip('array_record is not installed')
  everything = np.arange(copy.splits['train'].num_records)
  sound = open_source([copy], 'train', backend).gather(everything)
  chance, seen = random.Random(backend), 0
  # Zeros fill array_record's blocks up, and are nobody's.
  places = [(path, at) for path in data_files(copy, backend)
            for at, byte in enumerate(open(path, 'rb').read()) if byte]
  for path, at in chance.sample(places, FLIPS):
    with open(path, 'r+b') as f:
      f.seek(at)
      byte = f.read(1)[0]
      f.seek(at)
      f.write(bytes([byte ^ 1 << chance.randrange(8)]))
    try:
      found = open_source([copy], 'train', backend).gather(everything)
      for one, other in zip(found, sound):
        np.testing.assert_array_equal(one, other)  # None is None.
    except InputError as e:
      seen += 1
      assert copy.folder in str(e)
    with open(path, 'r+b') as f:
      f.seek(at)
      f.write(bytes([byte]))
  print(f'{backend}: {seen} of {FLIPS} flips seen, the rest harmless')
  assert seen > FLIPS / 2


def damage_record(copy, number):
  """Of the first shard; records are alone in their chunks."""
  path = copy.shard_paths('train')[0]
  reader = records.array_record_module().ArrayRecordReader(path)
  content = reader.read([number])[0]
  reader.close()
  whole = open(path, 'rb').read()
  at = whole.index(content)
  with open(path, 'r+b') as f:
    f.seek(at + 3)
    f.write(bytes([whole[at + 3] ^ 4]))
  return path


def test_a_damaged_record_ends_the_run_or_is_left_out(copy, capsys):
  if records.array_record_module() is None:
    pytest.skip('array_record is not installed')
  everything = np.arange(copy.splits['train'].num_records)
  sound = open_source([copy], 'train', 'tf').gather(everything)
  path = damage_record(copy, 3)
  with pytest.raises(InputError, match='record 3 is damaged: '):
    open_source([copy], 'train', 'tf').gather(everything)
  source = open_source([copy], 'train', 'tf', config=SKIP)
  assert not source.bad.count()
  for _ in range(2):
    found = source.gather(everything)
  assert source.bad.count() == 1
  assert capsys.readouterr().err.count(f'{path}: record 3 is left out') == 1
  left = everything != 3
  for one, other in zip(found, sound):
    if one is not None:
      np.testing.assert_array_equal(one[left], other[left])
  assert (found.ids[3] == 1).all() and not found.lengths[3].any()
  assert (found.example_ids[3] == -1).all()


def test_a_damaged_array_is_left_out_by_pieces(copy, monkeypatch):
  # Small pieces, so that there are several.
  for module in ('robertax.data.rows', 'robertax.files'):
    monkeypatch.setattr(f'{module}.PIECE', 256)
  path = shards.array_path(copy.folder, 'train', 'ids')
  copy.checksums['train.ids.bin'] = files.checksum(path)
  for name in shards.array_names('train'):
    copy.checksums[name] = files.checksum(f'{copy.folder}/{name}')
  everything = np.arange(copy.splits['train'].num_records)
  sound = open_source([copy], 'train', 'numpy').gather(everything)
  with open(path, 'r+b') as f:
    f.seek(1000)  # Of the fourth piece, 768 to 1023.
    f.write(b'\xff\xff')
  with pytest.raises(InputError, match='is damaged: its bytes are not those'):
    open_source([copy], 'train', 'numpy').gather(everything)
  source = open_source([copy], 'train', 'numpy', config=SKIP)
  found = source.gather(everything)
  starts = shards.open_arrays(copy, 'train').row_starts
  hit = (2 * starts[:-1] < 1024) & (2 * starts[1:] > 768)
  assert source.bad.count() == hit.sum() > 1
  assert not found.lengths[hit].any()
  np.testing.assert_array_equal(found.ids[~hit], sound.ids[~hit])


def test_pieces(tmp_path, monkeypatch):
  for module in ('robertax.data.rows', 'robertax.files'):
    monkeypatch.setattr(f'{module}.PIECE', 10)
  path = tmp_path / 'x'
  path.write_bytes(bytes(range(35)))
  checksum = files.checksum(str(path))
  path.write_bytes(bytes(range(34)) + b'\x00')
  pieces = Pieces(str(path), checksum)
  first, stop = np.array([0, 25, 29, 30, 9, 31]), np.array([30, 30, 31, 35, 9,
                                                            31])
  assert pieces.sound(first, stop).tolist() == [
      True, True, False, False, True, False]
  assert Pieces(str(path), None).sound(first, stop).all()
