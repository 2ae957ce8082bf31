"""Evaluation: sums over every set of a task, then a few numbers."""

from collections.abc import Iterator
import functools
from typing import Any

import jax

from robertax import data, parallel
from robertax.config import Config
from robertax.errors import InputError
from robertax.train.compiled import eval_step


class Evaluation:
  """params -> metrics, with what is the same each time made once."""

  def __init__(self, config: Config, task: Any, mesh: jax.sharding.Mesh):
    """Batches of evaluation have a micro-batch's size, which fits.

    Args:
      config: of the run.
      task: gives sets, their constants, the loss, and metrics of its sums.
      mesh: where the batches lie.
    """
    self._task, self._mesh, self._depth = task, mesh, config.data.prefetch
    self._step = eval_step(task.objective)
    self._shape = (config.data.batch_size // config.train.micro_batches,
                   config.train.eval_examples)

  @functools.cached_property
  def _constants(self) -> dict[str, dict[str, float]]:
    return self._task.eval_constants(*self._shape)

  def __call__(self, params: Any) -> dict[str, float]:
    """Evaluates every set.

    Returns:
      `eval/<set>/<metric>` for each set, and `eval/<metric>` over all of them,
      each target counted once.

    Raises:
      InputError: a set in which nothing is to be predicted.
    """
    rows = data.local_rows(parallel.batch_sharding(
        self._mesh, micro_batches=True), self._shape[0], 1)
    metrics, total = {}, {}
    for name, begin in self._task.eval_sets(*self._shape, rows).items():
      # Sums go to the host's float64: a float32 sum over a large set loses
      # bits.
      sums = dict(self._constants.get(name, {}))
      for batch in self._on_devices(begin()):
        for key, value in jax.device_get(self._step(params, batch)).items():
          sums[key] = sums.get(key, 0.0) + float(value)
      for key, value in sums.items():
        total[key] = total.get(key, 0.0) + value
      try:
        summary = self._task.summarize(sums)
      except InputError as e:
        raise InputError(f'{name}: {e}') from e
      metrics.update({f'eval/{name}/{key}': value
                      for key, value in summary.items()})
    return metrics | {f'eval/{key}': value
                      for key, value in self._task.summarize(total).items()}

  def _on_devices(self, batches: Iterator[Any]) -> Iterator[Any]:
    sharding = parallel.batch_sharding(self._mesh, micro_batches=True)
    with data.Feed((data.split_micro_batches(b, 1) for b in batches),
                   sharding, self._depth) as feed:
      yield from feed


def table(metrics: dict[str, float]) -> str:
  """`eval/...` metrics as rows of sets and columns of metrics."""
  names = [key.split('/')[1] for key in metrics if key.count('/') == 1]
  sets = list(dict.fromkeys(
      key.split('/')[1] for key in metrics if key.count('/') == 2))
  width = max(map(len, sets + ['evaluation']))
  lines = ['  '.join(['evaluation'.ljust(width)] + [n.rjust(12)
                                                    for n in names])]
  rows = [(s, f'eval/{s}/') for s in sets]
  if len(sets) > 1:
    rows.append(('all', 'eval/'))
  for title, prefix in rows:
    # A run that diverges has perplexities of hundreds of digits.
    cells = [f'{value:12.4f}' if abs(value) < 1e7 else f'{value:12.4g}'
             for value in (metrics[prefix + name] for name in names)]
    lines.append('  '.join([title.ljust(width), *cells]))
  return '\n'.join(lines)
