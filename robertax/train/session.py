"""Before the first step: what is refused, what all processes must agree on.

What one process finds wrong, all stop for (`processes.together`): the others
would wait for it for ever.
"""

from collections.abc import Collection
import functools
import sys
from typing import Any

import jax

from robertax import files
from robertax.config import Config, check_batch, common_values
from robertax.corpus.preparation import default_cache_dir
from robertax.data.feed import Feed, local_rows, split_micro_batches
from robertax.errors import unknown
from robertax.model import unpad_vocabulary
from robertax.parallel import processes
from robertax.parallel.mesh import batch_sharding
from robertax.tasks import TASKS
from robertax.train import checkpoint, step, workdir
from robertax.train.checkpoint import finished_step
from robertax.train.divergence import PassedOver
from robertax.train.facts import allowed_names
from robertax.train.initial import initial_config
from robertax.train.parts import profiled_steps

# Programs that were compiled once, kept for the next start of any run.
#
# JAX names a program by what it does, its compiler's version and its devices,
# so that none is taken for another. On CPUs it is off unless asked for: a
# program may use instructions that another machine with the same folder lacks.


def cache_dir(config: Config) -> str:
  """The folder of all caches: data.cache_dir, or its default."""
  return files.absolute(config.data.cache_dir or default_cache_dir())


def turn_on_compile_cache(config: Config):
  """Keeps compiled programs where train.compile_cache says.

  JAX_COMPILATION_CACHE_DIR, where it is set, goes before.

  Args:
    config: of the run.
  """
  chosen = config.train.compile_cache
  if chosen == 'auto':
    chosen = ('off' if jax.default_backend() == 'cpu' else
              files.join(cache_dir(config), 'compiled'))
  if chosen == 'off' or jax.config.jax_compilation_cache_dir:
    return
  jax.config.update('jax_compilation_cache_dir', files.absolute(chosen))
  if files.is_remote(chosen):
    # What XLA itself would keep beside JAX's programs it writes without etils.
    jax.config.update('jax_persistent_cache_enable_xla_caches', 'none')


# What is made ahead of the step: batches, and the steps themselves.


def train_feed(config: Config, task: Any, mesh: jax.sharding.Mesh,
               start: int, passed: PassedOver) -> Feed:
  """Batches from step `start` on, on the devices, made ahead of the step.

  Each process makes the rows that its own devices keep, and no others.

  Args:
    config: of the run.
    task: gives batches.
    mesh: where they lie.
    start: updates already done.
    passed: batches that are passed over.
  """
  sharding = batch_sharding(mesh, micro_batches=True)
  rows = functools.partial(local_rows, sharding,
                           micro_batches=config.train.micro_batches)
  batches = (split_micro_batches(batch, config.train.micro_batches)
             for batch in passed.batches(
                   lambda batch: task.train_batches(batch, rows), start))
  return Feed(batches, sharding, config.data.prefetch)


def steps_ahead(mesh: jax.sharding.Mesh) -> int:
  """Steps that the host may be ahead of the devices.

  Devices that are threads of one CPU share a pool: collectives of two steps at
  once can take all its threads and wait for each other for ever.
  """
  threads = mesh.size > 1 and jax.devices()[0].platform == 'cpu'
  return 0 if threads else 2


def admit_run(config: Config, folder: str, named: Collection[str] = ()
              ) -> tuple[Config, int | None]:
  """Looks at config and workdir, before anything long.

  Args:
    config: of the run.
    folder: the workdir, W.
    named: keys that a person has set for this run (`initial_config`).

  Returns:
    The config with what init_from and the workdir's own say, and the newest
    checkpoint's step.

  Raises:
    InputError: a workdir of another config, or in a storage that checkpoints
      cannot be written to; processes that differ.
  """
  def look():
    if config.task not in TASKS:
      raise unknown('task', config.task, TASKS)
    checkpoint.check_place(folder)
    taken = workdir.check_config(folder, initial_config(config, named))
    profiled_steps(taken.train.profile_steps)
    allowed_names(taken.train.allow_changed)
    return taken, finished_step(folder)

  taken, finished = processes.together(look)
  processes.same('config or workdir',
                 common_values(taken) | {'checkpoint': finished})
  return taken, finished


def open_task(config: Config, mesh: jax.sharding.Mesh) -> Any:
  """The task, its records prepared.

  Args:
    config: of the run.
    mesh: whose devices share a batch.

  Raises:
    InputError: wrong input of any kind; processes whose texts differ.
  """
  task, shares = TASKS[config.task], mesh.shape['data'] * mesh.shape['fsdp']
  if not task.fine_tunes:  # Whose batches are of examples, and rows as needed.
    check_batch(config, shares)
  task = processes.in_turn(cache_dir(config), lambda: task.of(config, shares))
  processes.same('text or tokenizer', [
      task.tokenizer.fingerprint, task.describe(config.train.steps)])
  return task


def describe_run(config: Config, now: step.TrainState, mesh: jax.sharding.Mesh,
                 task: Any, start: int):
  """Prints what is trained on what."""
  parameters = sum(x.size for x in jax.tree.leaves(jax.eval_shape(
      lambda params: unpad_vocabulary(task.model, params), now.params)))
  device = jax.devices()[0]
  hosts = (f', {jax.process_count()} processes' if jax.process_count() > 1
           else '')
  print(f'{parameters / 1e6:.2f}M parameters, '
        f'{task.describe(config.train.steps)}, on {mesh.size} x '
        f'{device.device_kind} ({device.platform}{hosts})', file=sys.stderr)
  if start:
    print(f'resuming at step {start}', file=sys.stderr)
