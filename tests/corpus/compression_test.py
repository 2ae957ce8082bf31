
import bz2
import gzip

import pytest
import zstandard

from robertax.corpus import readers
from robertax.errors import InputError

CONTENT = b''.join(b'line %d %s\n' % (i, b'x' * (i % 300)) for i in range(3000))
PACK = {'txt': bytes, 'gz': gzip.compress, 'bz2': bz2.compress,
        'zst': zstandard.ZstdCompressor().compress}


def read(path):
  told = []
  return list(readers.unpacked_lines(str(path), told.append)), sum(told)


@pytest.mark.parametrize('kind', PACK)
@pytest.mark.parametrize('content', [
    CONTENT, CONTENT[:-1], b'', b'\n\n', b'one', b'y' * 300_000 + b'\nz'])
def test_lines_and_their_numbers(tmp_path, kind, content):
  path = tmp_path / f'a.{kind}'
  path.write_bytes(PACK[kind](content))
  lines, told = read(path)
  expected = content.split(b'\n')
  expected = expected[:-1] if not expected[-1] else expected
  assert lines == list(enumerate(expected, 1))
  assert told == path.stat().st_size


@pytest.mark.parametrize('kind', ['gz', 'zst', 'bz2'])
def test_parts_that_follow_one_another(tmp_path, kind):
  path = tmp_path / f'a.{kind}'
  path.write_bytes(PACK[kind](b'a\nb') + PACK[kind](b'c\n') + PACK[kind](b''))
  assert [line for _, line in read(path)[0]] == [b'a', b'bc']


@pytest.mark.parametrize('kind', ['gz', 'zst', 'bz2'])
@pytest.mark.parametrize('keep', [.1, .5, .9, -1])
def test_truncated_files_are_named(tmp_path, kind, keep):
  packed = PACK[kind](CONTENT)
  path = tmp_path / f'a.{kind}'
  path.write_bytes(packed[:keep if keep < 0 else int(keep * len(packed))])
  with pytest.raises(InputError, match='truncated') as e:
    read(path)
  assert str(path) in str(e.value)


@pytest.mark.parametrize('kind', ['gz', 'zst', 'bz2'])
def test_damaged_files_are_named(tmp_path, kind):
  path = tmp_path / f'a.{kind}'
  path.write_bytes(b'this was never packed')
  with pytest.raises(InputError, match='damaged') as e:
    read(path)
  assert str(path) in str(e.value)
