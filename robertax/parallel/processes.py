"""The processes of one run: how they find each other, agree, and end.

A run over several machines is the same command on each of them. JAX connects
its devices; this file finds the other processes (`start`), lets one of them do
what must be done once (`first`, `gather`, `together`, `in_turn`), and sees that
all end when one does (`as_one`, `Peers`).
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

from robertax import progress
from robertax.errors import PEER_GONE, InputError, first_line, writing

T = TypeVar('T')
# A process that is silent for so long is dead, and the others end too.
HEARTBEAT_SECONDS = 60
# JAX ends a process three quarters of its limit behind the last heartbeat.
_JAX_LIMIT = 1.25
# One process may still be writing its last words when the others are done.
SHUTDOWN_SECONDS = 900
_FOREVER = 7 * 24 * 3600 * 1000  # ms; a corpus may take days to prepare.


def _tpu_cluster(env: Mapping[str, str]) -> bool:
  """A TPU VM: Google's metadata, or GKE's variables, name the others."""
  return (env.get('JAX_PLATFORMS', 'tpu') in ('', 'tpu', 'tpu,cpu')
          and not env.get('TPU_SKIP_MDS_QUERY')
          and any(os.path.exists(device) for device in (
              '/dev/accel0', '/dev/vfio/0', '/dev/vfio/devices')))


# Clusters that JAX itself finds the others in -> whether this process is in it.
CLUSTERS: dict[str, Callable[[Mapping[str, str]], bool]] = {
    'GKE TPU': lambda env: ',' in env.get('TPU_WORKER_HOSTNAMES', ''),
    'TPU slices': lambda env: bool(env.get('MEGASCALE_COORDINATOR_ADDRESS')),
    'SLURM': lambda env: ('SLURM_STEP_NODELIST' in env
                          and int(env.get('SLURM_NTASKS', 1)) > 1),
    'Open MPI': lambda env: int(env.get('OMPI_COMM_WORLD_SIZE', 1)) > 1,
    'TPU pod': _tpu_cluster,
}


def start(coordinator: str = '', num_processes: int = 0, process_id: int = -1,
          env: Mapping[str, str] = os.environ,
          heartbeat_seconds: float = HEARTBEAT_SECONDS) -> str:
  """Joins the processes of a run, before anything asks JAX for its devices.

  They are looked for in the arguments; in JAX_COORDINATOR_ADDRESS,
  JAX_NUM_PROCESSES and JAX_PROCESS_ID (or JOB_COMPLETION_INDEX, which
  Kubernetes gives to the pods of an indexed Job); then in CLUSTERS.

  Args:
    coordinator: HOST:PORT of process 0, which listens there.
    num_processes, process_id: of the run; of this process, from 0.
    env: holds the variables.
    heartbeat_seconds: in which JAX notices that one is gone; while a run
      trains, `Peers` does so before it, and says more.

  Returns:
    'flags', 'environment' or a name of CLUSTERS, whichever named the others;
    '' where this process is alone.

  Raises:
    InputError: half of it is given, or process 0 does not answer.
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
    raise InputError(f'{name}={env[name]!r}: a number would do.') from e


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
      options['coordinator_bind_address'] = place[0]  # Else all the world.
  try:
    jax.distributed.initialize(**options)
  except (RuntimeError, ValueError) as e:
    # By its words: it has no type of its own, and JAX's other ValueErrors are
    # of a pod that is set up wrongly, whose hosts must not train alone.
    if where == 'TPU pod' and 'should be defined' in str(e):
      return False  # A TPU VM without Google's metadata (a notebook's): alone.
    at = f'process 0 at {place[0]}' if place else 'the others'
    raise InputError(
        f'{where}: {at} cannot be reached ({first_line(e)}). Every process '
        'must be started within five minutes, with the same address of process '
        '0, and its port be free and open to all of them.') from e
  if jax.process_index():
    # File descriptor 1, for libraries in C++ print there; 2 stays for crashes.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _number_lines()
  elif isinstance(sys.stdout, io.TextIOWrapper):
    # JAX may abort this process, and an abort loses the buffered output to a
    # pipe or a file.
    sys.stdout.reconfigure(line_buffering=True)
  return True


