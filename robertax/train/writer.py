"""What a run says: metrics.jsonl and TensorBoard events."""

import json
import math
import os
import sys
from typing import Any

from robertax.errors import InputError, writing


class MetricsFile:
  """W/metrics.jsonl: one JSON object a line, one line a logged step.

  Values of one step are collected by `add` and written as one line by `flush`,
  so that a step stands once, with its evaluation beside its loss.
  """

  def __init__(self, workdir: str, restored_step: int | None):
    """Opens the file, cut back to the restored step.

    Args:
      workdir: W.
      restored_step: lines behind it are of steps that will be taken again;
        None: the run begins anew.

    Raises:
      InputError: a line in the middle of the file is damaged, or the file
        cannot be written.
    """
    self.path = f'{workdir}/metrics.jsonl'
    kept = ''
    if restored_step is not None and os.path.exists(self.path):
      kept = ''.join(line for line, metrics in read_lines(self.path)
                     if metrics['step'] <= restored_step)
    with writing(self.path):
      # A new file put in place of the old one: a kill between leaves either.
      with open(self.path + '.partial', 'w') as f:
        f.write(kept)
        f.flush()
        os.fsync(f.fileno())
      os.replace(self.path + '.partial', self.path)
      self._file = open(self.path, 'a')
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
      with writing(self.path):
        self._file.write(json.dumps(self._pending) + '\n')
        self._file.flush()
      self._pending = {}

  def close(self):
    """Flushes and closes."""
    self.flush()
    self._file.close()


def read_lines(path: str) -> list[tuple[str, dict[str, Any]]]:
  """Lines of a metrics.jsonl with what they say.

  The last line may be half a line, from a kill: it is left out.

  Raises:
    InputError: another line is not one, or this is no file of lines.
  """
  try:
    with open(path, encoding='utf-8') as f:
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
               write: bool = True):
    """Opens both; see MetricsFile.

    Args:
      workdir: W.
      restored_step: as for MetricsFile.
      write: whether this process is the one that does; else nothing happens.
    """
    self._lines = self._events = None
    if not write:
      return
    self._lines = MetricsFile(workdir, restored_step)
    try:
      import tensorboardX
    except ImportError:
      print('tensorboardX is not installed: no TensorBoard events are written '
            '(pip install tensorboardX).', file=sys.stderr)
    else:
      with writing(workdir):
        self._events = tensorboardX.SummaryWriter(
            workdir, purge_step=(restored_step or 0) + 1)

  def add(self, step: int, values: dict[str, float | None]):
    """Collects values of a step."""
    if self._lines:
      self._lines.add(step, values)
    if self._events:
      for name, value in values.items():
        # TensorBoard draws none of the others, and warns of each.
        if value is not None and math.isfinite(value):
          self._events.add_scalar(name, value, step)

  def flush(self):
    """Makes what was added safe from a kill."""
    if self._lines:
      self._lines.flush()
    if self._events:
      self._events.flush()

  def close(self):
    """Flushes and closes both."""
    if self._lines:
      self._lines.close()
    if self._events:
      self._events.close()
