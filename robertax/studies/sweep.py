"""The paper's sweep: rates x batches x seeds, medians of the best epoch on dev.

Section 5.1: rates {1e-5, 2e-5, 3e-5}, batches {16, 32}, ten epochs, "the median
results over five random initializations". The runs follow each other in one
process, each with train.loop and a workdir of its own. So a restarted sweep
keeps finished runs and resumes the interrupted one, and the step is compiled
once per batch shape. The best runs of the best setting may form an ensemble.
"""

from collections.abc import Collection, Sequence
import dataclasses
import itertools
import json
import math
import os
import shutil
import statistics
from typing import Any

import numpy as np

from robertax import files
from robertax.config import Config, with_values
from robertax.errors import InputError
from robertax.progress import say
from robertax.tasks import glue, task
from robertax.tasks.glue_files import GLUE, GlueRow
from robertax.tasks.task import RESULTS, json_lines, score_text, softmax
from robertax.train import loop, workdir
from robertax.train.initial import initial_config
from robertax.train.step import num_shapes
from robertax.train.workdir import BEST_FOLDER

RATES, BATCHES, SEEDS = (1e-5, 2e-5, 3e-5), (16, 32), 5


@dataclasses.dataclass(frozen=True)
class Swept:
  """How a sweep, or a table of sweeps, ended."""
  results: dict[str, Any] | None  # W/results.json; None if it was stopped.
  signal: int = 0  # The signal that stopped it, or 0.


def sweep(config: Config, folder: str, rates: Sequence[float] = RATES,
          batches: Sequence[int] = BATCHES, seeds: int = SEEDS,
          best: int = 0, named: Collection[str] = ()) -> Swept:
  """Makes missing runs, and writes the table.

  Args:
    config: of a fine-tuning task, with the first seed.
    folder: W; the workdirs of runs are in W/runs/.
    rates: peaks of the learning rate.
    batches: examples per update.
    seeds: runs per setting.
    best: runs in the ensemble, which are the best of the best setting on dev
      (fairseq #984: 7 of 15); 0: no ensemble. These runs, and in any case the
      best one, keep their weights.
    named: keys that the user has set, as for `loop.run`.

  Raises:
    InputError: wrong input of any kind.
  """
  for name, values in (('rates', rates), ('batches', batches)):
    if not values or len(set(values)) < len(values):
      raise InputError(f'{name}={list(values)}: at least one, each once.')
  if not 0 <= best <= seeds or seeds < 1:
    raise InputError(f'seeds={seeds}, best={best}: give at least 1 seed, and '
                     'at most that many best runs.')
  if best:
    check_task(config.task)
  if files.is_remote(folder):
    raise InputError(f'{folder}: a sweep is kept in a local folder.')
  found, configs = {}, {}
  runs = list(itertools.product(rates, batches, range(seeds)))
  for number, (rate, batch, seed) in enumerate(runs, 1):
    one = with_values(config, {
        'seed': config.seed + seed, 'optim.learning_rate': rate,
        # A rate that diverges gets a bad score; the sweep must go on.
        'optim.on_divergence': config.optim.on_divergence.replace(
            'stop', 'go_on'), 'data.batch_size': batch})
    path = f'{folder}/runs/{rate:g}-{batch}-{one.seed}'
    say(f'run {number} of {len(runs)}: learning rate {rate:g}, batch '
        f'{batch}, seed {one.seed}')
    ended = _run_once(one, path, named)
    if isinstance(ended, int):
      return Swept(None, ended)
    found[rate, batch, one.seed], configs[path] = (ended, path), one
  say(f'{len(runs)} runs; train steps of {num_shapes()} shapes were compiled')
  summary = summarize_sweep(found, best)
  ranked = summary.pop('together')
  kept = sorted(ranked)
  # What an earlier version finished without weights stays as it is.
  whole = best or not os.path.exists(f'{folder}/{RESULTS}') or (
      workdir.with_weights(folder) != folder)
  for path in kept if whole else ():
    if workdir.weights_step(path) is None:  # An earlier sweep kept none.
      ended = _run_again(configs[path], path, named,
                         'its weights were not kept')
      if isinstance(ended, int):
        return Swept(None, ended)
  if whole or workdir.weights_step(ranked[0]) is not None:
    summary['best_run'] = os.path.relpath(ranked[0], folder)
  for _, path in found.values():
    if path not in kept:
      shutil.rmtree(f'{path}/{BEST_FOLDER}', ignore_errors=True)
  content = {}
  if best:
    summary['ensemble'], content = ensemble_answers(kept)
  content['sweep.txt'] = sweep_table(summary).encode()
  return Swept(task.write_results(folder, summary, content))


