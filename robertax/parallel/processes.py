"""The processes of one run: how they find each other, and what they agree on.

A run over several machines is the same command on each of them. JAX connects
its devices; this file finds the others, lets one process do what must be done
once, and sees that all end when one does.
"""

from collections.abc import Callable, Mapping
import contextlib
import io
import json
import os
import re
import sys
import traceback
from typing import Any, NoReturn, TypeVar
import uuid

import jax

from robertax.errors import PEER_GONE, InputError, writing
from robertax.parallel import peers

T = TypeVar('T')
# A process that is silent for so long is dead, and the others end too.
HEARTBEAT_SECONDS = 60
# JAX ends a process three quarters of its limit behind the last heartbeat.
_JAX_LIMIT = 1.25
# One process may still be writing its last words when the others are done.
SHUTDOWN_SECONDS = 900
_FOREVER = 7 * 24 * 3600 * 1000  # ms; a corpus may take days to prepare.


def _tpu(env: Mapping[str, str]) -> bool:
  """A TPU VM: Google's metadata, or GKE's variables, name the others."""
  return (env.get('JAX_PLATFORMS', 'tpu') in ('', 'tpu', 'tpu,cpu')
          and not env.get('TPU_SKIP_MDS_QUERY')
          and any(os.path.exists(device) for device in (
              '/dev/accel0', '/dev/vfio/0', '/dev/vfio/devices')))


# What JAX itself can ask for the others -> whether this process is in one.
CLUSTERS: dict[str, Callable[[Mapping[str, str]], bool]] = {
    'GKE TPU': lambda env: ',' in env.get('TPU_WORKER_HOSTNAMES', ''),
    'TPU slices': lambda env: bool(env.get('MEGASCALE_COORDINATOR_ADDRESS')),
    'SLURM': lambda env: ('SLURM_STEP_NODELIST' in env
                          and int(env.get('SLURM_NTASKS', 1)) > 1),
    'Open MPI': lambda env: int(env.get('OMPI_COMM_WORLD_SIZE', 1)) > 1,
    'TPU pod': _tpu,
}


def start(coordinator: str = '', num_processes: int = 0, process_id: int = -1,
          env: Mapping[str, str] = os.environ,
          heartbeat_seconds: float = HEARTBEAT_SECONDS) -> str:
  """Joins the processes of a run. Before anything asks JAX for its devices.

  They are looked for in the arguments; in JAX_COORDINATOR_ADDRESS,
  JAX_NUM_PROCESSES and JAX_PROCESS_ID (or JOB_COMPLETION_INDEX, which
  Kubernetes gives to the pods of an indexed Job); then in CLUSTERS.

  Args:
    coordinator: HOST:PORT of process 0, which listens there.
    num_processes: of the run.
    process_id: of this one, from 0.
    env: where variables are looked up.
    heartbeat_seconds: in which JAX notices that one is gone; while a run
      trains, `peers` does so before it, and says more.

  Returns:
    Where it was found: 'flags', 'environment', a name of CLUSTERS, or '': it
    is alone.

  Raises:
    InputError: half of it is given, or process 0 does not answer.
  """
  place, where = (coordinator, num_processes, process_id), 'flags'
  if place == ('', 0, -1):
    where = 'environment'
    place = (env.get('JAX_COORDINATOR_ADDRESS', ''),
             _number(env, 'JAX_NUM_PROCESSES', 0),
             _number(env, 'JAX_PROCESS_ID',
                     _number(env, 'JOB_COMPLETION_INDEX', -1)))
    if not place[0] or not place[1]:
      where = next((name for name, here in CLUSTERS.items() if here(env)), '')
      if not where:
        return ''
      place = None
  if place and place[1:] == (1, 0):
    return ''
  if place:
    _check(*place)
  return where if _join(place, where, heartbeat_seconds) else ''


def _number(env, name, otherwise):
  try:
    return int(env.get(name) or otherwise)
  except ValueError as e:
    raise InputError(f'{name}={env[name]!r}: a number would do.') from e


def _check(coordinator, num_processes, process_id):
  if not re.fullmatch(r'(\[[0-9a-fA-F:.]+\]|[\w.\-]+):\d{1,5}', coordinator):
    raise InputError(
        f'--coordinator={coordinator!r}: HOST:PORT of process 0, such as '
        '10.0.0.2:8476.')
  if not 0 <= process_id < num_processes:
    raise InputError(
        f'--process_id={process_id} with --num_processes={num_processes}: each '
        'process has a number of its own, from 0 up to, not including, '
        '--num_processes.')


