"""Ctrl-C and SIGTERM: finish the step, save, say how to go on."""

from collections import deque
import signal
import sys

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np


class Interruption:
  """Turns the first SIGINT or SIGTERM into a wish that the loop asks for.

  A second one of the same kind acts as it would without this class. Where
  several processes share the run, a signal to one of them is a wish of all.

  Attributes:
    requested: number of the signal that came; 0: none yet.
  """

  SIGNALS = (signal.SIGINT, signal.SIGTERM)

  def __init__(self, mesh: jax.sharding.Mesh | None = None,
               run_ahead: int = 0):
    """No signal yet.

    Args:
      mesh: of the run; None: of this process alone.
      run_ahead: as Window's: what is agreed on is known so many steps later,
        so that no step waits for it.
    """
    self.requested = 0
    self._before = {}
    self._mesh, self._run_ahead = mesh, run_ahead
    self._asked = deque()
    if mesh is not None and jax.process_count() > 1:
      self._flags = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
      self._largest = jax.jit(
          lambda flags: flags.max(),
          out_shardings=NamedSharding(mesh, PartitionSpec()))
    else:
      self._largest = None

  def __enter__(self) -> 'Interruption':
    try:
      for number in self.SIGNALS:
        self._before[number] = signal.signal(number, self._ask)
    except ValueError:
      # Python lets only the main thread set handlers; called from another
      # (a notebook's worker), the run goes without.
      self._before.clear()
    return self

  def __exit__(self, *unused):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def agreed(self) -> int:
    """The signal that all processes act on at this step; 0: none.

    Each calls it once a step, after that step is under way. Over several
    processes it is the largest of their `requested`, of `run_ahead` calls
    before: an all-reduce of one number, behind the step's own.
    """
    if self._largest is None:
      return self.requested
    wish = np.full(1, self.requested, np.int32)
    self._asked.append(self._largest(jax.make_array_from_callback(
        (self._mesh.size,), self._flags, lambda index: wish)))
    if len(self._asked) <= self._run_ahead:
      return 0
    return int(self._asked.popleft())

  def _ask(self, number: int, frame):
    del frame
    self.requested = number
    signal.signal(number, self._before[number])
    print(f'\n{signal.Signals(number).name}: finishing this step, then saving '
          '(once more: stop at once, unsaved).', file=sys.stderr, flush=True)
