"""The progress bars of a preparation."""

import sys

import tqdm

SECONDS = 10  # From one line in a log to the next.


class _Lines:
  """For a log, where nothing can be drawn anew: a line for each state."""

  def write(self, text: str):
    if text.strip():
      sys.stderr.write(f'{text.strip()}\n')

  def flush(self):
    sys.stderr.flush()


def bar(total: int, unit: str, what: str, shown: bool, done: int = 0
        ) -> tqdm.tqdm:
  """Rate and time left on stderr: a bar; in a log, a line now and then.

  Args:
    total: how many units there are.
    unit: what they are called.
    what: is being done.
    shown: if not, nothing is.
    done: by an earlier process: they count, but not for the rate.
  """
  terminal = sys.stderr.isatty()
  return tqdm.tqdm(
      total=total, initial=done, unit=unit, unit_scale=True, desc=what,
      file=sys.stderr if terminal else _Lines(), disable=not shown,
      mininterval=.2 if terminal else SECONDS,
      delay=0 if terminal else SECONDS)