def _join(place, where, heartbeat_seconds) -> bool:
  # Its handler of SIGTERM would take the place of the loop's.
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
    if where == 'TPU pod' and 'should be defined' in str(e):
      return False  # A TPU VM without Google's metadata (a notebook's): alone.
    first = str(e).strip().splitlines()[0]
    at = f'process 0 at {place[0]}' if place else 'the others'
    raise InputError(
        f'{where}: {at} cannot be reached ({first}). Every process must be '
        'started within five minutes, with the same address of process 0, and '
        'its port be free and open to all of them.') from e
  if jax.process_index():
    _mute()
  elif isinstance(sys.stdout, io.TextIOWrapper):
    # JAX may abort this process, and an abort leaves in the buffer of a pipe or
    # a file what was said before.
    sys.stdout.reconfigure(line_buffering=True)
  return True


class _Muted:
  """Python's stderr of a process that leaves the talking to process 0."""

  def write(self, text: str) -> int:
    return len(text)

  def flush(self):
    pass

  def isatty(self) -> bool:
    return False

  def fileno(self) -> int:
    return 2


def _mute():
  # File descriptor 1, for libraries in C++ print there; 2 stays for crashes.
  os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  sys.stderr = _Muted()


@contextlib.contextmanager
def as_one():
  """Around a run: what ends one process in disorder is said, and ends it.

  At once, that is, without waiting for the others as an orderly end does: they
  may be waiting for this one. They end when its heartbeat is missed. An error
  that `together` raised is everyone's: it passes, for all end in order.
  """
  try:
    yield
  except BaseException as e:
    if jax.process_count() == 1 or getattr(e, 'agreed', False):
      raise
    _leave(e)


def _leave(error: BaseException) -> NoReturn:
  who = f'process {jax.process_index()} of {jax.process_count()}'
  out = dict(file=sys.__stderr__, flush=True)
  if isinstance(error, SystemExit):
    code = error.code if isinstance(error.code, int) else 1
  elif isinstance(error, InputError):
    code = error.exit_code
    print(f'robertax: error: {who}: {error}', **out)
  elif peers.says_so(error):
    code = PEER_GONE
    gone = peers.who_is_gone()
    if gone:
      peers.end(gone)
    # It is not sure, so all that is known is said.
    print(f'{who}:\n{traceback.format_exc()}\n{who}: by this error another '
          'process is gone, though none is missed. The same command on all '
          'goes on from the last checkpoint.', **out)
  else:
    code = 1
    print(f'{who}:\n{traceback.format_exc()}', **out)
  peers.leave(f'exit code {code}: {type(error).__name__}: {error!s:.200}')
  peers.linger()
  os._exit(code)


def first() -> bool:
  """Whether this is the process that writes and speaks."""
  return jax.process_index() == 0


_turn = 0


def gather(value: Any) -> list[Any]:
  """Every process's value, in their order; each calls it, as often.

  Goes by way of process 0, not over the devices: it may be waited for as long
  as it takes.

  Args:
    value: what JSON can hold.
  """
  global _turn
  if jax.process_count() == 1:
    return [value]
  _turn += 1
  # Not public, but what jax.distributed is made of; orbax relies on it too.
  from jax._src import distributed
  client = distributed.global_state.client
  client.key_value_set(f'robertax/{_turn}/{jax.process_index()}',
                       json.dumps(value))
  return [json.loads(client.blocking_key_value_get(
      f'robertax/{_turn}/{process}', _FOREVER))
          for process in range(jax.process_count())]


def together(function: Callable[[], T]) -> T:
  """What function() gives; where it raises InputError in one, all raise it.

  Raises:
    InputError: of the first process in which it did.
  """
  result, error = None, ''
  try:
    result = function()
  except InputError as e:
    error = str(e)
    if jax.process_count() == 1:
      raise
  errors = gather(error)
  if not any(errors):
    return result
  number = next(i for i, error in enumerate(errors) if error)
  who = '' if errors[0] else f'process {number} of {len(errors)}: '
  raised = InputError(who + errors[number])
  raised.agreed = True
  raise raised


def same(what: str, value: Any):
  """Refuses processes that would not do the same.

  Args:
    what: it is, for the message.
    value: what JSON can hold.

  Raises:
    InputError: not all of them give the same, on all of them.
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
      raised = InputError(
          f'process {number} of {len(values)} has another {what} than process '
          f'0: {there!r} there, {here!r} here. Start all of them with the '
          'same command on the same files.')
      raised.agreed = True
      raise raised


def in_turn(folder: str, function: Callable[[], T]) -> T:
  """function(), which fills `folder`: process 0 first where all share it.

  Processes that see the file that process 0 has put there wait until it is
  done, and find all of it made. The others, whose machines have a disk of
  their own, begin at once; what keeps those of one machine from doing it twice
  is the function's own lock.

  Raises:
    InputError: as `together`.
  """
  if jax.process_count() == 1:
    return function()
  remote = '://' in folder  # A bucket is everyone's.
  mark = gather(uuid.uuid4().hex)[0]
  path = os.path.join(folder, f'.seen-{mark}')

  def put():
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

  def of(turn):
    nonlocal result
    if turn == (0 if first() or not shared else 1):
      result = function()

  together(lambda: of(0))
  if sum(seen) > 1:
    together(lambda: of(1))
  return result
