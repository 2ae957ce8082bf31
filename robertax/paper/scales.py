"""The sizes of the paper's rows, their configs, and their costs.

A scale is data. `paper` has the paper's numbers, for a pod; where the paper
gives none (such as the warm-up of Table 3), a comment names the source. `tiny`
is for two cores: a model of a million parameters, rates that were chosen in
advance and not tuned, three seeds of pretraining, and just enough text for
comparisons (docs/paper.md lists its minutes).
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import TYPE_CHECKING, Any

from robertax import config as configs
from robertax import files
from robertax.config import FREE_ON_RESUME, Config, to_dict, with_values
from robertax.errors import InputError, unknown
from robertax.paper.tables import COLUMNS, FIVE, PAIR, TABLES, Row
from robertax.progress import say

if TYPE_CHECKING:  # Config files import this module, so it must not load JAX.
  from ml_collections import ConfigDict

  from robertax.studies.estimate import Estimate


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Batch, length and rate of a pretraining run."""
  batch_size: int  # Sequences per step.
  learning_rate: float  # The peak.
  steps: int = 0  # Updates; 0: `tokens` determines them.
  tokens: int = 0  # Tokens in all steps, without padding.
  # Other keys of the config.
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  topology: str = 'v5e:16x16'  # TPU slice for which --dry_run compiles.


@dataclasses.dataclass(frozen=True)
class Scale:
  """The sizes of all rows."""
  name: str  # Key of SCALES.
  seeds: int  # Pretraining runs of each row.
  # 'base' and 'large' -> keys of the config's `model`.
  shapes: Mapping[str, Mapping[str, Any]]
  recipes: Mapping[str, Recipe]  # Name -> Recipe.
  changes: Mapping[str, Any]  # Keys of every pretraining's config.
  pieces: Mapping[str, int]  # Kind of tokenizer -> trained vocabulary size.
  official_pieces: bool = False  # Use GPT-2's and BERT's from --data.
  # Table -> characters of each corpus to train on, and as many others to hold
  # out; empty: all text, with each corpus's eval split held out.
  characters: Mapping[str, int] = dataclasses.field(default_factory=dict)
  # Table -> its columns at this scale; all, if a table is missing.
  columns: Mapping[str, tuple[str, ...]] = dataclasses.field(
      default_factory=dict)
  # Keys of every fine-tuning's config.
  tuning: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  # Task -> keys of its config.
  tasks: Mapping[str, Mapping[str, Any]] = dataclasses.field(
      default_factory=dict)
  # Task -> the number of questions to score per part; all, if it is missing.
  scored: Mapping[str, int] = dataclasses.field(default_factory=dict)
  sweep: bool = False  # Whether GLUE tasks sweep over rates and batches.
  tuning_seeds: int = 1  # Fine-tuning runs per setting.


_ADAM = {
    'optim.name': 'adamw_fairseq', 'optim.schedule': 'linear', 'optim.b1': 0.9,
    'optim.b2': 0.98, 'optim.eps': 1e-6, 'optim.weight_decay': 0.01,
    'optim.weight_decay_on': 'all', 'optim.clip_norm': 0.0}
_LAMB = {
    'optim.name': 'lamb', 'optim.b2': 0.999, 'optim.weight_decay_on':
    'matrices', 'optim.clip_norm': 1.0}
_32_CHIPS, _64_CHIPS = 'v5e:4x8', 'v5e:8x8'


def _warmup(steps: int) -> dict[str, Any]:
  return {'optim.warmup_steps': steps}


_FIRST = Recipe(256, 1e-4, 1_000_000, changes=_warmup(10_000),
                topology=_32_CHIPS)
