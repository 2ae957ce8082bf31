"""The door: flags, one line for a wrong one."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize('args, words', [
    ([], '--source is needed'), (['--source=x'], '--target is needed'),
    (['--source=hf:none', '--target=x'], 'hf:none: no such folder'),
    (['--source=x', '--target=y', '--veryfy'], 'veryfy'),
    (['--source=x', '--target=y', '--verify=maybe'], '--verify=self'),
    (['--source=hf:none', '--target=x', '--verify', '--noverify',
      '--verify=self'], 'hf:none: no such folder')])
def test_wrong_flags(tmp_path, args, words):
  env = os.environ | {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ''}
  done = subprocess.run(
      [sys.executable, '-m', 'robertax.convert', *args], cwd=tmp_path, env=env,
      capture_output=True, text=True, timeout=100)
  lines = [x for x in done.stderr.splitlines() if 'robertax: error:' in x]
  assert done.returncode == 2 and len(lines) == 1, done.stderr
  assert words in lines[0] and 'Traceback' not in done.stderr
  assert not list(tmp_path.iterdir())
