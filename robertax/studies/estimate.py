"""The compiled estimate: a config's train step on devices that are not here.

Nothing runs. Memory and collectives are the compiler's. For TPUs, seconds are
the sum of its cycle estimates, of the kernels' (compiled_program) and of the
collectives' bytes over the links: a static estimate that leaves out what
overlaps, and stalls. The compiler for GPUs says nothing of time, and choices
that it makes on the GPU itself (which library's products, say) are missing from
its memory too. A search compiles a config again and again: which remat policy
and how many micro-batches fit and are fastest, and how large a micro-batch may
be.
"""

from collections.abc import Callable
import dataclasses
import importlib.util
import math
import os
import pathlib
import re
import tempfile
import time
from typing import Any

import jax
import numpy as np

from robertax import model, text
from robertax.config import Config, UnevenBatch, check_batch, with_values
from robertax.errors import InputError
from robertax.model.encoder import POLICIES
from robertax.model.roberta import training_flops
from robertax.parallel import chips
from robertax.parallel.chips import GIB
from robertax.parallel.mesh import batch_sharding, make_mesh
from robertax.progress import say
from robertax.studies import compiled_program
from robertax.studies.compiled_program import KernelCost, kernel_costs
from robertax.tasks.objectives import MaskedLM, batch_shapes
from robertax.tasks.pretrain import model_for_format
from robertax.train import optimizer, step


@dataclasses.dataclass(frozen=True)
class Estimate:
  """What the compiler says of one step, on one device."""
  chip: chips.Chip  # Its limits are what these numbers are measured against.
  devices: int  # Of the whole mesh.
  fits: bool  # `memory` is within the chip's.
  # Bytes that the compiler sets aside for arrays in HBM; on a GPU the peak.
  # If compiling ran out of memory: the bytes that the compiler reports.
  memory: float
  compiled: bool = True
  arguments: float = 0  # Bytes of `memory` that the state and the batch are.
  shares: int = 1  # Devices that share a micro-batch's rows out.
  # Parts of `seconds`.
  xla_seconds: float = 0
  kernel_seconds: float = 0
  collective_seconds: float = 0
  model_flops: float = 0  # Of the whole batch, as MFU counts them.
  # Kind -> (times, bytes).
  collectives: dict[str, list[float]] = dataclasses.field(default_factory=dict)
  kernels: dict[str, KernelCost] = dataclasses.field(default_factory=dict)
  # The dearest operations, (seconds, name), dearest first.
  sources: tuple[tuple[float, str], ...] = ()
  # Elements of the largest array of T x T; 0: scores are never in memory.
  square: int = 0
  compile_seconds: float = 0  # How long it took.

  @property
  def timed(self) -> bool:
    """Whether `seconds` are known."""
    return self.compiled and self.chip.clock > 0

  @property
  def least_seconds(self) -> float:
    """Arithmetic: the model's FLOP at the data sheet's peak."""
    return self.model_flops / self.chip.flops / self.devices

  @property
  def seconds(self) -> float:
    return self.xla_seconds + self.kernel_seconds + self.collective_seconds

  @property
  def mfu(self) -> float:
    """Model FLOP/s over the data sheet's peak; 0: not known."""
    return self.least_seconds / self.seconds if self.timed else 0


_MOST_SLICES = 256  # libtpu aborts, or takes for ever, at absurd numbers.


