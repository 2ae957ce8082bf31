"""Prepares tokenizer and records ahead of training, and shows batches.

  python -m robertax.prepare --config=configs/quickstart.py [--out=FOLDER]

prepares the data of a config, unless they exist, and prints their folders.
Training does the same; use this to prepare ahead or on another machine.

  python -m robertax.prepare --show --config=configs/quickstart.py [--step=99]

prints the batch of a step, before and after masking. With `--workdir=W` instead
of --config, it is a batch of that run.

  python -m robertax.prepare --verify --config=F|--folder=FOLDER

compares all prepared files with the checksums in their manifests, and prints OK
or each damaged file with the position of the damage.

  python -m robertax.prepare --config=F --beam='--runner=DataflowRunner ...'

prepares with the workers of Apache Beam, which gets these options; see
launch/dataflow.sh, flink.sh and spark.sh.
"""

import shlex

from absl import flags

from robertax.errors import InputError, print_result
from robertax.flags import config_flag, given, named, run

_CONFIG = config_flag()
_OUT = flags.DEFINE_string('out', '', 'A folder instead of data.cache_dir.')
_MEMMAP = flags.DEFINE_bool(
    'memmap', False, 'Also make the memory-mapped form, for backend numpy.')
_SHOW = flags.DEFINE_bool('show', False, 'Print the batch of a training step.')
_STEP = flags.DEFINE_integer('step', 0, 'Step for --show; the first is 0.')
_ROWS = flags.DEFINE_integer('rows', 8, 'Rows that --show prints; 0: all.')
_WORKDIR = flags.DEFINE_string(
    'workdir', '', 'A run whose config --show uses, instead of --config.')
_VERIFY = flags.DEFINE_bool(
    'verify', False, 'Compare prepared files with their checksums.')
_FOLDER = flags.DEFINE_string(
    'folder', '', 'Records or tokens for --verify, instead of --config.')
_BEAM = flags.DEFINE_string(
    'beam', '', "Prepare on Beam's workers, with these options of Beam.")


def main(argv):
  """Returns exit code 0 (done) or 1 (--verify found damage)."""
  del argv
  for door, with_it, without in (
      (_SHOW, [_STEP, _ROWS, _WORKDIR], [_MEMMAP, _VERIFY, _BEAM]),
      (_VERIFY, [_FOLDER], [_MEMMAP, _SHOW, _BEAM])):
    for flag in without if door.value else with_it:
      if flag.present:
        raise InputError(f'--{flag.name} goes '
                         f'{"not" if door.value else "only"} with '
                         f'--{door.name}.')
  for flag in (_FOLDER, _WORKDIR):
    if flag.value and _CONFIG.present:
      raise InputError(f'--{flag.name} and --config: give only one of them.')
  if _FOLDER.value:
    from robertax.corpus.preparation import verify_prepared
    return 0 if verify_prepared([_FOLDER.value]) else 1
  values = _WORKDIR.value or given(_CONFIG, 'python -m robertax.prepare '
                                            '--config=configs/quickstart.py')
  keys = () if _WORKDIR.value else named(_CONFIG)
  if _SHOW.value:
    from robertax.inspection import batches  # Not before: it loads JAX.
    batches.print_batch(batches.show_batch(
        values, _STEP.value, _ROWS.value, _OUT.value, keys))
    return 0
  from robertax import corpus
  from robertax.config import parse
  config = parse(values)
  if config.task != 'pretrain':
    raise InputError(f'task={config.task!r} reads its files itself: only text '
                     'for pretraining is prepared.')
  if config.init_from:  # The weights bring their tokenizer.
    from robertax.train.initial import initial_config
    config = initial_config(config, keys)
  what = dict(vocab_size=config.model.vocab_size, out=_OUT.value)
  if _VERIFY.value:
    from robertax.corpus.preparation import verify_config
    return 0 if verify_config(config.data, config.tokenizer, **what) else 1
  what |= dict(memmap=_MEMMAP.value)
  if _BEAM.present:
    from robertax.corpus import preparation
    preparation.fill_with_beam(config.data, config.tokenizer,
                               shlex.split(_BEAM.value), **what)
  prepared = corpus.prepare(config.data, config.tokenizer, **what)
  print_result('\n'.join([
      f'tokenizer: {prepared.tokenizer.vocab_size:,} ids, '
      f'{prepared.tokenizer_path}',
      *(f'{manifest.corpus}: {manifest.folder}'
        for manifest in prepared.manifests)]))
  return 0


if __name__ == '__main__':
  run(main)
