"""What the paper's tables cost on a pod, compiled and never run.

Every config of every row is built; every pretraining step is compiled for its
topology (rows whose step has the same shapes share it, and tables share rows);
fine-tuning is arithmetic.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import sys
from typing import Any

from robertax.config import Config, flatten, to_dict
from robertax.errors import InputError
from robertax.paper import scales
from robertax.paper.scales import (
    Scale,
    pretraining_config,
    run_folder,
    with_values,
)
from robertax.paper.tables import COLUMNS, TABLES, Row
from robertax.parallel.chips import CHIPS
from robertax.studies.estimate import Estimate, estimate

GIB = 2**30
# Of the data sheet's peak, that fine-tuning reaches: an assumption, a little
# above what the compiler says of pretraining (35 % of base, 41 % of large).
TUNING_MFU = 0.4
TUNING_CHIP = 'v5e'
# Of a config, what a compiled step does not depend on.
_OF_NO_SHAPE = ('seed', 'data.corpora', 'data.cache_dir', 'data.masks',
                'data.num_static_masks', 'optim.learning_rate',
                'optim.warmup_steps', 'optim.warmup_rate', 'train.steps',
                'train.eval_every', 'train.checkpoint_every',
                'train.log_every', 'tokenizer.kind', 'tokenizer.path')
_MOST_PARTS = 64


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of a row.

  Attributes:
    table, row: names.
    config: that was compiled: micro-batches as many as were needed to fit.
    topology: what for.
    found: by the compiler; None: nothing is pretrained for this row.
    model: name of the pretrained model; rows with the same need it once.
    pretraining: chip-hours (compiled); of GPUs, of which no time is known, 0.
    tunings: task -> (chip-hours (expected), fine-tuning runs).
    begins: what is fine-tuned: rows with the same need each task once.
  """
  table: str
  row: str
  config: Config
  topology: str
  found: Estimate | None
  model: str
  pretraining: float
  tunings: Mapping[str, tuple[float, int]]
  begins: tuple[str, bool]

  @property
  def tuning(self) -> float:
    """Chip-hours of all its tasks."""
    return sum(hours for hours, _ in self.tunings.values())

  @property
  def tuned(self) -> int:
    """Runs of all its tasks."""
    return sum(runs for _, runs in self.tunings.values())


def table_costs(names: Sequence[str], scale: Scale,
                topology: str = '') -> list[Cost]:
  """Builds and compiles; says on stderr what it does.

  Args:
    names: of TABLES.
    scale: its recipes have steps: the paper's.
    topology: '': each row's own.

  Raises:
    InputError: no such topology, or no compiler for it.
  """
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
      found.append(Cost(
          name, row.name, config, where, compiled,
          '' if row.random_of else run_folder(config), hours * scale.seeds,
          _tuning_hours(name, row, config, scale),
          (run_folder(config), bool(row.random_of))))
  return found


def _compiled_step(name: str, row: Row, config: Config, where: str,
                   known: dict[Any, tuple[Config, Estimate]]
                   ) -> tuple[Config, Estimate]:
  """With the fewest micro-batches that fit, from the config's own on."""
  values = flatten(to_dict(config))
  key = (where, *((k, v) for k, v in values.items() if k not in _OF_NO_SHAPE))
  if key not in known:
    while True:
      parts = config.train.micro_batches
      print(f'table {name}, {row.name}: compiling {config.data.batch_size} x '
            f'{config.data.sequence_length}, micro-batches {parts}, {where}',
            file=sys.stderr, flush=True)
      found = estimate(config, where)
      if found.fits or parts == _MOST_PARTS:
        break
      if config.data.batch_size % (2 * parts * found.shares):
        break
      config = with_values(config, {'train.micro_batches': 2 * parts})
    known[key] = config, found
  parts = known[key][0].train.micro_batches
  return with_values(config, {'train.micro_batches': parts}), known[key][1]


