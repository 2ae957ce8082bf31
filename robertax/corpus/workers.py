"""Worker processes: blocks in, rows out, in order, few at a time.

Not `multiprocessing`: its workers import the program's main module again, and
with it JAX, and need a guard in every script and notebook that prepares data.
And they outlive a parent that is killed, while these end when their pipe does.
A worker is this module, a pickle a message, over its standard streams.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
import os
import pickle
import signal
import subprocess
import sys
from typing import Any

from robertax.errors import InputError


def available_cores() -> int:
  """Cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


class _Process:
  """One worker."""

  def __init__(self, function: Callable):
    # sys.path goes along, so the worker finds what its parent found.
    code = (f'import sys; sys.path[:] = {sys.path!r}; '
            'from robertax.corpus.workers import serve; serve()')
    # A core each: the tokenizers library would start its own threads.
    environment = {**os.environ, 'TOKENIZERS_PARALLELISM': 'false',
                   'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
    self._process = subprocess.Popen(
        [sys.executable, '-c', code], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, env=environment)
    self._send(function)

  def _send(self, message) -> None:
    try:
      pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
      self._process.stdin.flush()
    except BrokenPipeError:
      pass  # It ended: the answer will say so.

  def __call__(self, item):
    self._send(item)
    try:
      result, error = pickle.load(self._process.stdout)
    except (EOFError, pickle.UnpicklingError) as e:
      code = self._process.wait()
      raise InputError(
          f'a preparing process ended (exit code {code})'
          + (': killed, most likely for want of memory. Fewer would take '
             'less: data.workers=1.' if code == -signal.SIGKILL else '.')
      ) from e
    if error is not None:
      raise error
    return result

  def end(self) -> None:
    self._process.kill()
    self._process.wait()
    self._process.stdout.close()
    try:
      self._process.stdin.close()
    except BrokenPipeError:
      pass


def map_in_order(make: Callable[[Any], Callable], argument: Any,
                 items: Iterable, workers: int) -> Iterator:
  """Yields function(item) for each item, in order; function = make(argument).

  With one worker all is done here; otherwise each process makes its own
  function. At most workers + 1 items are taken and not yet given back.

  Args:
    make: a class or function that can be pickled.
    argument: what it is called with.
    items: taken lazily, in this thread.
    workers: number of processes.

  Raises:
    InputError: a worker died. What the function raises is raised here.
  """
  if workers <= 1:
    yield from map(make(argument), items)
    return
  processes = []
  threads = ThreadPoolExecutor(workers)
  try:
    for _ in range(workers):
      processes.append(_Process((make, argument)))
    idle = deque(processes)

    def work(item):
      process = idle.popleft()  # As many threads as processes: never empty.
      try:
        return process(item)
      finally:
        idle.append(process)

    waiting = deque()
    for item in items:
      waiting.append(threads.submit(work, item))
      del item
      if len(waiting) > workers:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    for process in processes:
      process.end()
    threads.shutdown(cancel_futures=True)


def serve() -> None:
  """A worker's life: reads the function, then items until the pipe ends."""
  # Ctrl-C reaches the whole group; the parent decides what it means.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  messages = os.fdopen(os.dup(0), 'rb')
  answers = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)  # A stray print must not end up among the answers.
  try:
    make, argument = pickle.load(messages)
    function = make(argument)
    while True:
      item = pickle.load(messages)
      try:
        answer = function(item), None
      except Exception as e:
        answer = None, e
      del item
      pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
      answers.flush()
      del answer
  except (EOFError, BrokenPipeError, pickle.UnpicklingError):
    os._exit(0)  # The parent is done, or gone.
