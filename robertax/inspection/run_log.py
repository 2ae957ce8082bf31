"""Reads a run's workdir: config, numbers by step, results, curves.

It reads neither weights nor records, only files that people can copy. The
losses of two runs are comparable only if they predict the same tokens.
"""

from collections.abc import Sequence
import dataclasses
import functools
import os
from typing import Any

import numpy as np

from robertax import files, text
from robertax.config import Config, flatten, to_dict
from robertax.errors import InputError
from robertax.inspection import page
from robertax.inspection.page import ChartLine
from robertax.tasks.task import RESULTS, read_object
from robertax.train import workdir
from robertax.train.clock import read_clock
from robertax.train.writer import read_metrics

# Keys that decide which tokens of which text are predicted. Where they differ,
# losses differ whatever the models know.
OF_THE_LOSS = ('data.corpora', 'data.format', 'data.sequence_length',
               'data.mask_rate', 'data.masking_law', 'data.masking_unit',
               'data.specials', 'data.replace_random_rate',
               'data.replace_keep_rate', 'train.eval_examples')
OTHER_TASK = 'another task'


@dataclasses.dataclass(frozen=True)
class RunLog:
  """What a workdir says about its run."""
  path: str  # W.
  name: str  # W's last part.
  config: Config
  # Of metrics.jsonl: {name: number or None}, in the order of `step`.
  lines: list[dict[str, Any]]
  results: dict[str, Any]  # A fine-tuning run's results.json; else empty.
  tokenizer: str  # Its fingerprint; '' if there is none.

  @functools.cached_property
  def keys(self) -> dict[str, Any]:
    """The config, such as {'train.steps': 6000}."""
    return flatten(to_dict(self.config))

  @functools.cached_property
  def changed(self) -> dict[str, tuple[Any, Any]]:
    """{key: (value, default)} of the keys that are not at their defaults."""
    defaults = flatten(to_dict(Config()))
    return {key: (value, defaults[key]) for key, value in self.keys.items()
            if value != defaults[key]}

  @property
  def step(self) -> int:
    """The newest logged step."""
    return self.lines[-1]['step']

  @functools.cached_property
  def metrics(self) -> tuple[str, ...]:
    """The sorted names of all numbers that were ever logged."""
    return tuple(sorted(set().union(*self.lines) - {'step'}))

  @property
  def eval_sets(self) -> tuple[str, ...]:
    """Names of the sets that are evaluated separately, such as corpora."""
    return tuple(dict.fromkeys(
        key.split('/')[1] for key in self.metrics
        if key.startswith('eval/') and key.count('/') == 2))

  def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values), float64; NaN where null, not a number, was logged."""
    found = [(line['step'], line[key]) for line in self.lines if key in line]
    return (np.array([step for step, _ in found], np.float64),
            np.array([v if isinstance(v, int | float) else np.nan
                      for _, v in found], np.float64))

  def last(self, key: str) -> float | None:
    """The newest finite value of a metric; None if there is none."""
    _, values = self.series(key)
    values = values[np.isfinite(values)]
    return float(values[-1]) if len(values) else None

  def total(self, key: str) -> float:
    """The sum of a metric over all lines."""
    return float(np.nansum(self.series(key)[1]))

  def times(self) -> tuple[float, float, int] | None:
    """(first, last) seconds since 1970 in clock.jsonl, and how many starts."""
    # Older runs have no such file, and it need not be kept.
    lines = read_clock(f'{self.path}/clock.jsonl')
    return (lines[0]['time'], lines[-1]['time'], lines[-1]['start']
            ) if lines else None


def read_run(path: str) -> RunLog:
  """Reads a workdir; InputError without a logged step or if it is damaged."""
  config = workdir.read_config(path)
  if config is None:
    found = 'it has no config.json' if files.isdir(path) else 'no such folder'
    raise InputError(f'{path!r} is not a workdir of robertax: {found}.')
  file = f'{path}/metrics.jsonl'
  if not files.exists(file):
    raise InputError(f'{file} does not exist: nothing was logged there, so '
                     'there is nothing to show.')
  lines = [metrics for _, metrics in read_metrics(file)]
  if not lines:
    raise InputError(f'{file} has no line yet: come back after the first '
                     'logged step.')
  saved = f'{path}/tokenizer.json'
  return RunLog(
      path, os.path.basename(files.absolute(path)), config, lines,
      read_object(f'{path}/{RESULTS}'),
      text.load(saved).fingerprint if files.exists(saved) else '')


def incomparable(one: RunLog, other: RunLog) -> str:
  """Why the losses of two runs cannot be compared; '' if they can."""
  if one.config.task != other.config.task or (
      one.results.get('task') != other.results.get('task')):
    return OTHER_TASK
  if one.tokenizer != other.tokenizer or not one.tokenizer:
    return ('another tokenizer: not comparable in nats per token'
            if one.tokenizer and other.tokenizer else
            'a tokenizer is missing: comparable only if it is the same')
  keys = [key for key in OF_THE_LOSS if one.keys[key] != other.keys[key]]
  if keys == ['data.corpora'] and _same_text(one, other):
    return ''
  return f'other predicted tokens ({", ".join(keys)})' if keys else ''


def _same_text(one: RunLog, other: RunLog) -> bool:
  """Whether other folders have the same text, by the counts of its tokens."""
  unigrams = [{key: run.last(key) for key in run.metrics
               if key.endswith('unigram_loss')} for run in (one, other)]
  return bool(unigrams[0]) and unigrams[0].keys() == unigrams[1].keys() and (
      np.allclose(*(list(each.values()) for each in unigrams), rtol=1e-5))


def run_figures(run: RunLog) -> list[str]:
  """The figures of one run; a figure without numbers is ''."""
  def line(key: str, label: str, colour: int | None, **style) -> ChartLine:
    return ChartLine(label, *run.series(key), colour, **style)

  def noisy(key: str, label: str) -> list[ChartLine]:
    """Each step's own value, faint, below the mean of its neighbours."""
    steps, values = run.series(key)
    width = _mean_width(values)
    if width < 3:
      return [ChartLine(label, steps, values)]
    return [ChartLine('', steps, values, style='faint'),
            ChartLine(f'{label}, mean of {width}', steps,
                      page.smooth_values(values, width))]

  figure, unit, data = page.chart_figure, _loss_unit(run), run.config.data
  figures = [figure('Loss', unit, [
      *noisy('train/loss', 'training batches'),
      line('eval/unigram_loss', 'unigram', None, style='dashed'),
      line('eval/loss', 'held-out text', 1, dots=True)], note=(
          data.first_sequence_steps and f'Rows are {data.first_sequence_length}'
          f' tokens long up to step {data.first_sequence_steps:,}, then '
          f'{data.sequence_length}.') or '')]
  if len(run.eval_sets) > 1:
    figures.append(figure('Held-out loss of each corpus', unit, [
        each for number, name in enumerate(run.eval_sets) for each in (
            line(f'eval/{name}/unigram_loss', '', number, style='dashed'),
            line(f'eval/{name}/loss', name, number, dots=True))],
                          note='Dashed: the unigram of each.'))
  if 'train/nsp_loss' in run.metrics:
    figures.append(figure('Next-sentence prediction', 'nats', [
        *noisy('train/nsp_loss', 'training batches'),
        line('eval/nsp_loss', 'held-out text', 1, dots=True)]))
  if run.config.task == 'pretrain':
    figures.append(figure('Masked tokens guessed right', 'share', [
        *noisy('train/accuracy', 'training batches'),
        line('eval/accuracy', 'held-out text', 1, dots=True)]))
  else:
    scores = [key for key in run.metrics if key.startswith('eval/')
              and not key.endswith('loss') and key.count('/') == 2]
    figures.append(figure('Scores on held-out rows', 'percent', [
        line(key, key.removeprefix('eval/'), number, dots=True)
        for number, key in enumerate(scores)]))
  epochs = [key for key in run.metrics if key.startswith('train/epoch/')]
  return [
      *figures,
      figure('Learning rate', '', [line('train/learning_rate', '', 0)],
             zero=True),
      figure('Gradient norm', '',
             noisy('train/gradient_norm', 'before clipping')),
      figure('Throughput', 'tokens a second, without padding',
             noisy('train/tokens_per_second', 'each logged window'), zero=True),
      figure('Model FLOP utilization', 'share of the peak',
             noisy('train/mfu', 'each logged window'), zero=True),
      figure('Passes over the training data', 'epochs', [
          line(key, key.removeprefix('train/epoch').lstrip('/'), number)
          for number, key in enumerate(epochs or ['train/epoch'])], zero=True)]


