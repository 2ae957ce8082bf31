"""The door: one JSON line, or one line on stderr and exit code 2."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def score(*args):
  return subprocess.run(
      [sys.executable, '-m', 'robertax.score', *map(str, args)], cwd=ROOT,
      env=os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)},
      capture_output=True, text=True, timeout=200)


def test_one_json_line(tmp_path):
  references = {'version': 'v2.0', 'data': [{'paragraphs': [{'qas': [
      {'id': 'a', 'answers': [{'text': 'Île'}, {'text': 'the isle'}]},
      {'id': 'b', 'answers': []}, {'id': 'c', 'answers': []}]}]}]}
  for name, content in (
      ('r', references), ('p', {'a': 'isle.', 'b': 'x', 'z': 'y'}),
      ('n', {'a': .2, 'b': .7, 'c': .9})):
    (tmp_path / f'{name}.json').write_text(json.dumps(content))
  flags = ['--task=squad', '--version=2.0', f'--references={tmp_path}/r.json',
           f'--predictions={tmp_path}/p.json']
  done = score(*flags, f'--no_answer_scores={tmp_path}/n.json')
  assert done.returncode == 0 and done.stdout.count('\n') == 1, done.stderr
  found = json.loads(done.stdout)
  assert found == {
      'exact': 200 / 3, 'f1': 200 / 3, 'total': 3, 'missing': 1, 'unknown': 1,
      'HasAns_exact': 100.0, 'HasAns_f1': 100.0, 'HasAns_total': 1,
      'NoAns_exact': 50.0, 'NoAns_f1': 50.0, 'NoAns_total': 2,
      'best_exact': 100.0, 'best_exact_thresh': .2,
      'best_f1': 100.0, 'best_f1_thresh': .2}
  done = score(*flags, '--strict')
  assert done.returncode == 2 and not done.stdout
  assert done.stderr == (
      f'robertax: error: {tmp_path}/p.json: 1 predictions are missing, such as '
      'c and 1 are for unknown ids, such as z.\n')


def test_a_missing_flag_is_named():
  done = score('--task=squad', '--version=2.0', '--predictions=p.json')
  assert done.returncode == 2
  assert '--references is needed' in done.stderr
