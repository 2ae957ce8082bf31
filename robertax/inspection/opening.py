"""load(): whatever a person has, opened."""

import dataclasses
import json
import os

import jax

from robertax.inspection import workdirs
from robertax.inspection.model import Model
from robertax.interop import Pretrained, is_foreign, open_source


def read(source: str) -> Pretrained:
  """Weights, shape and tokenizer of a model.

  Args:
    source: W, `hf:DIR` (or the folder alone, which its config.json gives away)
      or `fairseq:FILE`.

  Raises:
    InputError: nothing of the kind is there, or it is damaged.
  """
  if is_foreign(source):
    return open_source(source).read()
  if _is_hf(source):
    return open_source(f'hf:{source}').read()
  return workdirs.read(source)


def load(path: str) -> Model:
  """Opens a model for use.

  Args:
    path: as for `read`.

  Raises:
    InputError: as `read`.
  """
  pretrained = read(os.fspath(path))
  # How it was trained is of no concern here: it may have been on another
  # machine, and numbers are to be those of any other program.
  config = dataclasses.replace(
      pretrained.config, dtype='float32', attention='auto', remat='none')
  return Model(jax.tree.map(jax.numpy.asarray, pretrained.params), config,
               pretrained.tokenizer, pretrained.step, pretrained.labels,
               _tuned_length(pretrained))


def _tuned_length(pretrained: Pretrained) -> int:
  """Tokens of a row of the run that made it; 0: it was not made here."""
  run = pretrained.history.get('config', {})
  return run.get('data', {}).get('sequence_length', 0)


def _is_hf(folder: str) -> bool:
  """Whether its config.json is one of transformers."""
  try:
    with open(os.path.join(folder, 'config.json'), encoding='utf-8') as f:
      return 'model_type' in json.load(f)
  except (OSError, ValueError, TypeError, RecursionError):
    return False
