"""Divergence: what the host does about a loss that is not finite, or spikes.

The numbers of a step are read when the step is done, a few steps later than it
was begun, and before anything of it is saved: a poisoned state never becomes a
checkpoint. They are sums over all devices, so all processes decide alike.
"""

from collections import deque
from collections.abc import Callable
import math
import sys
from typing import Any, TypeVar

import jax
import numpy as np

from robertax.config import OptimConfig
from robertax.errors import Diverged
from robertax.parallel import processes
from robertax.train.checkpoint import finished_step
from robertax.train.passed_over import PassedOver

T = TypeVar('T')
# One after another: what is left to train on then is not the trouble.
MOST_SKIPPED = 100
# To the same checkpoint: then the state is bad, and not the batches.
MOST_ROLL_BACKS = 3
_NAMED = 5  # Arrays that a message names.


class Judge:
  """Looks at the numbers of each step."""

  def __init__(self, config: OptimConfig, params: Any):
    """No step yet.

    Args:
      config: the `optim` section.
      params: a nested dict: the names of its arrays.
    """
    self._config = config
    self._names = [jax.tree_util.keystr(path, simple=True, separator='/')
                   for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    self._begun = deque()
    self._skipped, self._in_a_row, self._bad = 0, 0, 0

  def add(self, step: int, sums: dict[str, jax.Array]):
    """Notes a step that is begun.

    Args:
      step: its number; the first is 1.
      sums: of train.step; `gradient_norms` and `spiked` are taken out.
    """
    self._begun.append((step, {
        name: sums[name] for name in ('objective', 'gradient_norm')} | {
            name: sums.pop(name) for name in ('gradient_norms', 'spiked')
            if name in sums}))

  def look(self, behind: int = 0):
    """Judges the steps noted, but for the newest `behind`; waits for them.

    Raises:
      Diverged: one of them is bad, and the policy is not to go on.
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
    """skipped_steps: since the last call; nothing where none would be."""
    skipped, self._skipped = self._skipped, 0
    return ({'skipped_steps': skipped}
            if self._config.on_divergence == 'skip' else {})

  def _act(self, step: int, what: str):
    policy = self._config.on_divergence
    if policy == 'stop':
      raise Diverged(
          f'{what}. No checkpoint has anything of it. The same command would '
          'end here again: give it --config.optim.on_divergence=roll_back (or '
          'skip) to pass over what led here, or begin another run with a lower '
          'optim.learning_rate, a longer optim.warmup_steps or '
          'optim.clip_norm.', step)
    if policy == 'roll_back':
      raise Diverged(what, step)
    self._bad += 1
    self._in_a_row += 1
    if policy == 'skip':
      self._skipped += 1
      if self._in_a_row >= MOST_SKIPPED:
        raise Diverged(
            f'{what}, and so were the {MOST_SKIPPED - 1} updates before it: '
            'skipping does not help. Begin another run with a lower '
            'optim.learning_rate, a longer optim.warmup_steps or '
            'optim.clip_norm.', step)
    if self._bad & (self._bad - 1) == 0:  # The 1st, 2nd, 4th, ...
      done = 'skipped' if policy == 'skip' else 'going on'
      print(f'{what}: {done} ({self._bad} so far)', file=sys.stderr)

  def _describe(self, step, found, spiked, norms) -> str:
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


def rolling_back(attempt: Callable[[], T], folder: str, config: OptimConfig
                 ) -> T:
  """What attempt() gives; again, without some batches, where it diverges.

  Args:
    attempt: the run, from its newest checkpoint to its end.
    folder: W.
    config: the `optim` section.

  Raises:
    Diverged: the policy is another one, or rolling back did not help.
  """
  while True:
    try:
      return attempt()
    except Diverged as e:
      if config.on_divergence != 'roll_back':
        raise
      step, what = e.step, str(e)
    # Not inside `except`: the error's frames hold the parameters.
    _pass_over(folder, step, what, config.roll_back_batches)


def _pass_over(folder: str, step: int, what: str, most: int):
  passed = PassedOver.read(folder)
  # One process looks: the others may see a folder as it was.
  start = processes.gather(
      (finished_step(folder) or 0) if processes.first() else None)[0]
  if passed.roll_backs(start) >= MOST_ROLL_BACKS:
    raise Diverged(
        f'{what}. {MOST_ROLL_BACKS} times the run was rolled back to step '
        f'{start}, and batches were passed over, and still it diverges: '
        + (f'move {folder}/checkpoints/{start} away to begin at the one before '
           'it, or ' if start else '')
        + 'begin another run with a lower optim.learning_rate or '
        'optim.clip_norm.', step)
  first, last = passed.add(start, step, most, what)
  if processes.first():
    passed.write(folder)
  print(f'{what}: rolled back to step {start}; batches {first + 1} to '
        f'{last + 1} are passed over', file=sys.stderr)
