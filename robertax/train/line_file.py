"""A file of lines that is added to for days, on a disk that may fail.

What cannot be written waits in memory, is said once, and is written when the
disk takes it again: no line is torn, doubled or lost while the process lives.
"""

import os
import sys

from robertax import files
from robertax.errors import InputError, writing


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
