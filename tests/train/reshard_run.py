"""The tiny run of `tiny_run`, saved or restored on the way, on any mesh.

Tests import it, and run it in several processes:
`python -m tests.train.reshard_run PROCESS PROCESSES PORT W COPY OUT BEFORE
AFTER DATA FSDP MODEL`: trains BEFORE steps and saves them in W, then AFTER
steps more from COPY, where process 0 puts a damaged checkpoint above that of W.
"""

import hashlib
import json
import shutil
import sys

import jax
from jax.experimental import multihost_utils
import numpy as np

from robertax.config import MeshConfig
from robertax.data.feed import split_micro_batches
from robertax.parallel.mesh import batch_sharding, make_mesh
from robertax.train import optimizer
from robertax.train.checkpoint import Checkpoints
from tests.train import tiny_run


def train(mesh, folder, at, count, save, programs=None):
  """(losses [count, 2], a hash of each batch as the devices had it).

  From step `at`, or 0, the beginning; `programs` are tiny_run's of this mesh.
  """
  with jax.set_mesh(mesh):
    now, update = programs or tiny_run.compiled(mesh, 1)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=x.sharding), now)
    checkpoints = Checkpoints(str(folder))
    if at:
      now = checkpoints.restore_newest(abstract)
      assert int(now.step) == at
    losses, hashes = [], []
    rates = optimizer.rates(optimizer.create(tiny_run.OPTIM, 100)[1], 100)
    whole = jax.jit(lambda x: x, out_shardings=jax.sharding.NamedSharding(
        mesh, jax.P()))
    steps = list(zip(tiny_run.batches(at + count), rates))[at:]
    for batch, rate in steps:
      laid = tiny_run.laid(split_micro_batches(batch, 1),
                           batch_sharding(mesh, micro_batches=True))
      seen = jax.device_get(whole(laid))
      hashes.append(hashlib.sha256(b''.join(
          np.ascontiguousarray(seen[k]).tobytes() for k in sorted(seen))
                                   ).hexdigest())
      now, sums = update(now, laid, tiny_run.SEED, rate)
      losses.append([float(sums[f'{of}loss_sum'] / sums[f'{of}weight_sum'])
                     for of in ('', 'nsp_')])
    if save:
      checkpoints.save(at + count, now)
    checkpoints.close()
  return np.array(losses), hashes


def damaged_copy(folder, copy, step):
  """A copy of the workdir in which a checkpoint above `step` says it is it."""
  shutil.copytree(folder, copy)
  saved = f'{copy}/checkpoints'
  shutil.copytree(f'{saved}/{step}', f'{saved}/{step + 1}')


def main():
  (process, processes, port, folder, copy, out, before, after,
   *sizes) = sys.argv[1:]
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(f'127.0.0.1:{port}', int(processes), int(process))
  mesh = make_mesh(MeshConfig(*map(int, sizes)))
  before, after = int(before), int(after)
  programs = tiny_run.compiled(mesh, 1)
  train(mesh, folder, 0, before, True, programs)
  if process == '0':
    damaged_copy(folder, copy, before)
  multihost_utils.sync_global_devices('copied')
  losses, batches = train(mesh, copy, before, after, False, programs)
  if process == '0':
    with open(out, 'w') as file:
      json.dump({'losses': losses.tolist(), 'batches': batches}, file)


if __name__ == '__main__':
  main()
