"""Compiles a config's train step for devices that this machine lacks.

  python -m robertax.aot --config=configs/roberta_large.py \
      --topology=v5e:16x16

prints the compiler's estimates of memory, collectives and time, and last one
JSON line. Nothing runs. `2xv5e:16x16` means two slices, `cuda:h200:1x1x8` GPUs
(slices x hosts x GPUs per host; memory only). --search tries remat policies and
micro-batches, prints which fit, and finds the largest micro-batch.
"""

import dataclasses
import json
import os
import sys

from absl import flags

from robertax.errors import InputError, print_result
from robertax.flags import config_flag, given, run
from robertax.progress import say

_CONFIG = config_flag()
_TOPOLOGY = flags.DEFINE_string(
    'topology', None, 'Chip and slice, such as v5e:16x16, 2xv5e:16x16 '
    'or cuda:h200:1x1x8.')
_SEARCH = flags.DEFINE_bool(
    'search', False, 'Try remat policies and micro-batches; report the fastest '
    'that fits, and the largest micro-batch.')
_TOP = flags.DEFINE_integer('top', 8, 'Costliest operations to print.')
_EXAMPLE = ('python -m robertax.aot --config=configs/roberta_large.py '
            '--topology=v5e:16x16')


def main(argv):
  """Exits with 0 (it fits), 1 (it does not) or 2 (wrong input)."""
  del argv
  values = given(_CONFIG, _EXAMPLE)
  if not _TOPOLOGY.value:
    raise InputError(f'--topology=CHIP:SHAPE is needed, such as: {_EXAMPLE}')
  # JAX need not look for an accelerator, nor wait for one.
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  from robertax.config import parse
  from robertax.studies import estimate
  parsed = parse(values)
  estimate.topology(_TOPOLOGY.value)  # A wrong one is refused first.
  say(f'compiling for {_TOPOLOGY.value}, which takes minutes for a large model')
  largest = None
  if _SEARCH.value:
    parsed, found = estimate.search(parsed, _TOPOLOGY.value)
    if found.fits:
      largest = estimate.largest_micro_batch(parsed, _TOPOLOGY.value, found)
  else:
    found = estimate.estimate(parsed, _TOPOLOGY.value)
  print_result(estimate.estimate_lines(parsed, found, _TOP.value, largest),
               saved=False)
  print_result(json.dumps(estimate.estimate_json(parsed, found, largest)
                          | dataclasses.asdict(parsed.mesh)), saved=False)
  sys.exit(0 if found.fits else 1)


if __name__ == '__main__':
  run(main)
