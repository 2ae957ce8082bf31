"""TensorBoard's event files.

What they hold is in metrics.jsonl too. So where they cannot be written, that is
said once and the run goes on without.
"""

import contextlib
import math
import os
import shutil
import sys
import tempfile
import time
from typing import Any

from robertax import files
from robertax.train.facts import first_line

COPY_SECONDS = 60.0  # From one copy of a file to a storage to the next.


class Events:
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
        if time.monotonic() - self._copied > COPY_SECONDS:
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