def topology(name: str) -> tuple[chips.Chip, list[Any]]:
  """A chip and the devices of a topology.

  Args:
    name: `v5e:16x16`; `2xv5e:16x16`, two slices of it; or `cuda:h200:1x1x8`,
      slices x hosts x GPUs of a host.

  Raises:
    InputError: no such chip or shape, or no compiler for it.
  """
  if gpus := re.fullmatch(r'cuda:(\w+):([\dx]+)', name):
    devices = chips.cuda_devices(gpus[1], gpus[2])  # Refuses unknown ones.
    return chips.CHIPS[gpus[1]], devices
  found = re.fullmatch(
      r'(?:([1-9]\d*)x)?(v\d\w*):([1-9]\d*(?:x[1-9]\d*)+)', name)
  if not found or found[2] not in chips.CHIPS:
    raise InputError(
        f'topology {name!r}: a chip and its slice, such as v5e:16x16 or '
        f'v5p:4x4x8, with 2x before it for two slices; known are '
        f'{", ".join(c for c, x in chips.CHIPS.items() if x.clock)}. Or GPUs, '
        'such as cuda:h200:1x1x8 (slices x hosts x GPUs); known are '
        f'{", ".join(chips.TARGETS)}.')
  if found[1] and int(found[1]) > _MOST_SLICES:
    raise InputError(f'topology {name!r}: {_MOST_SLICES:,} slices at most.')
  chips.check_slice(found[2], found[3])  # XLA aborts the process for some.
  if not (importlib.util.find_spec('libtpu')
          or os.path.isfile(os.environ.get('TPU_LIBRARY_PATH', ''))):
    raise InputError(
        'compiling for TPUs needs their compiler, libtpu: pip install -r '
        'requirements-tpu.txt (no TPU is needed).')
  from jax.experimental import topologies
  more = {'num_slices': int(found[1])} if found[1] else {}
  if found[2] == 'v4':
    more['chip_config_name'] = 'megacore'
  if found[3] == '1x1':  # A host has 2x2 chips by default.
    more['chips_per_host_bounds'] = (1, 1, 1)
  # Two processes may load libtpu, and no metadata server is queried.
  lent = {'ALLOW_MULTIPLE_LIBTPU_LOAD': '1', 'TPU_SKIP_MDS_QUERY': '1'}
  lent = {name: lent[name] for name in lent.keys() - os.environ.keys()}
  os.environ.update(lent)
  try:
    devices = topologies.get_topology_desc(
        platform='tpu', topology_name=f'{found[2]}:{found[3]}', **more).devices
  except Exception as e:  # XLA's kinds for a shape that no slice has differ.
    raise InputError(f'topology {name!r}: {e}') from e
  finally:
    for variable in lent:
      del os.environ[variable]
  return chips.CHIPS[found[2]], devices


def step_flops(config: Config, vocab_size: int) -> float:
  """FLOPs of a step over the whole batch, as if none of it were padding."""
  tokens = config.data.batch_size * config.data.sequence_length
  return training_flops(
      dataclasses.replace(config.model, vocab_size=vocab_size), tokens,
      tokens * config.data.sequence_length, config.data.mask_rate * tokens)


def estimate(config: Config, name: str) -> Estimate:
  """Compiles the train step of a config for a topology.

  Args:
    config: a run's; no text is read. The vocabulary's size is
      model.vocab_size, else the size of the tokenizer at tokenizer.path, else
      tokenizer.vocab_size.
    name: as for `topology`.

  Raises:
    InputError: as `topology`; a batch that does not come out even.
  """
  if config.task != 'pretrain':
    raise InputError(f'task={config.task!r}: steps of pretraining alone have '
                     'one shape, which can be estimated.')
  chip, devices = topology(name)
  vocab_size = config.model.vocab_size or (
      text.load(config.tokenizer.path).vocab_size if config.tokenizer.path
      else config.tokenizer.vocab_size)
  objective = MaskedLM(
      dataclasses.replace(model_for_format(config.model, config.data.format),
                          vocab_size=vocab_size))
  mesh = make_mesh(config.mesh, devices)
  shares = mesh.shape['data'] * mesh.shape['fsdp']
  check_batch(config, shares)
  begun = time.monotonic()
  with jax.set_mesh(mesh):
    traced = _traced_step(config, objective, mesh)
    costs = kernel_costs(traced.jaxpr, chip.tile)
    try:
      compiled, memory = _compile_step(traced.lower(), chip)
    except jax.errors.JaxRuntimeError as e:
      # '... temporaries (21.20G) exceeds ...' or 'Used 17.50G of 15.75G hbm'.
      wanted = re.search(r'(?:\(|Used )([\d.]+)([GM])', str(e))
      if e.error_code_string != 'RESOURCE_EXHAUSTED' or not wanted:
        raise
      size = float(wanted[1]) * 2**(30 if wanted[2] == 'G' else 20)
      return Estimate(chip, mesh.size, False, size, compiled=False,
                      shares=shares, compile_seconds=time.monotonic() - begun)
  found = compiled.as_text()
  program = compiled_program.read_program(found)
  for kernel, cost in costs.items():
    # The compiler drops calls whose results nobody reads.
    if kernel in program.kernels:
      cost.scale(program.kernels[kernel] / cost.calls)
  tokens = config.data.sequence_length
  squares = [math.prod(shape)
             for _, shape in compiled_program.named_arrays(found)
             if shape[-2:] == (tokens, tokens)]
  result = Estimate(
      chip, mesh.size, memory <= chip.memory, memory,
      arguments=compiled.memory_analysis().argument_size_in_bytes,
      shares=shares, model_flops=step_flops(config, vocab_size),
      collectives=program.collectives, kernels=costs,
      square=max(squares, default=0), compile_seconds=time.monotonic() - begun)
  if not chip.clock:
    return result
  return dataclasses.replace(
      result, xla_seconds=program.cycles / chip.clock,
      kernel_seconds=sum(cost.seconds(chip) for cost in costs.values()),
      collective_seconds=sum(_link_seconds(chip, kind, size) for kind, (_, size)
                             in program.collectives.items()),
      sources=tuple(sorted(((cycles / chip.clock, source) for source, cycles in
                            program.cycles_by_source.items()), reverse=True)))


