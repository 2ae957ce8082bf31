"""The whole config: one frozen dataclass a section, made at the loop's door."""

from collections.abc import Iterable, Mapping
import dataclasses
import math
import sys
from typing import Any

from robertax.data.config import DataConfig
from robertax.errors import InputError
from robertax.model.config import ModelConfig
from robertax.parallel.mesh import MeshConfig
from robertax.sections import flatten, parse_arg, section, unknown
from robertax.tasks.config import FinetuneConfig
from robertax.text.tokenizer import TokenizerConfig
from robertax.train.optim_config import OptimConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How long, and what is written when. All `_every` count steps.

  Attributes:
    steps: updates in all; 0: those of finetune.epochs.
    micro_batches: equal parts that a batch is cut into, one after another, to
      save memory. The update is the same.
    log_every: steps from one line of metrics.jsonl to the next.
    eval_every: steps from one evaluation to the next; 0: an epoch's, where one
      fine-tunes.
    eval_examples: most examples of an evaluation set; 0: all of them.
    checkpoint_every: steps from one checkpoint to the next; 0: likewise.
    keep_checkpoints: newest checkpoints that are kept; 0: all.
    keep_every: checkpoints of multiples of so many steps are kept too; 0: none.
    keep_best: the weights of the lowest `eval/loss` are kept in W/best too (a
      fine-tuning run always keeps those of its best score).
    save_in_background: steps go on while a checkpoint is being written; a kill
      meanwhile costs these steps and an interval. False: they wait, and a kill
      never costs more than train.checkpoint_every steps.
    on_write_error: what cannot be written, of checkpoints and metrics, is said
      and tried again ('go_on'; three checkpoints in a row, or the run's last,
      end it), or ends the run ('stop').
    allow_changed: what may differ from what a checkpoint belongs to: of data,
      tokenizer, code, with commas (train.identity).
    profile_steps: FIRST-LAST, such as '100-105': traced (train.trace).
    watchdog_seconds: that a step may take, or waiting for a batch, before the
      run says where it stands and ends (train.watchdog, which has the limits of
      the rest); 0: nobody watches.
    on_stall: 'exit' then, with exit code 76, or 'report' and wait on.
    peer_timeout_seconds: in which the processes of a run notice that one is
      dead or stopped, say which, and end, with exit code 75.
    compile_cache: folder in which compiled programs are kept for the next
      start; 'auto': `compiled` in data.cache_dir, on TPUs and GPUs; 'off'.
  """
  steps: int = 500_000
  micro_batches: int = 1
  log_every: int = 100
  eval_every: int = 5_000
  eval_examples: int = 0
  checkpoint_every: int = 1_000
  keep_checkpoints: int = 3
  keep_every: int = 0
  keep_best: bool = False
  save_in_background: bool = True
  on_write_error: str = 'go_on'
  allow_changed: str = ''
  profile_steps: str = ''
  watchdog_seconds: float = 600.0
  on_stall: str = 'exit'
  peer_timeout_seconds: float = 60.0
  compile_cache: str = 'auto'

  def __post_init__(self):
    for name in ('micro_batches', 'log_every'):
      if getattr(self, name) < 1:
        raise InputError(f'train.{name}={getattr(self, name)}: at least 1.')
    for name in ('steps', 'eval_every', 'checkpoint_every'):
      if getattr(self, name) < 0:
        raise InputError(f'train.{name}={getattr(self, name)}: at least 1, or '
                         '0 for what the epochs of fine-tuning are.')
    if self.keep_every < 0:
      raise InputError(f'train.keep_every={self.keep_every}: a number of '
                       'steps, or 0 for none.')
    if self.on_write_error not in ('go_on', 'stop'):
      raise InputError(f'train.on_write_error={self.on_write_error!r}: go_on '
                       'or stop.')
    for name in ('eval_examples', 'keep_checkpoints'):
      if getattr(self, name) < 0:
        raise InputError(f'train.{name}={getattr(self, name)}: at least 1, or '
                         '0 for all.')
    if not 0 <= self.watchdog_seconds < math.inf:
      raise InputError(f'train.watchdog_seconds={self.watchdog_seconds}: some '
                       'seconds, or 0 for no watchdog.')
    if self.on_stall not in ('exit', 'report'):
      raise InputError(f'train.on_stall={self.on_stall!r}: exit or report.')
    if not 3 <= self.peer_timeout_seconds < math.inf:
      raise InputError('train.peer_timeout_seconds='
                       f'{self.peer_timeout_seconds}: at least 3 seconds.')


MASKED_LM = 'pretrain'  # The task that has steps, and no epochs.


@dataclasses.dataclass(frozen=True)
class Config:
  """Everything a run depends on.

  Attributes:
    seed: of parameters, order, masks and dropout.
    init_from: whose weights (not their optimizer or step) come first: a
      workdir, hf:DIR or fairseq:FILE; empty: random weights.
    task: a row of tasks.TASKS.
  """
  seed: int = 0
  init_from: str = ''
  task: str = 'pretrain'
  data: DataConfig = DataConfig()
  tokenizer: TokenizerConfig = TokenizerConfig()
  model: ModelConfig = ModelConfig()
  optim: OptimConfig = OptimConfig()
  mesh: MeshConfig = MeshConfig()
  train: TrainConfig = TrainConfig()
  finetune: FinetuneConfig = FinetuneConfig()

  def __post_init__(self):
    # jax.random.key keeps 32 bits: beyond, two seeds would share parameters.
    if not 0 <= self.seed < 1 << 32:
      raise InputError(f'seed={self.seed}: from 0 to {(1 << 32) - 1}.')
    for name in ('steps', 'eval_every', 'checkpoint_every'):
      if self.task == MASKED_LM and not getattr(self.train, name):
        raise InputError(f'train.{name}=0: at least 1 step; 0 is for '
                         f'fine-tuning, and this is task={self.task!r}.')


# Keys that change neither what is learned nor the batches: a run may go on with
# other values of these. Mesh, micro-batches and attention change sums in their
# last bits.
FREE_ON_RESUME = frozenset({
    'data.cache_dir', 'data.keep_tokens', 'data.tfds_dir', 'data.workers',
    'data.prefetch', 'data.backend', 'data.masking_ops',
    'data.remote_cache_dir', 'data.remote_cache_gib', 'data.remote_threads',
    'data.bad_records',
    'mesh.data', 'mesh.fsdp', 'mesh.model', 'mesh.zero1',
    'model.layers_unrolled',
    'model.attention', 'model.remat', 'train.micro_batches',
    'train.log_every', 'train.eval_every', 'train.eval_examples',
    'train.checkpoint_every', 'train.keep_checkpoints',
    'train.keep_every', 'train.keep_best', 'train.on_write_error',
    'train.save_in_background',
    'train.allow_changed', 'train.profile_steps', 'train.compile_cache',
    'train.watchdog_seconds', 'train.on_stall', 'train.peer_timeout_seconds',
    # What a run that has stopped may be given, to go on.
    'optim.on_divergence', 'optim.roll_back_batches',
    'finetune.eval_tokens', 'finetune.predict_test'})


# Of the machine: the processes of a run may differ in them.
FREE_PER_PROCESS = frozenset({
    'data.cache_dir', 'data.keep_tokens', 'data.tfds_dir', 'data.workers',
    'data.prefetch', 'data.backend', 'data.remote_cache_dir',
    'data.remote_cache_gib', 'data.remote_threads', 'train.compile_cache',
    'train.watchdog_seconds', 'train.on_stall'})


def parse(values: Mapping[str, Any]) -> Config:
  """Turns a ConfigDict or nested dict into a Config.

  Raises:
    InputError: an unknown key or a value of the wrong type.
  """
  known = {f.name: f.default for f in dataclasses.fields(Config)}
  scalars, sections = {}, {}
  for key, value in values.items():
    if key not in known:
      raise unknown('config key', key, known)
    if dataclasses.is_dataclass(known[key]):
      if not hasattr(value, 'items'):  # A ConfigDict is no Mapping.
        raise InputError(f'{key}={value!r}: a section, set {key}.<key>.')
      sections[key] = section(type(known[key]), value, key)
    else:
      scalars[key] = value
  return dataclasses.replace(
      section(Config, scalars, 'config'), **sections)


def to_dict(config: Config) -> dict[str, Any]:
  """A nested dict of plain values, as config.json holds it."""
  return dataclasses.asdict(config)


def common_values(config: Config) -> dict[str, Any]:
  """Key -> value, of all that the processes of a run must agree on."""
  return {key: value for key, value in flatten(to_dict(config)).items()
          if key not in FREE_PER_PROCESS}


def defaults():
  """A ConfigDict with every key; a config file changes what it must."""
  import ml_collections  # Doors only: the core runs where this is missing.
  return ml_collections.ConfigDict(to_dict(Config()))


def with_arg(config, arg: str | None):
  """Applies `--config=file.py:key=value,...` to a ConfigDict.

  Args:
    config: a ConfigDict from `defaults()`, changed in place.
    arg: text behind the colon. A key is written whole (`train.steps=10`) or,
      where just one section has it, bare (`steps=10`).

  Returns:
    config.

  Raises:
    InputError: an unknown key or a value of the wrong type.
  """
  flat = flatten(config)
  names = _names(flat)
  values = parse_arg(arg, **{name: flat[key] for name, key in names.items()})
  for name, value in values.items():
    if value != flat[names[name]]:
      config.update_from_flattened_dict({names[name]: value})
  return config


def arg_keys(arg: str | None) -> frozenset[str]:
  """The keys that the text behind a config's colon sets, written whole."""
  names = _names(flatten(to_dict(Config())))
  given = [pair.partition('=')[0] for pair in (arg or '').split(',')]
  return frozenset(names[name] for name in given if name in names)


