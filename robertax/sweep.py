"""Runs the paper's sweep of a fine-tuning task in one process.

  python -m robertax.sweep --config=configs/glue.py:task=rte \
      --workdir=runs/rte --config.init_from=runs/base --config.data.dir=GLUE

writes a table, W/sweep.txt, and W/results.json. The same command resumes an
interrupted sweep. Each run has its own workdir, W/runs/RATE-BATCH-SEED. The
weights of the best one are kept: robertax.load(W) and --config.init_from=W take
them.
"""

import sys

from absl import flags

from robertax.errors import InputError, print_result
from robertax.flags import config_flag, given, named, run
from robertax.progress import say

_CONFIG = config_flag()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the sweep.')
_RATES = flags.DEFINE_list('rates', ['1e-5', '2e-5', '3e-5'],
                           'Peaks of the learning rate.')
_BATCHES = flags.DEFINE_list('batches', ['16', '32'], 'Examples per update.')
_SEEDS = flags.DEFINE_integer('seeds', 5, 'Runs per setting.')
_BEST = flags.DEFINE_integer(
    'best', 0, 'Size of an ensemble of the best runs of the best setting.')
_EXAMPLE = ('python -m robertax.sweep --config=configs/glue.py:task=rte '
            '--workdir=runs/rte --config.init_from=runs/base '
            '--config.data.dir=GLUE')


def main(argv):
  """Exits with 0 (done), 2 (wrong input) or 128 + n (saved, signal n)."""
  del argv
  values = given(_CONFIG, _EXAMPLE)
  if not _WORKDIR.value:
    raise InputError(f'--workdir=FOLDER is needed, such as: {_EXAMPLE}')
  from robertax.config import parse
  from robertax.studies import sweep
  ended = sweep.sweep(
      parse(values), _WORKDIR.value, _numbers(_RATES, float),
      _numbers(_BATCHES, int), _SEEDS.value, _BEST.value, named(_CONFIG))
  if ended.signal:
    say('Stopped; the same command resumes.')
    sys.exit(128 + ended.signal)
  print_result(sweep.sweep_table(ended.results).rstrip('\n'))
  sys.exit(0)


def _numbers(flag: flags.FlagHolder, kind: type) -> list:
  try:
    return [kind(text) for text in flag.value]
  except ValueError as e:
    raise InputError(f'--{flag.name}={",".join(flag.value)}: give numbers, '
                     'separated by commas.') from e


if __name__ == '__main__':
  run(main)
