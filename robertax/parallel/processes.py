"""The processes of one run: how they find each other, agree, and end.

A run over several machines is the same command on each of them. JAX connects
the devices. This file finds the other processes (`start`), lets one process do
what must be done once (`first`, `gather`, `together`, `in_turn`), and ends all
of them when one ends (`as_one`, `Peers`).
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dis
import io
import json
import logging
import os
import re
import socket
import sys
import threading
import time
import traceback
from typing import Any, NoReturn, TypeVar
import uuid

import jax

from robertax import errors, progress
from robertax.errors import InputError, first_line, writing
from robertax.parallel.mesh import NO_DEVICES, no_devices

T = TypeVar('T')
HEARTBEAT_SECONDS = 60  # A process silent for longer is taken to be dead.
# JAX ends a process three quarters of its limit after the last heartbeat.
_JAX_LIMIT = 1.25
SHUTDOWN_SECONDS = 900  # One may still write its report.
_PATIENCE = 5_000  # Milliseconds between two signs of a process that waits.


def _tpu_cluster(env: Mapping[str, str]) -> bool:
  """Whether this is a TPU VM, whose metadata or variables name the others."""
  return (env.get('JAX_PLATFORMS', 'tpu') in ('', 'tpu', 'tpu,cpu')
          and not env.get('TPU_SKIP_MDS_QUERY')
          and any(os.path.exists(device) for device in (
              '/dev/accel0', '/dev/vfio/0', '/dev/vfio/devices')))


# Clusters in which JAX finds the others -> whether this process is in one.
CLUSTERS: dict[str, Callable[[Mapping[str, str]], bool]] = {
    'GKE TPU': lambda env: ',' in env.get('TPU_WORKER_HOSTNAMES', ''),
    'TPU slices': lambda env: bool(env.get('MEGASCALE_COORDINATOR_ADDRESS')),
    'SLURM': lambda env: ('SLURM_STEP_NODELIST' in env
                          and int(env.get('SLURM_NTASKS', 1)) > 1),
    'Open MPI': lambda env: int(env.get('OMPI_COMM_WORLD_SIZE', 1)) > 1,
    'TPU pod': _tpu_cluster}


def start(coordinator: str = '', num_processes: int = 0, process_id: int = -1,
          env: Mapping[str, str] = os.environ,
          heartbeat_seconds: float = HEARTBEAT_SECONDS) -> str:
  """Joins the processes of a run, before JAX's devices are first used.

  They are named by the arguments, else by JAX_COORDINATOR_ADDRESS,
  JAX_NUM_PROCESSES and JAX_PROCESS_ID (or JOB_COMPLETION_INDEX, which
  Kubernetes gives to the pods of an indexed Job), else by one of CLUSTERS.

  Args:
    coordinator: HOST:PORT of process 0, which listens there.
    num_processes, process_id: of the run; this process's number, from 0.
    env: the environment variables.
    heartbeat_seconds: after which JAX notices that a process is gone. While a
      run trains, `Peers` notices it earlier and says more.

  Returns:
    'flags', 'environment' or a key of CLUSTERS, by what named the others; '' if
    this process is alone. InputError if process 0 does not answer.
  """
  place, where = (coordinator, num_processes, process_id), 'flags'
  if place == ('', 0, -1):
    where = 'environment'
    place = (env.get('JAX_COORDINATOR_ADDRESS', ''),
             _env_number(env, 'JAX_NUM_PROCESSES', 0),
             _env_number(env, 'JAX_PROCESS_ID',
                         _env_number(env, 'JOB_COMPLETION_INDEX', -1)))
    if not place[0] or not place[1]:
      where = next((name for name, here in CLUSTERS.items() if here(env)), '')
      if not where:
        return ''
      place = None
  if place and place[1:] == (1, 0):
    return ''
  if place:
    _check_flags(*place)
  return where if _join_run(place, where, heartbeat_seconds) else ''


def _env_number(env: Mapping[str, str], name: str, otherwise: int) -> int:
  try:
    return int(env.get(name) or otherwise)
  except ValueError as e:
    raise InputError(f'{name}={env[name]!r}: it must be a number.') from e


def _check_flags(coordinator: str, num_processes: int, process_id: int) -> None:
  if not re.fullmatch(r'(\[[0-9a-fA-F:.]+\]|[\w.\-]+):\d{1,5}', coordinator):
    raise InputError(
        f'--coordinator={coordinator!r}: HOST:PORT of process 0, such as '
        '10.0.0.2:8476.')
  if not 0 <= process_id < num_processes:
    raise InputError(
        f'--process_id={process_id} with --num_processes={num_processes}: each '
        'process has a number of its own, from 0 up to, not including, '
        '--num_processes.')


def _join_run(place: tuple[str, int, int] | None, where: str,
              heartbeat_seconds: float) -> bool:
  # JAX's handler of SIGTERM would replace the loop's.
  jax.config.update('jax_enable_preemption_service', False)
  options: dict[str, Any] = dict(
      heartbeat_timeout_seconds=round(_JAX_LIMIT * heartbeat_seconds),
      shutdown_timeout_seconds=SHUTDOWN_SECONDS)
  if place:
    options |= dict(zip(
        ('coordinator_address', 'num_processes', 'process_id'), place))
    options['cluster_detection_method'] = 'deactivate'
    if place[0].startswith(('localhost:', '127.0.0.1:')):
      # Otherwise it would listen on every network interface.
      options['coordinator_bind_address'] = place[0]
  try:
    jax.distributed.initialize(**options)
  except (RuntimeError, ValueError) as e:
    # The error has no type of its own, and JAX's other ValueErrors come from a
    # pod that is set up wrongly, whose hosts must not train alone.
    if where == 'TPU pod' and 'should be defined' in str(e):
      return False  # A lone TPU VM without Google's metadata, as of a notebook.
    at = f'process 0 at {place[0]}' if place else 'the others'
    raise InputError(
        f'{where}: {at} cannot be reached ({first_line(e)}). Every process '
        'must be started within five minutes, with the same address of process '
        '0, whose port must be free and open to all of them.') from e
  try:
    number = jax.process_index()
  except NO_DEVICES as e:
    # The others wait for this one's devices, so an orderly end would wait too.
    progress.call_out(f'robertax: error: {no_devices(e)}', last=True)
    os._exit(errors.WRONG_INPUT)
  if number:
    # Libraries in C++ print to descriptor 1; 2 remains for crashes.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _number_lines()
  elif isinstance(sys.stdout, io.TextIOWrapper):
    # If JAX aborts this process, output that is buffered for a pipe or a file
    # is lost.
    sys.stdout.reconfigure(line_buffering=True)
  return True


def _number_lines() -> None:
  """Puts this process's number before each line on stderr, also of logging."""
  before = sys.stderr
  progress.leave_talking(f'[process {jax.process_index()}] ')
  for name in ('', *logging.Logger.manager.loggerDict):
    for handler in logging.getLogger(name).handlers:
      handler = getattr(handler, 'python_handler', handler)  # Of absl.
      if getattr(handler, 'stream', None) in (before, sys.__stderr__):
        handler.setStream(sys.stderr)