PAPER = Scale(
    'paper', seeds=1,
    shapes={
        'base': dict(hidden_size=768, num_layers=12, num_heads=12,
                     mlp_size=3072, max_positions=512),
        'large': dict(hidden_size=1024, num_layers=24, num_heads=16,
                      mlp_size=4096, max_positions=512)},
    recipes={
        # Table 2's caption, also for Table 1: 1M steps of 256 sequences. The
        # warm-up is BERT's.
        'formats': _FIRST, '256': _FIRST,
        # fairseq's warm-up for 2K x 125K; below, 6 % of the run.
        '2k': Recipe(2048, 7e-4, 125_000, changes=_warmup(10_000),
                     topology=_64_CHIPS),
        '8k': Recipe(8192, 1e-3, 31_000, changes=_warmup(1_860)),
        # You et al. 2020 for 32K; micro-batches save memory.
        'lamb': Recipe(32768, 5e-3, 7_812, changes=_LAMB | _warmup(1_562) | {
            'train.micro_batches': 2}),
        'large': Recipe(8192, 4e-4, 100_000, changes=_warmup(30_000)),
        'base': Recipe(8192, 6e-4, 100_000, changes=_warmup(24_000)),
        # Section 4.4 names neither; this is the second row of Table 3.
        'encoding': Recipe(2048, 7e-4, 125_000, changes=_warmup(10_000),
                           topology=_64_CHIPS)},
    changes=_ADAM | {
        'data.sequence_length': 512, 'model.dropout_rate': 0.1,
        'model.attention_dropout_rate': 0.1, 'model.dtype': 'bfloat16',
        'model.remat': 'products', 'train.log_every': 100,
        'train.eval_every': 5_000, 'train.checkpoint_every': 1_000},
    pieces={'byte_bpe': 50_265, 'wordpiece': 30_522}, official_pieces=True,
    sweep=True, tuning_seeds=5)

_ROWS = 128  # Tokens per row.
_NEVER = 1 << 30
_FEW = {'finetune.max_train_examples': 512, 'finetune.epochs': 2}
_TINY_SQUAD = _FEW | {'data.doc_stride': 32, 'data.question_length': 24}

TINY = Scale(
    'tiny', seeds=3,
    shapes={
        'base': dict(hidden_size=128, num_layers=2, num_heads=2, mlp_size=512,
                     max_positions=_ROWS, layers_unrolled=2),
        'large': dict(hidden_size=128, num_layers=3, num_heads=2, mlp_size=512,
                      max_positions=_ROWS, layers_unrolled=3)},
    recipes={
        'formats': Recipe(8, 2e-3, tokens=1_500_000),
        # The paper's batches / 64; rates grow about with their square roots.
        '256': Recipe(4, 1e-3, tokens=1_500_000),
        '2k': Recipe(32, 3e-3, tokens=1_500_000),
        '8k': Recipe(128, 4e-3, tokens=1_500_000),
        'lamb': Recipe(512, 3e-2, tokens=1_500_000, changes=_LAMB),
        'large': Recipe(8, 2e-3, tokens=400_000),
        'base': Recipe(8, 2e-3, tokens=400_000),
        'encoding': Recipe(8, 2e-3, tokens=2_000_000)},
    changes=_ADAM | {
        'optim.warmup_steps': 0, 'optim.warmup_rate': 0.1,
        'data.sequence_length': _ROWS, 'data.backend': 'numpy',
        'data.workers': 2, 'model.dropout_rate': 0.1,
        'model.attention_dropout_rate': 0.1, 'train.log_every': 50,
        'train.eval_every': _NEVER, 'train.eval_examples': 64,
        'train.checkpoint_every': 500, 'train.keep_checkpoints': 1},
    # About a 25th of the paper's.
    pieces={'byte_bpe': 2_048, 'wordpiece': 1_244},
    # Tables 1 and 2 read their text 40 times, as in the paper, so each of ten
    # static masks is seen four times.
    characters={'1': 60_000, '2': 60_000, '3': 1_000_000, '4': 300_000,
                '5': 300_000, '6': 300_000, '7': 300_000, '8': 300_000,
                'encoding': 500_000},
    columns={'1': ('loss', 'mnli', 'sst2'),
             '2': ('loss', 'squad1', 'mnli', 'sst2'),
             '3': ('loss', 'perplexity', 'mnli', 'sst2'),
             '4': ('loss', 'mnli', 'sst2'),
             '5': ('mnli', 'qnli', 'rte', 'sst2', 'cola', 'stsb'),
             '8': ('mnli', 'sst2', 'cola')},
    # The only evaluation is the last, so reported scores select nothing.
    tuning={'optim.learning_rate': 3e-4, 'data.batch_size': 32,
            'data.sequence_length': _ROWS, 'data.backend': 'numpy',
            'train.eval_every': _NEVER, 'train.checkpoint_every': _NEVER,
            'train.log_every': 20, 'finetune.epochs': 3,
            'finetune.max_train_examples': 1_024},
    tasks={
        'squad1': _TINY_SQUAD | {'data.eval_files': 'dev-v1.1.json[::16]'},
        'squad2': _TINY_SQUAD | {'data.eval_files': 'dev-v2.0.json[1::6]'},
        'race': _FEW}, scored={'race': 400})

