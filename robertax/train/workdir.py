"""A workdir: which config it belongs to, and its files beside checkpoints."""

import json
import os

from robertax.errors import InputError, writing
from robertax.sections import differences
from robertax.text import Tokenizer
from robertax.train.config import FREE_ON_RESUME, Config, parse, to_dict


def read_config(workdir: str) -> Config | None:
  """The config of a workdir, None where there is none.

  Raises:
    InputError: config.json is damaged.
  """
  path = f'{workdir}/config.json'
  if not os.path.exists(path):
    return None
  try:
    with open(path) as f:
      return parse(json.load(f))
  except (ValueError, AttributeError) as e:
    raise InputError(f'{path}: not a config written by robertax ({e}). Put '
                     'its own back, or choose another folder.') from e


def check(workdir: str, config: Config):
  """Refuses a workdir that belongs to another config.

  Raises:
    InputError: shows the keys that differ; or it belongs to none that is known.
  """
  saved = read_config(workdir)
  if saved is None:
    if os.path.isdir(f'{workdir}/checkpoints') and os.listdir(
        f'{workdir}/checkpoints'):
      raise InputError(
          f'{workdir} has checkpoints, but no config.json that says of which '
          'model. Put it back, or choose another --workdir.')
    return
  new = to_dict(config)
  for key in ('vocab_size', 'num_types', 'nsp_head'):
    # 0 stands for the tokenizer's or the format's (which are compared): in the
    # old one it is filled in by now.
    new['model'][key] = new['model'][key] or getattr(saved.model, key)
  lines = [line for line in differences(to_dict(saved), new)
           if line.partition(':')[0] not in FREE_ON_RESUME]
  if lines:
    raise InputError(
        f'{workdir} belongs to another config, with other values of '
        f'{"; ".join(lines)}. Choose another --workdir, or give the old '
        'values.')


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
    os.makedirs(workdir, exist_ok=True)
    _replace(f'{workdir}/config.json',
             json.dumps(to_dict(config), indent=2) + '\n')
    tokenizer.save(f'{workdir}/tokenizer.json')


def _replace(path: str, text: str):
  with open(path + '.partial', 'w') as f:
    f.write(text)
  os.replace(path + '.partial', path)
