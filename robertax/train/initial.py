"""init_from: weights of another run, or of other people, come first.

Their step does not, nor the optimizer's numbers: that is resuming, which the
same --workdir does by itself. What does not fit is an error that names it,
unless the config allows it by name (finetune.new_parameters,
finetune.unused_parameters): a body that begins at random in silence is the
dearest mistake there is (fairseq #999).
"""

from collections.abc import Callable, Collection, Iterable, Iterator
import contextlib
import dataclasses
import sys
from typing import Any, NamedTuple

import jax

from robertax import files, interop, text
from robertax.config import (
    MASKED_LM,
    Config,
    ModelConfig,
    TokenizerConfig,
    differences,
)
from robertax.errors import InputError, unknown
from robertax.interop.pretrained import longer_positions
from robertax.model import pad_vocabulary
from robertax.parallel import processes
from robertax.tasks import TASKS
from robertax.train import workdir
from robertax.train.checkpoint import Checkpoints, as_dict
from robertax.train.workdir import BEST_FOLDER as BEST

# What `init_from` may name: workdirs, and other people's models.


class Weights(NamedTuple):
  """Weights that can be read.

  Attributes:
    said: a line on which they are.
    shapes: nested dict of what is there, leaves with `.shape` and `.dtype`; the
      vocabulary padded (model.vocabulary).
    read: from a nested dict of ShapeDtypeStructs with shardings, for all that
      is there, to arrays laid out so.
  """
  said: str
  shapes: Any
  read: Callable[[Any], Any]


def describe_weights(spec: str) -> tuple[ModelConfig, TokenizerConfig]:
  """The `model` and `tokenizer` sections of what lies there.

  Args:
    spec: W, hf:DIR or fairseq:FILE.

  Raises:
    InputError: nothing of the kind is there.
  """
  if interop.is_foreign(spec):
    return interop.open_source(spec).config, interop.source_tokenizer(spec)
  saved = workdir.read_config(spec)
  # Of a sweep's run that answers with others the best weights alone are kept.
  if saved is None or not any(
      files.isdir(f'{spec}/{folder}') for folder in ('checkpoints', BEST)):
    raise InputError(
        f'init_from={spec!r}: no workdir of robertax is there (no config.json '
        'with checkpoints beside it), and it does not begin with hf: or '
        'fairseq:.')
  return saved.model, TokenizerConfig(path=f'{spec}/tokenizer.json')


@contextlib.contextmanager
def open_weights(spec: str) -> Iterator[Weights]:
  """The weights there; of a run that keeps its best, those.

  Args:
    spec: as for `describe`.

  Raises:
    InputError: none are saved yet, or they are damaged.
  """
  if interop.is_foreign(spec):
    yield _foreign_weights(spec)
    return
  # One process looks: a run that is alive may save the next one meanwhile.
  folder, step = processes.gather(processes.together(
      lambda: workdir.best_or_newest(spec) if processes.first() else None))[0]
  if step is None:
    raise InputError(f'init_from={spec!r}: that run has saved no checkpoint '
                     'yet.')
  checkpoints = Checkpoints(spec, read_only=True, folder=folder)
  try:
    yield Weights(
        f'weights of {"the best " if folder == BEST else ""}step {step} of '
        f'{spec}', checkpoints.shapes(step),
        lambda wanted: checkpoints.restore_params(step, wanted))
  finally:
    checkpoints.close()


def _foreign_weights(spec: str) -> Weights:
  """Read into each host's memory, of which its devices take their parts."""
  pretrained = interop.open_source(spec).read()
  params = jax.device_get(pad_vocabulary(pretrained.params))
  return Weights(
      '; '.join([f'weights of {spec}', *pretrained.lines]),
      jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params),
      lambda wanted: jax.tree.map(
          lambda x, like: jax.make_array_from_callback(
              like.shape, like.sharding, lambda index: x[index]),
          params, wanted))


