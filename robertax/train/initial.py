"""init_from: weights of another run come first, its step does not."""

import dataclasses
import os
import sys
from typing import Any

import jax

from robertax.errors import InputError
from robertax.sections import differences
from robertax.text import TokenizerConfig
from robertax.train import workdir
from robertax.train.checkpoint import Checkpoints
from robertax.train.config import Config


def initial_config(config: Config) -> Config:
  """Takes model and tokenizer from the workdir that `init_from` names.

  Returns:
    The config unchanged where `init_from` is empty. Rates of dropout stay
    those of the new config: they are of the run, not of the weights.

  Raises:
    InputError: no workdir with weights is there.
  """
  if not config.init_from:
    return config
  saved = workdir.read_config(config.init_from)
  if saved is None or not os.path.isdir(f'{config.init_from}/checkpoints'):
    raise InputError(
        f'init_from={config.init_from!r}: no workdir of robertax is there (no '
        'config.json with checkpoints beside it).')
  model = dataclasses.replace(
      saved.model, dropout_rate=config.model.dropout_rate,
      attention_dropout_rate=config.model.attention_dropout_rate,
      dtype=config.model.dtype, attention=config.model.attention,
      layers_unrolled=config.model.layers_unrolled)
  for line in differences({'model': dataclasses.asdict(config.model)},
                          {'model': dataclasses.asdict(model)}):
    print(f'init_from: {line}', file=sys.stderr)
  return dataclasses.replace(
      config, model=model,
      tokenizer=TokenizerConfig(path=f'{config.init_from}/tokenizer.json'))


def initial_params(config: Config, params: Any) -> Any:
  """The weights to begin with, laid out as `params`.

  Args:
    config: its `init_from` is a workdir, or empty: `params` stay. Its model
      has what the task has filled in.
    params: random parameters on their devices.

  Raises:
    InputError: the workdir has no finished checkpoint, or its model not what
      the task needs.
  """
  if not config.init_from:
    return params
  saved = workdir.read_config(config.init_from).model
  for key in ('num_types', 'nsp_head'):
    if getattr(saved, key) != getattr(config.model, key):
      raise InputError(
          f'init_from={config.init_from!r}: model.{key}={getattr(saved, key)} '
          f'there, and data.format={config.data.format!r} needs '
          f'{getattr(config.model, key)}: take weights of a run on pairs, or a '
          'format without.')
  checkpoints = Checkpoints(config.init_from, read_only=True)
  newest = checkpoints.latest_step()
  if newest is None:
    raise InputError(f'init_from={config.init_from!r}: that run has saved no '
                     'checkpoint yet.')
  print(f'init_from: weights of step {newest} of {config.init_from}',
        file=sys.stderr)
  abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      params)
  try:
    return checkpoints.restore_params(newest, abstract)
  finally:
    checkpoints.close()