def _number_lines() -> None:
  """Gives each line on stderr, of logging too, this process's number."""
  before = sys.stderr
  progress.leave_talking(f'[process {jax.process_index()}] ')
  for name in ('', *logging.Logger.manager.loggerDict):
    for handler in logging.getLogger(name).handlers:
      handler = getattr(handler, 'python_handler', handler)  # Of absl.
      if getattr(handler, 'stream', None) in (before, sys.__stderr__):
        handler.setStream(sys.stderr)


def call_out(text: str) -> None:
  """Prints what this process alone has to say, such as its last words."""
  # A notebook's stream would lose it when the process ends at once.
  numbered = isinstance(sys.stderr, progress.Prefixed)
  print(text, file=sys.stderr if numbered else sys.__stderr__, flush=True)


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
  """Every process's value, in their order; each calls it equally often.

  Values, of types that JSON can hold, pass through process 0, not over the
  devices: it may be waited for as long as it takes.
  """
  global _turn
  if jax.process_count() == 1:
    return [value]
  _turn += 1
  client = _client()
  client.key_value_set(f'robertax/{_turn}/{jax.process_index()}',
                       json.dumps(value))
  return [json.loads(client.blocking_key_value_get(
      f'robertax/{_turn}/{process}', _FOREVER))
          for process in range(jax.process_count())]


def together(function: Callable[[], T],
             kind: type[InputError] = InputError) -> T:
  """The result of function(); if it raises InputError in one, all raise it.

  Raises:
    InputError: of the first process in which it was raised, of this `kind` too.
  """
  result, error = None, ['', False]
  try:
    result = function()
  except InputError as e:
    error = [str(e), isinstance(e, kind)]
    if jax.process_count() == 1:
      raise
  errors = gather(error)
  number = next((i for i, (text, _) in enumerate(errors) if text), None)
  if number is None:
    return result
  text, is_kind = errors[number]
  who = f'process {number} of {len(errors)}: ' if number else ''
  # Without __init__, which may take more than a message.
  raise agreed((kind if is_kind else InputError).__new__(
      kind if is_kind else InputError, who + text))


def agreed(error: InputError) -> InputError:
  """Marks an error as one that all processes raise, so all end in order."""
  error.agreed = True
  return error


def same(what: str, value: Any) -> None:
  """Refuses processes with different values (as of `gather`) of `what`.

  Raises:
    InputError: on all of them, if not all give the same.
  """
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
  """function(), which fills `folder`: process 0 first where all share it.

  Processes that see the file that process 0 has put there wait until it is
  done, and find all of it made. The others, whose machines have a disk of
  their own, begin at once; the function's own lock keeps those of one machine
  from doing it twice.

  Raises:
    InputError: as `together`.
  """
  if jax.process_count() == 1:
    return function()
  remote = '://' in folder  # A bucket is everyone's.
  mark = gather(uuid.uuid4().hex)[0]
  path = os.path.join(folder, f'.seen-{mark}')

  def put() -> None:
    if first() and not remote:
      with writing(folder):
        os.makedirs(folder, exist_ok=True)
        open(path, 'w').close()

  together(put)
  shared = remote or os.path.exists(path)
  seen = gather(shared)
  if first() and not remote:
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

# How an error of JAX's runtime begins where another process does not answer,
_UNANSWERED = re.compile('(UNAVAILABLE|ABORTED|DEADLINE_EXCEEDED|CANCELLED): ')
# or has left in the midst of a collective; errors of this process (a program,
# the memory) begin with another word.
_COLLECTIVE = re.compile(
    '(UNKNOWN|INTERNAL|FAILED_PRECONDITION|UNAVAILABLE|ABORTED|CANCELLED|'
    'DEADLINE_EXCEEDED): .*(Gloo|NCCL|nccl|coordination service|heartbeat)',
    re.DOTALL)


