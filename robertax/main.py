"""Prepares missing data, trains, evaluates, and suggests what to do next.

  python -m robertax.main --config=configs/quickstart.py --workdir=runs/first

The same command resumes a run. A config file takes arguments behind a colon
(`--config=configs/roberta_base.py:batch_size=2048,steps=125000`), and any key
is a flag (`--config.train.steps=1000`). To train on several machines, start it
on each. In a TPU pod, a SLURM or a Kubernetes job they find each other;
elsewhere give --coordinator=HOST:PORT --num_processes=N --process_id=I.
"""

import sys

from absl import flags

from robertax.errors import InputError, print_result
from robertax.flags import config_flag, given, named, process_flags, run

_CONFIG = config_flag()
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Folder for checkpoints, metrics and tokenizer.')
_PROCESSES = process_flags()
_EXAMPLE = ('python -m robertax.main --config=configs/quickstart.py '
            '--workdir=runs/quickstart')


def main(argv):
  """Exits with 0 (done), 128 + n (saved, signal n), or a code of `errors`."""
  del argv
  values = given(_CONFIG, _EXAMPLE)
  if not _WORKDIR.value:
    raise InputError(f'--workdir=FOLDER is needed, such as: {_EXAMPLE}')
  from robertax.config import parse
  from robertax.flags import one_heap
  wanted = parse(values)
  if wanted.data.backend == 'numpy':
    one_heap()
  import jax  # Not before: a wrong flag gets its answer without loading JAX.

  from robertax.inspection import report
  from robertax.parallel import processes
  from robertax.parallel.mesh import find_devices
  from robertax.train import loop
  processes.start(*(flag.value for flag in _PROCESSES),
                  heartbeat_seconds=wanted.train.peer_timeout_seconds)
  find_devices()
  with processes.as_one():
    ended = loop.run(wanted, _WORKDIR.value, named(_CONFIG))
    jax.clear_caches()  # The step's programs take memory.
    if processes.first():
      print_result(report.last_words(
          ended, ' '.join(['python -m robertax.main', *sys.argv[1:]])))
  sys.exit(128 + ended.signal if ended.signal else 0)


if __name__ == '__main__':
  run(main)