def _run_once(config: Config, path: str, named: Collection[str]
              ) -> dict[str, Any] | int:
  """Makes a run unless it is finished; returns results.json or a signal."""
  results = f'{path}/{RESULTS}'
  if os.path.exists(results):
    workdir.check_config(path, initial_config(config, named))
    found = files.read_json(results)
    if not config.train.steps and found.get('best_step') and round(
        found['steps'] * found['best_epoch'] / found['best_step']
    ) != config.finetune.epochs:
      return _run_again(config, path, named, 'a flag had ended it after '
                        f'{found["steps"]} steps')
    if (config.finetune.predict_test
        and not workdir.read_config(path).finetune.predict_test):
      return _run_again(config, path, named, 'it did not answer the test split')
  else:
    ended = loop.run(config, path, named)
    if ended.signal:
      return ended.signal
    say(task.describe_results(ended.results))
  # Nothing will resume the run, and its optimizer state is large.
  shutil.rmtree(f'{path}/checkpoints', ignore_errors=True)
  # A kill during `_run_again` has left it, and this run has replaced it now.
  shutil.rmtree(f'{path}.before', ignore_errors=True)
  return files.read_json(results)


def _run_again(config: Config, path: str, named: Collection[str], why: str
               ) -> dict[str, Any] | int:
  """Repeats a run whose files lack something; they stay if that fails."""
  say(f'{path} is run again: {why}.')
  before = f'{path}.before'
  shutil.rmtree(before, ignore_errors=True)
  os.rename(path, before)
  try:
    return _run_once(config, path, named)
  except BaseException:
    shutil.rmtree(path, ignore_errors=True)
    os.rename(before, path)
    raise
  finally:
    shutil.rmtree(before, ignore_errors=True)


def summarize_sweep(found: dict[tuple[float, int, int],
                                tuple[dict[str, Any], str]],
                    best: int = 0) -> dict[str, Any]:
  """Computes each setting's median and spread, and chooses the best setting.

  Args:
    found: (rate, batch, seed) -> (results.json, workdir).
    best: as for `sweep`.

  Returns:
    The content of results.json, and `together`: the workdirs of the ensemble,
    or of the best run alone, the best first.
  """
  first = next(iter(found.values()))[0]
  settings = []
  for rate, batch in dict.fromkeys((r, b) for r, b, _ in found):
    runs = {s: x[0] for (r, b, s), x in found.items()
            if (r, b) == (rate, batch)}
    # A run without a score ranks below all others; JSON stores it as null.
    values = [run['value'] if workdir.is_value(run['value']) else -math.inf
              for run in runs.values()]
    settings.append({
        'learning_rate': rate, 'batch_size': batch, 'seeds': list(runs),
        'values': values, 'median': statistics.median(values),
        'lowest': min(values), 'highest': max(values),
        'deviation': (math.nan if -math.inf in values else
                      statistics.pstdev(values)),
        'degenerate': [s for s, run in runs.items() if run['degenerate']]})
  # The first of equal settings, in the order of the sweep.
  chosen = max(settings, key=lambda s: s['median'])
  kept = ('task', 'metric', 'split', 'rows', 'data', 'train_rows',
          'train_data', 'init_from', 'init_step', 'labels')
  summary = {
      **{key: first[key] for key in kept if key in first},
      'value': chosen['median'], 'seed': chosen['seeds'],
      'learning_rate': chosen['learning_rate'],
      'batch_size': chosen['batch_size'], 'settings': settings,
      'degenerate': len(chosen['degenerate']) * 2 >= len(chosen['seeds'])}
  ranked = sorted(zip(chosen['values'], chosen['seeds']),
                  key=lambda pair: (-pair[0], pair[1]))[:max(1, best)]
  summary['together'] = [
      found[chosen['learning_rate'], chosen['batch_size'], seed][1]
      for _, seed in ranked]
  return summary