def compared_figures(runs: Sequence[RunLog]) -> list[str]:
  """The figures of several runs, dotted if not comparable with the first."""
  first, names = runs[0], distinct_names(runs)
  scores = [key for key in first.metrics if first.results
            and key.startswith('eval/') and key.count('/') == 1
            and key != 'eval/loss']
  of_the_task = ['eval/loss', 'train/loss', *scores]
  whys = [''] + [incomparable(first, run) for run in runs[1:]]
  note = ' '.join(
      f'{name} {"is not drawn" if why == OTHER_TASK else "(dotted)"}: {why}.'
      for name, why in zip(names, whys) if why)

  def lines(key: str, smooth: bool = False, dots: bool = False
            ) -> list[ChartLine]:
    found = []
    for number, (run, name, why) in enumerate(zip(runs, names, whys)):
      if why == OTHER_TASK and key in of_the_task:
        continue
      steps, values = run.series(key)
      if smooth:
        values = page.smooth_values(values, _mean_width(values))
      found.append(ChartLine(name, steps, values, number,
                             'dotted' if why else 'solid', dots))
    return found

  figure, unit = page.chart_figure, _loss_unit(first)
  return [
      figure('Loss on held-out text', unit, lines('eval/loss', dots=True),
             note=note),
      figure('Loss of training batches', f'{unit}, smoothed',
             lines('train/loss', smooth=True), note=note),
      *(figure(f'Held-out {key.removeprefix("eval/")}', 'percent',
               lines(key, dots=True), note=note) for key in scores),
      figure('Learning rate', '', lines('train/learning_rate')),
      figure('Throughput', 'tokens a second, smoothed',
             lines('train/tokens_per_second', smooth=True), zero=True)]


def distinct_names(runs: Sequence[RunLog]) -> list[str]:
  """The last parts of the paths, or whole paths where these are equal."""
  names = [run.name for run in runs]
  return [run.path if names.count(run.name) > 1 else run.name for run in runs]


def _loss_unit(run: RunLog) -> str:
  return 'nats' if run.results else 'nats per masked token'


def _mean_width(values: np.ndarray) -> int:
  """How many values a mean takes: odd, at most a fifteenth of them."""
  return max(1, min(len(values) // 15, 201)) | 1
