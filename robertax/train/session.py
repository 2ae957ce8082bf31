"""Before the first step: what is refused, what all processes must agree on.

What one process finds wrong, all stop for (`processes.together`): the others
would wait for it for ever.
"""

from collections.abc import Collection
import sys
from typing import Any

import jax

from robertax.config import Config, check_batch, common_values
from robertax.errors import unknown
from robertax.model import unpad_vocabulary
from robertax.parallel import processes
from robertax.tasks import TASKS
from robertax.train import state, step_folders, workdir
from robertax.train.checkpoint import finished_step
from robertax.train.compile_cache import cache_dir
from robertax.train.identity import allowed_names
from robertax.train.initial import initial_config
from robertax.train.trace import profiled


def admit(config: Config, folder: str, named: Collection[str] = ()
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
    step_folders.check_place(folder)
    taken = workdir.check(folder, initial_config(config, named))
    profiled(taken.train.profile_steps)
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


def describe(config: Config, now: state.TrainState, mesh: jax.sharding.Mesh,
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