def sweep_table(summary: dict[str, Any]) -> str:
  """Writes the sweep as a table with a line per setting."""
  lines = [
      f'{summary["task"]}: {summary["metric"]} on {summary["split"]} '
      f'({summary["rows"]} rows of {summary["data"]}), best epoch of each run, '
      f'trained on {summary["train_rows"]} rows of {summary["train_data"]}',
      f'{"rate":>8} {"batch":>6} {"median":>8} {"lowest":>8} {"highest":>8} '
      f'{"deviation":>10} {"at chance":>10}  seeds']
  for row in summary['settings']:
    seeds = row['seeds']
    lines.append(
        f'{row["learning_rate"]:>8g} {row["batch_size"]:>6} '
        f'{score_text(row["median"]):>8} {score_text(row["lowest"]):>8} '
        f'{score_text(row["highest"]):>8} {score_text(row["deviation"]):>10} '
        f'{len(row["degenerate"]):>10}  {seeds[0]} to {seeds[-1]}')
  lines.append(f'best median: {score_text(summary["value"])} with rate '
               f'{summary["learning_rate"]:g} and batch '
               f'{summary["batch_size"]}')
  if 'best_run' in summary:
    lines.append(f'its best run, whose weights are kept: {summary["best_run"]}')
  if 'ensemble' in summary:
    lines.append(f'{len(summary["ensemble"]["runs"])} of them together: '
                 + ', '.join(f'{split} {name} {value:.2f}' for split, values in
                             summary['ensemble']['scores'].items()
                             for name, value in values.items()))
  if summary['degenerate']:
    lines.append('DEGENERATE: at least half of its runs are at chance.')
  return '\n'.join(lines) + '\n'


# An ensemble of runs of one GLUE task averages probabilities, or scores for
# STS-B (fairseq #984).
def check_task(task: str):
  """Raises an InputError unless a task is of GLUE."""
  if task.removeprefix('glue/') not in GLUE or not task.startswith('glue/'):
    raise InputError(f'task={task!r}: only runs of GLUE tasks can form an '
                     'ensemble.')


def ensemble_answers(workdirs: Sequence[str]
                     ) -> tuple[dict[str, Any], dict[str, bytes]]:
  """Combines the answers of several finished runs of one task.

  Returns:
    ({'runs', 'scores': {split: {metric: percent}}}, content by file name).

  Raises:
    InputError: the runs have different tasks or answered different rows.
  """
  found = [files.read_json(f'{path}/{RESULTS}') for path in workdirs]
  name = found[0]['task']
  check_task(name)
  if {f['task'] for f in found} != {name}:
    raise InputError(f'{", ".join(workdirs)}: their tasks differ; an ensemble '
                     'has runs of one task.')
  task = GLUE[name.removeprefix('glue/')]
  scores, content, tables = {}, {}, {}
  submissions = dict(task.tests)
  for file in found[0]['files']:
    if not file.startswith('predictions.') or not file.endswith('.jsonl'):
      continue
    split = file.removeprefix('predictions.').removesuffix('.jsonl')
    lines = []
    for path in workdirs:
      with open(f'{path}/{file}', encoding='utf-8') as f:
        lines.append([json.loads(line) for line in f])
    if len({tuple(line['index'] for line in run) for run in lines}) > 1:
      raise InputError(f'{file} of {", ".join(workdirs)}: different rows.')
    answers = combine_logits(np.array([[line['logits'] for line in run]
                                       for run in lines]))
    predictions = ([task.labels[n] for n in answers.argmax(-1)] if task.labels
                   else [float(x) * glue.LARGEST_SCORE for x in answers[:, 0]])
    labels = [line.get('label', '') for line in lines[0]]
    if all(labels):
      scores[split] = glue.glue_scores(task.metrics, labels, predictions)
    content[file] = json_lines(
        {k: v for k, v in {**line, 'prediction': prediction,
                           'probabilities': list(p)}.items() if k != 'logits'}
        for line, prediction, p in zip(lines[0], predictions, answers))
    if split in submissions:
      tables[submissions[split]] = glue.submission_table(
          [GlueRow(line['index'], (), '') for line in lines[0]], predictions)
  if tables:
    content[glue.SUBMISSION] = glue.submission_archive(tables)
  return {'runs': list(workdirs), 'scores': scores}, content


def combine_logits(logits: np.ndarray) -> np.ndarray:
  """Averages R runs, [R, E, C] -> [E, C]: probabilities, or values if C = 1."""
  logits = np.asarray(logits, np.float64)
  if logits.shape[-1] == 1:
    return logits.mean(0)
  return softmax(logits).mean(0)