SCALES = {scale.name: scale for scale in (TINY, PAPER)}


# The fine-tuning tasks, with the numbers of single runs in Table 10 of the
# paper's appendix and in fairseq's examples/roberta/config/finetuning.
# configs/glue.py uses them too.
GLUE, SQUAD, RACE = 'glue', 'squad', 'race'  # Folders below --data.


@dataclasses.dataclass(frozen=True)
class PaperTask:
  """How the paper fine-tunes on a task."""
  task: str  # Key of tasks.TASKS.
  folder: str  # Below --data.
  rate: float  # Learning rate of a run outside a sweep.
  batch: int  # Its batch size.
  # Expected tokens of an epoch, for the cost: official rows x their mean number
  # of GPT-2's tokens.
  tokens: float
  epochs: int = 10
  weight_decay: float = 0.1  # Decoupled.
  warmup: float = 0.06  # Share of the steps.
  after: str = ''  # The task from whose model the paper starts.
  # Other keys of the config.
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_SQUAD = dict(folder=SQUAD, rate=1.5e-5, batch=48, epochs=2, weight_decay=0.01)

PAPER_TASKS = {
    'mnli': PaperTask('glue/mnli', GLUE, 1e-5, 32, 392_702 * 39),
    'qnli': PaperTask('glue/qnli', GLUE, 1e-5, 32, 104_743 * 50),
    'qqp': PaperTask('glue/qqp', GLUE, 1e-5, 32, 363_846 * 31, warmup=0.25),
    'rte': PaperTask('glue/rte', GLUE, 2e-5, 16, 2_490 * 66, after='mnli'),
    'sst2': PaperTask('glue/sst2', GLUE, 1e-5, 32, 67_349 * 13),
    'mrpc': PaperTask('glue/mrpc', GLUE, 1e-5, 16, 3_668 * 53, after='mnli'),
    'cola': PaperTask('glue/cola', GLUE, 1e-5, 16, 8_551 * 11),
    'stsb': PaperTask('glue/stsb', GLUE, 2e-5, 16, 5_749 * 31, after='mnli'),
    'wnli': PaperTask('glue/wnli', GLUE, 1e-5, 16, 635 * 38),
    # Windows have 173 tokens on average; 2.0 has 1.49 times the questions.
    'squad1': PaperTask('squad', tokens=88_000 * 173, **_SQUAD),
    'squad2': PaperTask('squad2', tokens=1.49 * 88_000 * 173, **_SQUAD),
    'race': PaperTask('race', RACE, 1e-5, 16, 87_866 * 4 * 346, epochs=4,
                      changes={'finetune.predict_test': True})}


def tuning_config(name: str, scale: Scale, data: Mapping[str, Any],
                  init_from: str, seed: int, random: bool = False) -> Config:
  """The Config of a fine-tuning run: the paper's numbers, then the scale's.

  Args:
    name: key of PAPER_TASKS.
    data: config keys of its data (inputs.TaskData.values).
    init_from: workdir of the pretrained model.
    seed: seed of the first run.
    random: take only that model's shape and tokenizer, not its weights.
  """
  task = PAPER_TASKS[name]
  values = {
      'task': task.task, 'init_from': init_from, 'seed': seed,
      'data.batch_size': task.batch, 'data.sequence_length': 512,
      'model.dropout_rate': 0.1, 'model.attention_dropout_rate': 0.1,
      'optim.name': 'adamw_fairseq', 'optim.schedule': 'linear',
      'optim.learning_rate': task.rate, 'optim.warmup_steps': 0,
      'optim.warmup_rate': task.warmup, 'optim.weight_decay': task.weight_decay,
      'train.steps': 0, 'train.log_every': 10, 'train.eval_every': 0,
      'train.checkpoint_every': 0, 'train.keep_checkpoints': 1,
      'finetune.epochs': task.epochs, 'finetune.from_scratch': random}
  values |= dict(task.changes) | dict(data) | dict(scale.tuning)
  return with_values(Config(), values | dict(scale.tasks.get(name, {})))


