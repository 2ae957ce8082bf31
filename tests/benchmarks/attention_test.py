import json

from benchmarks import attention


def test_the_last_line_is_json(capsys):
  attention.main(['--rows=2', '--tokens=16', '--heads=2', '--head_dim=8',
                  '--dtype=float32', '--rounds=2', '--calls=1',
                  '--implementations=xla,fused,cudnn,splash'])
  *lines, last = capsys.readouterr().out.splitlines()
  found = json.loads(last)
  assert found['platform'] == 'cpu' and found['shape'] == [2, 16, 2, 8]
  results = found['implementations']
  # Neither has dropout.
  assert results.pop('cudnn') is None and results.pop('splash') is None
  assert sum('not available here' in line for line in lines) == 2
  for name in ('xla', 'fused'):
    assert results[name]['error'] < 1e-5
    assert all(value > 0 for key, value in results[name].items()
               if key != 'error')
