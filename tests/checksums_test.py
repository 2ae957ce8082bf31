
import hashlib
import zlib

import numpy as np
import pytest

from robertax import files
from robertax.corpus.preparation import verify_files
from robertax.files import PIECE, checksum, find_damage

SIZES = [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5]


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'x'

  def make(size):
    path.write_bytes(np.random.default_rng(size).bytes(size))
    return str(path)

  return make


@pytest.mark.parametrize('size', SIZES)
def test_they_are_sha256_and_crc32(file, size):
  path = file(size)
  data = open(path, 'rb').read()
  found = checksum(path)
  assert found.size == size
  assert found.sha256 == hashlib.sha256(data).hexdigest()
  assert [found.piece(i) for i in range(len(found.pieces) // 8)] == [
      zlib.crc32(data[at:at + PIECE]) for at in range(0, size, PIECE)]
  assert find_damage(path, found) is None
  values = files.checksums_to_json({'x': found})
  assert files.checksums_from_json(values) == {'x': found}


@pytest.mark.parametrize('at', [0, PIECE - 1, PIECE, 2 * PIECE + 77,
                                3 * PIECE + 4])
def test_a_flipped_bit_is_placed(file, at):
  path = file(SIZES[-1])
  expected = checksum(path)
  with open(path, 'r+b') as f:
    f.seek(at)
    byte = f.read(1)[0]
    f.seek(at)
    f.write(bytes([byte ^ 4]))
  found = find_damage(path, expected)
  assert found.offset == at // PIECE * PIECE
  assert f'x at byte {found.offset:,}: damaged somewhere' in str(found)


def test_other_sizes_are_told(file, tmp_path):
  path = file(2 * PIECE + 9)
  expected = checksum(path)
  data = open(path, 'rb').read()
  for size in (0, 5, PIECE, 2 * PIECE, 2 * PIECE + 8):
    (tmp_path / 'x').write_bytes(data[:size])
    found = find_damage(path, expected)
    assert found.offset == size and 'truncated' in found.why
  (tmp_path / 'x').write_bytes(data + b'!')
  found = find_damage(path, expected)
  assert found.offset == len(data) and 'longer' in found.why
  (tmp_path / 'x').unlink()
  assert find_damage(path, expected).why == 'missing'


def test_a_folder_is_verified(tmp_path):
  for name in 'abc':
    (tmp_path / name).write_bytes(name.encode() * 99)
  expected = files.checksums(str(tmp_path), 'abc')
  (tmp_path / '.lock').touch()
  (tmp_path / 'manifest.json').touch()
  assert not list(verify_files(str(tmp_path), expected))
  (tmp_path / 'a').unlink()
  (tmp_path / 'b').write_bytes(b'b' * 98 + b'x')
  (tmp_path / 'd').touch()
  assert [str(found).removeprefix(f'{tmp_path}/') for found in
          verify_files(str(tmp_path), expected)] == [
              'a: missing',
              'b at byte 0: damaged somewhere in the 99 bytes from there on',
              'd: not one of the files that were written']
