"""An estimate in words: a table for people, a dict for programs."""

from typing import Any

from robertax.config import Config
from robertax.studies.estimate import Estimate
from robertax.studies.search import Largest

GIB = 2**30


def summary(config: Config, found: Estimate, largest: Largest | None = None
            ) -> dict[str, Any]:
  """The JSON line of robertax.aot; what is not known is null."""
  timed = found.timed
  tokens = config.data.batch_size * config.data.sequence_length
  hours = found.seconds * config.train.steps / 3600
  return {
      'fits': found.fits,
      'hbm_gib': round(found.memory / GIB, 3),
      'hbm_limit_gib': round(found.chip.memory / GIB, 3),
      'estimated_step_seconds': round(found.seconds, 5) if timed else None,
      'estimated_mfu': round(found.mfu, 4) if timed else None,
      'collectives': {kind: {'count': count, 'gib': round(size / GIB, 4)}
                      for kind, (count, size) in found.collectives.items()},
      'compile_seconds': round(found.compile_seconds, 1),
      'xla_seconds': round(found.xla_seconds, 5) if timed else None,
      'kernel_seconds': round(found.kernel_seconds, 5) if timed else None,
      'collective_seconds': (
          round(found.collective_seconds, 5) if timed else None),
      'tokens_per_second': round(tokens / found.seconds) if timed else None,
      'days': round(hours / 24, 3) if timed else None,
      'chip_hours': round(hours * found.devices) if timed else None,
      'largest_micro_batch': largest and largest.summary(),
      'devices': found.devices, 'chip': found.chip.kind,
      'remat': config.model.remat,
      'micro_batches': config.train.micro_batches,
  }


def table(config: Config, found: Estimate, top: int,
          largest: Largest | None = None) -> str:
  """Lines for people.

  Args:
    config: what was compiled.
    found: of it.
    top: dearest operations that are shown.
    largest: of a search.
  """
  rows = config.data.batch_size // config.train.micro_batches
  lines = [
      'A static estimate by the compiler: nothing was run.',
      f'{found.devices} x {found.chip.kind}, {config.data.batch_size} x '
      f'{config.data.sequence_length} tokens a step in '
      f'{config.train.micro_batches} micro-batches of {rows}, '
      f'model.remat={config.model.remat}',
      f'memory      {found.memory / GIB:8.2f} GiB of '
      f'{found.chip.memory / GIB:.2f} on each: '
      f'{"fits" if found.fits else "DOES NOT FIT"}']
  if not found.compiled:
    return '\n'.join([*lines, 'more micro-batches (train.micro_batches), '
                      'model.remat=products or full, mesh.zero1 need less.'])
  tokens = config.data.batch_size * config.data.sequence_length
  if largest:
    lines.append(largest.describe())
  collectives = ', '.join(
      f'{kind} x {count:.0f} ({size / GIB:.2f} GiB)'
      for kind, (count, size) in found.collectives.items())
  if not found.timed:
    return '\n'.join([
        *lines, 'The memory is indicative: products and kernels are chosen on '
        'the GPU itself.', f'collectives {collectives or "none"}',
        'a step      not known: the compiler for GPUs tells no time. No less '
        f'than {found.least_seconds * 1e3:.1f} ms by the data sheet\'s peak, '
        f'{2 * found.least_seconds * 1e3:.1f} ms at half of it (arithmetic).'])
  hours = config.train.steps * found.seconds / 3600
  lines += [
      f'XLA         {found.xla_seconds * 1e3:8.1f} ms (its cycles)',
      f'kernels     {found.kernel_seconds * 1e3:8.1f} ms: ' + ', '.join(
          f'{name} x {cost.calls:.0f}'
          for name, cost in found.kernels.items()),
      f'collectives {found.collective_seconds * 1e3:8.1f} ms: {collectives}',
      f'a step      {found.seconds * 1e3:8.1f} ms, if nothing overlaps: '
      f'{tokens / found.seconds:,.0f} tokens/s, {found.mfu:.1%} MFU',
      f'the run     {hours / 24:8.2f} days, {hours * found.devices:,.0f} '
      f'chip-hours to step {config.train.steps}']
  lines += [f'  {seconds * 1e3:8.2f} ms  {source[-90:]}'
            for seconds, source in found.sources[:top]]
  return '\n'.join(lines)