@contextlib.contextmanager
def as_one() -> Iterator[None]:
  """Around a run: an error that ends one process in disorder is printed.

  The process then ends at once, without waiting for the others as an orderly
  end does: they may be waiting for this one. They end when its heartbeat is
  missed. An error that `together` raised is everyone's: it passes, for all end
  in order.
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
    call_out(f'robertax: error: {who}: {error}')
  elif says_peer_is_gone(error):
    code = PEER_GONE
    if gone := _active.who_is_gone() if _active else '':
      end_without_peers(gone)
    # It is not sure, so all that is known is said.
    call_out(f'{who}:\n{traceback.format_exc()}\n{who}: by this error another '
             'process is gone, though none is missed. The same command on all '
             'goes on from the last checkpoint.')
  else:
    code = 1
    call_out(f'{who}:\n{traceback.format_exc()}')
  tell_leaving(f'exit code {code}: {type(error).__name__}: {error!s:.200}')
  linger_as_first()
  os._exit(code)


def says_peer_is_gone(error: BaseException) -> bool:
  """Whether JAX's runtime raised the error, or one before it, for a lost peer.

  What Python code raises never is such an error, whatever its text says. JAX
  raises JaxRuntimeError where one waits for a result or for process 0; but
  jaxlib 0.10 makes ValueErrors of those that come while a program is started.
  """
  for e in _error_chain(error):
    if isinstance(e, jax.errors.JaxRuntimeError):
      if _UNANSWERED.match(str(e)) or _COLLECTIVE.match(str(e)):
        return True
    elif type(e) is ValueError and not _raised_by_python(e):
      if _COLLECTIVE.match(str(e)):
        return True
  return False


def _error_chain(error: BaseException | None) -> Iterator[BaseException]:
  while error is not None:
    yield error
    error = error.__cause__ or (
        None if error.__suppress_context__ else error.__context__)


def _raised_by_python(error: BaseException) -> bool:
  """Whether it began at a `raise`, not in a call of compiled code."""
  trace = error.__traceback__
  if trace is None:
    return True
  while trace.tb_next is not None:
    trace = trace.tb_next
  code = trace.tb_frame.f_code.co_code[trace.tb_lasti]
  return dis.opname[code] in ('RAISE_VARARGS', 'RERAISE')


def linger_as_first() -> None:
  """Process 0 goes last: without it, JAX aborts the others unheard."""
  if jax.process_count() > 1 and jax.process_index() == 0:
    time.sleep(3)


def end_without_peers(gone: str) -> NoReturn:
  """Ends this process, for others (named by `gone`) are gone.

  The main thread may wait in a collective for ever: no exception reaches it.
  """
  call_out(f'process {jax.process_index()} of {jax.process_count()}: {gone}. '
           'This one ends too; the same command on all of them goes on from '
           'the last checkpoint.')
  linger_as_first()
  os._exit(PEER_GONE)


# Whether the other processes are alive, and where they stand.
#
# Each sends the others, through process 0, heartbeats with words on what it
# does. JAX counts heartbeats too, but its own end is an abort that names a
# number, and a collective whose peer is gone names none at all. So JAX's limit
# is the longer one, and the heartbeats of this file are missed first.

# Of the timeout: the rest is left for the others to end in.
_SILENT = 0.7
_BEATS = 30  # In a timeout.
# A process that has missed so many is surely gone, for an error says so too.
_MISSED = 4
_PREFIX = 'robertax/alive'
_active: 'Peers | None' = None


def other_processes() -> str:
  """A line on each other process of the run; '': there is none."""
  return _active.others() if _active else ''


def tell_leaving(reason: str) -> None:
  """Tells the others, if there are any, that this process ends, and why."""
  if _active:
    _active.leave(reason)


class Pace:
  """Seconds that pass while this process runs.

  A process that is stopped (SIGSTOP, a paused machine) and goes on finds that
  the clock has jumped, and nobody else is to blame for that: of such a gap it
  counts no more than three of its own intervals.
  """

  def __init__(self, interval: float,
               clock: Callable[[], float] = time.monotonic):
    """Begins; `passed` is called about every `interval` seconds."""
    self._interval, self._clock, self._last = interval, clock, clock()

  def passed(self) -> float:
    """Since the last call."""
    now = self._clock()
    before, self._last = self._last, now
    return min(now - before, 3 * self._interval)


class Silence:
  """For how long each of the others has sent no new message.

  A process that was never heard is not missed.
  """

  def __init__(self, me: int, limit: float):
    self._me, self._limit = me, limit  # Seconds.
    self._messages: dict[int, str] = {}
    self._ages: dict[int, float] = {}
    self._round = 0.0

  def heard(self, messages: Mapping[int, str]) -> None:
    """The last message of each; it differs where the process is alive."""
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
    """{process: seconds} of those that are silent for too long.

    Where nothing at all comes, it is process 0 that passes nothing on.
    """
    limit = self._limit if limit is None else limit
    if self._round >= limit and self._me and self._ages:
      return {0: self._round}
    return {process: age for process, age in sorted(self._ages.items())
            if age >= limit and process != self._me
            and not self.last(process).get('done')}

  def left(self) -> list[int]:
    """Those that have told that they end in disorder."""
    return [process for process in sorted(self._messages)
            if process != self._me and self.last(process).get('gone')]

  def last(self, process: int) -> dict[str, Any]:
    """Its last message."""
    return json.loads(self._messages.get(process, '{}'))

  def describe(self, process: int) -> str:
    """A line on a process and on what it did when it was heard last."""
    message = self.last(process)
    words = f'process {process}'
    if 'host' in message:
      words += (f' (host {message["host"]}, pid {message["pid"]}; '
                f'{message["doing"]})')
    if message.get('gone'):
      return f'{words} has ended: {message["gone"]}'
    return f'{words}, silent for {self._ages.get(process, self._round):.0f} s'


class Peers:
  """While it is entered, a peer that dies or is stopped ends this process.

  The exit code is PEER_GONE, for the same command on all of them goes on from
  the last checkpoint. With one process nothing happens.
  """

  def __init__(self, timeout: float, doing: Callable[[], str] = lambda: ''):
    """A dead peer is noticed, and this process ended, in `timeout` seconds.

    `doing` gives words on where this process stands, for the others.
    """
    self._doing = doing
    self._interval = min(max(timeout / _BEATS, 0.1), 2.0)
    self._silence = Silence(jax.process_index(), _SILENT * timeout)
    self._lock, self._stop = threading.Lock(), threading.Event()
    self._threads = []

  def __enter__(self) -> 'Peers':
    global _active
    if jax.process_count() > 1:
      self._run = uuid.uuid4().hex
      self._count = 0
      # One that speaks to process 0, which may never answer, and one that
      # looks at the clock.
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
      return  # In disorder: `who_is_gone` and `leave` are still to come.
    self._stop.set()
    self._send(done=True)
    _active = None

  def _send(self, **more: Any) -> None:
    """Tells the others; in silence where process 0 cannot be reached."""
    client = _client()
    self._count += 1
    try:
      client.key_value_set(f'{_PREFIX}/{jax.process_index()}', json.dumps({
          'host': socket.gethostname(), 'pid': os.getpid(), 'run': self._run,
          'beat': self._count, 'doing': self._doing(), **more}),
                           allow_overwrite=True)
      messages = client.key_value_dir_get(f'{_PREFIX}/')
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError):
      return  # Silence is counted.
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
    """Waits for some beats and describes those that missed them, or ''."""
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
