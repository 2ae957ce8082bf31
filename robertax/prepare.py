"""Text -> tokenizer -> records, ahead of training; and any batch of them.

  python -m robertax.prepare --config=configs/quickstart.py [--out=FOLDER]

Prepares what the config names and is not yet prepared, says what came of it and
where it lies. Training does the same by itself; this is for doing it ahead, or
on another machine, or to look at:

  python -m robertax.prepare --show --config=configs/quickstart.py [--step=99]

prints the batch of a step, before and after masking; `--workdir=W` instead of
--config: a batch of that run.
"""

from absl import flags

from robertax.errors import InputError
from robertax.flags import config_flag, given, named, run

_CONFIG = config_flag()
_OUT = flags.DEFINE_string('out', '', 'A folder instead of data.cache_dir.')
_MEMMAP = flags.DEFINE_bool(
    'memmap', False, 'Make the memory-mapped form too, for backend numpy.')
_SHOW = flags.DEFINE_bool('show', False, 'Print the batch of a training step.')
_STEP = flags.DEFINE_integer('step', 0, 'Of --show; the first step is 0.')
_ROWS = flags.DEFINE_integer('rows', 8, 'Rows that --show prints; 0: all.')
_WORKDIR = flags.DEFINE_string(
    'workdir', '', 'A run that --show has the config from, not --config.')


def main(argv):
  """Exit code 0: all of it is there; 2: wrong input."""
  del argv
  for flag in [_MEMMAP] if _SHOW.value else [_STEP, _ROWS, _WORKDIR]:
    if flag.present:
      raise InputError(f'--{flag.name} goes '
                       f'{"not" if _SHOW.value else "only"} with --show.')
  if _WORKDIR.value and _CONFIG.present:
    raise InputError('--workdir and --config: the one or the other.')
  values = _WORKDIR.value or given(_CONFIG, 'python -m robertax.prepare '
                                            '--config=configs/quickstart.py')
  keys = () if _WORKDIR.value else named(_CONFIG)
  # Imported here: a wrong flag is answered at once, without loading JAX.
  if _SHOW.value:
    from robertax.inspection import batch_view, batches
    batch_view.write(batches.show_batch(
        values, _STEP.value, _ROWS.value, _OUT.value, keys))
    return
  from robertax import corpus
  from robertax.train.config import parse

  config = parse(values)
  if config.task != 'pretrain':
    raise InputError(f'task={config.task!r} reads its files itself: only text '
                     'for pretraining is prepared.')
  if config.init_from:  # The tokenizer is that of the weights.
    from robertax.train.initial import initial_config
    config = initial_config(config, keys)
  prepared = corpus.prepare(
      config.data, config.tokenizer, vocab_size=config.model.vocab_size,
      out=_OUT.value, memmap=_MEMMAP.value)
  print(f'tokenizer: {prepared.tokenizer.vocab_size:,} ids, '
        f'{prepared.tokenizer_path}')
  for manifest in prepared.manifests:
    print(f'{manifest.corpus}: {manifest.folder}')


if __name__ == '__main__':
  run(main)
