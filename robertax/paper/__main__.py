"""Reproduces a table of the paper: pretrains, fine-tunes, prints the results.

  python -m robertax.paper --table=2 --scale=tiny --data=DIR --workdir=runs/t2

makes table 1 to 8 or `encoding` (section 4.4), and writes W/table.md,
W/table.png and W/results.json. DIR holds pretrain/, glue/, squad/ and race/
(docs/paper.md); without it, the data come from TFDS. The same command resumes.
Tables with the same --models share pretrained models.

  python -m robertax.paper --table=all --scale=paper --dry_run

compiles every row for its TPU slice and prints chip-hours. Nothing runs.
"""

import json
import os
import sys

from absl import flags

from robertax import files
from robertax.errors import InputError, print_result, unknown
from robertax.flags import process_flags, run
from robertax.progress import say

# --help names the command paper.py, as when it was one file.
sys.argv[0] = sys.argv[0].replace(os.path.join('paper', '__main__.py'),
                                  'paper.py')

_TABLE = flags.DEFINE_string(
    'table', '', '1 to 8 or encoding; several, separated by commas; or all.')
_SCALE = flags.DEFINE_string(
    'scale', 'tiny', 'tiny: minutes on two cores. paper: a pod.')
_DATA = flags.DEFINE_string(
    'data', '', 'Folder with pretrain/, glue/, squad/, race/; else TFDS.')
_WORKDIR = flags.DEFINE_string(
    'workdir', '', 'Folder of the table; else runs/paper/SCALE/TABLE.')
_MODELS = flags.DEFINE_string(
    'models', '', 'Folder of runs, text and records, which tables may share; '
    'else W/models.')
_DRY_RUN = flags.DEFINE_bool(
    'dry_run', False, 'Build and compile everything, run nothing; for '
    '--scale=paper.')
_TOPOLOGY = flags.DEFINE_string(
    'topology', '', "For --dry_run: this slice instead of each row's own.")
_PROCESSES = process_flags()


def main(argv):
  """Exits with 0 (done), 1 (--dry_run: something does not fit), 2 (wrong input)
  or 128 + n (saved, stopped by signal n).
  """
  del argv
  if _DRY_RUN.value:
    # JAX need not look for an accelerator, nor wait for one.
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  from robertax.paper import scales
  names = scales.table_names(_TABLE.value)
  if _SCALE.value not in scales.SCALES:
    raise unknown('--scale', _SCALE.value, scales.SCALES)
  scale = scales.SCALES[_SCALE.value]
  if _DRY_RUN.value:
    scales.check_scale(scale)
    costs = scales.table_costs(names, scale, _TOPOLOGY.value)
    sums = scales.cost_json(costs)
    print_result(scales.cost_table(costs), saved=False)
    print_result(json.dumps(sums), saved=False)
    sys.exit(0 if sums['fits'] else 1)
  if _TOPOLOGY.value:
    raise InputError('--topology goes only with --dry_run: a run uses the '
                     'devices that it finds.')
  from robertax.paper.run import Study, run_table
  from robertax.parallel import processes
  from robertax.parallel.mesh import find_devices
  processes.start(*(flag.value for flag in _PROCESSES))
  find_devices()
  with processes.as_one():
    for name in names:
      workdir = _workdir(name, len(names))
      models = _MODELS.value or f'{_workdir("", len(names))}/models'
      ended = run_table(Study(name, scale, _DATA.value, workdir, models))
      if ended.signal:
        say('Stopped; the same command resumes.')
        sys.exit(128 + ended.signal)
      if ended.results:
        with files.open(f'{workdir}/table.md') as f:
          print_result(f.read())
        picture = (f', {workdir}/table.png is its picture'
                   if 'table.png' in ended.results['files'] else '')
        print_result(f'{workdir}/results.json has all results{picture}.')
  sys.exit(0)


def _workdir(name: str, tables: int) -> str:
  """W of a single table, or a folder in it for each of several."""
  whole = _WORKDIR.value
  if whole and tables == 1:
    return whole
  whole = whole or f'runs/paper/{_SCALE.value}'
  return f'{whole}/{name}'.rstrip('/')


if __name__ == '__main__':
  run(main)
