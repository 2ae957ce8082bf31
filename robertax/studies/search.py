"""Which remat policy, and how many micro-batches, fit and are fastest; and the
largest micro-batch of all."""

from collections.abc import Callable
import dataclasses
import math
import sys
from typing import Any

from robertax.config import Config
from robertax.errors import InputError
from robertax.model.encoder import POLICIES
from robertax.studies.estimate import Estimate, estimate


def search(config: Config, name: str) -> tuple[Config, Estimate]:
  """Compiles each policy with the fewest micro-batches that fit, and twice as
  many: more make smaller products, fewer leave more to memory traffic.

  Policies make ever more again, to save memory. Where one fits in a single
  micro-batch, those behind it have nothing left to gain, and are not tried.
  (`none` makes nothing again, yet is often slower: what it keeps must be
  written and read.)

  Args:
    config: of a run; its model.remat and train.micro_batches are tried over.
    name: of the topology, as for `estimate`.

  Returns:
    The config with the fastest that fits, and its estimate; where nothing fits,
    that which needs the least memory.

  Raises:
    InputError: as `estimate`.
  """
  best, nearest, last = None, None, ''
  for policy in POLICIES:
    fitting, parts = 0, 1
    while fitting < 2:
      tried = dataclasses.replace(
          config, model=dataclasses.replace(config.model, remat=policy),
          train=dataclasses.replace(config.train, micro_batches=parts))
      try:
        found = estimate(tried, name)
      except InputError as e:
        if 'data.batch_size' not in str(e) or nearest is None:
          raise
        break  # No smaller micro-batch comes out even.
      print(f'model.remat={policy} train.micro_batches={parts}: '
            f'{found.memory / 2**30:.2f} GiB, ' + (
                f'{found.seconds:.4f} s' if found.fits else 'does not fit'),
            file=sys.stderr)
      if nearest is None or found.memory < nearest[1].memory:
        nearest = tried, found
      if found.fits:
        fitting += 1
        if best is None or found.seconds < best[1].seconds:
          best = tried, found
        if parts == 1 and policy != 'none':
          last = policy
      parts *= 2
    if last:
      break
  if behind := list(POLICIES)[list(POLICIES).index(policy) + 1:]:
    print(f'{", ".join(behind)}: not tried, for all of the batch fits without.',
          file=sys.stderr)
  if best is None:
    print(f'{name}: no remat policy and number of micro-batches fits; more '
          'devices, or mesh.fsdp, mesh.model or mesh.zero1, share it out.',
          file=sys.stderr)
  return best or nearest


WITHIN = 1.2  # Between what fits and what does not.


@dataclasses.dataclass(frozen=True)
class Largest:
  """The largest micro-batch that fits.

  A micro-batch is measured in rows on each device, for that is what memory
  depends on. A batch is any multiple of rows x shares.

  Attributes:
    rows: on each device, that fit.
    memory: bytes that they need.
    beyond: rows that do not fit, at most WITHIN times as many (or one more).
    shares: devices that share a micro-batch out.
  """
  rows: int
  memory: float
  beyond: int
  shares: int

  def summary(self) -> dict[str, Any]:
    """For the JSON line."""
    return {'rows_per_device': self.rows, 'rows': self.rows * self.shares,
            'hbm_gib': round(self.memory / 2**30, 3),
            'rows_per_device_that_do_not_fit': self.beyond}

  def describe(self) -> str:
    """For the table."""
    return (f'largest     {self.rows:5} rows on each device in a micro-batch, '
            f'{self.rows * self.shares} in all ({self.memory / 2**30:.2f} '
            f'GiB); {self.beyond} do not fit')


def largest_micro_batch(config: Config, name: str, found: Estimate) -> Largest:
  """Compiles ever larger micro-batches, of the config's remat policy.

  With one micro-batch where the config has one, else with two: the gradient
  that they add up in is the same for any number.

  Args:
    config: of a run.
    name: of the topology.
    found: its estimate, which fits.

  Raises:
    InputError: as `estimate`.
  """
  parts = min(config.train.micro_batches, 2)
  start = config.data.batch_size // config.train.micro_batches // found.shares

  def compiled(rows: int) -> Estimate:
    tried = dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data, batch_size=rows * found.shares * parts),
        train=dataclasses.replace(config.train, micro_batches=parts))
    got = estimate(tried, name)
    print(f'{rows} rows on each device: {got.memory / 2**30:.2f} GiB'
          f'{"" if got.fits else ", does not fit"}', file=sys.stderr)
    return got

  rows, memory, beyond = bracket(
      compiled, start, found, found.chip.memory)
  return Largest(rows, memory, beyond, found.shares)


def bracket(compiled: Callable[[int], Estimate], rows: int, found: Estimate,
            limit: float) -> tuple[int, float, int]:
  """The largest number of rows that fits, within WITHIN.

  Memory is nearly linear in rows, so a line says where the limit is: one
  compilation below that confirms it, and one above, which fails within
  seconds.

  Args:
    compiled: rows -> its estimate.
    rows: that fit.
    found: their estimate.
    limit: bytes.

  Returns:
    (rows that fit, bytes that they need, rows that do not fit).
  """
  # Without rows there would be at least the arguments.
  points = [(0, found.arguments), (rows, found.memory)]
  beyond = None
  while beyond is None or beyond > max(rows + 1, math.floor(WITHIN * rows)):
    (few, less), (many, more) = points[-2:]
    slope = max((more - less) / max(many - few, 1), 1.0)
    limit_rows = many + (limit - more) / slope
    if beyond is None and limit_rows < WITHIN * rows:
      guess = max(math.floor(WITHIN * rows), rows + 1)
    else:
      # A little below the line, lest its error costs a try.
      guess = max(rows + 1, math.floor(0.97 * limit_rows))
    if beyond is not None:
      # The middle, where the line leads out of what is still open.
      if not rows < guess < beyond:
        guess = (rows + beyond) // 2
      above = math.floor(WITHIN * rows)
      if rows < above < beyond and limit_rows < above:
        guess = above
    tried = compiled(guess)
    if tried.fits:
      rows = guess
      points.append((guess, tried.memory))
    else:
      beyond = guess
  return rows, points[-1][1], beyond
