"""What a run writes down: metrics.jsonl and TensorBoard's events.

Both go to disks and storage that may fail for a while in a run of days.
"""

from collections.abc import Callable
import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from typing import Any

from robertax import errors, files
from robertax.errors import InputError, first_line, reading, writing
from robertax.progress import say

# Objects in remote storage cannot grow: a file of lines is written as a whole,
# so many seconds apart, before each checkpoint and at the end.
REMOTE_SECONDS = 60.0


def nothing():
  """Checks nothing: for a workdir that nobody else can take."""


class LineFile:
  """A file that grows line by line, on a disk that may fail.

  Lines that cannot be written wait in memory, which is reported once, and are
  written when the disk takes them again: no line is torn, doubled or lost while
  the process lives. On remote storage lines wait for `flush`, or until one
  follows after REMOTE_SECONDS.
  """

  def __init__(self, path: str, kept: str = '', strict: bool = False,
               check: Callable[[], None] = nothing):
    """Replaces the file by the lines `kept`; if `strict`, failures are errors.

    `check` is called before each write, which its TakenOver forbids.
    """
    self.path, self.waiting, self._strict = path, [], strict
    self._check, self._failed, self._file = check, False, None
    self._text = kept if files.is_remote(path) else ''
    self._size = len(kept.encode())
    check()
    with writing(path):
      files.write_text(path, kept)
    self._tried = time.monotonic()

  def add(self, line: str):
    """Writes a line, with its newline, or lets it wait."""
    self.waiting.append(line)
    if not files.is_remote(self.path) or (
        time.monotonic() - self._tried >= REMOTE_SECONDS):
      self.flush()

  def flush(self):
    """Tries to write the lines that wait."""
    if not self.waiting:
      return
    self._tried = time.monotonic()
    try:
      self._check()
      with writing(self.path):
        self._write()
    except (InputError, OSError) as e:
      self._drop()
      if self._strict or isinstance(e, errors.TakenOver):
        self.waiting = []  # Else `close` would report it again.
        raise
      if not self._failed:
        self._failed = True
        say(f'{e if isinstance(e, InputError) else f"{self.path}: {e}"}. '
            'Its lines wait in memory; the run goes on.')
      return
    if self._failed:
      say(f'{self.path}: can be written again; {len(self.waiting)} lines '
          'that waited are there now.')
    self.waiting, self._failed = [], False

  def close(self, must: bool = True):
    """Closes the file; lines that still wait are an error if they `must`."""
    self.flush()
    self._drop()
    if self.waiting and must:
      lost, self.waiting = len(self.waiting), []
      raise InputError(
          f'{self.path}: the last {lost} lines could not be written, and are '
          'lost. Free some space or mend the storage, and run the same command '
          'again: it goes on from the newest checkpoint.')

  def _write(self):
    text = ''.join(self.waiting)
    if files.is_remote(self.path):
      files.write_text(self.path, self._text + text)
      self._text += text
      return
    if self._file is None or not os.path.exists(self.path):
      self._drop()
      # Not 'a', which would make a new file if this one has vanished.
      self._file = open(self.path, 'r+b', buffering=0)
      self._file.truncate(self._size)  # A full disk may leave half a line.
      self._file.seek(self._size)
    data, done = text.encode(), 0
    while done < len(data):
      done += self._file.write(data[done:])
    self._size += len(data)

  def _drop(self):
    file, self._file = self._file, None
    if file is not None:
      with contextlib.suppress(OSError):  # The write has reported it.
        file.close()


