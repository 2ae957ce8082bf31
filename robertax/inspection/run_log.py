"""A run as its workdir tells it: config, numbers by step, results."""

import dataclasses
import functools
import json
import os
from typing import Any

import numpy as np

from robertax import paths, text
from robertax.config import Config, flatten, to_dict
from robertax.errors import InputError
from robertax.tasks.task import RESULTS
from robertax.train import workdir
from robertax.train.writer import read_lines

# Keys that say which tokens are predicted, of which text: where they differ,
# so do the losses, whatever the models know.
OF_THE_LOSS = ('data.corpora', 'data.format', 'data.sequence_length',
               'data.mask_rate', 'data.masking_law', 'data.masking_unit',
               'data.specials', 'data.replace_random_rate',
               'data.replace_keep_rate', 'train.eval_examples')
OTHER_TASK = 'another task'


@dataclasses.dataclass(frozen=True)
class RunLog:
  """What a workdir says of its run.

  Attributes:
    path: W.
    name: W's last part.
    config: of the run.
    lines: of metrics.jsonl, {name: number or None}, in the order of `step`.
    results: what results.json holds, of a fine-tuning run; else empty.
    tokenizer: the tokenizer's fingerprint; '' where there is none.
  """
  path: str
  name: str
  config: Config
  lines: list[dict[str, Any]]
  results: dict[str, Any]
  tokenizer: str

  @functools.cached_property
  def keys(self) -> dict[str, Any]:
    """The config, {'train.steps': 6000}."""
    return flatten(to_dict(self.config))

  @functools.cached_property
  def changed(self) -> dict[str, tuple[Any, Any]]:
    """{key: (value, default)} of those that are not the default's."""
    defaults = flatten(to_dict(Config()))
    return {key: (value, defaults[key]) for key, value in self.keys.items()
            if value != defaults[key]}

  @property
  def step(self) -> int:
    """The newest logged step."""
    return self.lines[-1]['step']

  @functools.cached_property
  def metrics(self) -> tuple[str, ...]:
    """Names of all numbers that were ever logged, sorted."""
    return tuple(sorted(
        {key for line in self.lines for key in line} - {'step'}))

  @property
  def eval_sets(self) -> tuple[str, ...]:
    """Names of what is evaluated apart, such as corpora."""
    return tuple(dict.fromkeys(
        key.split('/')[1] for key in self.metrics
        if key.startswith('eval/') and key.count('/') == 2))

  def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values), float64; NaN where null was logged: no finite number."""
    found = [(line['step'], line[key]) for line in self.lines if key in line]
    steps = np.array([step for step, _ in found], np.float64)
    return steps, np.array([_number(v) for _, v in found], np.float64)

  def last(self, key: str) -> float | None:
    """The newest finite value of a metric."""
    _, values = self.series(key)
    values = values[np.isfinite(values)]
    return float(values[-1]) if len(values) else None

  def total(self, key: str) -> float:
    """The sum over all lines."""
    return float(np.nansum(self.series(key)[1]))

  def times(self) -> tuple[float, float, int] | None:
    """(first, last, how many starts), seconds since 1970, from clock.jsonl."""
    try:
      with paths.open(f'{self.path}/clock.jsonl') as f:
        lines = [line for line in f if line.endswith('\n')]
      first, last = json.loads(lines[0]), json.loads(lines[-1])
      return float(first['time']), float(last['time']), int(last['start'])
    except (OSError, ValueError, LookupError, TypeError, RecursionError,
            OverflowError):
      return None  # A run of before that file was, or it is not kept.


def read(path: str) -> RunLog:
  """Reads a workdir; nothing of it is changed, no weights are read.

  Args:
    path: W.

  Raises:
    InputError: no workdir, no logged step yet, or a damaged file.
  """
  config = workdir.read_config(path)
  if config is None:
    found = ('it has no config.json' if paths.isdir(path) else
             'no such folder')
    raise InputError(f'{path!r} is not a workdir of robertax: {found}.')
  file = f'{path}/metrics.jsonl'
  if not paths.exists(file):
    raise InputError(f'{file} does not exist: nothing was logged there, so '
                     'there is nothing to show.')
  lines = [metrics for _, metrics in read_lines(file)]
  if not lines:
    raise InputError(f'{file} has no line yet: come back after the first '
                     'logged step.')
  saved = f'{path}/tokenizer.json'
  return RunLog(
      path, os.path.basename(paths.absolute(path)), config, lines,
      _results(f'{path}/{RESULTS}'),
      text.load(saved).fingerprint if paths.exists(saved) else '')


def incomparable(one: RunLog, other: RunLog) -> str:
  """Why two runs' losses are of different things; '' where they are not."""
  if one.results or other.results or one.config.task != other.config.task:
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
  """Whether text of other folders is the same: word counts give it away."""
  unigrams = [{key: run.last(key) for key in run.metrics
               if key.endswith('unigram_loss')} for run in (one, other)]
  return bool(unigrams[0]) and unigrams[0].keys() == unigrams[1].keys() and (
      np.allclose(*(list(each.values()) for each in unigrams), rtol=1e-5))


def _number(value: Any) -> float:
  return float(value) if isinstance(value, int | float) else np.nan


def _results(path: str) -> dict[str, Any]:
  if not paths.exists(path):
    return {}
  try:
    with paths.open(path) as f:
      return dict(json.load(f))
  except (OSError, ValueError, TypeError, RecursionError) as e:
    raise InputError(f'{path}: not what a fine-tuning run has written ({e}). '
                     'Move it away.') from e
