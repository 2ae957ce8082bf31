"""init_from: weights of another run, or of other people, come first.

Their step does not, nor the optimizer's numbers: that is resuming, which the
same --workdir does by itself.
"""

from collections.abc import Collection
import dataclasses
import os
import sys
from typing import Any

import jax

from robertax import interop, text
from robertax.errors import InputError
from robertax.interop import extension
from robertax.model import pad_vocabulary
from robertax.model.config import ModelConfig
from robertax.sections import differences
from robertax.text import TokenizerConfig
from robertax.train import workdir
from robertax.train.checkpoint import Checkpoints
from robertax.train.config import Config

# Keys of `model` that are of the run, not of the weights.
OF_THE_RUN = ('dropout_rate', 'attention_dropout_rate',
              'classifier_dropout_rate', 'initializer_std', 'dtype',
              'attention', 'remat', 'layers_unrolled')
# What may be missing in the weights, and then only what the task fills in.
HEADS = ('num_types', 'lm_head', 'nsp_head')


def initial_config(config: Config, named: Collection[str] = ()) -> Config:
  """Takes model and tokenizer from what `init_from` names.

  Args:
    config: of the new run.
    named: keys that a person has set for this run alone, such as
      'model.max_positions'; what a config file says of `model` and `tokenizer`
      gives way in silence, but for a line of each.

  Returns:
    The config unchanged where `init_from` is empty. OF_THE_RUN stay those of
    the new config. `model.max_positions`, if named, may be more than the
    source's: `interop.extension` makes the table longer.

  Raises:
    InputError: no weights are there, or a named key disagrees with them.
  """
  if not config.init_from:
    return config
  source, tokenizer = _source(config.init_from)
  model = dataclasses.replace(source, **{
      key: getattr(config.model, key) for key in OF_THE_RUN})
  wanted = config.model.max_positions
  if 'model.max_positions' in named and wanted > source.max_positions:
    model = dataclasses.replace(model, max_positions=wanted)
  _check_named(config, named, model, tokenizer)
  for line in differences({'model': dataclasses.asdict(config.model)},
                          {'model': dataclasses.asdict(model)}):
    print(f'init_from: {line}', file=sys.stderr)
  return dataclasses.replace(config, model=model, tokenizer=tokenizer)


def initial_params(config: Config, params: Any) -> Any:
  """The weights to begin with, laid out as `params`.

  Args:
    config: its `init_from` names them, or is empty: `params` stay. Its model
      has what the task has filled in.
    params: random parameters on their devices.

  Raises:
    InputError: there are no weights yet, or they are not of the model that the
      task needs.
  """
  if not config.init_from:
    return params
  source, _ = _source(config.init_from)
  for key in HEADS:
    if getattr(source, key) != getattr(config.model, key):
      raise InputError(
          f'init_from={config.init_from!r}: model.{key}={getattr(source, key)} '
          f'there, and data.format={config.data.format!r} needs '
          f'{getattr(config.model, key)}: take weights of a run on pairs, or a '
          'format without.')
  read = _foreign if interop.is_foreign(config.init_from) else _restored
  positions = params['embeddings']['positions']
  longer = config.model.max_positions
  if longer == source.max_positions:
    return read(config.init_from, params)
  print(f'init_from: {longer} positions, {source.max_positions} of them from '
        f'{config.init_from}; the others repeat these.', file=sys.stderr)
  shape = (len(positions) - longer + source.max_positions, positions.shape[1])
  like = jax.ShapeDtypeStruct(shape, positions.dtype,
                              sharding=positions.sharding)
  found = read(config.init_from, {
      **params, 'embeddings': {**params['embeddings'], 'positions': like}})
  return jax.jit(
      lambda found: extension.longer_positions(found, longer),
      out_shardings=jax.tree.map(lambda x: x.sharding, params))(found)


def _source(spec: str) -> tuple[ModelConfig, TokenizerConfig]:
  """The `model` and `tokenizer` sections of what lies there."""
  if interop.is_foreign(spec):
    return interop.open_source(spec).config, interop.tokenizer_config(spec)
  saved = workdir.read_config(spec)
  if saved is None or not os.path.isdir(f'{spec}/checkpoints'):
    raise InputError(
        f'init_from={spec!r}: no workdir of robertax is there (no config.json '
        'with checkpoints beside it), and it does not begin with hf: or '
        'fairseq:.')
  return saved.model, TokenizerConfig(path=f'{spec}/tokenizer.json')


def _check_named(config: Config, named: Collection[str], model: ModelConfig,
                 tokenizer: TokenizerConfig):
  """Refuses what a person asks for and the weights are not."""
  wrong = []
  for key in sorted(named):
    section, _, name = key.partition('.')
    if section == 'model' and name not in OF_THE_RUN:
      mine, theirs = getattr(config.model, name), getattr(model, name)
      if mine != theirs and not (name == 'vocab_size' and not mine):
        wrong.append(f'{key}={mine!r}, and {theirs!r} there')
    elif section == 'tokenizer':
      found = text.load(tokenizer.path, tokenizer.lowercase)
      mine = getattr(config.tokenizer, name)
      if name == 'path':
        same = bool(mine) and text.load(
            mine, config.tokenizer.lowercase).fingerprint == found.fingerprint
        theirs = tokenizer.path
      else:
        theirs = {'vocab_size': found.vocab_size, 'kind': found.kind,
                  'lowercase': found.lowercase}[name]
        same = mine == theirs
      if not same:
        wrong.append(f'{key}={mine!r}, and {theirs!r} there')
  if wrong:
    more = ' (it may be more)' if any('max_pos' in w for w in wrong) else ''
    raise InputError(
        f'init_from={config.init_from!r}: {"; ".join(wrong)}{more}. Model and '
        'tokenizer come with the weights: leave these flags out.')


def _restored(spec: str, params: Any) -> Any:
  """Weights of a workdir."""
  checkpoints = Checkpoints(spec, read_only=True)
  newest = checkpoints.latest_step()
  if newest is None:
    raise InputError(f'init_from={spec!r}: that run has saved no checkpoint '
                     'yet.')
  print(f'init_from: weights of step {newest} of {spec}', file=sys.stderr)
  abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      params)
  try:
    return checkpoints.restore_params(newest, abstract)
  finally:
    checkpoints.close()


def _foreign(spec: str, params: Any) -> Any:
  """Weights of Hugging Face's or fairseq's, each host laying out its part."""
  pretrained = interop.open_source(spec).read()
  for line in (*pretrained.lines, f'weights of {spec}'):
    print(f'init_from: {line}', file=sys.stderr)
  found = jax.device_get(pad_vocabulary(pretrained.params))
  return jax.tree.map(
      lambda x, like: jax.make_array_from_callback(
          like.shape, like.sharding, lambda index: x[index]), found, params)
