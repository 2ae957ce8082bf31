"""The quarter of an hour of a GPU: a part that fails is a line, and no more."""

import json
import sys
import tarfile

import numpy as np
import pytest
import safetensors.numpy

from benchmarks import quarter_hour


@pytest.mark.parametrize('words, limit, code, key', [
    (['-c', 'print("so far"); print(\'{"x": 1}\')'], 30, 0, 'result'),
    (['-c', 'raise SystemExit("no such kernel")'], 30, 1, 'said'),
    (['-c', 'import time; time.sleep(60)'], .1, -15, 'said'),
    (['-m', 'benchmarks.nothing'], 30, 1, 'said')])
def test_each_part_is_a_line(tmp_path, words, limit, code, key):
  found = quarter_hour.run('part', words, limit, tmp_path)
  (line,) = (tmp_path / 'results.jsonl').read_text().splitlines()
  assert json.loads(line) == found
  assert (found['part'], found['exit']) == ('part', code)
  assert found['seconds'] < 20 and key in found


def test_only_what_is_missing_is_installed(tmp_path, monkeypatch):
  ours = f'cp{sys.version_info[0]}{sys.version_info[1]}'
  names = ['one-1-py3-none-any.whl', f'two-2-{ours}-{ours}-linux_x86_64.whl',
           'two-2-cp399-cp399-linux_x86_64.whl',
           'json_tool-3-cp38-abi3-linux_x86_64.whl']
  for name in names:
    (tmp_path / name).touch()
  monkeypatch.setattr(quarter_hour, 'WHEELS', {
      'no_such_one': 'one', 'no_such_two': 'two', 'json': 'json-tool'})
  found = quarter_hour.missing_wheels(tmp_path)
  assert found == [str(tmp_path / name) for name in names[:2]]


def test_a_folder_comes_back_in_pieces(tmp_path, monkeypatch):
  (tmp_path / 'exported').mkdir()
  weights = np.linspace(0, 1, 3000, dtype=np.float32)
  safetensors.numpy.save_file(
      {'w': weights}, tmp_path / 'exported/model.safetensors')
  monkeypatch.setattr(quarter_hour, 'PIECE_BYTES', 5000)
  (tmp_path / 'out').mkdir()
  sizes = quarter_hour.tar_pieces(tmp_path / 'exported', tmp_path / 'run',
                                  tmp_path / 'out')
  pieces = sorted((tmp_path / 'out').glob('checkpoint.tar.*'))
  assert [p.stat().st_size for p in pieces] == sizes and max(sizes) == 5000
  whole = tmp_path / 'whole.tar'
  whole.write_bytes(b''.join(p.read_bytes() for p in pieces))
  with tarfile.open(whole) as tar:
    tar.extractall(tmp_path / 'back', filter='data')
  back = safetensors.numpy.load_file(
      tmp_path / 'back/exported/model.safetensors')
  np.testing.assert_allclose(back['w'].astype(np.float32), weights, rtol=2**-8)