# Of the run, or of its task; not of the weights.
OF_THE_RUN = ('dropout_rate', 'attention_dropout_rate',
              'classifier_dropout_rate', 'initializer_std', 'dtype',
              'attention', 'remat', 'layers_unrolled')
HEADS = ('lm_head', 'num_classes', 'span_head', 'nsp_head')
# What pretraining leaves where it finds it.
TASK_HEADS = ('classifier', 'span_head')


def initial_config(config: Config, named: Collection[str] = ()) -> Config:
  """Takes model and tokenizer from what `init_from` names.

  Args:
    config: of the new run.
    named: keys that a person has set for this run, such as
      'model.max_positions'. What a config file says of `model` and `tokenizer`
      gives way, with a line for each.

  Returns:
    The config unchanged where `init_from` is empty. Rates of dropout stay
    those of the new config: they are of the run, not of the weights; and so do
    heads, which are the task's, but for that of pairs in pretraining.
    `model.max_positions`, if named, may be more than the source's:
    `interop.extension` makes the table longer.

  Raises:
    InputError: no weights are there, or a named key disagrees with them; no
      such task; or a fine-tuning run has neither `init_from` nor
      finetune.from_scratch.
  """
  if config.task not in TASKS:
    raise unknown('task', config.task, TASKS)
  fine_tunes = config.task != MASKED_LM
  if not config.init_from:
    if fine_tunes and not config.finetune.from_scratch:
      raise InputError(
          f"init_from='': task={config.task!r} begins with the weights of a "
          'pretrained model: give its workdir, hf:DIR or fairseq:FILE. A '
          'random body is asked for by finetune.from_scratch=True.')
    return config
  source, tokenizer = describe_weights(config.init_from)
  kept = OF_THE_RUN + (HEADS if fine_tunes else HEADS[:3])
  model = dataclasses.replace(
      source, **{key: getattr(config.model, key) for key in kept})
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
  if config.finetune.from_scratch and config.task != MASKED_LM:
    print('finetune.from_scratch: the body begins with RANDOM weights'
          + (f', of the shape of {config.init_from}' if config.init_from
             else '') + '.', file=sys.stderr)
    return params
  if not config.init_from:
    return params
  source, _ = describe_weights(config.init_from)
  if config.task == MASKED_LM:
    _check_pairs(config, source)
  with open_weights(config.init_from) as weights:
    print(f'init_from: {weights.said}', file=sys.stderr)
    if config.model.max_positions > source.max_positions:
      print(f'init_from: {config.model.max_positions} positions, '
            f'{source.max_positions} of them from there; the others repeat '
            'these.', file=sys.stderr)
      weights = _with_positions(weights, config.model.max_positions)
    return fit_weights(config, params, weights.shapes, weights.read)


def fit_weights(config: Config, params: Any, shapes: Any, read: Any) -> Any:
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
  new = _named_parts(config.finetune.new_parameters) if tuning else ()
  unused = (_named_parts(config.finetune.unused_parameters) if tuning
            else TASK_HEADS)
  wanted, there = _flat_paths(params), _flat_paths(shapes)
  kept = {path for path in wanted if path[0] not in new}
  problems = [f'{_said_path(p)} is missing' for p in sorted(kept - set(there))]
  problems += [
      f'{_said_path(p)} is {list(there[p].shape)} there and '
      f'{list(wanted[p].shape)} here'
      for p in sorted(kept & set(there)) if there[p].shape != wanted[p].shape]
  dropped = set(there) - kept
  problems += [f'{_said_path(p)} is not of this model' for p in sorted(dropped)
               if p[0] not in (*new, *unused)]
  if problems:
    raise InputError(
        f'init_from={config.init_from!r}: {"; ".join(problems)}. '
        + ('A part that is to begin anew is named in finetune.new_parameters='
           f'{config.finetune.new_parameters!r}, one that is to be left out in '
           'finetune.unused_parameters='
           f'{config.finetune.unused_parameters!r}.' if tuning else
           'Pretraining goes on from the weights of a whole model, its '
           'masked-LM head included.'))
  for what, paths in (('dropped', dropped), ('new', set(wanted) - kept)):
    if parts := sorted({p[0] for p in paths}):
      print(f'init_from: {what}: {", ".join(parts)}', file=sys.stderr)
  # All that is there is read, for a checkpoint is read as a whole.
  anywhere = jax.tree.leaves(params)[0].sharding
  replicated = (jax.sharding.NamedSharding(
      anywhere.mesh, jax.sharding.PartitionSpec())
                if isinstance(anywhere, jax.sharding.NamedSharding)
                else anywhere)
  found = _flat_paths(read(jax.tree_util.tree_map_with_path(
      lambda path, x: jax.ShapeDtypeStruct(
          x.shape, x.dtype, sharding=wanted[_key_path(path)].sharding
          if _key_path(path) in kept else replicated), shapes)))
  return jax.tree_util.tree_map_with_path(
      lambda path, x: found[_key_path(path)]
      if _key_path(path) in kept else x, params)


