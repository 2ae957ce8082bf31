"""The tiny run of `tiny_run`, saved or restored on the way, on any mesh.

Tests import it, and run it in several processes:
`python -m tests.train.reshard_run PROCESS PROCESSES PORT W OUT SAVE AT COUNT
DATA FSDP MODEL`: trains COUNT steps from step AT (0: from the beginning), and
saves behind the last where SAVE is 1.
"""

import hashlib
import json
import sys

import jax
import numpy as np

from robertax.config import MeshConfig
from robertax.data.feed import split_micro_batches
from robertax.parallel.mesh import batch_sharding, make_mesh
from robertax.train import optimizer
from robertax.train.checkpoint import Checkpoints
from tests.train import tiny_run


def train(mesh, folder, at, count, save):
  """(losses [count, 2], a hash of each batch as the devices had it)."""
  with jax.set_mesh(mesh):
    now, update = tiny_run.compiled(mesh, 1)
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


def main():
  process, processes, port, folder, out, save, at, count, *sizes = sys.argv[1:]
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(f'127.0.0.1:{port}', int(processes), int(process))
  mesh = make_mesh(MeshConfig(*map(int, sizes)))
  losses, hashes = train(mesh, folder, int(at), int(count), save == '1')
  if process == '0':
    with open(out, 'w') as file:
      json.dump({'losses': losses.tolist(), 'batches': hashes}, file)


if __name__ == '__main__':
  main()
