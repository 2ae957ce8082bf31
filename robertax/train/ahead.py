"""What is made ahead of the step: batches, and the steps themselves."""

import functools
from typing import Any

import jax

from robertax import data, parallel
from robertax.config import Config
from robertax.train.passed_over import PassedOver


def train_feed(config: Config, task: Any, mesh: jax.sharding.Mesh,
               start: int, passed: PassedOver) -> data.Feed:
  """Batches from step `start` on, on the devices, made ahead of the step.

  Each process makes the rows that its own devices keep, and no others.

  Args:
    config: of the run.
    task: gives batches.
    mesh: where they lie.
    start: updates already done.
    passed: batches that are passed over.
  """
  sharding = parallel.batch_sharding(mesh, micro_batches=True)
  rows = functools.partial(data.local_rows, sharding,
                           micro_batches=config.train.micro_batches)
  batches = (data.split_micro_batches(batch, config.train.micro_batches)
             for batch in passed.batches(
                   lambda batch: task.train_batches(batch, rows), start))
  return data.Feed(batches, sharding, config.data.prefetch)


def run_ahead(mesh: jax.sharding.Mesh) -> int:
  """Steps that the host may be ahead of the devices.

  Devices that are threads of one CPU share a pool: collectives of two steps at
  once can take all its threads and wait for each other for ever.
  """
  threads = mesh.size > 1 and jax.devices()[0].platform == 'cpu'
  return 0 if threads else 2
