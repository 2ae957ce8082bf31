"""What becomes of a save that failed: said, tried again, and not for ever."""

from collections.abc import Callable, Iterator
import contextlib
import sys

import jax

from robertax.errors import InputError, writing
from robertax.train.facts import first_line

# So many saves in a row may fail before the run ends: whole days of steps that
# are nowhere are worse than a run that stands still and says why.
MOST_FAILURES = 3


def hush_late_writes():
  """No traceback of writes that end behind the save that they were part of.

  The first that fails ends the save and its event loop; the threads of
  tensorstore that tell this loop of the others find it closed, and print that,
  dozens of times, by way of sys.unraisablehook. All other errors pass.
  """
  before = sys.unraisablehook
  if getattr(before, 'hushes', False):
    return

  def hook(unraisable):
    late = (unraisable.exc_type is RuntimeError
            and str(unraisable.exc_value) == 'Event loop is closed')
    if not late:
      before(unraisable)

  hook.hushes = True
  sys.unraisablehook = hook


class Tolerance:
  """Counts saves that failed in a row."""

  def __init__(self, folder: str, strict: bool,
               abandon: Callable[[int], None]):
    """None has failed yet.

    Args:
      folder: where is saved, for the message.
      strict: the first that fails is an error.
      abandon: frees what the save of a step that failed has filled.
    """
    hush_late_writes()
    self._folder, self._strict, self._abandon = folder, strict, abandon
    self._unsaved, self._failures = None, 0

  @contextlib.contextmanager
  def of(self, step: int) -> Iterator[None]:
    """Around all that saves a step.

    Raises:
      InputError: it failed, and one does not go on.
    """
    try:
      with writing(self._folder):
        yield
    except Exception as e:
      # What a device says is no matter of the disk.
      if self._strict or isinstance(e, jax.errors.JaxRuntimeError):
        raise
      self._unsaved = step
      self._failures += 1
      self._abandon(step)
      said = (str(e) if isinstance(e, InputError)
              else f'cannot write {self._folder}: {first_line(e)}')
      print(f'step {step} is not saved: {said}. Older checkpoints stay as they '
            'are; the next save tries again.', file=sys.stderr, flush=True)
      if self._failures >= MOST_FAILURES:
        raise InputError(
            f'{said}: {self._failures} checkpoints in a row could not be '
            'written. The same command goes on from the newest one that '
            'was.') from e

  def reset(self):
    """One was saved."""
    self._unsaved, self._failures = None, 0

  def conclude(self):
    """At the end of a run.

    Raises:
      InputError: its last state is not saved.
    """
    if self._unsaved is not None:
      raise InputError(
          f'{self._folder}: step {self._unsaved}, with which the run ends, '
          'could not be saved. Free some space or mend the storage: the same '
          'command goes on from the newest checkpoint that was.')
