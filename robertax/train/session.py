"""A run as a dataclass of its parts, which `loop.run` opens and goes through.

`Session` holds all that a run is made of, and `open_session` makes it in order.
A `Part` is what a run does beside its updates: it logs, shows, traces,
evaluates, keeps the best weights, writes lines, saves. A new one is a class and
an entry of `Session.parts`.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
import contextlib
import dataclasses
import functools
import os
import signal
import sys
import tempfile
from typing import Any, ClassVar

import jax
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from robertax import files
from robertax.config import Config, check_batch, common_values
from robertax.corpus.documents import TFDS, corpora_of
from robertax.corpus.preparation import default_cache_dir
from robertax.corpus.readers import PACKINGS
from robertax.data.feed import Feed, local_rows, split_micro_batches
from robertax.errors import InputError, unknown
from robertax.kernels.dropout import seed_words
from robertax.model import unpad_vocabulary
from robertax.model.heads import Sums
from robertax.parallel import processes
from robertax.parallel.mesh import batch_sharding, steps_ahead
from robertax.progress import Progress, call_out, say
from robertax.tasks import TASKS, Task
from robertax.train import optimizer
from robertax.train import workdir as workdirs
from robertax.train.checkpoint import Checkpoints, check_storage, finished_step
from robertax.train.clock import Clock, Goodput, LogWindow, Utilization
from robertax.train.divergence import Judge, PassedOver
from robertax.train.evaluate import Best, Evaluation, Scoring, evaluation_table
from robertax.train.facts import allowed_names, identity
from robertax.train.initial import initial_config, initial_params
from robertax.train.step import Compiled, TrainState, compiled
from robertax.train.workdir import Lock, check_config, claim_workdir
from robertax.train.writer import Writer

Metrics = dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class Moment:
  """The state of a run after an update."""
  step: int
  last: bool
  stopped: int = 0  # The signal that all processes stop for; 0: none.


class Part:
  """What a run does beside its updates; by default each method does nothing.

  Every part is told of each update; those that are due act, in order.
  """
  # Whether the newest update must be done, and sound, before it acts.
  settles: ClassVar[bool] = False

  def on_step(self, step: int, sums: Sums):
    """Called when an update has been started; its sums are on the devices."""

  def due(self, moment: Moment) -> bool:
    """Tells whether the part acts at this moment."""
    return False

  def act(self, run: 'Session', moment: Moment):
    """Does the part's work, and passes its numbers to `run.publish`."""

  def on_metrics(self, run: 'Session', step: int, metrics: Metrics):
    """Receives what a part has published."""

  def close(self):
    """Called when the last update has been made or the run has failed."""


@dataclasses.dataclass
class Session:
  """All that a run is made of; its parts come last."""
  config: Config  # With what the task has filled in (`settle_config`).
  workdir: str
  task: Task
  mesh: jax.sharding.Mesh
  clock: Clock
  goodput: Goodput
  programs: Compiled
  state: TrainState
  start: int  # Updates done by earlier starts.
  passed: PassedOver
  rates: np.ndarray  # float32[steps], the learning rate of each update.
  seed: jax.Array  # uint32[2], for dropout.
  log: 'Log'
  display: 'Display'
  trace: 'Trace'
  evaluations: 'Evaluations'
  lines: 'Lines'
  saves: 'Saves'

  @property
  def parts(self) -> tuple[Part, ...]:
    """Returns the parts in the order in which they act.

    DO NOT CHANGE THE ORDER: a step's numbers are written before its checkpoint,
    because a kill between the two must leave no step that is saved and not
    logged (what is logged and not saved is cut); and the best weights are there
    before the line that calls them the best.
    """
    return (self.log, self.display, self.trace, self.evaluations, self.lines,
            self.saves)

  def publish(self, step: int, metrics: Metrics):
    """Passes the numbers of a step to every part."""
    for part in self.parts:
      part.on_metrics(self, step, metrics)


@dataclasses.dataclass
class Log(Part):
  """Publishes the numbers of every `train.log_every`-th step."""
  window: LogWindow
  every: int

  def on_step(self, step: int, sums: Sums):
    self.window.add(step, sums)

  def due(self, moment: Moment) -> bool:
    return moment.last or moment.step % self.every == 0

  def act(self, run: Session, moment: Moment):
    metrics = self.window.close(moment.step, float(run.rates[moment.step - 1]))
    run.publish(moment.step,
                metrics | {'train/goodput': run.goodput.note(moment.step)})


