"""The compiled estimate: a config's train step on devices that are not here.

Nothing runs. Memory and collectives are the compiler's. For TPUs, seconds are
the sum of its cycle estimates, of the kernels (kernel_costs) and of the
collectives' bytes over the links: a static estimate that leaves out what
overlaps, and stalls. The compiler for GPUs says nothing of time, and choices
that it makes on the GPU itself (which library's products, say) are missing from
its memory too.
"""

import dataclasses
import math
import os
import re
import time
from typing import Any

import jax
import numpy as np

from robertax import model, parallel, text
from robertax.config import Config, check_batch
from robertax.errors import InputError
from robertax.model.roberta import training_flops
from robertax.parallel import chips, cuda_targets
from robertax.studies import compiled_program
from robertax.studies.kernel_costs import KernelCost, kernel_costs
from robertax.tasks.objectives import MaskedLM, batch_shapes
from robertax.tasks.pretrain import model_for_format
from robertax.train import optimizer, state, step


@dataclasses.dataclass(frozen=True)
class Estimate:
  """What the compiler says of one step, on one device.

  Attributes:
    chip: whose limits these are measured against.
    devices: of the whole mesh.
    fits: whether `memory` is within the chip's.
    memory: bytes at the peak; where it does not compile for lack of memory,
      what the compiler says that it wants.
    compiled: whether it did.
    arguments: bytes of `memory` that the state and the batch are.
    shares: devices that share a micro-batch's rows out.
    xla_seconds, kernel_seconds, collective_seconds: parts of `seconds`.
    model_flops: of the whole batch, as MFU counts them.
    collectives: kind -> (times, bytes).
    kernels: name -> KernelCost.
    sources: the dearest operations, (seconds, name), dearest first.
    square: the largest array of T x T, elements: 0 where scores are never in
      memory.
    compile_seconds: how long it took.
  """
  chip: chips.Chip
  devices: int
  fits: bool
  memory: float
  compiled: bool = True
  arguments: float = 0
  shares: int = 1
  xla_seconds: float = 0
  kernel_seconds: float = 0
  collective_seconds: float = 0
  model_flops: float = 0
  collectives: dict[str, list[float]] = dataclasses.field(default_factory=dict)
  kernels: dict[str, KernelCost] = dataclasses.field(default_factory=dict)
  sources: tuple[tuple[float, str], ...] = ()
  square: int = 0
  compile_seconds: float = 0

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


def topology(name: str) -> tuple[chips.Chip, list[Any]]:
  """The devices of `v5e:16x16`, of `2xv5e:16x16`: two slices of it, or of
  `cuda:h200:1x1x8`: slices x hosts x GPUs of a host.

  Raises:
    InputError: no such chip or shape, or no compiler for it.
  """
  if gpus := re.fullmatch(r'cuda:(\w+):([\dx]+)', name):
    devices = cuda_targets.cuda_devices(gpus[1], gpus[2])
    return chips.CHIPS[gpus[1]], devices
  found = re.fullmatch(r'(?:(\d+)x)?(v\d\w*):(\d+(?:x\d+)+)', name)
  if not found or found[2] not in chips.CHIPS:
    raise InputError(
        f'topology {name!r}: a chip and its slice, such as v5e:16x16 or '
        f'v5p:4x4x8, with 2x before it for two slices; known are '
        f'{", ".join(c for c, x in chips.CHIPS.items() if x.clock)}. Or GPUs, '
        'such as cuda:h200:1x1x8 (slices x hosts x GPUs); known are '
        f'{", ".join(cuda_targets.TARGETS)}.')
  # Two programs may hold the library at once, and nobody is asked over the net.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  from jax.experimental import topologies
  more = {'num_slices': int(found[1])} if found[1] else {}
  if found[2] == 'v4':
    more['chip_config_name'] = 'megacore'
  try:
    devices = topologies.get_topology_desc(
        platform='tpu', topology_name=f'{found[2]}:{found[3]}', **more).devices
  except RuntimeError as e:
    if 'TPU support not installed' in str(e) or 'libtpu' in str(e):
      raise InputError(
          'compiling for TPUs needs their compiler, libtpu: pip install -r '
          'requirements-tpu.txt (no TPU is needed).') from e
    raise InputError(f'topology {name!r}: {e}') from e
  except Exception as e:  # What XLA has for a shape that no slice has.
    raise InputError(f'topology {name!r}: {e}') from e
  return chips.CHIPS[found[2]], devices