def _with_positions(weights: Weights, max_positions: int) -> Weights:
  """The same weights, seen with a longer position table."""
  def longer(params):
    return longer_positions(params, max_positions)

  def read(wanted):
    table = wanted['embeddings']['positions']
    short = jax.ShapeDtypeStruct(
        weights.shapes['embeddings']['positions'].shape, table.dtype,
        sharding=table.sharding)
    found = weights.read({**wanted, 'embeddings': {
        **wanted['embeddings'], 'positions': short}})
    return jax.jit(longer, out_shardings=jax.tree.map(
        lambda x: x.sharding, wanted))(found)

  return weights._replace(shapes=jax.eval_shape(longer, weights.shapes),
                          read=read)


def _check_named(config: Config, named: Collection[str], model: ModelConfig,
                 tokenizer: TokenizerConfig):
  """Refuses what a person asks for and the weights are not."""
  wrong = []
  for key in sorted(named):
    section, _, name = key.partition('.')
    if section == 'model':
      mine, theirs = getattr(config.model, name), getattr(model, name)
      same = mine == theirs or name == 'vocab_size' and not mine
    elif section == 'tokenizer':
      found = text.load(tokenizer.path, tokenizer.lowercase)
      mine = getattr(config.tokenizer, name)
      theirs = tokenizer.path if name == 'path' else getattr(found, name)
      same = mine == theirs or name == 'path' and bool(mine) and text.load(
          mine, config.tokenizer.lowercase).fingerprint == found.fingerprint
    else:
      continue
    if not same:
      wrong.append(f'{key}={mine!r}, and {theirs!r} there'
                   + (' (it may be more)' if name == 'max_positions' else ''))
  if wrong:
    raise InputError(
        f'init_from={config.init_from!r}: {"; ".join(wrong)}. Model and '
        'tokenizer come with the weights: leave that out.')


def _check_pairs(config: Config, source: ModelConfig):
  for key in ('num_types', 'nsp_head'):
    if getattr(source, key) != getattr(config.model, key):
      raise InputError(
          f'init_from={config.init_from!r}: model.{key}={getattr(source, key)} '
          f'there, and data.format={config.data.format!r} needs '
          f'{getattr(config.model, key)}: take weights of a run on pairs, or a '
          'format without.')


def _named_parts(text: str) -> tuple[str, ...]:
  return tuple(name.strip() for name in text.split(',') if name.strip())


def _key_path(path: Iterable[Any]) -> tuple[str, ...]:
  return tuple(str(key.key) for key in path)


def _said_path(path: tuple[str, ...]) -> str:
  return '/'.join(path)


def _flat_paths(tree: Any) -> dict[tuple[str, ...], Any]:
  return {_key_path(path): leaf for path, leaf
          in jax.tree_util.tree_leaves_with_path(as_dict(tree))}
