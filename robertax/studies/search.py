"""Which remat policy, and how many micro-batches, fit and are fastest."""

import dataclasses
import sys

from robertax.errors import InputError
from robertax.model.remat import POLICIES
from robertax.studies.estimate import Estimate, estimate
from robertax.train.config import Config


def search(config: Config, name: str) -> tuple[Config, Estimate]:
  """Compiles each policy with the fewest micro-batches that fit, and twice as
  many: more make smaller products, fewer leave more to memory traffic.

  Args:
    config: of a run; its model.remat and train.micro_batches are tried over.
    name: of the topology, as for `estimate`.

  Returns:
    The config with the fastest that fits, and its estimate.

  Raises:
    InputError: nothing fits.
  """
  best = None
  for policy in POLICIES:
    fitting, parts = 0, 1
    while fitting < 2:
      tried = dataclasses.replace(
          config, model=dataclasses.replace(config.model, remat=policy),
          train=dataclasses.replace(config.train, micro_batches=parts))
      try:
        found = estimate(tried, name)
      except InputError as e:
        if 'data.batch_size' not in str(e):
          raise
        break  # No smaller micro-batch comes out even.
      print(f'model.remat={policy} train.micro_batches={parts}: '
            f'{found.memory / 2**30:.2f} GiB, ' + (
                f'{found.seconds:.4f} s' if found.fits else 'does not fit'),
            file=sys.stderr)
      if found.fits:
        fitting += 1
        if best is None or found.seconds < best[1].seconds:
          best = tried, found
      parts *= 2
  if best is None:
    raise InputError(
        f'{name}: no remat policy and number of micro-batches fits; more '
        'devices, or mesh.fsdp, mesh.model or mesh.zero1, share it out.')
  return best
