"""Divergence: what the host does about a loss that is not finite, or spikes.

The numbers of a step are read when it is done, some steps after it was started,
but before anything of it is saved: a bad state never becomes a checkpoint. They
are sums over all devices, so all processes decide alike.

A run that is rolled back passes over the batches on which it diverged, which
`W/passed_over.json` lists. Step k takes the k-th batch that is not in the list:
a pure function of (seed, k) and the list, so a resumed run takes the same.
"""

from collections import deque
from collections.abc import Callable, Iterator
import contextlib
import itertools
import json
import math
from typing import Any, TypeVar

import jax
import numpy as np

from robertax import files
from robertax.config import OptimConfig
from robertax.errors import Diverged, reading, writing
from robertax.parallel import processes
from robertax.progress import say
from robertax.train.checkpoint import finished_step

PASSED_OVER_FILE = 'passed_over.json'
MOST_SKIPPED = 100  # If so many follow each other, batches are not the reason.
MOST_ROLL_BACKS = 3  # After so many to one checkpoint, its state is the reason.
_NAMED = 5  # Arrays that a message names.
_GENTLER = ('another run with a lower optim.learning_rate, a longer '
            'optim.warmup_steps or optim.clip_norm.')
T = TypeVar('T')
Describe = Callable[[int, dict[str, float]], dict[str, float]]  # train_metrics


class PassedOver:
  """Ranges of batches, counted from 0; the entries of the file."""

  def __init__(self, entries: list[dict[str, Any]] | None = None):
    self._entries = list(entries or ())

  @classmethod
  def read(cls, workdir: str) -> 'PassedOver':
    """Reads W's file in process 0; raises InputError if it is damaged."""
    path = f'{workdir}/{PASSED_OVER_FILE}'
    def entries():
      if not processes.first() or not files.exists(path):
        return []
      with reading(path, 'not a list of batches that a run passes over',
                   '. Put back what was there; without it the run takes other '
                   'batches than it did.'):
        read = files.read_json(path)
        for entry in read:
          first, last = map(int, entry['batches'])
          if not 0 <= first <= last or int(entry['checkpoint']) < 0:
            raise ValueError(f'batches {first} to {last}')
        return read
    return cls(processes.gather(processes.together(entries))[0])

  def write(self, workdir: str):
    """Replaces the file; raises InputError if it cannot be written."""
    path = f'{workdir}/{PASSED_OVER_FILE}'
    with writing(path):
      files.write_text(path, json.dumps(self._entries, indent=1) + '\n')

  def add(self, start: int, step: int, most: int, because: str
          ) -> tuple[int, int]:
    """Notes at most so many batches that led to a bad step, counted from 1.

    None is from before the checkpoint of step `start`, because what earlier
    steps took never changes. Returns the first and the last.
    """
    last = self.batch(step - 1)
    first = max(self.batch(start), last - most + 1)
    self._entries.append({'batches': [first, last], 'checkpoint': start,
                          'step': step, 'because': because})
    return first, last

  def roll_backs(self, start: int) -> int:
    """Counts how often the run has gone back to a checkpoint."""
    return sum(entry['checkpoint'] == start for entry in self._entries)

  def batch(self, step: int) -> int:
    """Returns the batch that is trained on after `step` updates."""
    batch = step
    for first, last in self._ranges():
      if batch >= first:
        batch += last - first + 1
    return batch

  def batches(self, begin: Callable[[int], Iterator[Any]], start: int
              ) -> Iterator[Any]:
    """Yields batches after `start` updates; begin(k) yields them from k on."""
    at = self.batch(start)
    for first, last in self._ranges():
      if first > at:
        with contextlib.closing(begin(at)) as made:
          yield from itertools.islice(made, first - at)
        at = last + 1
    with contextlib.closing(begin(at)) as made:
      yield from made

  def counted(self, describe: Describe) -> Describe:
    """Adds `passed_over_batches` to a task's train_metrics."""
    def metrics(step, sums):
      batch = self.batch(step - 1) + 1
      more = {'passed_over_batches': batch - step} if self._entries else {}
      return describe(batch, sums) | more
    return metrics

  def _ranges(self) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for first, last in sorted(tuple(e['batches']) for e in self._entries):
      if ranges and first <= ranges[-1][1] + 1:
        ranges[-1] = ranges[-1][0], max(last, ranges[-1][1])
      else:
        ranges.append((first, last))
    return ranges


