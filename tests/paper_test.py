"""The door: flags, exit codes, and a table on its way through it."""

import json
import os
import subprocess
import sys

import pytest

from tests.studies import tiny_paper


@pytest.mark.parametrize('flags, message', [
    (('--table=9',), '--table=9: 1, 2'),
    (('--table=1', '--scale=huge'), "unknown --scale 'huge'"),
    (('--table=1', '--dry_run'), '--scale=tiny: its steps'),
    (('--table=1', '--topology=v5e:2x2'), '--topology is of --dry_run')])
def test_wrong_flags_are_one_line(flags, message, capsys):
  """In this process, which has JAX already."""
  from absl import flags as absl_flags

  from robertax import paper
  from robertax.errors import door as wrap
  saved = absl_flags.FLAGS.flag_values_dict()
  absl_flags.FLAGS(['paper', *flags])
  try:
    with pytest.raises(SystemExit) as stopped:
      wrap(paper.main)([])
  finally:
    for name in ('table', 'scale', 'topology', 'dry_run'):
      absl_flags.FLAGS[name].value = saved[name]
  assert stopped.value.code == 2
  assert message in capsys.readouterr().err


def test_a_table_through_the_door(tmp_path):
  """The whole command, at a microscopic scale put where `tiny` stands."""
  data = tiny_paper.write_data(tmp_path / 'data')
  script = tmp_path / 'door.py'
  script.write_text(
      'import runpy, sys\n'
      'from robertax.studies import paper_scales\n'
      'from tests.studies import tiny_paper\n'
      'paper_scales.SCALES["tiny"] = tiny_paper.scale(seeds=1, tokens=600)\n'
      'runpy.run_module("robertax.paper", run_name="__main__")\n')
  flags = [a for a in os.environ['XLA_FLAGS'].split()
           if 'device_count' not in a]
  done = subprocess.run(
      [sys.executable, str(script), '--table=3', f'--data={data}',
       f'--workdir={tmp_path}/w', f'--models={tmp_path}/m'], text=True,
      capture_output=True, timeout=300,
      env=os.environ | {'PYTHONPATH': os.getcwd(), 'JAX_PLATFORMS': 'cpu',
                        'XLA_FLAGS': ' '.join(flags)})
  assert done.returncode == 0, done.stderr[-2000:]
  assert '32K sequences, LAMB (not in the paper)' in done.stdout
  assert 'with one seed: nothing can be said' in done.stdout
  found = json.loads((tmp_path / 'w' / 'results.json').read_text())
  assert [row['name'] for row in found['rows']] == ['256', '2k', '8k', '32k']
  assert (tmp_path / 'w' / 'table.png').exists()
