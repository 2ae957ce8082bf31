"""The door: flags, exit codes, and a table on its way through it."""

import json
import os
import subprocess
import sys

import pytest

from tests.paper import tiny_paper


@pytest.mark.parametrize('flags, message', [
    (('--table=9',), '--table=9: 1, 2'),
    (('--table=1', '--scale=huge'), "unknown --scale 'huge'"),
    (('--table=1', '--dry_run'), '--scale=tiny: its steps'),
    (('--table=1', '--topology=v5e:2x2'), '--topology goes only with')])
def test_wrong_flags_are_one_line(flags, message, capsys):
  """In this process, which has JAX already."""
  from absl import flags as absl_flags

  from robertax.errors import door as wrap
  from robertax.paper import __main__
  saved = absl_flags.FLAGS.flag_values_dict()
  absl_flags.FLAGS(['paper', *flags])
  try:
    with pytest.raises(SystemExit) as stopped:
      wrap(__main__.main)([])
  finally:
    for name in ('table', 'scale', 'topology', 'dry_run'):
      absl_flags.FLAGS[name].value = saved[name]
  assert stopped.value.code == 2
  assert message in capsys.readouterr().err


def test_a_table_through_the_door(tmp_path):
  """The whole command, at a microscopic scale put where `tiny` stands.

  Of GLUE: RTE begins with the model of MNLI's stand-in; random weights beside.
  """
  data = tiny_paper.write_data(tmp_path / 'data')
  script = tmp_path / 'door.py'
  script.write_text(
      'import runpy, sys\n'
      'from robertax.paper import scales\n'
      'from tests.paper import tiny_paper\n'
      'scales.SCALES["tiny"] = tiny_paper.scale(seeds=1, tokens=600)\n'
      'runpy.run_module("robertax.paper", run_name="__main__")\n')
  flags = [a for a in os.environ['XLA_FLAGS'].split()
           if 'device_count' not in a]
  done = subprocess.run(
      [sys.executable, str(script), '--table=5', f'--data={data}',
       f'--workdir={tmp_path}/w', f'--models={tmp_path}/m'], text=True,
      capture_output=True, timeout=300,
      env=os.environ | {'PYTHONPATH': os.getcwd(), 'JAX_PLATFORMS': 'cpu',
                        'XLA_FLAGS': ' '.join(flags)})
  assert done.returncode == 0, done.stderr[-2000:]
  assert 'STAND-IN: there is no MNLI train' in done.stdout
  assert '- MNLI-mm: what was scored has no such part.' in done.stdout
  assert 'with one seed: nothing can be said' in done.stdout
  found = json.loads((tmp_path / 'w' / 'results.json').read_text())
  rows = {row['name']: row for row in found['rows']}
  assert list(rows) == ['roberta', 'test', 'random']
  for name in ('roberta', 'random'):
    assert set(rows[name]['values']) == {'mnli', 'rte'}
  assert 'steps' not in rows['random']
  # One run of each task, whatever the columns that it has.
  assert all(row['at_chance'][task] in (0, 1) for row in rows.values()
             if 'values' in row for task in ('mnli', 'rte'))
  begun = done.stderr.split('init_from: weights of the best step')
  assert len(begun) == 2 and '/tuned/glue-mnli-' in begun[1].splitlines()[0]
  assert done.stderr.count('the body begins with RANDOM weights') == 2
  assert (tmp_path / 'w' / 'table.png').exists()