def _names(keys: Iterable[str]) -> dict[str, str]:
  """{what a key may be written as: the key}."""
  bare: dict[str, list[str]] = {}
  for key in keys:
    bare.setdefault(key.rpartition('.')[2], []).append(key)
  return {key: key for key in keys} | {
      name: found[0] for name, found in bare.items() if len(found) == 1}


def check_batch(config: Config, shares: int):
  """Refuses a batch that does not come out even.

  Args:
    config: of the run.
    shares: devices that share a micro-batch.

  Raises:
    InputError: it does not.
  """
  size, parts = config.data.batch_size, config.train.micro_batches
  if size < 1 or size % (parts * shares):
    raise InputError(
        f'data.batch_size={size} is not a multiple of {parts * shares}: '
        f'train.micro_batches={parts} times the {shares} devices that share '
        'a batch.')


def settled(config: Config, task: Any) -> Config:
  """The config with what the task knows: model, labels, steps of an epoch.

  Args:
    config: of the run.
    task: with `model`, and `epoch_steps` where it fine-tunes.
  """
  filled = {}
  for name, epochs in (('steps', config.finetune.epochs), ('eval_every', 1),
                       ('checkpoint_every', 1)):
    if not getattr(config.train, name):
      filled[name] = epochs * task.epoch_steps
  labels = ','.join(task.labels) if task.fine_tunes else ''
  return dataclasses.replace(
      config, model=task.model,
      finetune=dataclasses.replace(config.finetune, labels=labels),
      train=dataclasses.replace(config.train, **filled))


def fitting_warmup(config: Config) -> OptimConfig:
  """The `optim` section, its warm-up cut where it is longer than the run."""
  warmup, steps = config.optim.warmup_steps, config.train.steps
  if config.optim.warmup_rate:
    return dataclasses.replace(
        config.optim, warmup_steps=int(config.optim.warmup_rate * steps))
  if warmup < steps:
    return config.optim
  cut = int(0.06 * steps)
  print(f'optim.warmup_steps={warmup} is not shorter than the run of {steps} '
        f'steps: cut to {cut} (6 %).', file=sys.stderr)
  return dataclasses.replace(config.optim, warmup_steps=cut)
