"""load(): a workdir, or other people's weights, opened as a Model.

What robertax.train knows of workdirs is imported where a workdir is read or
written: who opens a folder of Hugging Face needs no orbax.
"""

import dataclasses
import json
import os
from typing import Any

import jax

from robertax import files, text
from robertax import model as modelling
from robertax.config import Config, TokenizerConfig, parse, to_dict
from robertax.errors import InputError, writing
from robertax.inspection.model import Model
from robertax.interop import Pretrained, is_foreign, open_source

# What a converted workdir has besides: labels, and what the weights were.
ORIGIN = 'origin.json'


def load(path: str) -> Model:
  """Opens a model for use.

  Args:
    path: as for `read_model`.

  Raises:
    InputError: as `read_model`.
  """
  pretrained = read_model(os.fspath(path))
  # How it was trained is of no concern here: it may have been on another
  # machine, and numbers are to be those of any other program.
  config = dataclasses.replace(
      pretrained.config, dtype='float32', attention='auto', remat='none',
      layers_unrolled=1)
  made = pretrained.history.get('config', {})
  return Model(jax.tree.map(jax.numpy.asarray, pretrained.params), config,
               pretrained.tokenizer, pretrained.step, pretrained.labels,
               made.get('data', {}).get('sequence_length', 0))


def read_model(source: str) -> Pretrained:
  """Weights, shape and tokenizer of a model.

  Args:
    source: W, `hf:DIR` (or the folder alone, which its config.json gives away)
      or `fairseq:FILE`.

  Raises:
    InputError: nothing of the kind is there, or it is damaged.
  """
  if is_foreign(source):
    return open_source(source).read()
  if _is_hugging_face(source):
    return open_source(f'hf:{source}').read()
  return read_workdir(source)


def read_workdir(path: str) -> Pretrained:
  """The best weights of a workdir that keeps them, else its newest.

  They are put on the first device.

  Args:
    path: W, which `python -m robertax.main` or `robertax.convert` has written.

  Raises:
    InputError: no finished checkpoint is there, or it is damaged.
  """
  from robertax.train import workdir
  from robertax.train.checkpoint import Checkpoints
  config = workdir.weights_config(path)
  folder, step = workdir.saved_weights(path)
  checkpoints = Checkpoints(path, read_only=True, alone=True, folder=folder)
  try:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(lambda: modelling.pad_vocabulary(
        modelling.create(config.model, jax.random.key(0))))
    params = checkpoints.restore_params(step, jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
        shapes))
  finally:
    checkpoints.close()
  origin = _read_origin(f'{path}/{ORIGIN}')
  labels = origin.get('labels') or [
      name for name in config.finetune.labels.split(',') if name]
  return Pretrained(
      modelling.unpad_vocabulary(config.model, params), config.model,
      text.load(f'{path}/tokenizer.json'), path, step=step,
      labels=tuple(labels),
      family=origin.get('family', ''),
      choice=origin.get('choice', config.task.startswith('race')),
      history={'config': to_dict(config), 'metrics': _last_metrics(path)})


def write_workdir(path: str, pretrained: Pretrained):
  """Writes a workdir that holds weights alone: for `init_from` and `load`.

  Args:
    path: W, a folder that is not there yet.
    pretrained: what to write.

  Raises:
    InputError: it cannot be written.
  """
  from robertax.train import workdir
  from robertax.train.checkpoint import Checkpoints, hushed
  made = pretrained.history.get('config')
  config = dataclasses.replace(
      parse(made) if made else Config(init_from=pretrained.source),
      model=pretrained.config,
      tokenizer=TokenizerConfig(kind=pretrained.tokenizer.kind,
                                vocab_size=pretrained.tokenizer.vocab_size))
  workdir.write_workdir(path, config, pretrained.tokenizer)
  with writing(path):
    files.write_text(f'{path}/{ORIGIN}', json.dumps(
        {'source': pretrained.source, 'family': pretrained.family,
         'choice': pretrained.choice, 'labels': pretrained.labels}, indent=2))
  checkpoints = Checkpoints(path)
  with hushed():
    checkpoints.replace_params(pretrained.step, modelling.pad_vocabulary(
        jax.tree.map(jax.numpy.asarray, pretrained.params)))
    checkpoints.close()


def _read_origin(path: str) -> dict[str, Any]:
  try:
    with files.open(path) as f:
      return dict(json.load(f))
  except FileNotFoundError:
    return {}
  except (ValueError, TypeError, RecursionError) as e:
    raise InputError(f'{path}: not an object in JSON ({e}).') from e


def _last_metrics(path: str) -> dict[str, Any]:
  """The last value of each metric."""
  from robertax.train.writer import read_metrics
  path = f'{path}/metrics.jsonl'
  metrics: dict[str, Any] = {}
  for _, line in read_metrics(path) if files.exists(path) else ():
    metrics |= line
  return metrics


def _is_hugging_face(folder: str) -> bool:
  """Whether its config.json is one of transformers."""
  try:
    with open(os.path.join(folder, 'config.json'), encoding='utf-8') as f:
      return 'model_type' in json.load(f)
  except (OSError, ValueError, TypeError, RecursionError):
    return False