class TensorBoardEvents:
  """Scalars of steps; if they cannot be written, the run goes on without them.

  They are not written by tensorboardX's SummaryWriter: a full disk silently
  ends its thread, and the run waits for ever for a place in its queue.
  """

  def __init__(self, workdir: str, restored_step: int | None,
               check: Callable[[], None] = nothing):
    """Opens a file; TensorBoard drops steps after the restored one."""
    # A local file is copied to remote storage now and then. Once open it has no
    # name any more, so that a killed run leaves nothing.
    self._file, self._target, self._whole = None, '', None
    self._copied, self._check = 0.0, check
    # tensorboardX imports it wherever it is, for nothing here and for seconds.
    hidden = 'torch' not in sys.modules
    try:
      sys.modules.setdefault('torch', None)
      from tensorboardX import event_file_writer, summary
      from tensorboardX.proto import event_pb2
    except ImportError:
      say('tensorboardX is not installed: no TensorBoard events are written '
          '(pip install tensorboardX).')
      return
    finally:
      if hidden:
        del sys.modules['torch']
    self._summary, self._event_pb2 = summary, event_pb2
    with self._disabling_on_error(workdir):
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
    """Adds the finite values, because TensorBoard warns of all others."""
    for name, value in values.items():
      if value is not None and math.isfinite(value):
        with self._disabling_on_error('TensorBoard events'):
          self._put(step, summary=self._summary.scalar(name, value)
                    if self._file else None)

  def flush(self):
    """Makes what was added safe from a kill."""
    with self._disabling_on_error('TensorBoard events'):
      if self._file:
        self._file.flush()
        if time.monotonic() - self._copied > REMOTE_SECONDS:
          self._copy()

  def close(self):
    with self._disabling_on_error('TensorBoard events'):
      file, self._file = self._file, None
      if file:
        file.close()
        self._copy()
    if self._whole:
      self._whole.close()

  def _copy(self):
    if self._target:
      self._check()
      self._whole.seek(0)
      with files.open(self._target, 'wb') as out:
        shutil.copyfileobj(self._whole, out, files.CHUNK)
      self._copied = time.monotonic()

  def _put(self, step: int, **what: Any):
    if self._file:
      self._file.write_event(self._event_pb2.Event(
          step=step, wall_time=time.time(), **what))

  @contextlib.contextmanager
  def _disabling_on_error(self, what: str):
    try:
      yield
    except (OSError, InputError) as e:
      file, self._file = self._file, None
      with contextlib.suppress(OSError):
        if file:
          file.close()
      why = first_line(e.__cause__ or e)
      say(f'{what}: {why}: no more TensorBoard events of this start are '
          'written; metrics.jsonl has what they would hold.')


class MetricsFile:
  """W/metrics.jsonl: one line, a JSON object, for each logged step.

  `add` collects values of one step, and `flush` writes them as one line. The
  file is first cut back to the restored step; None: the run begins anew.
  """

  def __init__(self, workdir: str, restored_step: int | None,
               strict: bool = False, check: Callable[[], None] = nothing):
    self.path = f'{workdir}/metrics.jsonl'
    kept = ''
    if restored_step is not None and files.exists(self.path):
      kept = ''.join(line for line, metrics in read_metrics(self.path)
                     if metrics['step'] <= restored_step)
    self._file = LineFile(self.path, kept, strict, check)
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

  def save(self):
    """Writes the lines that wait, as they do on remote storage."""
    self._file.flush()

  def close(self):
    """Flushes and closes; raises InputError if not all could be written."""
    try:
      self.flush()
    finally:
      self._file.close()


def read_metrics(path: str) -> list[tuple[str, dict[str, Any]]]:
  """Reads the lines of a metrics.jsonl, each with its values.

  A kill's half a line at the end is dropped; other damage is an InputError.
  """
  with reading(path, 'not a file of metrics lines',
               '. Move it away to begin another.'), files.open(path) as f:
    lines = f.readlines()
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
          f'{path}, line {number}: not a metrics line: {line[:60]!r}. Mend '
          'that line, or move the file away to begin another.') from None
    read.append((line, metrics))
  return read


class Writer:
  """Sends a step's values to metrics.jsonl and TensorBoard."""

  def __init__(self, workdir: str, restored_step: int | None,
               write: bool = True, strict: bool = False,
               check: Callable[[], None] = nothing):
    """Opens both, if this process is the one that is to `write`."""
    self._lines = self._events = None
    if write:
      self._lines = MetricsFile(workdir, restored_step, strict, check)
      self._events = TensorBoardEvents(workdir, restored_step, check)
    self._outputs = [self._lines, self._events] if write else []

  def add(self, step: int, values: dict[str, float | None]):
    """Collects values of a step."""
    for output in self._outputs:
      output.add(step, values)

  def flush(self):
    """Ends a step: what was added is safe from a kill, or waits for `save`."""
    for output in self._outputs:
      output.flush()

  def save(self):
    """Makes all lines safe from a kill, before the checkpoint of their step."""
    if self._lines:
      self._lines.save()

  def close(self):
    """Flushes and closes; raises InputError if not all could be written."""
    for output in reversed(self._outputs):
      output.close()
