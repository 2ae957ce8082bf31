"""Ctrl-C and SIGTERM: finish the step, save, say how to go on."""

import signal
import sys


class Interruption:
  """Turns the first SIGINT or SIGTERM into a wish that the loop asks for.

  A second one of the same kind acts as it would without this class.

  Attributes:
    requested: number of the signal that came; 0: none yet.
  """

  SIGNALS = (signal.SIGINT, signal.SIGTERM)

  def __init__(self):
    self.requested = 0
    self._before = {}

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

  def _ask(self, number: int, frame):
    del frame
    self.requested = number
    signal.signal(number, self._before[number])
    print(f'\n{signal.Signals(number).name}: finishing this step, then saving '
          '(once more: stop at once, unsaved).', file=sys.stderr, flush=True)
