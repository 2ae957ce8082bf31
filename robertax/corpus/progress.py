"""The progress bars of a preparation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from tqdm import tqdm

SECONDS = 10  # From one line in a log to the next.


class _Lines:
  """For a log, where nothing can be drawn anew: a line for each state."""

  def write(self, text: str):
    if text.strip():
      sys.stderr.write(f'{text.strip()}\n')

  def flush(self):
    sys.stderr.flush()


def bar(total: int, unit: str, what: str, shown: bool) -> tqdm:
  """Rate and time left on stderr: a bar; in a log, a line now and then."""
  from tqdm import tqdm
  terminal = sys.stderr.isatty()
  return tqdm(total=total, unit=unit, unit_scale=True, desc=what,
              file=sys.stderr if terminal else _Lines(), disable=not shown,
              mininterval=.2 if terminal else SECONDS,
              delay=0 if terminal else SECONDS)