# What the processes agree on.

_turn = 0


def _client() -> Any:
  # Not public, but jax.distributed is made of it; orbax relies on it too.
  from jax._src import distributed
  return distributed.global_state.client


def first() -> bool:
  """Whether this is the process that writes and speaks."""
  return jax.process_index() == 0


def gather(value: Any) -> list[Any]:
  """Every process's value in order; all processes must call it equally often.

  Values are of types that JSON can hold. They pass through process 0 and not
  over the devices, so that the wait has no limit.
  """
  global _turn
  if jax.process_count() == 1:
    return [value]
  _turn += 1
  client = _client()
  client.key_value_set(f'robertax/{_turn}/{jax.process_index()}',
                       json.dumps(value))
  return [json.loads(_wait_for(client, f'robertax/{_turn}/{process}'))
          for process in range(jax.process_count())]


def _wait_for(client: Any, key: str) -> str:
  while True:
    try:
      return client.blocking_key_value_get(key, _PATIENCE)
    except jax.errors.JaxRuntimeError as e:
      if e.error_code_string != 'DEADLINE_EXCEEDED':
        raise
      # Process 0 is there, and another one is at work, whose own watchdog
      # looks after it. To wait for it is no stall.
      progress.advance()


def together(function: Callable[[], T],
             kind: type[InputError] = InputError) -> T:
  """function()'s result; the first process's InputError is raised in all."""
  result, error = None, ['', False]
  try:
    result = function()
  except InputError as e:
    error = [str(e), isinstance(e, kind)]
    if jax.process_count() == 1:
      raise
  found = gather(error)
  number = next((i for i, (text, _) in enumerate(found) if text), None)
  if number is None:
    return result
  text, is_kind = found[number]
  who = f'process {number} of {len(found)}: ' if number else ''
  kind = kind if is_kind else InputError
  # Without __init__, which may take more than a message.
  raise agreed(kind.__new__(kind, who + text))


