"""A workdir: which config it belongs to, and its files beside checkpoints."""

import dataclasses
import json

from robertax import files
from robertax.config import FREE_ON_RESUME, Config, differences, parse, to_dict
from robertax.errors import InputError, writing
from robertax.parallel import processes
from robertax.text import Tokenizer
from robertax.train.lock import Lock


def read_config(workdir: str) -> Config | None:
  """The config of a workdir, None where there is none.

  Raises:
    InputError: config.json is damaged.
  """
  path = f'{workdir}/config.json'
  if not files.exists(path):
    return None
  try:
    with files.open(path) as f:
      return parse(json.load(f))
  except (OSError, ValueError, AttributeError, RecursionError) as e:
    raise InputError(f'{path}: not a config written by robertax ({e}). Put '
                     'its own back, or choose another folder.') from e


# What a task fills in where it is left at the default: the tokenizer's or the
# format's (which are compared), the task's heads, the steps of its epochs.
FILLED_IN = {'model': ('vocab_size', 'num_types', 'nsp_head', 'lm_head',
                       'num_classes', 'span_head'),
             'train': ('steps', 'eval_every', 'checkpoint_every'),
             'finetune': ('labels',)}


def check(workdir: str, config: Config) -> Config:
  """Refuses a workdir that belongs to another config.

  Returns:
    The config, with what the workdir's task has filled in.

  Raises:
    InputError: shows the keys that differ; or it belongs to none that is known.
  """
  saved = read_config(workdir)
  if saved is None:
    place = f'{workdir}/checkpoints'
    if files.isdir(place) and files.listdir(place):
      raise InputError(
          f'{workdir} has checkpoints, but no config.json that says of which '
          'model. Put it back, or choose another --workdir.')
    return config
  for section, keys in FILLED_IN.items():
    here = getattr(config, section)
    blank = {'lm_head': True, 'labels': ''}
    config = dataclasses.replace(config, **{section: dataclasses.replace(
        here, **{key: getattr(getattr(saved, section), key) for key in keys
                 if getattr(here, key) == blank.get(key, 0)})})
  new = to_dict(config)
  lines = [line for line in differences(to_dict(saved), new)
           if line.partition(':')[0] not in FREE_ON_RESUME]
  if lines:
    raise InputError(
        f'{workdir} belongs to another config, with other values of '
        f'{"; ".join(lines)}. Choose another --workdir, or give the old '
        'values.')
  return config


def claim(workdir: str, config: Config, tokenizer: Tokenizer, lock: Lock):
  """Makes W this run's, and writes it; process 0 does, for all.

  Raises:
    InputError: another run has it, or it cannot be written.
  """
  if processes.first():
    lock.make()
    write(workdir, config, tokenizer)


def write(workdir: str, config: Config, tokenizer: Tokenizer):
  """Writes config.json and tokenizer.json.

  Args:
    workdir: W, made if needed.
    config: with the vocabulary's size filled in.
    tokenizer: of the run's records.

  Raises:
    InputError: W cannot be written.
  """
  with writing(workdir):
    files.makedirs(workdir)
    files.write_text(f'{workdir}/config.json',
                     json.dumps(to_dict(config), indent=2) + '\n')
    tokenizer.save(f'{workdir}/tokenizer.json')