def _traced_step(config: Config, objective: MaskedLM, mesh: jax.sharding.Mesh
                 ) -> jax.stages.Traced:
  tx, _ = optimizer.create(config.optim, config.train.steps)
  make = step.state_maker(lambda key: model.create(objective.model, key), tx)
  abstract = step.abstract_state(make, mesh, config.mesh.zero1)
  sharding = batch_sharding(mesh, micro_batches=True)
  parts = config.train.micro_batches
  batch = {name: jax.ShapeDtypeStruct(
      (parts, x.shape[0] // parts, *x.shape[1:]), x.dtype, sharding=sharding)
           for name, x in batch_shapes(config.data).items()}
  train_step = step.make_train_step(
      objective.loss, objective.totals, tx, config.mesh.zero1)
  return jax.jit(
      train_step, donate_argnums=0,
      out_shardings=(jax.tree.map(lambda x: x.sharding, abstract), None)
  ).trace(abstract, batch, jax.ShapeDtypeStruct((2,), np.uint32),
          jax.ShapeDtypeStruct((), np.float32))


def _compile_step(lowered: jax.stages.Lowered, chip: chips.Chip
                  ) -> tuple[jax.stages.Compiled, int]:
  """The program, and the bytes of its arrays in the device's memory."""
  if not chip.clock:
    compiled = lowered.compile()
    return compiled, compiled.memory_analysis().peak_memory_in_bytes
  # A TPU's compiler reports each memory by itself. That peak adds what lies in
  # VMEM and leaves out gaps; arguments + temporaries may count room twice.
  with tempfile.TemporaryDirectory() as folder:
    compiled = lowered.compile(compiler_options={'xla_dump_to': folder})
    for path in pathlib.Path(folder).glob('*-memory-usage-report.txt'):
      if found := re.search(r'\(color=0\)\nTotal bytes: (\d+)',
                            path.read_text()):
        return compiled, int(found[1])
  sizes = compiled.memory_analysis()
  return compiled, sizes.argument_size_in_bytes + sizes.temp_size_in_bytes


def _link_seconds(chip: chips.Chip, kind: str, size: float) -> float:
  """For the bytes that leave a device: a ring sends an all-reduce's twice."""
  if kind == compiled_program.SLICES:
    return size / chips.NETWORK
  return (2 * size if kind == 'all-reduce' else size) / chip.links


# The search.


WITHIN = 1.2  # Between what fits and what does not.


def search(config: Config, name: str) -> tuple[Config, Estimate]:
  """The remat policy and number of micro-batches that are fastest.

  Each policy is compiled with the fewest micro-batches that fit, and with twice
  as many: more make smaller products, fewer leave more to memory traffic. Each
  policy recomputes more than the one before it. Where one fits in a single
  micro-batch, those behind it have nothing left to gain, and are not tried.
  (`none` recomputes nothing, yet is often slower: what it keeps must be
  written and read.)

  Args:
    config: a run's; its model.remat and train.micro_batches are tried over.
    name: as for `topology`.

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
      tried = with_values(config, {'model.remat': policy,
                                   'train.micro_batches': parts})
      try:
        found = estimate(tried, name)
      except UnevenBatch:
        if nearest is None:
          raise
        break  # No smaller micro-batch comes out even.
      say(f'model.remat={policy} train.micro_batches={parts}: '
          f'{found.memory / GIB:.2f} GiB, ' + (
              f'{found.seconds:.4f} s' if found.fits else 'does not fit'))
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
    say(f'{", ".join(behind)}: not tried, for all of the batch fits without.')
  if best is None:
    say(f'{name}: no remat policy and number of micro-batches fits; more '
        'devices, or mesh.fsdp, mesh.model or mesh.zero1, share it out.')
  return best or nearest


@dataclasses.dataclass(frozen=True)
class Largest:
  """The largest micro-batch that fits.

  A micro-batch is measured in rows on each device, for that is what memory
  depends on. A batch is any multiple of rows x shares.
  """
  rows: int  # On each device, that fit.
  memory: float  # Bytes that they need.
  beyond: int  # That do not fit: at most WITHIN times as many, or one more.
  shares: int  # Devices that share a micro-batch out.

  def summary(self) -> dict[str, Any]:
    """For the JSON line."""
    return {'rows_per_device': self.rows, 'rows': self.rows * self.shares,
            'hbm_gib': round(self.memory / GIB, 3),
            'rows_per_device_that_do_not_fit': self.beyond}

  def describe(self) -> str:
    """For the table."""
    return (f'largest     {self.rows:5} rows on each device in a micro-batch, '
            f'{self.rows * self.shares} in all ({self.memory / GIB:.2f} '
            f'GiB); {self.beyond} do not fit')


def largest_micro_batch(config: Config, name: str, found: Estimate) -> Largest:
  """Compiles ever larger micro-batches, of the config's remat policy.

  With one micro-batch where the config has one, else with two: the gradient
  that they add up in is the same for any number. `found` is the config's own
  estimate, which fits.

  Raises:
    InputError: as `estimate`.
  """
  parts = min(config.train.micro_batches, 2)
  start = config.data.batch_size // config.train.micro_batches // found.shares

  def compiled(rows: int) -> Estimate:
    got = estimate(with_values(config, {
        'data.batch_size': rows * found.shares * parts,
        'train.micro_batches': parts}), name)
    say(f'{rows} rows on each device: {got.memory / GIB:.2f} GiB'
        f'{"" if got.fits else ", does not fit"}')
    return got

  return Largest(*bracket(compiled, start, found, found.chip.memory),
                 found.shares)


def bracket(compiled: Callable[[int], Estimate], rows: int, found: Estimate,
            limit: float) -> tuple[int, float, int]:
  """The largest number of rows that fits, within WITHIN.

  Memory is nearly linear in rows, so a line says where the limit is: one
  compilation below that confirms it, and one above, which fails within
  seconds.

  Args:
    compiled: rows -> their estimate.
    rows: a number that fits.
    found: its estimate.
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


# An estimate in words: a table for people, a dict for programs.


def estimate_json(config: Config, found: Estimate,
                  largest: Largest | None = None) -> dict[str, Any]:
  """The JSON line of robertax.aot; what is not known is null."""
  def timed(value: float, digits: int | None = None) -> float | None:
    return round(value, digits) if found.timed else None

  tokens = config.data.batch_size * config.data.sequence_length
  hours = found.seconds * config.train.steps / 3600
  return {
      'fits': found.fits, 'hbm_gib': round(found.memory / GIB, 3),
      'hbm_limit_gib': round(found.chip.memory / GIB, 3),
      'estimated_step_seconds': timed(found.seconds, 5),
      'estimated_mfu': timed(found.mfu, 4),
      'collectives': {kind: {'count': count, 'gib': round(size / GIB, 4)}
                      for kind, (count, size) in found.collectives.items()},
      'compile_seconds': round(found.compile_seconds, 1),
      'xla_seconds': timed(found.xla_seconds, 5),
      'kernel_seconds': timed(found.kernel_seconds, 5),
      'collective_seconds': timed(found.collective_seconds, 5),
      'tokens_per_second': (
          round(tokens / found.seconds) if found.timed else None),
      'days': timed(hours / 24, 3), 'chip_hours': timed(hours * found.devices),
      'largest_micro_batch': largest and largest.summary(),
      'devices': found.devices, 'chip': found.chip.kind,
      'remat': config.model.remat, 'micro_batches': config.train.micro_batches}


def estimate_lines(config: Config, found: Estimate, top: int,
                   largest: Largest | None = None) -> str:
  """Lines for people, with the `top` dearest operations."""
  rows = config.data.batch_size // config.train.micro_batches
  lines = [
      'A static estimate by the compiler: nothing was run.',
      f'{found.devices} x {found.chip.kind}, {config.data.batch_size} x '
      f'{config.data.sequence_length} tokens a step in '
      f'{config.train.micro_batches} micro-batches of {rows}, model.remat='
      f'{config.model.remat}', f'memory      {found.memory / GIB:8.2f} GiB of '
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
        f"than {found.least_seconds * 1e3:.1f} ms by the data sheet's peak, "
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