class Judge:
  """Judges each step by its numbers; `params` gives the names of arrays."""

  def __init__(self, config: OptimConfig, params: Any):
    self._config = config
    self._names = [jax.tree_util.keystr(path, simple=True, separator='/')
                   for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    self._begun = deque()
    self._skipped, self._in_a_row, self._bad = 0, 0, 0

  def add(self, step: int, sums: dict[str, jax.Array]):
    """Notes a step; takes `gradient_norms` and `spiked` out of its sums."""
    self._begun.append((step, {
        name: sums[name] for name in ('objective', 'gradient_norm')} | {
            name: sums.pop(name) for name in ('gradient_norms', 'spiked')
            if name in sums}))

  def look(self, behind: int = 0):
    """Waits for the steps noted, except the newest `behind`, and judges them;
    does what optim.on_divergence says, such as to raise Diverged.
    """
    while len(self._begun) > behind:
      step, numbers = self._begun.popleft()
      norms = numbers.pop('gradient_norms', None)
      found = {k: float(v) for k, v in jax.device_get(numbers).items()}
      spiked = bool(found.get('spiked'))
      if spiked or not math.isfinite(found['objective']) or (
          not math.isfinite(found['gradient_norm'])):
        self._act(step, self._describe(step, found, spiked, norms))
      else:
        self._in_a_row = 0

  def metrics(self) -> dict[str, float]:
    """Returns skipped_steps since the last call, if any may be skipped."""
    skipped, self._skipped = self._skipped, 0
    return ({'skipped_steps': skipped}
            if self._config.on_divergence == 'skip' else {})

  def _act(self, step: int, what: str):
    policy = self._config.on_divergence
    if policy == 'stop':
      raise Diverged(
          f'{what}. No checkpoint has anything of it. The same command would '
          'end here again: give it --config.optim.on_divergence=roll_back (or '
          f'skip) to pass over what led here, or begin {_GENTLER}', step)
    if policy == 'roll_back':
      raise Diverged(what, step)
    self._bad += 1
    self._in_a_row += 1
    if policy == 'skip':
      self._skipped += 1
      if self._in_a_row >= MOST_SKIPPED:
        raise Diverged(
            f'{what}, and so were the {MOST_SKIPPED - 1} updates before it: '
            f'skipping does not help. Begin {_GENTLER}', step)
    if self._bad & (self._bad - 1) == 0:  # The 1st, 2nd, 4th, ...
      done = 'skipped' if policy == 'skip' else 'going on'
      say(f'{what}: {done} ({self._bad} so far)')

  def _describe(self, step: int, found: dict[str, float], spiked: bool,
                norms: jax.Array | None) -> str:
    words = (f'step {step}: the loss is {found["objective"]:.6g}, the norm of '
             f'the gradient {found["gradient_norm"]:.6g}')
    if norms is not None:
      pairs = list(zip(self._names, np.asarray(jax.device_get(norms))))
      wrong = [name for name, norm in pairs if not math.isfinite(norm)]
      large = sorted(((norm, name) for name, norm in pairs
                      if math.isfinite(norm)), reverse=True)
      if wrong:
        more = len(wrong) - _NAMED
        words += (f' (not finite in {len(wrong)} of {len(pairs)} arrays: '
                  f'{", ".join(wrong[:_NAMED])}'
                  f'{f" and {more} more" if more > 0 else ""})')
      if large:
        words += '; the largest that are finite: ' + ', '.join(
            f'{name} {norm:.3g}' for norm, name in large[:3])
    if spiked:
      words += '; a spike (optim.spike_loss, optim.spike_gradient_norm)'
    return words


def rolling_back(attempt: Callable[[], T], workdir: str, config: OptimConfig
                 ) -> T:
  """Calls `attempt` again without bad batches, while it diverges and may."""
  while True:
    try:
      return attempt()
    except Diverged as e:
      if config.on_divergence != 'roll_back':
        raise
      step, what = e.step, str(e)
    # Not inside `except`: the error's frames hold the parameters.
    _pass_over(workdir, step, what, config.roll_back_batches)


def _pass_over(workdir: str, step: int, what: str, most: int):
  passed = PassedOver.read(workdir)
  # One process looks, because others may see an older state of a shared disk.
  start = processes.gather(
      (finished_step(workdir) or 0) if processes.first() else None)[0]
  if passed.roll_backs(start) >= MOST_ROLL_BACKS:
    raise Diverged(
        f'{what}. {MOST_ROLL_BACKS} times the run was rolled back to step '
        f'{start} and batches were passed over, and still it diverges: '
        + (f'move {workdir}/checkpoints/{start} away to begin at the one '
           'before it, or ' if start else '') + f'begin {_GENTLER}', step)
  first, last = passed.add(start, step, most, what)
  if processes.first():
    passed.write(workdir)
  say(f'{what}: rolled back to step {start}; batches {first + 1} to '
      f'{last + 1} are passed over')