def sweep_settings(name: str, scale: Scale) -> tuple[tuple[float, ...],
                                                     tuple[int, ...]]:
  """The rates and batches of the sweep; empty: only the config's own."""
  from robertax.studies.sweep import BATCHES, RATES
  swept = scale.sweep and PAPER_TASKS[name].folder == GLUE
  return (RATES, BATCHES) if swept else ((), ())


def tuning_runs(name: str, scale: Scale) -> int:
  """The number of a task's fine-tuning runs per pretrained model."""
  rates, batches = sweep_settings(name, scale)
  return max(1, len(rates) * len(batches)) * scale.tuning_seeds


def tuning_tokens(name: str, scale: Scale) -> float:
  """The expected number of tokens in these runs."""
  task = PAPER_TASKS[name]
  return task.tokens * task.epochs * tuning_runs(name, scale)


@dataclasses.dataclass(frozen=True)
class TrainingText:
  """The text and tokenizers for pretraining."""
  corpora: Mapping[str, str]  # PAIR and FIVE -> data.corpora.
  cache_dir: str = ''
  # Kind -> path; a missing kind is trained.
  tokenizers: Mapping[str, str] = dataclasses.field(default_factory=dict)


# Placeholders, for configs that are built without text.
NO_TEXT = TrainingText({PAIR: 'wiki.jsonl.zst,books.jsonl.zst',
                        FIVE: 'wiki.jsonl.zst,books.jsonl.zst,news.jsonl.zst,'
                              'web.jsonl.zst,stories.jsonl.zst'})


def pretraining_config(row: Row, scale: Scale, text: TrainingText = NO_TEXT,
                       seed: int = 0) -> Config:
  """The Config of a row, without train.steps if the recipe counts tokens.

  inputs.run_budget then computes the steps, because padding depends on formats.
  """
  recipe = scale.recipes[row.recipe]
  values = dict(scale.changes) | {
      'seed': seed, 'data.batch_size': recipe.batch_size,
      'data.corpora': text.corpora[row.corpora],
      'data.cache_dir': text.cache_dir,
      'optim.learning_rate': recipe.learning_rate}
  values |= {f'model.{key}': value
             for key, value in scale.shapes[row.shape].items()}
  if recipe.steps:
    values['train.steps'] = recipe.steps * row.length
  values |= dict(recipe.changes) | dict(row.changes)
  config = with_values(Config(), values)
  kind = config.tokenizer.kind
  return with_values(config, {
      'tokenizer.path': text.tokenizers.get(kind, ''),
      'tokenizer.vocab_size': scale.pieces[kind]})


def run_name(config: Config) -> str:
  """The name of a run's workdir, which tables with the same model share."""
  values = {key: value for key, value in configs.flatten(
      to_dict(config)).items() if key not in FREE_ON_RESUME | {'seed'}}
  name = files.json_hash(values, sort_keys=True)[:8]
  what = config.task.replace('/', '-')
  if what == 'pretrain':
    what = (f'{config.data.format}-{config.data.batch_size}x'
            f'{config.train.steps}')
  return f'{what}-{name}-{config.seed}'


def row_file(table: str, row: str, arg: str | None,
             changes: Mapping[str, Any] | None = None) -> 'ConfigDict':
  """The ConfigDict for a config file of a row, at the paper's scale.

  `arg` is the text behind the file's colon, and `changes` has keys in which the
  file differs from the row.

  Raises:
    InputError: the table has no such row, or `arg` has an unknown key.
  """
  rows = {row.name: row for row in TABLES[table].made if row.recipe}
  if row not in rows:
    raise unknown(f'row of table {table}', row, rows)
  config = configs.defaults()
  config.update(to_dict(with_values(
      pretraining_config(rows[row], SCALES['paper']), changes or {})))
  return configs.with_arg(config, arg)


