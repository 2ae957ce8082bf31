"""What a run says: metrics.jsonl and TensorBoard events."""

import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from typing import Any

from robertax import files
from robertax.errors import InputError, writing
from robertax.train.facts import first_line

# A file of lines that is added to for days, on a disk that may fail.
#
# What cannot be written waits in memory, is said once, and is written when the
# disk takes it again: no line is torn, doubled or lost while the process lives.


class LineFile:
  """Lines at the end of a file.

  Attributes:
    path: the file.
    waiting: lines that are not in it yet.
  """

  def __init__(self, path: str, kept: str = '', strict: bool = False):
    """Puts a file of the lines `kept` in place of what is there.

    Args:
      path: local, or a URL: there the file is written as a whole each time,
        for storage of objects has no end to add to.
      kept: lines, each with its newline.
      strict: what cannot be written is an error at once.

    Raises:
      InputError: it cannot be written.
    """
    self.path, self.waiting, self._strict = path, [], strict
    self._failed = False
    self._file = None
    self._text = kept if files.is_remote(path) else ''
    self._size = len(kept.encode())
    with writing(path):
      if files.is_remote(path):
        self._put()
        return
      # A new file put in place of the old one: a kill between leaves either.
      with open(path + '.partial', 'wb') as f:
        f.write(kept.encode())
        f.flush()
        os.fsync(f.fileno())
      os.replace(path + '.partial', path)

  def add(self, line: str):
    """Writes a line, with its newline, or keeps it until that can be done.

    Raises:
      InputError: strict, and it cannot be written.
    """
    self.waiting.append(line)
    self.flush()

  def flush(self):
    """Tries to write what waits.

    Raises:
      InputError: as `add`.
    """
    if not self.waiting:
      return
    try:
      with writing(self.path):
        self._write()
    except (InputError, OSError) as e:
      self._drop()
      if self._strict:
        self.waiting = []  # Said now; not once more when it is closed.
        raise
      if not self._failed:
        self._failed = True
        print(f'{e if isinstance(e, InputError) else f"{self.path}: {e}"}. '
              'Its lines wait in memory; the run goes on.', file=sys.stderr,
              flush=True)
      return
    if self._failed:
      print(f'{self.path}: can be written again; {len(self.waiting)} lines '
            'that waited are there now.', file=sys.stderr, flush=True)
    self.waiting, self._failed = [], False

  def close(self, must: bool = True):
    """Tries to write what waits, and closes the file.

    Args:
      must: lines that cannot be written are an error.

    Raises:
      InputError: they could not.
    """
    self.flush()
    self._drop()
    if self.waiting and must:
      lost, self.waiting = len(self.waiting), []
      raise InputError(
          f'{self.path}: the last {lost} lines could not be written, and are '
          'lost. Free some space or mend the storage, and run the same command '
          'again: it goes on from the newest checkpoint.')

  def _write(self):
    if files.is_remote(self.path):
      self._put(''.join(self.waiting))
      return
    if self._file is None or not os.path.exists(self.path):
      self._drop()
      # Not 'a', which would make another file where this one has vanished.
      self._file = open(self.path, 'r+b', buffering=0)
      # Half a line may be there, of the time before the disk was full.
      self._file.truncate(self._size)
      self._file.seek(self._size)
    data = ''.join(self.waiting).encode()
    done = 0
    while done < len(data):
      done += self._file.write(data[done:])
    self._size += len(data)

  def _put(self, more: str = ''):
    with files.open(self.path, 'w') as f:
      f.write(self._text + more)
    self._text += more

  def _drop(self):
    file, self._file = self._file, None
    if file is not None:
      try:
        file.close()
      except OSError:
        pass  # Nothing is buffered: it has been said at the write.


# TensorBoard's event files.
#
# What they hold is in metrics.jsonl too. So where they cannot be written, that
# is said once and the run goes on without.


EVENTS_COPY_SECONDS = 60.0  # From one copy of a file to a storage to the next.


class TensorBoardEvents:
  """Scalars of steps, written by the thread that calls.

  Not by tensorboardX's SummaryWriter: a full disk ends its thread in silence,
  and the run then waits for ever for a place in its queue.
  """

  def __init__(self, workdir: str, restored_step: int | None):
    """Opens a file of this start.

    Args:
      workdir: W.
      restored_step: TensorBoard forgets what is behind it.
    """
    self._file = None
    # An object of a storage cannot be added to: there, a file of this machine
    # is copied as a whole, now and then. It has no name any more once it is
    # open, so that a run that is killed leaves nothing here.
    self._target, self._whole = '', None
    self._copied = 0.0
    try:
      from tensorboardX import event_file_writer, summary
      from tensorboardX.proto import event_pb2
    except ImportError:
      print('tensorboardX is not installed: no TensorBoard events are written '
            '(pip install tensorboardX).', file=sys.stderr)
      return
    self._summary, self._event_pb2 = summary, event_pb2
    with self._said(workdir):
      with (tempfile.TemporaryDirectory(prefix='robertax-events-')
            if files.is_remote(workdir) else contextlib.nullcontext(workdir)
            ) as folder:
        self._file = event_file_writer.EventsWriter(f'{folder}/events')
        if folder != workdir:
          name, = os.listdir(folder)
          self._target = files.join(workdir, name)
          self._whole = open(f'{folder}/{name}', 'rb')
      self._put((restored_step or 0) + 1, session_log=event_pb2.SessionLog(
          status=event_pb2.SessionLog.START))

  def add(self, step: int, values: dict[str, float | None]):
    """Adds the finite ones: TensorBoard draws no others, and warns of each."""
    for name, value in values.items():
      if value is not None and math.isfinite(value):
        with self._said('TensorBoard events'):
          self._put(step, summary=self._summary.scalar(name, value)
                    if self._file else None)

  def flush(self):
    """Makes what was added safe from a kill."""
    with self._said('TensorBoard events'):
      if self._file:
        self._file.flush()
        if time.monotonic() - self._copied > EVENTS_COPY_SECONDS:
          self._copy()

  def close(self):
    """Flushes and closes."""
    with self._said('TensorBoard events'):
      if self._file:
        self._file.close()
        self._copy()
    self._file = None
    if self._whole:
      self._whole.close()

  def _copy(self):
    if self._target:
      self._whole.seek(0)
      with files.open(self._target, 'wb') as out:
        shutil.copyfileobj(self._whole, out, files.CHUNK)
      self._copied = time.monotonic()

  def _put(self, step: int, **what: Any):
    if self._file:
      self._file.write_event(self._event_pb2.Event(
          step=step, wall_time=time.time(), **what))

  @contextlib.contextmanager
  def _said(self, what: str):
    try:
      yield
    except OSError as e:
      file, self._file = self._file, None
      with contextlib.suppress(OSError):
        if file:
          file.close()
      print(f'{what}: {first_line(e)}: no more TensorBoard events of this '
            'start are written; metrics.jsonl has what they would hold.',
            file=sys.stderr, flush=True)


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
      kept = ''.join(line for line, metrics in read_metrics(self.path)
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


def read_metrics(path: str) -> list[tuple[str, dict[str, Any]]]:
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
      self._events = TensorBoardEvents(workdir, restored_step)

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
