"""init_from: starts a run from the weights of another run, or published ones.

Their step and optimizer state are not taken: that is resuming, which the same
--workdir does by itself. What does not fit is an error that names it, unless
finetune.new_parameters or finetune.unused_parameters allow it: a body that
silently begins at random is the most expensive mistake there is (fairseq #999).
"""

from collections.abc import Callable, Collection, Iterator
import contextlib
import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from robertax import config as configs
from robertax import interop, text
from robertax.config import MASKED_LM, Config, ModelConfig, TokenizerConfig
from robertax.errors import InputError, unknown
from robertax.interop.pretrained import (
    TokenRows,
    longer_positions,
    token_rows,
    unnamed,
)
from robertax.model import pad_vocabulary
from robertax.model.encoder import map_tables
from robertax.parallel import processes
from robertax.progress import say
from robertax.tasks import TASKS
from robertax.text import Tokenizer
from robertax.train import workdir
from robertax.train.checkpoint import Checkpoints
from robertax.train.facts import flat_leaves
from robertax.train.workdir import BEST_FOLDER as BEST

# Keys of `model` that belong to the run or to its task, not to the weights.
OF_THE_RUN = ('dropout_rate', 'attention_dropout_rate',
              'classifier_dropout_rate', 'initializer_std', 'dtype',
              'attention', 'remat', 'layers_unrolled')
HEADS = ('lm_head', 'num_classes', 'span_head', 'nsp_head')
# Heads that pretraining drops from the weights that it begins with.
TASK_HEADS = ('classifier', 'span_head')


class Weights(NamedTuple):
  """Weights that can be read, the vocabulary padded (model.pad_vocabulary)."""
  description: str  # A line for people.
  shapes: Any  # Nested dict; its leaves have `.shape` and `.dtype`.
  read: Callable[[Any], Any]  # ShapeDtypeStructs with shardings -> arrays.
  labels: tuple[str, ...] = ()  # Names of the classes, in order, if known.
  problem_type: str = ''  # See Pretrained.


def describe_weights(source: str) -> tuple[ModelConfig, TokenizerConfig]:
  """Returns the `model` and `tokenizer` of W, hf:DIR or fairseq:FILE."""
  if interop.is_foreign(source):
    return interop.open_source(source).config, interop.source_tokenizer(source)
  source = workdir.with_weights(source)
  try:
    saved = workdir.weights_config(source)
  except InputError as e:
    raise InputError(
        f'init_from: {e} Give a workdir with weights, hf:DIR or fairseq:FILE.'
        ) from e
  return saved.model, TokenizerConfig(path=f'{source}/tokenizer.json')


@contextlib.contextmanager
def open_weights(source: str, dropped: Collection[str] | None = None
                 ) -> Iterator[Weights]:
  """Opens the weights of W (its best, if kept), hf:DIR or fairseq:FILE.

  `dropped` names parts that are not needed (ForeignModel.read). Raises
  InputError if there are none yet, or if they are damaged.
  """
  if interop.is_foreign(source):
    yield _foreign_weights(source, dropped)
    return
  source = workdir.with_weights(source)
  # One process looks: a live run may save its next checkpoint meanwhile.
  folder, step = processes.gather(processes.together(
      lambda: workdir.saved_weights(source) if processes.first() else None))[0]
  checkpoints = Checkpoints(source, read_only=True, folder=folder)
  try:
    yield Weights(
        f'weights of {"the best " if folder == BEST else ""}step {step} of '
        f'{source}', checkpoints.shapes(step),
        lambda wanted: checkpoints.restore_params(step, wanted),
        *workdir.class_names(source))
  finally:
    checkpoints.close()


def _foreign_weights(source: str, dropped: Collection[str] | None) -> Weights:
  """Reads all of them on each host, whose devices take their parts."""
  pretrained = interop.open_source(source).read(dropped)
  params = jax.device_get(pad_vocabulary(pretrained.params))
  return Weights(
      '; '.join([f'weights of {source}', *pretrained.lines]),
      jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params),
      lambda wanted: jax.tree.map(
          lambda x, like: jax.make_array_from_callback(
              like.shape, like.sharding, lambda index: x[index]),
          params, wanted), pretrained.labels, pretrained.problem_type)