def table_names(numbers: str) -> list[str]:
  """The names in '3', '1,2' or 'all'."""
  names = list(TABLES) if numbers == 'all' else [
      name for name in numbers.split(',') if name]
  for name in names:
    if name not in TABLES:
      raise InputError(f'--table={numbers}: {", ".join(TABLES)}, several with '
                       f'commas between, or all; not {name!r}.')
  if not names:
    raise InputError(f'--table=N is needed, of {", ".join(TABLES)}, or all.')
  return names


# The cost of a table on a pod. Every config is built, and every pretraining
# step is compiled for its topology but never run; rows whose steps have equal
# shapes share it. The cost of fine-tuning is computed from its tokens.
TUNING_CHIP = 'v5e'
# The share of the data sheet's peak that fine-tuning is assumed to reach; the
# compiler's estimates for pretraining are 35 % (base) and 41 % (large).
TUNING_MFU = 0.4
# Config keys on which a compiled step does not depend.
_OF_NO_SHAPE = ('seed', 'data.corpora', 'data.cache_dir', 'data.masks',
                'data.num_static_masks', 'optim.learning_rate',
                'optim.warmup_steps', 'optim.warmup_rate', 'train.steps',
                'train.eval_every', 'train.checkpoint_every',
                'train.log_every', 'tokenizer.kind', 'tokenizer.path')
_MOST_PARTS = 64


@dataclasses.dataclass(frozen=True)
class Cost:
  """The cost of a row."""
  table: str
  row: str
  config: Config  # With as many micro-batches as it needs to fit.
  topology: str
  found: 'Estimate | None'  # None: nothing is pretrained for this row.
  model: str  # Its run_name; rows with the same name share the model.
  pretraining: float  # Chip-hours (compiled); 0 on GPUs, whose time is unknown.
  tunings: Mapping[str, tuple[float, int]]  # Task -> (chip-hours, runs).
  begins: tuple[str, bool]  # Start of fine-tuning: (model, random weights).

  @property
  def fits(self) -> bool:
    return self.found is None or self.found.fits

  @property
  def tuning(self) -> float:  # Chip-hours.
    return sum(hours for hours, _ in self.tunings.values())

  @property
  def tuned(self) -> int:  # Runs.
    return sum(runs for _, runs in self.tunings.values())


def table_costs(names: Sequence[str], scale: Scale,
                topology: str = '') -> list[Cost]:
  """Compiles the rows of tables for `topology`, or '' for each row's own."""
  known: dict[Any, tuple[Config, Estimate]] = {}
  found = []
  for name in names:
    table = TABLES[name]
    for row in table.made:
      source = table.row(row.random_of) if row.random_of else row
      config = pretraining_config(source, scale)
      where = topology or scale.recipes[source.recipe].topology
      compiled = None
      if not row.random_of:
        config, compiled = _compiled_step(name, row, config, where, known)
      hours = (compiled.seconds * config.train.steps * compiled.devices / 3600
               if compiled and compiled.timed else 0.0)
      model, random = run_name(config), bool(row.random_of)
      found.append(Cost(
          name, row.name, config, where, compiled, '' if random else model,
          hours * scale.seeds, _tuning_hours(name, config, random, scale),
          (model, random)))
  return found


def _compiled_step(name: str, row: Row, config: Config, where: str,
                   known: dict[Any, 'tuple[Config, Estimate]']
                   ) -> 'tuple[Config, Estimate]':
  """Doubles the config's micro-batches until the compiled step fits."""
  from robertax.studies.estimate import estimate
  values = configs.flatten(to_dict(config))
  key = (where, *((k, v) for k, v in values.items() if k not in _OF_NO_SHAPE))
  if key not in known:
    while True:
      parts = config.train.micro_batches
      say(f'table {name}, {row.name}: compiling {config.data.batch_size} x '
          f'{config.data.sequence_length}, micro-batches {parts}, {where}')
      found = estimate(config, where)
      if found.fits or parts == _MOST_PARTS or (
          config.data.batch_size % (2 * parts * found.shares)):
        break
      config = with_values(config, {'train.micro_batches': 2 * parts})
    known[key] = config, found
  parts = known[key][0].train.micro_batches
  return with_values(config, {'train.micro_batches': parts}), known[key][1]


