"""Scoring: what a model says of every example of a split, and the task's score.

Beside `evaluate`, whose sums are enough for a loss: an F1 or a rank correlation
needs all answers at once.
"""

from collections import deque
from collections.abc import Iterator
import functools
from typing import Any

import jax
import numpy as np

from robertax import data, parallel
from robertax.config import Config
from robertax.data.finetuning import collect_answers
from robertax.train.compiled import output_step
from robertax.train.evaluate import Evaluation

Answers = dict[str, np.ndarray]


class Scoring:
  """params -> metrics, as Evaluation; and params -> answers."""

  def __init__(self, config: Config, task: Any, mesh: jax.sharding.Mesh):
    """Nothing is computed.

    Args:
      config: of the run.
      task: a FinetuneTask.
      mesh: where the batches lie.
    """
    self._task, self._mesh, self._depth = task, mesh, config.data.prefetch
    self._step = output_step(task.objective, mesh)
    self._last: tuple[Any, dict[str, Answers]] = None, {}

  def __call__(self, params: Any) -> dict[str, float]:
    """Scores every labelled split.

    Returns:
      `eval/<split>/<metric>`, in percent, and those of the main split as
      `eval/<metric>` too.
    """
    metrics, answers = {}, {}
    for name in self._task.dev_splits:
      answers[name] = self.answers(params, name)
      found = self._task.score(name, answers[name])
      metrics |= {f'eval/{name}/{key}': value for key, value in found.items()}
      if name == self._task.dev_splits[0]:
        metrics |= {f'eval/{key}': value for key, value in found.items()}
    self._last = params, answers
    return metrics

  def answers(self, params: Any, split: str) -> Answers:
    """What the model says of each example of a split, in their order: what
    data.tuning.collect gives, the same on every host. Those of the weights that
    were scored last are not asked again.
    """
    if self._last[0] is params and split in self._last[1]:
      return self._last[1][split]
    batches = self._task.batches(split)
    objective = self._task.objective
    return collect_answers(batches.examples, self._outputs(params, split),
                           objective.token_outputs)

  def _outputs(self, params: Any, split: str) -> Iterator[Any]:
    sharding = parallel.batch_sharding(self._mesh, micro_batches=True)
    rows = functools.partial(data.local_rows, sharding, micro_batches=1)
    batches, whole = self._task.batches(split), deque()

    def of_host() -> Iterator[Any]:
      for batch in self._task.eval_batches(split):
        whole.append(batch)
        yield data.split_micro_batches(batches.of_host(batch, rows), 1)

    with data.Feed(of_host(), sharding, self._depth) as feed:
      for batch in feed:
        yield whole.popleft(), jax.device_get(self._step(params, batch))


def evaluation(config: Config, task: Any, mesh: jax.sharding.Mesh
               ) -> Evaluation | Scoring:
  """params -> `eval/...`, as the task is evaluated."""
  return (Scoring if task.fine_tunes else Evaluation)(config, task, mesh)
