"""Text -> tokenizer -> records, ahead of training.

  python -m robertax.prepare --config=configs/quickstart.py [--out=FOLDER]

Prepares what the config names and is not yet prepared, says what came of it and
where it lies. Training does the same by itself; this is for doing it ahead, or
on another machine, or to look at.
"""

from absl import flags

from robertax.flags import config_flag, given, run

_CONFIG = config_flag()
_OUT = flags.DEFINE_string('out', '', 'A folder instead of data.cache_dir.')
_MEMMAP = flags.DEFINE_bool(
    'memmap', False, 'Make the memory-mapped form too, for backend numpy.')


def main(argv):
  """Exit code 0: all of it is there; 2: wrong input."""
  del argv
  values = given(_CONFIG, 'python -m robertax.prepare '
                          '--config=configs/quickstart.py')
  # Imported here: a wrong flag is answered at once, without loading JAX.
  from robertax import corpus
  from robertax.train.config import parse

  config = parse(values)
  prepared = corpus.prepare(
      config.data, config.tokenizer, vocab_size=config.model.vocab_size,
      out=_OUT.value, memmap=_MEMMAP.value)
  print(f'tokenizer: {prepared.tokenizer.vocab_size:,} ids, '
        f'{prepared.tokenizer_path}')
  for manifest in prepared.manifests:
    print(f'{manifest.corpus}: {manifest.folder}')


if __name__ == '__main__':
  run(main)