def _tuning_hours(name: str, row: Row, config: Config, scale: Scale
                  ) -> dict[str, tuple[float, int]]:
  """task -> (chip-hours, runs): 6 FLOP a parameter and token."""
  model, found = config.model, {}
  blocks = model.num_layers * (
      4 * model.hidden_size**2 + 2 * model.hidden_size * model.mlp_size)
  for task in dict.fromkeys(
      COLUMNS[c].task for c in TABLES[name].columns if COLUMNS[c].task):
    # Built, so that a wrong one is found here.
    scales.tuning_config(task, scale, {'data.dir': task}, run_folder(config), 0,
                         bool(row.random_of))
    tokens = scales.updates_tokens(task, scale) * scale.seeds
    rates, batches = scales.sweep_settings(task, scale)
    seconds = 6 * blocks * tokens / (CHIPS[TUNING_CHIP].flops * TUNING_MFU)
    found[task] = seconds / 3600, (
        max(1, len(rates) * len(batches)) * scale.tuning_seeds * scale.seeds)
  return found


def cost_table(found: Sequence[Cost]) -> str:
  """A line a row, and the sums: a model that several rows need counts once, and
  so does a task of it.
  """
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
      again = cost.model in seen
      hours = '(above)' if again else f'{cost.pretraining:,.0f}'
      if not compiled.timed:
        hours = '?'
      middle = (
          f'{cost.config.data.batch_size:>9,} {cost.config.train.steps:>9,} '
          f'{cost.topology:>11} {cost.config.train.micro_batches:>5} '
          f'{compiled.memory / GIB:>6.2f} '
          + (f'{compiled.seconds:>8.4f}' if compiled.timed else f'{"?":>8}')
          + f' {hours:>10}')
    seen.add(cost.model)
    lines.append(f'{cost.table:>8} {cost.row:<15} {middle} '
                 f'{cost.tuning:>8,.1f} {cost.tuned:>5}'
                 + ('' if compiled is None or compiled.fits else
                    '  DOES NOT FIT'))
  sums = cost_json(found)
  lines += ['', f'{sums["models"]} models are pretrained: '
            f'{sums["pretraining_chip_hours"]:,} chip-hours (compiled); '
            f'{sums["tuning_runs"]:,} fine-tuning runs: '
            f'{sums["tuning_chip_hours"]:,} chip-hours (expected).']
  return '\n'.join(lines)


def cost_json(found: Sequence[Cost]) -> dict[str, Any]:
  """For the JSON line; `fits` is of all rows."""
  models = {cost.model: cost.pretraining for cost in found if cost.model}
  tunings = {(cost.begins, task): one for cost in found
             for task, one in cost.tunings.items()}.values()
  timed = all(c.found is None or c.found.timed for c in found)
  return {
      'fits': all(c.found is None or c.found.fits for c in found),
      'models': len(models),
      'pretraining_chip_hours': round(sum(models.values())) if timed else None,
      'tuning_chip_hours': round(sum(hours for hours, _ in tunings)),
      'tuning_runs': sum(runs for _, runs in tunings),
      'compiled': len({id(c.found) for c in found if c.found}),
      'compile_seconds': round(sum(
          {id(c.found): c.found.compile_seconds
           for c in found if c.found}.values()), 1),
      'rows': [{'table': c.table, 'row': c.row, 'topology': c.topology,
                'chip_hours': round(c.pretraining, 1),
                'tuning_chip_hours': round(c.tuning, 1),
                'fits': c.found is None or c.found.fits} for c in found]}


def check_scale(scale: Scale) -> None:
  """Refuses a scale whose rows are of tokens, and not of steps.

  Raises:
    InputError: a cost is known of the paper's scale alone.
  """
  if any(recipe.steps == 0 for recipe in scale.recipes.values()):
    raise InputError(f'--dry_run with --scale={scale.name}: its steps depend '
                     'on the text. --scale=paper is what costs.')
