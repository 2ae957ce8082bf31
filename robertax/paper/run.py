"""Makes a table: pretrains, measures and fine-tunes whatever is missing.

All pretraining comes first, then one task after another, so runs of one shape
follow each other and compile once. A finished pretraining run has left its last
checkpoint and heldout.json, a finished fine-tuning run its results.json; an
interrupted run resumes from its checkpoint. A killed study therefore ends with
the same table as an undisturbed one.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import json
import statistics
from typing import Any

import jax

from robertax import files
from robertax.errors import beside, print_result, writing
from robertax.paper import inputs, report, scales
from robertax.paper.inputs import RunBudget, TableText, TaskData
from robertax.paper.scales import PAPER_TASKS, Scale
from robertax.paper.tables import COLUMNS, TABLES, PaperTable, Row
from robertax.parallel import processes
from robertax.progress import say
from robertax.studies.sweep import Swept, sweep
from robertax.tasks.task import RESULTS, write_results
from robertax.train import loop

HELDOUT = 'heldout.json'


@dataclasses.dataclass(frozen=True)
class Study:
  """A table to be made."""
  name: str
  scale: Scale
  data: str  # The folder DIR; '': TFDS.
  workdir: str
  models: str  # Folder of runs and text, which other tables may share.

  @property
  def table(self) -> PaperTable:
    return TABLES[self.name]

  @property
  def columns(self) -> tuple[str, ...]:
    """Names of COLUMNS that are measured at this scale."""
    return self.scale.columns.get(self.name, self.table.columns)

  @property
  def tasks(self) -> list[str]:
    """The columns' tasks; those that start from another's model are last."""
    names = dict.fromkeys(COLUMNS[c].task for c in self.columns)
    return sorted(filter(None, names),
                  key=lambda name: bool(PAPER_TASKS[name].after))


@dataclasses.dataclass
class _Run:
  row: Row
  seed: int
  budget: RunBudget
  workdir: str  # The pretrained model's.
  # Task -> (workdir of its sweep, the sweep's results).
  tuned: dict[str, tuple[str, dict[str, Any]]] = dataclasses.field(
      default_factory=dict)


def run_table(study: Study) -> Swept:
  """Makes missing runs, and writes W/results.json, table.md and table.png.

  Returns:
    The results; None after a signal, or if several processes have pretrained
    and one machine must do the rest.
  """
  def prepare():
    text = inputs.make_ready(study.name, study.table, study.scale, study.data,
                             study.models)
    tasks = {name: inputs.task_data(name, study.data, f'{study.models}/data',
                                    study.scale) for name in study.tasks}
    return text, _table_runs(study, text), tasks
  text, runs, tasks = processes.in_turn(f'{study.models}/cache', prepare)
  for name, task in tasks.items() if processes.first() else ():
    for note in filter(None, (task.stand_in, task.missing)):
      say(f'{name}: {note}')
  for one in _announce(study, 'pretraining', [r for r in runs if r.row.recipe]):
    if signal := _pretrain(text, one):
      return Swept(None, signal)
  if jax.process_count() > 1:
    if processes.first():
      print_result('All models are pretrained. Run the same command on one '
                   'machine, with the same folders, to fine-tune and make the '
                   'table.')
    return Swept(None)
  found = _write_table(study, text, runs, tasks)
  for name, task in tasks.items():
    if task.missing:
      continue
    for one in _announce(study, name, runs):
      if signal := _fine_tune(study, one, name, task):
        return Swept(None, signal)
    found = _write_table(study, text, runs, tasks)
  return Swept(found)


def _table_runs(study: Study, text: TableText) -> list[_Run]:
  runs = []
  for row in study.table.made:
    source = study.table.row(row.random_of) if row.random_of else row
    for seed in range(study.scale.seeds):
      budget = inputs.run_budget(source, study.scale, text.text, seed)
      runs.append(_Run(row, seed, budget,
                       f'{study.models}/{scales.run_name(budget.config)}'))
  return runs


def _announce(study: Study, what: str, runs: Sequence[_Run]) -> Iterator[_Run]:
  for number, one in enumerate(runs, 1):
    say(f'table {study.name}, {what}: {one.row.name}, seed {one.seed} '
        f'({number} of {len(runs)})')
    yield one


def _pretrain(text: TableText, one: _Run) -> int:
  """Pretrains and measures; returns the signal that stopped it, or 0."""
  path = f'{one.workdir}/{HELDOUT}'
  if files.exists(path):
    return 0
  ended = loop.run(one.budget.config, one.workdir)
  if ended.signal or jax.process_count() > 1:
    return ended.signal
  found = inputs.measure_heldout(
      one.workdir, inputs.heldout_config(one.budget.config, text.heldout),
      text.split)
  with writing(path):
    files.write_text(path, json.dumps(found) + '\n')
  return 0


def _fine_tune(study: Study, one: _Run, name: str, task: TaskData) -> int:
  """Runs the sweep of a task; returns the signal that stopped it, or 0."""
  init_from = one.workdir
  after = one.tuned.get(PAPER_TASKS[name].after)
  if after and not one.row.random_of:
    init_from = after[1]['ensemble']['runs'][0]
  config = scales.tuning_config(name, study.scale, task.values, init_from,
                                one.seed, random=bool(one.row.random_of))
  rates, batches = scales.sweep_settings(name, study.scale)
  workdir = f'{one.workdir}/tuned/{scales.run_name(config)}'
  # A task of another table that shares these runs may start from the best one.
  best = int(any(other.after == name for other in PAPER_TASKS.values()))
  ended = sweep(config, workdir, rates or (config.optim.learning_rate,),
                batches or (config.data.batch_size,), study.scale.tuning_seeds,
                best=best)
  if not ended.signal:
    one.tuned[name] = workdir, ended.results
  return ended.signal


def _write_table(study: Study, text: TableText, runs: Sequence[_Run],
                 tasks: dict[str, TaskData]) -> dict[str, Any]:
  """Writes the table from the finished runs; returns results.json."""
  found = {
      'table': study.name, 'title': study.table.title, 'task': 'paper',
      'scale': study.scale.name, 'text': text.stand_in,
      'columns': list(study.columns),
      'stand_ins': {n: t.stand_in for n, t in tasks.items() if t.stand_in},
      'missing': {n: t.missing for n, t in tasks.items() if t.missing},
      'not_asked': [c for c in study.table.columns if c not in study.columns],
      'rows': [_table_row(study, row, [r for r in runs if r.row is row])
               for row in study.table.rows]}
  found['comparisons'] = report.comparisons(study.table, found)
  texts = {'table.md': report.table_markdown(study.table, found).encode()}
  with beside('the runs are done and saved, but without table.png'):
    texts['table.png'] = report.draw_table(found)
  files.makedirs(study.workdir)
  return write_results(study.workdir, found, texts)


def _table_row(study: Study, row: Row, runs: Sequence[_Run]) -> dict[str, Any]:
  found: dict[str, Any] = {'name': row.name, 'shown': row.shown,
                           'paper': dict(row.paper), 'beyond': row.beyond}
  if not runs:
    return found
  if row.recipe:
    found |= runs[0].budget.facts()
  found |= {'seeds': [one.seed for one in runs],
            'models': [one.workdir for one in runs],
            'values': {}, 'at_chance': {}, 'asked': {}}
  for task in study.tasks:
    sweeps = [one.tuned[task][1] for one in runs if task in one.tuned]
    if sweeps:
      # Only the values of the best setting are shown, so count its runs alone.
      found['at_chance'][task] = sum(
          len(setting['degenerate']) for swept in sweeps
          for setting in swept['settings']
          if all(setting[key] == swept[key]
                 for key in ('learning_rate', 'batch_size')))
      found['asked'][task] = {key: sweeps[0][key] for key in (
          'metric', 'split', 'rows', 'data', 'train_rows', 'train_data')}
  for name in study.columns:
    column = COLUMNS[name]
    if column.task:
      values = _task_scores(study, column.value, [
          one.tuned[column.task] for one in runs if column.task in one.tuned])
    else:
      values = [] if row.random_of else [
          files.read_json(f'{one.workdir}/{HELDOUT}')[column.heldout]
          for one in runs]
    if values:
      found['values'][name] = values
  return found


def _task_scores(study: Study, path: Sequence[str],
                 tuned: Sequence[tuple[str, dict[str, Any]]]) -> list[float]:
  """A median per pretraining seed; of a single one, each tuning seed's."""
  found = []
  for workdir, swept in tuned:
    values = []
    for seed in swept['seed']:
      value: Any = files.read_json(f'{workdir}/runs/{swept["learning_rate"]:g}-'
                              f'{swept["batch_size"]}-{seed}/{RESULTS}')
      for key in path:
        value = value.get(key) if isinstance(value, dict) else None
      if value is not None:
        values.append(value)
    if values:
      found.append(values)
  if study.scale.seeds == 1:
    return found[0] if found else []
  return [statistics.median(values) for values in found]
