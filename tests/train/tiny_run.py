"""A tiny model trained on text that can be learned, on any mesh.

Tests import it, and tests of several processes run it:
`python -m tests.train.tiny_run PROCESS PROCESSES PORT OUT DATA FSDP MODEL`.
"""

import json
import sys

import jax
import numpy as np

from robertax import model
from robertax.config import MeshConfig, ModelConfig, OptimConfig
from robertax.data.feed import split_micro_batches
from robertax.kernels.dropout import seed_words
from robertax.parallel.mesh import batch_sharding, make_mesh
from robertax.train import optimizer, step

B, T, M, P, V = 16, 32, 6, 3, 67
CONFIG = ModelConfig(
    vocab_size=V, hidden_size=32, num_layers=2, num_heads=8, mlp_size=64,
    max_positions=T, num_types=2, nsp_head=True)


OPTIM = OptimConfig(learning_rate=1e-2, warmup_steps=2)
SEED = seed_words(3)


def totals(batch):
  return {'weight_sum': batch['mlm_weights'].sum(),
          'nsp_weight_sum': batch['nsp_weights'].sum()}


def loss(params, batch, keys, totals, config=CONFIG):
  encoder = model.bind(config, params)
  x = encoder.encode(batch['input_ids'], batch['segment_ids'],
                     batch['type_ids'], dropout_key=keys)
  sums = model.mlm_loss(encoder.mlm_logits(x, batch['mlm_positions']),
                        batch['mlm_targets'], batch['mlm_weights'])
  sums |= model.nsp_loss(encoder.nsp_logits(x, batch['nsp_positions']),
                         batch['nsp_targets'], batch['nsp_weights'])
  return sum(sums[f'{of}loss_sum'] / totals[f'{of}weight_sum']
             for of in ('', 'nsp_')), sums


def batches(count):
  """Cyclic text of six tokens, soon learned; B is random if it jumps.

  Uneven counts of masks and of examples: one device and one micro-batch have
  many, another has none.
  """
  rng = np.random.default_rng(5)
  for _ in range(count):
    starts = rng.integers(0, 6, (B, 1))
    # From the middle on B; in every third row it goes on three tokens later.
    jumps = (np.arange(B) % 3 == 0)[:, None]
    types = np.tile((np.arange(T) >= T // 2).astype(np.int32), (B, 1))
    ids = (starts + np.arange(T) + 3 * jumps * types) % 6 + 4
    lengths = rng.integers(T - 8, T + 1, (B, 1))
    segment = (np.arange(T) < lengths).astype(np.int32)
    positions = np.sort(np.stack([
        rng.permutation(8)[:M] for _ in range(B)])).astype(np.int32)
    # Rows of the first shards have many targets, the last none.
    weights = (np.arange(M) < np.linspace(M, 0, B).round()[:, None]
               ).astype(np.float32)
    targets = np.take_along_axis(ids, positions, 1)
    inputs = ids.copy()
    np.put_along_axis(inputs, positions, V - 1, 1)
    yield {'input_ids': np.where(segment, inputs, 1).astype(np.int32),
           'segment_ids': segment, 'mlm_positions': positions,
           'mlm_targets': targets.astype(np.int32), 'mlm_weights': weights,
           'type_ids': types * segment,
           # A row's slots ask of one <s> here: their number is what counts.
           'nsp_positions': np.zeros((B, P), np.int32),
           'nsp_targets': np.broadcast_to(jumps, (B, P)).astype(np.int32),
           'nsp_weights': (np.arange(P) < np.linspace(0, P, B).round()[:, None]
                           ).astype(np.float32)}


def laid(batch, sharding):
  """The batch on the devices of all processes, each giving its own part."""
  return {name: jax.make_array_from_callback(
      x.shape, sharding, lambda index, x=x: x[index])
          for name, x in batch.items()}


def compiled(mesh, micro_batches, zero1=False):
  """The first state and the train step.

  Of a batch several times as large where there are more parts than rows.
  """
  parts = micro_batches * mesh.shape['data'] * mesh.shape['fsdp']
  tx, _ = optimizer.create(OPTIM, 100)
  with jax.set_mesh(mesh):
    make = step.state_maker(lambda key: model.create(CONFIG, key), tx)
    shardings = jax.tree.map(lambda x: x.sharding,
                             step.abstract_state(make, mesh, zero1))
    now = jax.jit(make, out_shardings=shardings)(jax.random.key(3))
    update = jax.jit(step.make_train_step(loss, totals, tx, zero1),
                     donate_argnums=0, out_shardings=(shardings, None))
    rows = {name: np.repeat(x, -(-parts // B), axis=0)
            for name, x in next(batches(1)).items()}
    batch = laid(split_micro_batches(rows, micro_batches),
                 batch_sharding(mesh, micro_batches=True))
    return now, update.lower(now, batch, SEED, np.float32(0)).compile()


def train(mesh, micro_batches=1, zero1=False, steps=20):
  """(losses [steps, 2], parameters)."""
  with jax.set_mesh(mesh):
    now, update = compiled(mesh, micro_batches, zero1)
    losses = []
    rates = optimizer.rates(optimizer.create(OPTIM, 100)[1], 100)
    for batch, rate in zip(batches(steps), rates):
      now, sums = update(now, laid(
          split_micro_batches(batch, micro_batches),
          batch_sharding(mesh, micro_batches=True)), SEED, rate)
      losses.append([float(sums[f'{of}loss_sum'] / sums[f'{of}weight_sum'])
                     for of in ('', 'nsp_')])
    # Whole, so that each process can read them.
    params = jax.jit(lambda x: x, out_shardings=jax.sharding.NamedSharding(
        mesh, jax.P()))(now.params)
  return np.array(losses), jax.device_get(params)


def main():
  process, processes, port, out, *sizes = sys.argv[1:]
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(f'127.0.0.1:{port}', int(processes), int(process))
  mesh = make_mesh(MeshConfig(*map(int, sizes)))
  losses, params = train(mesh)
  if process == '0':
    with open(out, 'w') as file:
      json.dump({'losses': losses.tolist(), 'processes': jax.process_count(),
                 'params': [x.tolist() for x in jax.tree.leaves(params)]},
                file)


if __name__ == '__main__':
  main()