def _tuning_hours(name: str, config: Config, random: bool, scale: Scale
                  ) -> dict[str, tuple[float, int]]:
  """Task -> (chip-hours, runs), at 6 FLOP per layer parameter and token."""
  from robertax.parallel.chips import CHIPS
  model, found = config.model, {}
  parameters = model.num_layers * (
      4 * model.hidden_size**2 + 2 * model.hidden_size * model.mlp_size)
  for task in dict.fromkeys(
      COLUMNS[c].task for c in TABLES[name].columns if COLUMNS[c].task):
    # This only checks that the config is valid.
    tuning_config(task, scale, {'data.dir': task}, run_name(config), 0, random)
    tokens = tuning_tokens(task, scale) * scale.seeds
    seconds = 6 * parameters * tokens / (CHIPS[TUNING_CHIP].flops * TUNING_MFU)
    found[task] = seconds / 3600, tuning_runs(task, scale) * scale.seeds
  return found


def cost_table(found: Sequence[Cost]) -> str:
  """Writes a line per row and the sums, which count shared runs once."""
  lines = ['Pretraining: a static estimate by the compiler, nothing was run. '
           'Fine-tuning: arithmetic '
           f'(expected, {TUNING_CHIP} at {TUNING_MFU:.0%} of its peak).', '',
           f'{"table":>8} {"row":<15} {"sequences":>9} {"steps":>9} '
           f'{"topology":>11} {"parts":>5} {"GiB":>6} {"s a step":>8} '
           f'{"chip-hours":>10} {"tuning":>8} {"runs":>5}']
  seen: set[str] = set()
  for cost in found:
    compiled = cost.found
    if compiled is None:
      middle = f'{"random weights":>19}'.ljust(64)
    else:
      seconds, hours = '?', '?'
      if compiled.timed:
        seconds = f'{compiled.seconds:.4f}'
        hours = '(above)' if cost.model in seen else f'{cost.pretraining:,.0f}'
      middle = (
          f'{cost.config.data.batch_size:>9,} {cost.config.train.steps:>9,} '
          f'{cost.topology:>11} {cost.config.train.micro_batches:>5} '
          f'{compiled.memory / 2**30:>6.2f} {seconds:>8} {hours:>10}')
    seen.add(cost.model)
    lines.append(f'{cost.table:>8} {cost.row:<15} {middle} '
                 f'{cost.tuning:>8,.1f} {cost.tuned:>5}'
                 + ('' if cost.fits else '  DOES NOT FIT'))
  sums = cost_json(found)
  hours = sums['pretraining_chip_hours']
  lines += ['', f'{sums["models"]} models are pretrained: '
            f'{"unknown" if hours is None else f"{hours:,}"} chip-hours '
            f'(compiled); {sums["tuning_runs"]:,} fine-tuning runs: '
            f'{sums["tuning_chip_hours"]:,} chip-hours (expected).']
  return '\n'.join(lines)


def cost_json(found: Sequence[Cost]) -> dict[str, Any]:
  """The sums of `cost_table` for the JSON line; `fits`: whether all rows do."""
  models = {cost.model: cost.pretraining for cost in found if cost.model}
  tunings = {(cost.begins, task): one for cost in found
             for task, one in cost.tunings.items()}.values()
  estimates = {id(c.found): c.found for c in found if c.found}.values()
  timed = all(one.timed for one in estimates)
  return {
      'fits': all(c.fits for c in found), 'models': len(models),
      'pretraining_chip_hours': round(sum(models.values())) if timed else None,
      'tuning_chip_hours': round(sum(hours for hours, _ in tunings)),
      'tuning_runs': sum(runs for _, runs in tunings),
      'compiled': len(estimates), 'compile_seconds': round(
          sum(one.compile_seconds for one in estimates), 1),
      'rows': [{'table': c.table, 'row': c.row, 'topology': c.topology,
                'chip_hours': round(c.pretraining, 1), 'fits': c.fits,
                'tuning_chip_hours': round(c.tuning, 1)} for c in found]}


def check_scale(scale: Scale) -> None:
  """Raises an InputError for a scale whose recipes count tokens, not steps."""
  if any(recipe.steps == 0 for recipe in scale.recipes.values()):
    raise InputError(f'--dry_run with --scale={scale.name}: its steps depend '
                     'on the text. Use --scale=paper.')