def agreed(error: InputError) -> InputError:
  """Marks an error that all processes raise, after which all end in order."""
  error.agreed = True
  return error


def same(what: str, value: Any) -> None:
  """Raises InputError in all processes if their values of `what` differ."""
  values = gather(value)
  for number, other in enumerate(values):
    if other != values[0]:
      here, there = values[0], other
      if isinstance(here, dict):
        keys = sorted(k for k in here.keys() | there.keys()
                      if here.get(k) != there.get(k))
        here, there = ({k: values.get(k) for k in keys}
                       for values in (here, there))
      raise agreed(InputError(
          f'process {number} of {len(values)} has another {what} than process '
          f'0: {there!r} there, {here!r} here. Start all of them with the '
          'same command on the same files.'))


def in_turn(folder: str, function: Callable[[], T]) -> T:
  """function(), which fills `folder`; process 0 goes first if it is shared.

  Processes that see a file that process 0 puts there wait until it is done, and
  find everything made. The others have their own disks and begin at once; the
  function's own lock keeps those of one machine from doing the work twice.
  Errors are as in `together`.
  """
  if jax.process_count() == 1:
    return function()
  remote = '://' in folder  # A bucket is everyone's.
  path = os.path.join(folder, f'.seen-{gather(uuid.uuid4().hex)[0]}')

  def put() -> None:
    if first() and not remote:
      # In a folder that is not writable there is nothing to wait for.
      with contextlib.suppress(InputError), writing(folder):
        os.makedirs(folder, exist_ok=True)
        open(path, 'w').close()
  together(put)
  shared = remote or os.path.exists(path)
  seen = gather(shared)
  if first() and shared and not remote:
    os.remove(path)
  result = None

  def of(turn: int) -> None:
    nonlocal result
    if turn == (0 if first() or not shared else 1):
      result = function()
  together(lambda: of(0))
  if sum(seen) > 1:
    together(lambda: of(1))
  return result


# How a process ends, and the others with it.

# JAX's runtime errors begin like this if another process does not answer,
_UNANSWERED = re.compile('(UNAVAILABLE|ABORTED|DEADLINE_EXCEEDED|CANCELLED): ')
# or if it left during a collective. This process's own errors (a program, the
# memory) begin with other words.
_COLLECTIVE = re.compile(
    '(UNKNOWN|INTERNAL|FAILED_PRECONDITION|UNAVAILABLE|ABORTED|CANCELLED|'
    'DEADLINE_EXCEEDED): .*(Gloo|NCCL|nccl|coordination service|heartbeat)',
    re.DOTALL)


@contextlib.contextmanager
def as_one() -> Iterator[None]:
  """Surrounds a run: prints an error of this process alone, and ends it.

  The process ends at once, without waiting for the others as an orderly end
  does, because they may be waiting for this one. They end when its heartbeat is
  missed. An error that `together` raised passes, since all processes raise it
  and end in order.
  """
  try:
    yield
  except BaseException as e:
    if jax.process_count() == 1 or getattr(e, 'agreed', False):
      raise
    _leave(e)


def _leave(error: BaseException) -> NoReturn:
  who = f'process {jax.process_index()} of {jax.process_count()}'
  if isinstance(error, SystemExit):
    code = error.code if isinstance(error.code, int) else 1
  elif isinstance(error, InputError):
    code = error.exit_code
    progress.call_out(f'robertax: error: {who}: {error}', last=True)
  elif says_peer_is_gone(error):
    code = errors.PEER_GONE
    if gone := _active.who_is_gone() if _active else '':
      end_without_peers(gone)
    # This is not certain, so it says all that is known.
    progress.call_out(
        f'{who}:\n{traceback.format_exc()}\n{who}: by this error another '
        'process is gone, though none is missed. The same command on all goes '
        'on from the last checkpoint.', last=True)
  else:
    code = 1
    progress.call_out(f'{who}:\n{traceback.format_exc()}', last=True)
  tell_leaving(f'exit code {code}: {type(error).__name__}: {error!s:.200}')
  linger_as_first()
  os._exit(code)


