"""Batches that a run passes over, for it diverged on them.

`W/passed_over.json` lists them. Step k of a run takes the k-th batch that is
not in it: still a pure function of (seed, k) and that list, so a resumed run
takes the same. A range is noted when the run is rolled back, and none of it
lies before the checkpoint: what earlier steps took never changes.
"""

from collections.abc import Callable, Iterator
import contextlib
import itertools
import json
from typing import Any

from robertax import files
from robertax.errors import InputError, writing
from robertax.parallel import processes

FILE = 'passed_over.json'


class PassedOver:
  """Ranges of batches, counted from 0."""

  def __init__(self, entries: list[dict[str, Any]] | None = None):
    """Those of the file; none: nothing is passed over."""
    self._entries = list(entries or ())

  @classmethod
  def read(cls, folder: str) -> 'PassedOver':
    """What process 0 finds in W.

    Raises:
      InputError: the file is damaged.
    """
    path = f'{folder}/{FILE}'

    def entries():
      if not processes.first() or not files.exists(path):
        return []
      try:
        with files.open(path) as f:
          read = json.load(f)
        for entry in read:
          first, last = map(int, entry['batches'])
          if not 0 <= first <= last or int(entry['checkpoint']) < 0:
            raise ValueError(f'batches {first} to {last}')
        return read
      except (ValueError, KeyError, TypeError) as e:
        raise InputError(
            f'{path}: not a list of batches that a run passes over ({e!r}). '
            'Put back what was there; without it the run takes other batches '
            'than it did.') from e

    return cls(processes.gather(processes.together(entries))[0])

  def write(self, folder: str):
    """Puts the file in place of the one before.

    Raises:
      InputError: W cannot be written.
    """
    path = f'{folder}/{FILE}'
    with writing(path):
      files.write_text(path, json.dumps(self._entries, indent=1) + '\n')

  def add(self, start: int, step: int, most: int, because: str
          ) -> tuple[int, int]:
    """Notes the batches that led to a bad step.

    Args:
      start: updates done, of the checkpoint that the run goes back to.
      step: the bad one, the first is 1.
      most: at most so many batches, the bad step's the last of them.
      because: words.

    Returns:
      The first and the last.
    """
    last = self.batch(step - 1)
    first = max(self.batch(start), last - most + 1)
    self._entries.append({'batches': [first, last], 'checkpoint': start,
                          'step': step, 'because': because})
    return first, last

  def roll_backs(self, start: int) -> int:
    """How often the run has gone back to that checkpoint."""
    return sum(entry['checkpoint'] == start for entry in self._entries)

  def batch(self, step: int) -> int:
    """The batch that is trained on after so many updates."""
    batch = step
    for first, last in self._ranges():
      if batch >= first:
        batch += last - first + 1
    return batch

  def batches(self, begin: Callable[[int], Iterator[Any]], start: int
              ) -> Iterator[Any]:
    """Batches from step `start` on; to be closed.

    Args:
      begin: from a batch's number to it and all behind it.
      start: updates already done.
    """
    at = self.batch(start)
    for first, last in self._ranges():
      if first > at:
        with contextlib.closing(begin(at)) as made:
          yield from itertools.islice(made, first - at)
        at = last + 1
    with contextlib.closing(begin(at)) as made:
      yield from made

  def counted(self, describe: Callable[[int, dict[str, float]],
                                       dict[str, float]]
              ) -> Callable[[int, dict[str, float]], dict[str, float]]:
    """A task's train_metrics, of the batch that a step took.

    With `passed_over_batches`, where there are any.
    """
    def metrics(step, sums):
      batch = self.batch(step - 1) + 1
      more = {'passed_over_batches': batch - step} if self._entries else {}
      return describe(batch, sums) | more
    return metrics

  def _ranges(self) -> list[tuple[int, int]]:
    """In their order, none touching another."""
    ranges: list[tuple[int, int]] = []
    for first, last in sorted(tuple(e['batches']) for e in self._entries):
      if ranges and first <= ranges[-1][1] + 1:
        ranges[-1] = ranges[-1][0], max(last, ranges[-1][1])
      else:
        ranges.append((first, last))
    return ranges
