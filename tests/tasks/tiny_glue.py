"""GLUE-like files that a tiny model can learn, and configs over them."""

import numpy as np

GOOD, BAD = 'one two three four'.split(), 'six seven eight nine'.split()
WORDS = 'five ten zero'.split()


def sentence(rng, good):
  """Mostly filler; a word or two say the class."""
  words = list(rng.choice(WORDS, rng.integers(2, 14)))
  for _ in range(rng.integers(1, 3)):
    words.insert(rng.integers(len(words) + 1),
                 rng.choice(GOOD if good else BAD))
  return ' '.join(words)


def write_sst2(folder, train=96, dev=40, test=0):
  """SST-2's files; the class is in the words."""
  rng = np.random.default_rng(0)
  place = folder / 'SST-2'
  place.mkdir(parents=True)
  for name, count in (('train', train), ('dev', dev), ('test', test)):
    labels = rng.integers(0, 2, count)
    rows = [sentence(rng, label) for label in labels]
    if name == 'test':
      lines = ['index\tsentence', *(f'{n}\t{r}' for n, r in enumerate(rows))]
    else:
      lines = ['sentence\tlabel',
               *(f'{r}\t{label}' for r, label in zip(rows, labels))]
    if count:
      (place / f'{name}.tsv').write_text('\n'.join(lines) + '\n')
  return folder


def config(data_dir, init_from='', task='glue/sst2', **sections):
  """Plain values of a run of a few steps, on one device."""
  values = {
      'task': task, 'init_from': str(init_from),
      'data': {'dir': str(data_dir), 'batch_size': 16},
      'optim': {'learning_rate': 1e-2, 'warmup_steps': 0, 'warmup_rate': .06,
                'weight_decay': .1},
      'mesh': {'data': 1},
      'train': {'steps': 0, 'log_every': 1, 'eval_every': 0,
                'checkpoint_every': 0, 'keep_checkpoints': 1},
      'finetune': {'epochs': 2, 'eval_tokens': 1024}}
  for name, more in sections.items():
    values[name] = {**values.get(name, {}), **more} if isinstance(
        more, dict) else more
  return values