def says_peer_is_gone(error: BaseException) -> bool:
  """Whether JAX's runtime raised the error, or its cause, for a lost peer.

  JAX raises JaxRuntimeError while it waits for a result or for process 0, but
  jaxlib 0.10 raises ValueError while it starts a program.
  """
  while error is not None:
    gone = _COLLECTIVE.match(str(error))
    if isinstance(error, jax.errors.JaxRuntimeError):
      gone = gone or _UNANSWERED.match(str(error))
    elif type(error) is not ValueError or _raised_by_python(error):
      gone = None
    if gone:
      return True
    error = error.__cause__ or (
        None if error.__suppress_context__ else error.__context__)
  return False


def _raised_by_python(error: BaseException) -> bool:
  """Whether it came from a `raise`, not from a call of compiled code."""
  trace = error.__traceback__
  if trace is None:
    return True
  while trace.tb_next is not None:
    trace = trace.tb_next
  code = trace.tb_frame.f_code.co_code[trace.tb_lasti]
  return dis.opname[code] in ('RAISE_VARARGS', 'RERAISE')


def linger_as_first() -> None:
  """Makes process 0 end last, because JAX aborts the others without it."""
  if jax.process_count() > 1 and jax.process_index() == 0:
    time.sleep(3)


def end_without_peers(gone: str) -> NoReturn:
  """Ends this process because others, which `gone` names, are gone."""
  # No exception could reach the main thread if it waits in a collective.
  progress.call_out(
      f'process {jax.process_index()} of {jax.process_count()}: {gone}. This '
      'one ends too; the same command on all of them goes on from the last '
      'checkpoint.', last=True)
  linger_as_first()
  os._exit(errors.PEER_GONE)


# Whether the other processes are alive, and what they are doing.
#
# Each process sends the others, through process 0, heartbeats that say what it
# does. JAX counts heartbeats too, but it aborts with a mere number, and a
# collective that loses a peer names no process at all. So JAX's limit is
# longer, and the heartbeats of this file are missed first.

_SILENT = 0.7  # Share of the timeout; in the rest the others end.
_BEATS = 30  # Per timeout.
_MISSED = 4  # So many, after an error that says so too, mean that it is gone.
_PREFIX = 'robertax/alive'
_active: 'Peers | None' = None


def other_processes() -> str:
  """A line for each other process of the run; '' if there is none."""
  return _active.others() if _active else ''


def tell_leaving(reason: str) -> None:
  """Tells the other processes, if any, that this one ends, and why."""
  if _active:
    _active.leave(reason)


class Pace:
  """Counts the seconds that pass while this process runs.

  After a stop (SIGSTOP, a paused machine) the clock has jumped, which is not
  the other processes' fault. Such a gap counts as at most three intervals.
  """

  def __init__(self, interval: float,
               clock: Callable[[], float] = time.monotonic):
    """`passed` must be called about every `interval` seconds."""
    self._interval, self._clock, self._last = interval, clock, clock()

  def passed(self) -> float:
    """The seconds since the last call."""
    now = self._clock()
    before, self._last = self._last, now
    return min(now - before, 3 * self._interval)


