"""The door: a page for any workdirs."""

import json

from robertax.config import Config, to_dict
from tests.main_test import robertax, said


def test_a_page_of_two_runs(tmp_path):
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'config.json').write_text(json.dumps(to_dict(Config())))
    (tmp_path / name / 'metrics.jsonl').write_text(
        '{"step": 1, "train/loss": 2.5}\n')
  done = robertax(f'--workdir={tmp_path}/a,{tmp_path}/b',
                  f'--out={tmp_path}/both.html', module='robertax.report')
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == f'{tmp_path}/both.html'
  page = (tmp_path / 'both.html').read_text()
  assert 'Beside other runs' in page and 'logged at two steps yet' in page
  assert not (tmp_path / 'a' / 'report.html').exists()


def test_wrong_input_is_one_line(tmp_path):
  assert '--workdir=W' in said(robertax(module='robertax.report'))
  assert 'not a workdir' in said(robertax(
      f'--workdir={tmp_path}', module='robertax.report'))