@dataclasses.dataclass
class Display(Part):
  """Shows the progress line and tables of evaluations on stderr."""
  bar: Progress

  def on_step(self, step: int, sums: Sums):
    self.bar.step(step)

  def on_metrics(self, run: Session, step: int, metrics: Metrics):
    if 'train/loss' in metrics:
      self.bar.show(metrics)
    else:
      say(evaluation_table(step, metrics))

  def close(self):
    self.bar.close()


@dataclasses.dataclass
class Evaluations(Part):
  """Evaluates every `train.eval_every` steps, and keeps the best weights."""
  evaluate: Evaluation | Scoring
  best: Best
  every: int
  settles: ClassVar[bool] = True

  def due(self, moment: Moment) -> bool:
    return moment.last or moment.step % self.every == 0

  def act(self, run: Session, moment: Moment):
    with run.clock.at('evaluation'):
      run.publish(moment.step, self.evaluate(run.state.params))

  def on_metrics(self, run: Session, step: int, metrics: Metrics):
    self.best.note(step, metrics, run.state.params)


@dataclasses.dataclass
class Lines(Part):
  """Writes metrics.jsonl, one line per step, and TensorBoard's events."""
  writer: Writer

  def due(self, moment: Moment) -> bool:
    return True

  def act(self, run: Session, moment: Moment):
    self.writer.flush()

  def on_metrics(self, run: Session, step: int, metrics: Metrics):
    self.writer.add(step, metrics)

  def close(self):
    self.writer.close()


@dataclasses.dataclass
class Saves(Part):
  """Saves every `train.checkpoint_every`-th step."""
  checkpoints: Checkpoints
  every: int
  in_background: bool
  settles: ClassVar[bool] = True

  def due(self, moment: Moment) -> bool:
    return moment.last or bool(moment.stopped) or moment.step % self.every == 0

  def act(self, run: Session, moment: Moment):
    # Noted before it is saved, so that a start from there counts these steps.
    run.goodput.note(moment.step)
    run.goodput.save()
    run.lines.writer.save()
    with run.clock.at('checkpoint'):
      self.checkpoints.save(moment.step, run.state,
                            last=moment.last or bool(moment.stopped))
      if not self.in_background:
        self.checkpoints.wait()


def profiled_steps(text: str) -> tuple[int, int] | None:
  """Parses the first and the last step of a trace.

  >>> profiled_steps('100-105'), profiled_steps('7'), profiled_steps('')
  ((100, 105), (7, 7), None)
  """
  if not text:
    return None
  first, dash, last = text.partition('-')
  try:
    steps = int(first), int(last if dash else first)
    if 1 <= steps[0] <= steps[1]:
      return steps
  except ValueError:
    pass
  raise InputError(f'train.profile_steps={text!r}: FIRST-LAST, such as '
                   '100-105, or one step.')


class Trace(Part):
  """Writes the xprof trace of train.profile_steps to W/plugins/profile."""

  def __init__(self, workdir: str, steps: str, write: bool = True):
    self._workdir, self._running, self._local = workdir, False, None
    self._steps = profiled_steps(steps) if write else None

  def step(self, number: int) -> jax.profiler.StepTraceAnnotation:
    """Returns a context around a step, which names it in the trace."""
    if self._steps and number == self._steps[0]:
      if files.is_remote(self._workdir):
        # XLA's profiler writes to few kinds of storage, with credentials of its
        # own, so a trace is made in a local folder and copied when it is whole.
        self._local = tempfile.TemporaryDirectory(prefix='robertax-trace-')
      jax.profiler.start_trace(
          self._local.name if self._local else self._workdir)
      self._running = True
    return jax.profiler.StepTraceAnnotation('train', step_num=number)

  def on_step(self, step: int, sums: Sums):
    """Ends the trace when its last step is done."""
    if self._running and step == self._steps[1]:
      jax.block_until_ready(sums)
      self.close()

  def close(self):
    """Writes what has been traced; if that fails, it is no error."""
    if not self._running:
      return
    self._running = False
    traced = f'steps {self._steps[0]} to {self._steps[1]} are traced'
    try:
      jax.profiler.stop_trace()
      if self._local:
        self._upload()
      say(f'{traced}: xprof {self._workdir}')
    except (OSError, RuntimeError) as e:  # XLA's errors are RuntimeErrors.
      say(f'{traced}, but this cannot be written to {self._workdir}: {e}')

  def _upload(self):
    with self._local as local:
      for folder, _, names in os.walk(local):
        target = files.join(self._workdir, os.path.relpath(folder, local))
        if names:
          files.makedirs(target)
        for name in names:
          files.copy(os.path.join(folder, name), files.join(target, name))


# Before the first step wrong input is refused and all processes agree. What one
# finds wrong stops all (`processes.together`): the others would wait for ever.