class Silence:
  """Counts how long each other process, once heard, sends no new message."""

  def __init__(self, me: int, limit: float):
    self._me, self._limit = me, limit  # Seconds.
    self._messages: dict[int, str] = {}
    self._ages: dict[int, float] = {}
    self._round = 0.0

  def heard(self, messages: Mapping[int, str]) -> None:
    """Takes each process's last message, which changes while it is alive."""
    self._round = 0.0
    for process, text in messages.items():
      if text != self._messages.get(process):
        self._ages[process] = 0.0
    self._messages = dict(messages)

  def pass_by(self, seconds: float) -> None:
    self._round += seconds
    for process in self._ages:
      self._ages[process] += seconds

  def missing(self, limit: float | None = None) -> dict[int, float]:
    """{process: seconds} of the processes that are silent for too long."""
    limit = self._limit if limit is None else limit
    # If no message comes at all, process 0 is missing, which passes them on.
    if self._round >= limit and self._me and self._ages:
      return {0: self._round}
    return {process: age for process, age in sorted(self._ages.items())
            if age >= limit and process != self._me
            and not self.last(process).get('done')}

  def left(self) -> list[int]:
    """The processes that said that they end because of an error."""
    return [process for process in sorted(self._messages)
            if process != self._me and self.last(process).get('gone')]

  def last(self, process: int) -> dict[str, Any]:
    """A process's last message."""
    return json.loads(self._messages.get(process, '{}'))

  def describe(self, process: int) -> str:
    """A line that says what a process did when it was last heard."""
    message = self.last(process)
    words = f'process {process}'
    if 'host' in message:
      words += ' (host {host}, pid {pid}; {doing})'.format(**message)
    if message.get('gone'):
      return f'{words} has ended: {message["gone"]}'
    return f'{words}, silent for {self._ages.get(process, self._round):.0f} s'


class Peers:
  """Within `with`, ends this process if another one dies or is stopped.

  The exit code is PEER_GONE, after which the same command on all processes
  resumes from the last checkpoint. A process without others does nothing.
  """

  def __init__(self, timeout: float, doing: Callable[[], str] = lambda: ''):
    """Takes the `timeout` in seconds; `doing` says what this process does."""
    self._doing = doing
    self._interval = min(max(timeout / _BEATS, 0.1), 2.0)
    self._silence = Silence(jax.process_index(), _SILENT * timeout)
    self._lock, self._stop = threading.Lock(), threading.Event()
    self._threads = []

  def __enter__(self) -> 'Peers':
    global _active
    if jax.process_count() > 1:
      self._run, self._count = uuid.uuid4().hex, 0
      # One thread talks to process 0, which may never answer; the other one
      # watches the clock.
      self._threads = [
          threading.Thread(target=target, daemon=True, name=f'robertax-{name}')
          for name, target in (('beat', self._beat), ('peers', self._watch))]
      for thread in self._threads:
        thread.start()
      _active = self
    return self

  def __exit__(self, kind, error, trace):
    global _active
    if not self._threads:
      return
    if kind is not None and not getattr(error, 'agreed', False):
      return  # After an error, `who_is_gone` and `leave` will be called.
    self._stop.set()
    self._send(done=True)
    _active = None

  def _send(self, **more: Any) -> None:
    """Tells the others, and ignores that process 0 cannot be reached."""
    client = _client()
    self._count += 1
    try:
      client.key_value_set(f'{_PREFIX}/{jax.process_index()}', json.dumps({
          'host': socket.gethostname(), 'pid': os.getpid(), 'run': self._run,
          'beat': self._count, 'doing': self._doing(), **more}),
                           allow_overwrite=True)
      messages = client.key_value_dir_get(f'{_PREFIX}/')
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError):
      return  # `Silence` counts the time.
    with self._lock:
      self._silence.heard({int(key.rpartition('/')[2]): text
                           for key, text in messages})

  def _beat(self) -> None:
    while not self._stop.wait(self._interval):
      self._send()

  def _watch(self) -> None:
    pace = Pace(self._interval)
    while not self._stop.wait(self._interval):
      with self._lock:
        self._silence.pass_by(pace.passed())
        gone = self._describe()
      if gone and not self._stop.is_set():
        end_without_peers(gone)

  def _describe(self, limit: float | None = None) -> str:
    gone = [*self._silence.left(), *self._silence.missing(limit)]
    return '; '.join(self._silence.describe(process)
                     for process in dict.fromkeys(gone))

  def who_is_gone(self) -> str:
    """Waits some beats, and describes processes that missed them, or ''."""
    seconds = _MISSED * self._interval
    for _ in range(3 * _MISSED):
      time.sleep(self._interval / 2)
      with self._lock:
        if gone := self._describe(0.7 * seconds):
          return gone
    return ''

  def others(self) -> str:
    with self._lock:
      return '\n'.join(
          self._silence.describe(process) for process in sorted(
              self._silence._ages) if process != jax.process_index())

  def leave(self, reason: str) -> None:
    self._stop.set()
    teller = threading.Thread(target=self._send, kwargs={'gone': reason},
                              daemon=True)
    teller.start()
    teller.join(5)  # Process 0 may be the one that is gone.