def initial_config(config: Config, named: Collection[str] = ()) -> Config:
  """Takes the `model` and `tokenizer` sections from `init_from`, if it is set.

  The keys OF_THE_RUN stay, and so do the task's HEADS, except the head of pairs
  in pretraining. Any other key of a config file is overruled, with a line. Keys
  in `named` are a person's, and must agree with the source; only
  'model.max_positions' may be more (interop.pretrained.longer_positions).

  Raises InputError if there are no weights or no such task, if a named key
  disagrees, or if fine-tuning has neither `init_from` nor from_scratch.
  """
  if config.task not in TASKS:
    raise unknown('task', config.task, TASKS)
  fine_tunes = config.task != MASKED_LM
  if not config.init_from:
    if fine_tunes and not config.finetune.from_scratch:
      raise InputError(
          f"init_from='': task={config.task!r} begins with the weights of a "
          'pretrained model: give its workdir, hf:DIR or fairseq:FILE. For a '
          'random body set finetune.from_scratch=True.')
    return config
  source, tokenizer = describe_weights(config.init_from)
  kept = OF_THE_RUN + (HEADS if fine_tunes else HEADS[:3])
  model = dataclasses.replace(
      source, **{key: getattr(config.model, key) for key in kept})
  wanted = config.model.max_positions
  if 'model.max_positions' in named and wanted > source.max_positions:
    model = dataclasses.replace(model, max_positions=wanted)
  if config.init_from_vocabulary == 'transfer':
    tokenizer = config.tokenizer  # Without a path one is trained.
    size = (text.load(tokenizer.path, tokenizer.lowercase).vocab_size
            if tokenizer.path else config.model.vocab_size)
    model = dataclasses.replace(model, vocab_size=size)
    named = [key for key in named if not key.startswith('tokenizer.')]
  else:
    tokenizer = dataclasses.replace(
        tokenizer, max_unknown_share=config.tokenizer.max_unknown_share)
  _check_named(config, named, model, tokenizer)
  for line in configs.differences({'model': dataclasses.asdict(config.model)},
                          {'model': dataclasses.asdict(model)}):
    say(f'init_from: {line}')
  return dataclasses.replace(config, model=model, tokenizer=tokenizer)


def initial_params(config: Config, params: Any,
                   tokenizer: Tokenizer | None = None) -> Any:
  """Returns random `params` as they are, or the weights of `init_from`.

  `tokenizer` is the run's, for init_from_vocabulary='transfer'.
  """
  if config.finetune.from_scratch and config.task != MASKED_LM:
    say('finetune.from_scratch: the body begins with RANDOM weights'
        + (f', of the shape of {config.init_from}' if config.init_from
           else '') + '.')
    return params
  if not config.init_from:
    return params
  source, of_source = describe_weights(config.init_from)
  for key in ('num_types', 'nsp_head') if config.task == MASKED_LM else ():
    here, there = getattr(config.model, key), getattr(source, key)
    if here != there:
      raise InputError(
          f'init_from={config.init_from!r}: model.{key}={there} there, and '
          f'data.format={config.data.format!r} needs {here}: take weights of a '
          'run on pairs, or a format without.')
  with open_weights(config.init_from, sum(_left_out(config), ())) as weights:
    say(f'init_from: {weights.description}')
    if config.model.max_positions > source.max_positions:
      say(f'init_from: {config.model.max_positions} positions, '
          f'{source.max_positions} of them from there; the others repeat '
          'these.')
      weights = _with_positions(weights, config.model.max_positions)
    if config.init_from_vocabulary == 'transfer' and tokenizer:
      old = text.load(of_source.path, of_source.lowercase)
      if old.fingerprint != tokenizer.fingerprint:
        rows = token_rows(old, tokenizer)
        say(f'init_from: another vocabulary: {rows.describe()}')
        weights = _with_vocabulary(weights, rows)
    fitted = fit_weights(config, params, weights.shapes, weights.read)
    return _with_classes(config, fitted, weights)


