"""A run whose rows change their length once: BERT's two phases.

BERT trains on 128 tokens for the first 90 % of its updates and on 512 for the
rest (Devlin et al. 2018, appendix A.2); RoBERTa does not (Liu et al. 2019,
section 3.1). Each phase has records and an order of its own; which batch a step
has is still arithmetic.
"""

from collections.abc import Iterator, Sequence
import contextlib
import itertools
from typing import NamedTuple

from robertax.data.pipeline import Batch, Pipeline


class Phase(NamedTuple):
  """Some of a run's steps.

  Attributes:
    pipeline: their batches, counted from the run's first step.
    stop: the step behind the last; None: there is no last.
  """
  pipeline: Pipeline
  stop: int | None = None


class Phases:
  """The training batches of a run, phase after phase."""

  def __init__(self, phases: Sequence[Phase]):
    """Args: `phases` in their order; the last one has no stop."""
    self._phases = tuple(phases)

  def pipeline(self, step: int) -> Pipeline:
    """The pipeline that makes batch `step`."""
    return next(pipeline for pipeline, stop in self._phases
                if stop is None or step < stop)

  def batches(self, start_step: int = 0) -> Iterator[Batch]:
    """Batches from `start_step` on, without end; to be closed.

    Those of one phase are not made ahead while the one before it lasts.
    """
    step = start_step
    for pipeline, stop in self._phases:
      if stop is not None and step >= stop:
        continue
      with contextlib.closing(pipeline.batches(step)) as batches:
        yield from itertools.islice(batches, stop and stop - step)
      step = stop

  def epoch(self, step: int) -> float:
    """Passes over the records that lie before batch `step`."""
    return sum(pipeline.epoch(self._until(step, stop))
               for pipeline, stop in self._phases)

  def epochs(self, step: int) -> dict[str, float]:
    """Passes over each corpus's records that lie before batch `step`."""
    each = [pipeline.epochs(self._until(step, stop))
            for pipeline, stop in self._phases]
    return {name: sum(passes[name] for passes in each) for name in each[0]}

  @staticmethod
  def _until(step: int, stop: int | None) -> int:
    return step if stop is None else min(step, stop)
