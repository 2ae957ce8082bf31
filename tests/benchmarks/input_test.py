import json
import os
import subprocess
import sys

KEYS = {'tokens_per_second_per_core', 'ratio_to_hf_collator',
        'start_at_step_0_seconds', 'start_at_step_400000_seconds',
        'read_tokens_per_second', 'mask_tokens_per_second',
        'tokens_per_second_by_the_clock'}


def test_the_last_line_is_json():
  # Importing tensorflow and torch would take most of the time.
  # A process of its own: it binds itself to one core.
  done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.input', '--backend=numpy',
       '--records=64', '--rounds=1', '--calls=2'],
      capture_output=True, text=True, timeout=120, check=False,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
  assert done.returncode == 0, done.stderr[-3000:]
  *lines, last = done.stdout.splitlines()
  found = json.loads(last)
  assert found.keys() == KEYS
  ratio = found.pop('ratio_to_hf_collator')
  assert all(value > 0 for value in found.values())
  if ratio is None:
    assert any('no comparison' in line for line in lines)
  assert found['start_at_step_400000_seconds'] < (
      found['start_at_step_0_seconds'] + 1)