def _left_out(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """The parts that begin anew, and those of the source that go unused."""
  tuning = config.task != MASKED_LM
  return (_named_parts(config.finetune.new_parameters),
          _named_parts(config.finetune.unused_parameters)
          + TASK_HEADS * (not tuning))


def _with_classes(config: Config, params: Any, weights: Weights) -> Any:
  """Puts the outputs of a classifier that is kept in the order of the task.

  Raises InputError if both name their classes, and differently.
  """
  wanted = tuple(filter(None, config.finetune.labels.split(',')))
  if not wanted or 'classifier' in _left_out(config)[0]:
    return params
  kind = config.finetune.problem_type
  if weights.problem_type and kind and weights.problem_type != kind:
    say(f'init_from: the classifier was for {weights.problem_type}, and is '
        f'now for {kind}.')
  there = weights.labels
  numbers = tuple(map(str, range(len(wanted))))
  if there == unnamed(len(wanted)) and set(wanted) == set(numbers):
    there = numbers  # LABEL_1 is the class 1.
  if not there or there == unnamed(len(there)) and set(there) != set(wanted):
    say(f'init_from: {config.init_from} does not name the classes of its '
        f'classifier: its outputs are taken for {", ".join(wanted)}, in this '
        'order.')
    return params
  order = [list(wanted), list(there)]
  if set(wanted) != set(there):  # CONTRADICTION is contradiction.
    order = [[name.casefold() for name in names] for names in order]
  if sorted(set(order[0])) != sorted(order[1]):
    raise InputError(
        f'init_from={config.init_from!r}: its classifier tells apart '
        f'{", ".join(there)}, and the data {", ".join(wanted)}: give both the '
        'same names (in the data, or in id2label of its config.json), or '
        'begin the classifier anew: finetune.new_parameters=classifier.')
  if order[0] == order[1]:
    return params
  places = np.array([order[1].index(name) for name in order[0]])
  say(f'init_from: the outputs of the classifier, {", ".join(there)}, are put '
      f'in the order of the data, {", ".join(wanted)}.')
  output = jax.tree.map(
      lambda x: jax.jit(lambda x: x[..., places], out_shardings=x.sharding)(x),
      params['classifier']['output'])
  return {**params, 'classifier': {**params['classifier'], 'output': output}}


def fit_weights(config: Config, params: Any, shapes: Any, read: Any) -> Any:
  """Reads weights that have `shapes`; the task's new parts stay as in `params`.

  Raises InputError for a parameter that is missing, left over or of another
  shape, unless the config allows it by name.
  """
  new, unused = _left_out(config)
  wanted, there = flat_leaves(params), flat_leaves(shapes)
  kept = {path for path in wanted if _part(path) not in new}
  dropped = set(there) - kept
  problems = [f'{p} is missing' for p in sorted(kept - set(there))]
  problems += [
      f'{p} is {list(there[p].shape)} there and {list(wanted[p].shape)} here'
      for p in sorted(kept & set(there)) if there[p].shape != wanted[p].shape]
  problems += [f'{p} is not of this model' for p in sorted(dropped)
               if _part(p) not in (*new, *unused)]
  if problems:
    raise InputError(
        f'init_from={config.init_from!r}: {"; ".join(problems)}. '
        + 'Name a part that is to begin anew in finetune.new_parameters='
        f'{config.finetune.new_parameters!r}, and one to leave out in '
        f'finetune.unused_parameters={config.finetune.unused_parameters!r}.')
  for what, paths in (('dropped', dropped), ('new', set(wanted) - kept)):
    if parts := sorted(set(map(_part, paths))):
      say(f'init_from: {what}: {", ".join(parts)}')
  # A checkpoint is read as a whole: what is dropped goes to all devices.
  replicated = _replicated(jax.tree.leaves(params)[0].sharding)
  found = flat_leaves(read(_with_leaves(shapes, {
      path: jax.ShapeDtypeStruct(
          x.shape, x.dtype, sharding=wanted[path].sharding
          if path in kept else replicated) for path, x in there.items()})))
  return _with_leaves(params, {
      path: found[path] if path in kept else x for path, x in wanted.items()})


def _replicated(sharding: jax.sharding.Sharding) -> jax.sharding.Sharding:
  """Returns the sharding that puts an array on all of the same devices."""
  if isinstance(sharding, jax.sharding.NamedSharding):
    return jax.sharding.NamedSharding(sharding.mesh,
                                      jax.sharding.PartitionSpec())
  return sharding


def _with_vocabulary(weights: Weights, rows: TokenRows) -> Weights:
  """Replaces the tables of tokens by those of another vocabulary."""
  before = weights.shapes['embeddings']['tokens'].shape[0]

  def read(wanted):
    found = weights.read(map_tables(wanted, lambda x: jax.ShapeDtypeStruct(
        (before, *x.shape[1:]), x.dtype, sharding=_replicated(x.sharding))))
    found = map_tables(found, lambda table: rows.of(np.asarray(table)))
    return jax.tree.map(lambda x, like: (
        x if isinstance(x, jax.Array) else jax.make_array_from_callback(
            like.shape, like.sharding, lambda index: np.pad(
                x, [(0, like.shape[0] - len(x))]
                + [(0, 0)] * (x.ndim - 1))[index])), found, wanted)

  return weights._replace(read=read, shapes=jax.eval_shape(
      pad_vocabulary, map_tables(weights.shapes, lambda x: (
          jax.ShapeDtypeStruct((len(rows.seeds), *x.shape[1:]), x.dtype)))))


def _with_positions(weights: Weights, max_positions: int) -> Weights:
  """Lengthens the position table of the weights."""
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
  """Refuses keys that a person has set and that the weights contradict."""
  wrong = []
  for key in sorted(named):
    section, _, name = key.partition('.')
    if section == 'model':
      mine, theirs = getattr(config.model, name), getattr(model, name)
      same = mine == theirs or name == 'vocab_size' and not mine
    elif section == 'tokenizer':
      found = text.load(tokenizer.path, tokenizer.lowercase)
      mine = getattr(config.tokenizer, name)
      # How a tokenizer is trained says nothing about one that is read.
      theirs = tokenizer.path if name == 'path' else getattr(found, name, mine)
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
        'tokenizer come with the weights: leave that out; with '
        "init_from_vocabulary='transfer' the tokenizer may be another.")


def _named_parts(text: str) -> tuple[str, ...]:
  return tuple(name.strip() for name in text.split(',') if name.strip())


def _part(path: str) -> str:
  return path.partition('/')[0]


def _with_leaves(tree: Any, leaves: dict[str, Any]) -> Any:
  """Replaces the leaves of a tree, in the order of flat_leaves."""
  return jax.tree.unflatten(jax.tree.structure(tree), list(leaves.values()))
