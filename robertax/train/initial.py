"""init_from: weights of another run come first, its step does not.

What does not fit is an error that names it, unless the config allows it by name
(finetune.new_parameters, finetune.unused_parameters): a body that begins at
random in silence is the dearest mistake there is (fairseq #999).
"""

from collections.abc import Iterable
import dataclasses
import os
import sys
from typing import Any

import jax

from robertax.errors import InputError
from robertax.sections import differences
from robertax.text import TokenizerConfig
from robertax.train import workdir
from robertax.train.best import FOLDER as BEST
from robertax.train.checkpoint import Checkpoints, as_dict
from robertax.train.config import MASKED_LM, Config

# Of the run, or of its task; not of the weights.
OF_THE_RUN = ('dropout_rate', 'attention_dropout_rate',
              'classifier_dropout_rate', 'dtype', 'attention', 'remat',
              'layers_unrolled')
HEADS = ('lm_head', 'num_classes', 'span_head', 'nsp_head')


def initial_config(config: Config) -> Config:
  """Takes model and tokenizer from the workdir that `init_from` names.

  Returns:
    The config unchanged where `init_from` is empty. Rates of dropout stay
    those of the new config: they are of the run, not of the weights; and, where
    one fine-tunes, so do heads, which are the task's.

  Raises:
    InputError: no workdir with weights is there; or a fine-tuning run has
      neither `init_from` nor finetune.from_scratch.
  """
  fine_tunes = config.task != MASKED_LM
  if not config.init_from:
    if fine_tunes and not config.finetune.from_scratch:
      raise InputError(
          f"init_from='': task={config.task!r} begins with the weights of a "
          'pretrained model: give its workdir. A random body is asked for by '
          'finetune.from_scratch=True.')
    return config
  saved = workdir.read_config(config.init_from)
  if saved is None or not os.path.isdir(f'{config.init_from}/checkpoints'):
    raise InputError(
        f'init_from={config.init_from!r}: no workdir of robertax is there (no '
        'config.json with checkpoints beside it).')
  kept = OF_THE_RUN + (HEADS if fine_tunes else ())
  model = dataclasses.replace(
      saved.model, **{key: getattr(config.model, key) for key in kept})
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
  if config.finetune.from_scratch and config.task != MASKED_LM:
    print('finetune.from_scratch: the body begins with RANDOM weights'
          + (f', of the shape of {config.init_from}' if config.init_from
             else '') + '.', file=sys.stderr)
    return params
  if not config.init_from:
    return params
  if config.task == MASKED_LM:
    _check_pairs(config)
  best = os.path.isdir(f'{config.init_from}/{BEST}')
  checkpoints = Checkpoints(config.init_from, read_only=True,
                            folder=BEST if best else 'checkpoints')
  try:
    newest = checkpoints.latest_step()
    if newest is None:
      raise InputError(f'init_from={config.init_from!r}: that run has saved no '
                       'checkpoint yet.')
    print(f'init_from: weights of {"the best " if best else ""}step {newest} '
          f'of {config.init_from}', file=sys.stderr)
    return restored(config, params, checkpoints.shapes(newest),
                    lambda wanted: checkpoints.restore_params(newest, wanted))
  finally:
    checkpoints.close()


def restored(config: Config, params: Any, shapes: Any, read: Any) -> Any:
  """Weights that are there, the task's new parts as in `params`.

  Args:
    config: says by name what may be new, and what unused.
    params: random parameters on their devices.
    shapes: nested dict of what is there, leaves with `.shape`.
    read: from a nested dict of ShapeDtypeStructs, all that is there, to arrays.

  Raises:
    InputError: a parameter is missing, left over or of another shape, and not
      allowed by name.
  """
  tuning = config.task != MASKED_LM
  new = _names(config.finetune.new_parameters) if tuning else ()
  unused = _names(config.finetune.unused_parameters) if tuning else ()
  wanted, there = _flat(params), _flat(shapes)
  kept = {path for path in wanted if path[0] not in new}
  problems = [f'{_say(p)} is missing' for p in sorted(kept - set(there))]
  problems += [
      f'{_say(p)} is {list(there[p].shape)} there and '
      f'{list(wanted[p].shape)} here'
      for p in sorted(kept & set(there)) if there[p].shape != wanted[p].shape]
  dropped = set(there) - kept
  problems += [f'{_say(p)} is not of this model' for p in sorted(dropped)
               if p[0] not in (*new, *unused)]
  if problems:
    raise InputError(
        f'init_from={config.init_from!r}: {"; ".join(problems)}. A part that '
        'is to begin anew is named in finetune.new_parameters='
        f'{config.finetune.new_parameters!r}, one that is to be left out in '
        f'finetune.unused_parameters={config.finetune.unused_parameters!r}.')
  for what, paths in (('dropped', dropped), ('new', set(wanted) - kept)):
    if parts := sorted({p[0] for p in paths}):
      print(f'init_from: {what}: {", ".join(parts)}', file=sys.stderr)
  # All that is there is read, for a checkpoint is read as a whole.
  anywhere = jax.tree.leaves(params)[0].sharding
  replicated = (jax.sharding.NamedSharding(
      anywhere.mesh, jax.sharding.PartitionSpec())
                if isinstance(anywhere, jax.sharding.NamedSharding)
                else anywhere)
  found = _flat(read(jax.tree_util.tree_map_with_path(
      lambda path, x: jax.ShapeDtypeStruct(
          x.shape, x.dtype, sharding=wanted[_path(path)].sharding
          if _path(path) in kept else replicated), shapes)))
  return jax.tree_util.tree_map_with_path(
      lambda path, x: found[_path(path)] if _path(path) in kept else x, params)


def _check_pairs(config: Config):
  saved = workdir.read_config(config.init_from).model
  for key in ('num_types', 'nsp_head'):
    if getattr(saved, key) != getattr(config.model, key):
      raise InputError(
          f'init_from={config.init_from!r}: model.{key}={getattr(saved, key)} '
          f'there, and data.format={config.data.format!r} needs '
          f'{getattr(config.model, key)}: take weights of a run on pairs, or a '
          'format without.')


def _names(text: str) -> tuple[str, ...]:
  return tuple(name.strip() for name in text.split(',') if name.strip())


def _path(path: Iterable[Any]) -> tuple[str, ...]:
  return tuple(str(key.key) for key in path)


def _say(path: tuple[str, ...]) -> str:
  return '/'.join(path)


def _flat(tree: Any) -> dict[tuple[str, ...], Any]:
  return {_path(path): leaf for path, leaf
          in jax.tree_util.tree_leaves_with_path(as_dict(tree))}