def close_all(parts: Sequence[Part]):
  """Closes every part; an error that is under way is not replaced."""
  error = sys.exception()
  for part in parts:
    try:
      part.close()
    except InputError as e:
      if error:
        call_out(f'robertax: {e}')
      error = error or e
  if error and not sys.exception():
    raise error


def admit_run(config: Config, workdir: str, named: Collection[str] = ()
              ) -> tuple[Config, int | None]:
  """Fills in init_from and W/config.json; returns also the newest step."""
  def look():
    if config.task not in TASKS:
      raise unknown('task', config.task, TASKS)
    check_storage(workdir)
    workdirs.check_writable(workdir)
    taken = check_config(workdir, initial_config(config, named))
    optimizer.check_names(taken.optim)
    profiled_steps(taken.train.profile_steps)
    allowed_names(taken.train.allow_changed)
    return taken, finished_step(workdir)

  taken, finished = processes.together(look)
  processes.same('config or workdir',
                 common_values(taken) | {'checkpoint': finished})
  return taken, finished


_CORE_FLOPS = 75e9  # A second, of one good CPU core (benchmarks/RESULTS.md).
_LONG_DAYS = 30
_MANY_EPOCHS = 1000


def check_size(config: Config, mesh: jax.sharding.Mesh):
  """Refuses steps that no memory here can hold, and warns of very long runs.

  The bytes are a lower bound, so that nothing that works is refused. The epochs
  follow from the sizes of local files, at 4 bytes a token, 1 if compressed.
  """
  model, data, train = config.model, config.data, config.train
  vocabulary = model.vocab_size or config.tokenizer.vocab_size
  layer = 4 * model.hidden_size**2 + 2 * model.hidden_size * model.mlp_size
  embeddings = (vocabulary + model.max_positions) * model.hidden_size
  shares = mesh.shape['data'] * mesh.shape['fsdp']
  rows = -(-data.batch_size // (train.micro_batches * shares))
  width = 2 if model.dtype == 'bfloat16' else 4
  # A step keeps so many vectors of each token and layer for its backward pass.
  kept = {'full': 1, 'attention': 6}.get(
      model.remat, 6 + model.mlp_size / model.hidden_size)
  each = (data.sequence_length * model.num_layers * kept * model.hidden_size
          * width)
  state = 16 * (model.num_layers * layer + embeddings)  # fp32, two moments.
  wanted = (rows * each / mesh.shape['model']
            + state / (mesh.shape['model'] * mesh.shape['fsdp']))
  device = mesh.local_devices[0]
  memory = (device.memory_stats() or {}).get('bytes_limit')
  if device.platform == 'cpu':  # All devices are threads of this machine.
    wanted *= len(mesh.local_devices)
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  if memory and wanted > memory:
    raise InputError(
        f'a step of {rows:,} rows x {data.sequence_length} tokens needs at '
        f'least {wanted / 2**30:,.0f} GiB, and this {device.platform} has '
        f'{memory / 2**30:,.0f}. A larger train.micro_batches (now '
        f'{train.micro_batches}) computes the same update in parts; a smaller '
        'data.batch_size or model takes less; configs/laptop.py and '
        'configs/one_gpu.py are for one machine.')
  tokens = train.steps * data.batch_size * data.sequence_length
  with contextlib.suppress(InputError):  # Preparation says what is missing.
    _say_epochs(config, tokens)
  if device.platform == 'cpu':
    days = 6 * tokens * model.num_layers * layer / (
        _CORE_FLOPS * (os.cpu_count() or 1)) / 86_400
    if days > _LONG_DAYS:
      say(f'{train.steps:,} steps of {data.batch_size:,} rows will take this '
          f'CPU about {days:,.0f} days or more; train.steps, data.batch_size '
          'and a smaller model are what counts (configs/laptop.py).')


def _say_epochs(config: Config, tokens: int):
  """Says it if a run's tokens are very many times those of its text."""
  data, steps = config.data, config.train.steps
  if files.is_remote(data.corpora) or TFDS in data.corpora:
    return
  text = sum(files.stat(path).size / (1 if path.endswith(PACKINGS) else 4)
             for corpus in corpora_of(data) for path in corpus.files)
  if text and tokens / text > _MANY_EPOCHS:
    say(f'{steps:,} steps of {data.batch_size:,} rows are about '
        f'{tokens / text:,.0f} epochs of this text. The 40 epochs of BERT are '
        f'--config.train.steps={max(1, 40 * steps * text / tokens):.0f}; more '
        'text or a smaller data.batch_size also helps.')


def open_task(config: Config, mesh: jax.sharding.Mesh) -> Task:
  """Opens the task with its records, the same in all processes."""
  task, shares = TASKS[config.task], mesh.shape['data'] * mesh.shape['fsdp']
  if not task.fine_tunes:  # A batch of examples has as many rows as needed.
    check_batch(config, shares)
  task = processes.in_turn(cache_dir(config), lambda: task.of(config, shares))
  processes.same('text or tokenizer', [
      task.tokenizer.fingerprint, task.describe(config.train.steps)])
  return task


def describe_run(config: Config, state: TrainState, mesh: jax.sharding.Mesh,
                 task: Task, start: int):
  """Prints the sizes of model, data and machine."""
  parameters = sum(x.size for x in jax.tree.leaves(jax.eval_shape(
      lambda params: unpad_vocabulary(task.model, params), state.params)))
  device, count = jax.devices()[0], jax.process_count()
  hosts = f', {count} processes' if count > 1 else ''
  say(f'{parameters / 1e6:.2f}M parameters, '
      f'{task.describe(config.train.steps)}, on {mesh.size} x '
      f'{device.device_kind} ({device.platform}{hosts})')
  if start:
    say(f'resuming at step {start}')
  say('compiling, which takes minutes for a large model')


def settle_config(config: Config, task: Task) -> Config:
  """Fills in what the task knows: model, labels, steps of an epoch."""
  epochs = {'steps': config.finetune.epochs, 'eval_every': 1,
            'checkpoint_every': 1}
  filled = {name: number * task.epoch_steps for name, number in epochs.items()
            if not getattr(config.train, name)}
  labels = ','.join(task.labels) if task.fine_tunes else ''
  return dataclasses.replace(
      config, model=task.model,
      finetune=dataclasses.replace(config.finetune, labels=labels),
      train=dataclasses.replace(config.train, **filled))


def check_steps(wanted: Config, config: Config, task: Task, workdir: str):
  """Refuses epochs that are another number of steps than the workdir's.

  A run that a flag ended early has its steps in W/config.json, from which a
  command without that flag takes them.
  """
  if wanted.train.steps or not config.train.steps:
    return
  steps = wanted.finetune.epochs * task.epoch_steps
  if steps != config.train.steps:
    raise InputError(
        f'{workdir} is of a run of {config.train.steps:,} steps; this command '
        f'means finetune.epochs={wanted.finetune.epochs}, which are {steps:,} '
        'steps here. Choose another --workdir, or give '
        f'--config.train.steps={config.train.steps} to keep that run.')


def open_session(config: Config, workdir: str, task: Task,
                 mesh: jax.sharding.Mesh, clock: Clock, restored: int | None,
                 lock: Lock, rates: np.ndarray) -> Session:
  """Makes or restores the state, claims the workdir, opens every part.

  The mesh is entered; `restored` is the newest checkpoint's step, or None.
  """
  train, first = config.train, processes.first()
  strict = train.on_write_error == 'stop'
  programs = compiled(task.objective, config.optim, mesh, config.mesh.zero1)
  if restored is None:
    state = programs.create(jax.random.key(config.seed))
    state = state._replace(params=initial_params(
        config, state.params, task.tokenizer))
  # Nothing that can be wrong is left to check, so W is written now.
  processes.together(
      lambda: claim_workdir(workdir, config, task.tokenizer, lock))
  checkpoints = Checkpoints(
      workdir, train.keep_checkpoints, keep_every=train.keep_every,
      strict=strict, belongs=identity(task), check=lock.check)
  if restored is not None:
    state = checkpoints.restore_newest(programs.abstract, train.allow_changed)
    restored = int(state.step)  # Damaged ones above it were set aside.
  start = int(state.step)
  passed = PassedOver.read(workdir)
  evaluate = (Scoring if task.fine_tunes else Evaluation)(config, task, mesh)
  best = Best(workdir, task, restored, train, checkpoints, state.params)
  # The writer cuts metrics.jsonl back to the restored step, so it comes after
  # the restore and before the first number.
  writer = Writer(workdir, restored, write=first, strict=strict,
                  check=lock.check)
  goodput = Goodput(workdir, clock, start, write=first, check=lock.check)
  trace = Trace(workdir, train.profile_steps, write=first)
  describe_run(config, state, mesh, task, start)
  window = LogWindow(passed.counted(task.train_metrics), steps_ahead(mesh),
                     clock, Utilization(
                         config, mesh.devices.ravel(),
                         task.masked_per_sequence if task.fine_tunes else 0.0),
                     Judge(config.optim, state.params))
  return Session(
      config=config, workdir=workdir, task=task, mesh=mesh, clock=clock,
      goodput=goodput, programs=programs, state=state, start=start,
      passed=passed, rates=rates, seed=seed_words(config.seed),
      log=Log(window, train.log_every),
      display=Display(Progress(start, train.steps)), trace=trace,
      evaluations=Evaluations(evaluate, best, train.eval_every),
      lines=Lines(writer), saves=Saves(checkpoints, train.checkpoint_every,
                  train.save_in_background))


def train_feed(config: Config, task: Task, mesh: jax.sharding.Mesh,
               start: int, passed: PassedOver) -> Feed:
  """Makes batches ahead, from step `start` on; a process makes its own rows."""
  sharding = batch_sharding(mesh, micro_batches=True)
  rows = functools.partial(local_rows, sharding,
                           micro_batches=config.train.micro_batches)
  batches = (split_micro_batches(batch, config.train.micro_batches)
             for batch in passed.batches(
                   lambda batch: task.train_batches(batch, rows), start))
  return Feed(batches, sharding, config.data.prefetch)


class Interruption:
  """Turns the first SIGINT or SIGTERM into a request that the loop looks for.

  A second one of the same kind acts as it would without this class. Where
  several processes share the run, a signal to one of them stops all.
  """

  SIGNALS = (signal.SIGINT, signal.SIGTERM)

  def __init__(self, mesh: jax.sharding.Mesh, run_ahead: int):
    """Agreements are read `run_ahead` steps later, so no step waits."""
    self.requested, self._before = 0, {}  # The signal that came; 0: none.
    self._mesh, self._run_ahead = mesh, run_ahead
    self._agreements, self._largest = deque(), None
    if jax.process_count() > 1:
      self._flags = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
      self._largest = jax.jit(
          lambda flags: flags.max(),
          out_shardings=NamedSharding(mesh, PartitionSpec()))

  def __enter__(self) -> 'Interruption':
    try:
      for number in self.SIGNALS:
        self._before[number] = signal.signal(number, self._request)
    except ValueError:  # Only the main thread may set handlers.
      self._before.clear()
    return self

  def __exit__(self, *unused):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def agreed(self) -> int:
    """Returns the signal that all processes act on at this step; 0: none.

    Each calls it once a step, after that step was started. With several
    processes it is the largest `requested` of `run_ahead` calls ago, by an
    all-reduce of one number after the step's own.
    """
    if self._largest is None:
      return self.requested
    mine = np.full(1, self.requested, np.int32)
    self._agreements.append(self._largest(jax.make_array_from_callback(
        (self._mesh.size,), self._flags, lambda index: mine)))
    return (int(self._agreements.popleft())
            if len(self._agreements) > self._run_ahead else 0)

  def _request(self, number: int, frame):
    self.requested = number
    signal.signal(number, self._before[number])
    call_out(f'\n{signal.Signals(number).name}: finishing this step, then '
             'saving (once more: stop at once, unsaved).')


def cache_dir(config: Config) -> str:
  """Returns the folder of all caches: data.cache_dir, or its default."""
  return files.absolute(config.data.cache_dir or default_cache_dir())


def _is_writable(folder: str) -> bool:
  """Whether a folder can be written, or made; a URL passes for it."""
  while not files.is_remote(folder) and not os.path.exists(folder):
    folder = os.path.dirname(folder)
  return files.is_remote(folder) or os.access(folder, os.W_OK | os.X_OK)


@contextlib.contextmanager
def compile_cache(config: Config) -> Iterator[None]:
  """Keeps programs that the body compiles where train.compile_cache says.

  `auto` is off on CPUs: another machine with the same folder may lack
  instructions of a program. JAX_COMPILATION_CACHE_DIR comes first.
  """
  chosen = config.train.compile_cache
  if chosen == 'auto':
    folder = cache_dir(config)
    if not _is_writable(folder):  # It is another user's, or read-only.
      folder = files.absolute(default_cache_dir())
    chosen = ('off' if jax.default_backend() == 'cpu' else
              files.join(folder, 'compiled'))
  wanted = {}
  if chosen != 'off' and not jax.config.jax_compilation_cache_dir:
    wanted['jax_compilation_cache_dir'] = files.absolute(chosen)
    if files.is_remote(chosen):
      # XLA's own caches beside JAX's are not written through etils.
      wanted['jax_persistent_cache_enable_xla_caches'] = 'none'
  before = {name: getattr(jax.config, name) for name in wanted}
  try:
    _configure(wanted)
    yield
  finally:
    _configure(before)


def _configure(values: dict[str, Any]):
  for name, value in values.items():
    jax.config.update(name, value)
  if values:  # JAX looks at its configuration once, until it is told to.
    compilation_cache.reset_cache()
