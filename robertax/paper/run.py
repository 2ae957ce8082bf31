"""Makes a table: pretrains, asks and fine-tunes what is missing of it.

Stage by stage (all pretraining, then one task after another), so that runs of
one shape follow each other and compile once. Whatever has ended has left its
file: a run of pretraining its last checkpoint and heldout.json, a fine-tuning
run its results.json; what was under way goes on from its own checkpoint. So the
table of a study that was killed is the undisturbed one's.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import json
import statistics
import sys
from typing import Any

import jax

from robertax import files
from robertax.errors import writing
from robertax.paper import inputs, report, scales
from robertax.paper.inputs import RunBudget, TableText, make_ready, run_budget
from robertax.paper.scales import Scale, run_folder
from robertax.paper.tables import COLUMNS, TABLES, Row, Table
from robertax.parallel import processes
from robertax.studies.sweep import sweep
from robertax.tasks.task import RESULTS, write_results
from robertax.train import loop

HELDOUT = 'heldout.json'


@dataclasses.dataclass(frozen=True)
class Ended:
  """How a call ended.

  Attributes:
    results: what W/results.json holds; None where it was stopped, or where
      several processes have pretrained and one machine is to do the rest.
    signal: number of the signal that stopped it; 0: it came to its end.
  """
  results: dict[str, Any] | None
  signal: int = 0


@dataclasses.dataclass(frozen=True)
class Study:
  """A table to be made.

  Attributes:
    name: of TABLES.
    scale: how large.
    data: --data; '': TFDS.
    folder: W.
    models: where runs and text are kept; tables that have the same folder here
      share them.
  """
  name: str
  scale: Scale
  data: str
  folder: str
  models: str

  @property
  def table(self) -> Table:
    return TABLES[self.name]

  @property
  def columns(self) -> tuple[str, ...]:
    """Names of COLUMNS that are asked at this scale."""
    return self.scale.columns.get(self.name, self.table.columns)

  @property
  def tasks(self) -> list[str]:
    """Those of the columns, first what others begin with."""
    names = dict.fromkeys(COLUMNS[c].task for c in self.columns)
    return sorted(filter(None, names),
                  key=lambda name: bool(scales.PAPER_TASKS[name].after))


@dataclasses.dataclass
class _Run:
  """A row with a seed, as far as it has come; a random one has no run."""
  row: Row
  seed: int
  budget: RunBudget
  place: str
  tuned: dict[str, tuple[str, dict[str, Any]]] = dataclasses.field(
      default_factory=dict)


def run_table(study: Study) -> Ended:
  """Runs what is missing; writes W/results.json, table.md and table.png.

  Raises:
    InputError: wrong input of any kind.
  """
  def prepare():
    text = make_ready(study.name, study.table, study.scale, study.data,
                      study.models)
    return text, _table_runs(study, text), {task: inputs.task_place(
        task, study.data, f'{study.models}/data', study.scale)
                                      for task in study.tasks}

  text, runs, places = processes.in_turn(f'{study.models}/cache', prepare)
  for task, place in places.items() if processes.first() else ():
    for said in filter(None, (place.stand_in, place.missing)):
      print(f'{task}: {said}', file=sys.stderr)
  for one in _tell(study, 'pretraining', [r for r in runs if r.row.recipe]):
    if signal := _pretrain_model(study, text, one):
      return Ended(None, signal)
  if jax.process_count() > 1:
    if processes.first():
      print('All models are pretrained. The same command on one machine, with '
            'the same folders, fine-tunes and makes the table.')
    return Ended(None)
  found = _write_table(study, text, runs, places)
  for task in study.tasks:
    if places[task].missing:
      continue
    for one in _tell(study, task, runs):
      if signal := _tune_model(study, one, task, places[task]):
        return Ended(None, signal)
    found = _write_table(study, text, runs, places)
  return Ended(found)


def _table_runs(study: Study, text: TableText) -> list[_Run]:
  """Row by row, seed by seed."""
  runs = []
  for row in study.table.made:
    source = study.table.row(row.random_of) if row.random_of else row
    for seed in range(study.scale.seeds):
      found = run_budget(source, study.scale, text.text, seed)
      runs.append(_Run(row, seed, found,
                       f'{study.models}/{run_folder(found.config)}'))
  return runs


def _tell(study: Study, what: str, runs: Sequence[_Run]) -> Iterator[_Run]:
  for number, one in enumerate(runs, 1):
    print(f'table {study.name}, {what}: {one.row.name}, seed {one.seed} '
          f'({number} of {len(runs)})', file=sys.stderr)
    yield one


def _pretrain_model(study: Study, text: TableText, one: _Run) -> int:
  """Pretrains and asks held-out text; the signal that stopped it, or 0."""
  if files.exists(f'{one.place}/{HELDOUT}'):
    return 0
  ended = loop.run(one.budget.config, one.place)
  if ended.signal or jax.process_count() > 1:
    return ended.signal
  asked = inputs.measure_heldout(
      one.place, inputs.asked_config(one.budget.config, text.heldout),
      text.split)
  path = f'{one.place}/{HELDOUT}'
  with writing(path):
    files.write_text(path, json.dumps(asked) + '\n')
  return 0


def _tune_model(study: Study, one: _Run, task: str,
                place: inputs.TaskPlace) -> int:
  """The runs of a task; the signal that stopped one, or 0."""
  begins = one.place
  after = one.tuned.get(scales.PAPER_TASKS[task].after)
  if after and not one.row.random_of:
    begins = after[1]['ensemble']['runs'][0]
  config = scales.tuning_config(task, study.scale, place.values, begins,
                                one.seed, random=bool(one.row.random_of))
  rates, batches = scales.sweep_settings(task, study.scale)
  into = f'{one.place}/tuned/{run_folder(config)}'
  # By this table or another, for they share these runs.
  needed = any(other.after == task for other in scales.PAPER_TASKS.values())
  ended = sweep(config, into, rates or (config.optim.learning_rate,),
                batches or (config.data.batch_size,), study.scale.tuning_seeds,
                best=int(needed))
  if ended.signal:
    return ended.signal
  one.tuned[task] = into, ended.results
  return 0


def _write_table(study: Study, text: TableText, runs: Sequence[_Run],
                 places: dict[str, inputs.TaskPlace]) -> dict[str, Any]:
  """The table as far as it is known."""
  found = {
      'table': study.name, 'title': study.table.title, 'task': 'paper',
      'scale': study.scale.name, 'text': text.said,
      'columns': list(study.columns),
      'stand_ins': {t: p.stand_in for t, p in places.items() if p.stand_in},
      'missing': {t: p.missing for t, p in places.items() if p.missing},
      'not_asked': [c for c in study.table.columns if c not in study.columns],
      'rows': [_table_row(study, row, [r for r in runs if r.row is row])
               for row in study.table.rows]}
  found['comparisons'] = report.comparisons(study.table, found)
  texts = {'table.md': report.table_markdown(study.table, found).encode(),
           'table.png': report.draw_table(found)}
  files.makedirs(study.folder)
  return write_results(study.folder, found, texts)


def _table_row(study: Study, row: Row, runs: Sequence[_Run]) -> dict[str, Any]:
  found: dict[str, Any] = {'name': row.name, 'shown': row.shown,
                           'paper': dict(row.paper), 'beyond': row.beyond}
  if not runs:
    return found
  if row.recipe:
    found |= runs[0].budget.facts()
  found |= {'seeds': [one.seed for one in runs],
            'models': [one.place for one in runs],
            'values': {}, 'at_chance': {}, 'asked': {}}
  for task in study.tasks:
    swept = [one.tuned[task][1] for one in runs if task in one.tuned]
    if swept:
      found['at_chance'][task] = sum(
          len(setting['degenerate']) for of in swept
          for setting in of['settings']
          if all(setting[key] == of[key] for key in (
              'learning_rate', 'batch_size')))  # Whose values are shown.
      found['asked'][task] = {key: swept[0][key] for key in (
          'metric', 'split', 'rows', 'data', 'train_rows', 'train_data')}
  for name in study.columns:
    column = COLUMNS[name]
    if column.task:
      values = _task_scores(study, column.value, [
          one.tuned[column.task] for one in runs if column.task in one.tuned])
    else:
      values = [] if row.random_of else [
          _read_json(f'{one.place}/{HELDOUT}')[column.heldout] for one in runs]
    if values:
      found['values'][name] = values
  return found


def _task_scores(study: Study, path: Sequence[str],
                 tuned: Sequence[tuple[str, dict[str, Any]]]) -> list[float]:
  """A value a seed of pretraining, the median of its best setting's seeds; of
  one pretraining, a value a seed of fine-tuning.
  """
  found = []
  for into, swept in tuned:
    values = []
    for seed in swept['seed']:
      value: Any = _read_json(f'{into}/runs/{swept["learning_rate"]:g}-'
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


def _read_json(path: str) -> Any:
  with files.open(path) as f:
    return json.load(f)