def flops(config: Config, vocab_size: int) -> float:
  """Of a step over the whole batch, as if no place of it were padding."""
  tokens = config.data.batch_size * config.data.sequence_length
  return training_flops(
      dataclasses.replace(config.model, vocab_size=vocab_size), tokens,
      config.data.mask_rate * tokens, config.data.sequence_length)


def estimate(config: Config, name: str) -> Estimate:
  """Compiles the train step of a config for a topology.

  Args:
    config: of a run; no text is read. model.vocab_size, else the size of the
      tokenizer at tokenizer.path, else tokenizer.vocab_size.
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
  mesh = parallel.make_mesh(config.mesh, devices)
  shares = mesh.shape['data'] * mesh.shape['fsdp']
  check_batch(config, shares)
  begun = time.monotonic()
  with jax.set_mesh(mesh):
    traced = _trace(config, objective, mesh)
    costs = kernel_costs(traced.jaxpr, chip.tile)
    try:
      compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as e:
      if 'RESOURCE_EXHAUSTED' not in str(e):
        raise
      # '... temporaries (21.20G) exceeds ...' or 'Used 17.50G of 15.75G hbm'.
      wanted = re.search(r'(?:\(|Used )([\d.]+)([GM])', str(e))
      size = float(wanted[1]) * 2**(30 if wanted[2] == 'G' else 20)
      return Estimate(chip, mesh.size, False, size, compiled=False,
                      shares=shares, compile_seconds=time.monotonic() - begun)
  found = compiled.as_text()
  program = compiled_program.read(found)
  for kernel, cost in costs.items():
    # The compiler drops calls whose results nobody reads.
    if kernel in program.kernels:
      cost.scale(program.kernels[kernel] / cost.calls)
  sizes = compiled.memory_analysis()
  # Not arguments + temporaries, which counts room twice that is used twice.
  memory = sizes.peak_memory_in_bytes
  tokens = config.data.sequence_length
  result = Estimate(
      chip, mesh.size, memory <= chip.memory, memory,
      arguments=sizes.argument_size_in_bytes, shares=shares,
      model_flops=flops(config, vocab_size), collectives=program.collectives,
      kernels=costs, square=max(
          (math.prod(shape)
           for _, shape in compiled_program.arrays(found)
           if shape[-2:] == (tokens, tokens)),
          default=0), compile_seconds=time.monotonic() - begun)
  if not chip.clock:
    return result
  return dataclasses.replace(
      result, xla_seconds=program.cycles / chip.clock,
      kernel_seconds=sum(cost.seconds(chip) for cost in costs.values()),
      collective_seconds=sum(
          _link_seconds(chip, kind, size) for kind, (_, size)
          in program.collectives.items()),
      sources=tuple(sorted(
          ((cycles / chip.clock, source) for source, cycles
           in program.cycles_by_source.items()), reverse=True)))


def _trace(config, objective, mesh):
  tx, _ = optimizer.create(config.optim, config.train.steps)
  make = state.create(lambda key: model.create(objective.model, key), tx)
  abstract = state.abstract(make, mesh, config.mesh.zero1)
  sharding = parallel.batch_sharding(mesh, micro_batches=True)
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


def _link_seconds(chip, kind, size):
  """Of the bytes that leave a device: a ring sends an all-reduce's twice."""
  if kind == compiled_program.SLICES:
    return size / chips.NETWORK
  return (2 * size if kind == 'all-reduce' else size) / chip.links
