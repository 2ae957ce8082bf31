"""load(): opens a workdir, or other people's weights, as a Model.

robertax.train is imported only where a workdir is read or written, since a
Hugging Face folder can be opened without orbax.
"""

import contextlib
import dataclasses
import json
import os
from typing import Any

import jax

from robertax import files, text
from robertax import model as modelling
from robertax.config import MASKED_LM, Config, TokenizerConfig, parse, to_dict
from robertax.errors import InputError, writing
from robertax.inspection.model import Model
from robertax.interop import Pretrained, is_foreign, open_source
from robertax.parallel.mesh import find_devices
from robertax.tasks.task import ORIGIN, RESULTS, read_object

THRESHOLD = 'no_answer_threshold'  # Of SQuAD 2.0, in results and origin.
_MOST_SOURCES = 8  # That a model card names, each made from the next one.


def load(path: str) -> Model:
  """Opens a model for use; see `read_model` for paths and errors."""
  pretrained = read_model(os.fspath(path))
  # The settings of training do not matter here. It may have run on another
  # machine, and the numbers should equal those of other programs.
  config = dataclasses.replace(
      pretrained.config, dtype='float32', attention='auto', remat='none',
      layers_unrolled=1)
  made = pretrained.history.get('config')
  model = Model(jax.tree.map(jax.numpy.asarray, pretrained.params), config,
                pretrained.tokenizer, pretrained.step, pretrained.labels,
                parse(made) if made else None,
                pretrained.history.get(THRESHOLD), pretrained.problem_type)
  if pretrained.choice and model.recipe.task == MASKED_LM:  # Other people's.
    model.recipe = dataclasses.replace(model.recipe, task='race')
  return model


def read_model(source: str) -> Pretrained:
  """Weights, shape and tokenizer of a model; InputError if none can be read.

  `source` is W, `hf:DIR` (or the folder alone, which its config.json reveals)
  or `fairseq:FILE`.
  """
  if is_foreign(source):
    return open_source(source).read()
  if _is_hugging_face(source):
    return open_source(f'hf:{source}').read()
  return read_workdir(source)


def read_workdir(path: str) -> Pretrained:
  """The best weights of a workdir that keeps them, else its newest.

  Of a sweep they are those of its best run. They are put on the first device.
  InputError if no finished checkpoint exists or if it is damaged.
  """
  from robertax.train import workdir
  from robertax.train.checkpoint import Checkpoints
  from robertax.train.writer import read_metrics
  path = workdir.with_weights(path)
  config = workdir.weights_config(path)
  folder, step = workdir.saved_weights(path)
  checkpoints = Checkpoints(path, read_only=True, alone=True, folder=folder)
  try:
    here = jax.sharding.SingleDeviceSharding(find_devices()[0])
    shapes = jax.eval_shape(lambda: modelling.pad_vocabulary(
        modelling.create(config.model, jax.random.key(0))))
    params = checkpoints.restore_params(step, jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
        shapes))
  finally:
    checkpoints.close()
  origin = read_object(f'{path}/{ORIGIN}')
  found = origin | (read_object(f'{path}/{RESULTS}')
                    if config.task == 'squad2' else {})
  labels, problem_type = workdir.class_names(path)
  metrics: dict[str, Any] = {}  # The last value of each.
  logged = f'{path}/metrics.jsonl'
  for _, line in read_metrics(logged) if files.exists(logged) else ():
    metrics |= line
  tokenizer = text.load(f'{path}/tokenizer.json').laid_out(config.model)
  return Pretrained(
      modelling.unpad_vocabulary(config.model, params), config.model,
      tokenizer, path, step=step,
      labels=labels, problem_type=problem_type, family=origin.get('family', ''),
      choice=origin.get('choice', config.task.startswith('race')),
      history={'config': to_dict(config), 'metrics': metrics,
               'sources': sources_of(path), THRESHOLD: found.get(THRESHOLD)})


def sources_of(path: str) -> list[str]:
  """What a workdir's weights come from, and these from, as far as is known."""
  from robertax.train import workdir
  found: list[str] = []
  with contextlib.suppress(InputError):  # A source may be gone by now.
    while len(found) < _MOST_SOURCES:
      path = workdir.weights_config(path).init_from
      if not path:
        break
      found.append(path)
      if is_foreign(path):
        break
  return found


def write_workdir(path: str, pretrained: Pretrained):
  """Writes a new workdir with weights alone, for `init_from` and `load`."""
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
         'choice': pretrained.choice, 'labels': pretrained.labels,
         'problem_type': pretrained.problem_type,
         THRESHOLD: pretrained.history.get(THRESHOLD)}, indent=2))
  checkpoints = Checkpoints(path)
  with hushed():
    checkpoints.replace_params(pretrained.step, modelling.pad_vocabulary(
        jax.tree.map(jax.numpy.asarray, pretrained.params)))
    checkpoints.close()


def _is_hugging_face(folder: str) -> bool:
  """Whether transformers has written the folder's config.json."""
  with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
    return 'model_type' in files.read_json(f'{folder}/config.json')
  return False
