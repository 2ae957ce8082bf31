"""Prepares what is missing, then trains, evaluates, says what to do next.

  python -m robertax.main --config=configs/quickstart.py --workdir=runs/first

Run again, it resumes. A config file takes arguments behind a colon
(`--config=configs/roberta_base.py:batch_size=2048,steps=125000`), and any key
is a flag (`--config.train.steps=1000`). Over several machines it is started on
each; in a pod, a SLURM or a Kubernetes job they find each other, elsewhere
--coordinator=HOST:PORT --num_processes=N --process_id=I say who they are.
"""

import sys

from absl import flags

from robertax.errors import InputError, print_result
from robertax.flags import config_flag, given, named, process_flags, run

_CONFIG = config_flag()
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Folder of this run: checkpoints, metrics, tokenizer.')
_PROCESSES = process_flags()
_EXAMPLE = ('python -m robertax.main --config=configs/quickstart.py '
            '--workdir=runs/quickstart')


def main(argv):
  """Exit code 0: done; 128 + n: stopped by signal n, saved; else see errors."""
  del argv
  values = given(_CONFIG, _EXAMPLE)
  if not _WORKDIR.value:
    raise InputError(f'--workdir=FOLDER is needed, such as: {_EXAMPLE}')
  from robertax.config import parse
  from robertax.flags import one_heap
  wanted = parse(values)
  if wanted.data.backend == 'numpy':
    one_heap()
  # Imported here: a wrong flag is answered at once, without loading JAX.
  import jax

  from robertax.inspection import epilogue
  from robertax.parallel import processes
  from robertax.train import loop

  processes.start(*(flag.value for flag in _PROCESSES),
                  heartbeat_seconds=wanted.train.peer_timeout_seconds)
  with processes.as_one():
    ended = loop.run(wanted, _WORKDIR.value, named(_CONFIG))
    # The step's programs are of no more use; what follows compiles its own.
    jax.clear_caches()
    if processes.first():
      print_result(epilogue.last_words(
          ended, ' '.join(['python -m robertax.main', *sys.argv[1:]])))
  sys.exit(128 + ended.signal if ended.signal else 0)


if __name__ == '__main__':
  run(main)
