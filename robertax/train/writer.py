"""What a run says: metrics.jsonl and TensorBoard events."""

import json
import math
from typing import Any

from robertax import files
from robertax.errors import InputError
from robertax.train.events import Events
from robertax.train.line_file import LineFile


class MetricsFile:
  """W/metrics.jsonl: one JSON object a line, one line a logged step.

  Values of one step are collected by `add` and written as one line by `flush`,
  so that a step stands once, with its evaluation beside its loss.
  """

  def __init__(self, workdir: str, restored_step: int | None,
               strict: bool = False):
    """Opens the file, cut back to the restored step.

    Args:
      workdir: W.
      restored_step: lines behind it are of steps that will be taken again;
        None: the run begins anew.
      strict: a line that cannot be written is an error at once; else it waits
        (LineFile).

    Raises:
      InputError: a line in the middle of the file is damaged, or the file
        cannot be written.
    """
    self.path = f'{workdir}/metrics.jsonl'
    kept = ''
    if restored_step is not None and files.exists(self.path):
      kept = ''.join(line for line, metrics in read_lines(self.path)
                     if metrics['step'] <= restored_step)
    self._file = LineFile(self.path, kept, strict)
    self._pending: dict[str, Any] = {}

  def add(self, step: int, values: dict[str, float | None]):
    """Collects values of a step; NaN and infinities become null (JSON)."""
    if self._pending.setdefault('step', step) != step:
      raise RuntimeError(f"step {self._pending['step']} was not flushed")
    self._pending.update({
        k: None if isinstance(v, float) and not math.isfinite(v) else v
        for k, v in values.items()})

  def flush(self):
    """Writes the collected step as one line."""
    if self._pending:
      line, self._pending = json.dumps(self._pending) + '\n', {}
      self._file.add(line)

  def close(self):
    """Flushes and closes.

    Raises:
      InputError: not all could be written.
    """
    try:
      self.flush()
    finally:
      self._file.close()


def read_lines(path: str) -> list[tuple[str, dict[str, Any]]]:
  """Lines of a metrics.jsonl with what they say.

  The last line may be half a line, from a kill: it is left out.

  Raises:
    InputError: another line is not one, or this is no file of lines.
  """
  try:
    with files.open(path) as f:
      lines = f.readlines()
  except (OSError, UnicodeDecodeError) as e:
    raise InputError(f'{path}: not a file of metrics lines ({e}). Move it away '
                     'to begin another.') from e
  read = []
  for number, line in enumerate(lines, 1):
    try:
      metrics = json.loads(line)
      if not line.endswith('\n') or not isinstance(metrics['step'], int):
        raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
      if number == len(lines):
        break
      raise InputError(
          f'{path}, line {number}: not a metrics line: {line[:60]!r}. Delete '
          'that line, or move the file away to begin another.') from None
    read.append((line, metrics))
  return read


class Writer:
  """Sends a step's values to metrics.jsonl and TensorBoard."""

  def __init__(self, workdir: str, restored_step: int | None,
               write: bool = True, strict: bool = False):
    """Opens both; see MetricsFile.

    Args:
      workdir: W.
      restored_step, strict: as for MetricsFile.
      write: whether this process is the one that does; else nothing happens.
    """
    self._lines = self._events = None
    if write:
      self._lines = MetricsFile(workdir, restored_step, strict)
      self._events = Events(workdir, restored_step)

  def add(self, step: int, values: dict[str, float | None]):
    """Collects values of a step."""
    if self._lines:
      self._lines.add(step, values)
      self._events.add(step, values)

  def flush(self):
    """Makes what was added safe from a kill."""
    if self._lines:
      self._lines.flush()
      self._events.flush()

  def close(self):
    """Flushes and closes both.

    Raises:
      InputError: not all of metrics.jsonl could be written.
    """
    if self._lines:
      self._events.close()
      self._lines.close()
