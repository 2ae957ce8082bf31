"""Counts the operations of a compiled program, and the cost of its kernels.

Operations and collectives are counted in the optimized HLO text, with loops
expanded. The compiler's estimate omits kernels, so the body of each Pallas call
is read from the jaxpr: products for the matrix unit, and elementwise operations
for the vector unit, where hashes and exponentials cost their time.
"""

from collections import Counter
from collections.abc import Iterator
import dataclasses
import math
import re
from typing import Any

from jax.extend import core

from robertax.parallel.chips import Chip

BYTES = {'f64': 8, 's64': 8, 'u64': 8, 'f32': 4, 's32': 4, 'u32': 4, 'bf16': 2,
         'f16': 2, 's16': 2, 'u16': 2, 's8': 1, 'u8': 1, 'pred': 1}
_ARRAY = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')
_COLLECTIVE = re.compile(r' (all-reduce|all-gather|reduce-scatter|all-to-all|'
                         r'collective-permute)(-start)?\(')
# Data for another slice leave through the hosts' network.
_BETWEEN_SLICES = re.compile(r' send\(.*_handler_name="xla_megascale_runtime"')
_WHILE = re.compile(r' while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)')
_CALLED = re.compile(r'(?:calls|to_apply)=%?([\w.\-]+)')
_LESS = re.compile(r'ROOT.*compare\([^%]*%?[\w.\-]+, [^%)]*%?([\w.\-]+)\), '
                   r'direction=LT')
SLICES = 'send-between-slices'


@dataclasses.dataclass
class Program:
  """The work of one run of a program on one device."""
  # The compiler's own estimate (TPU), without kernels and collectives, in total
  # and per operation of the source.
  cycles: float = 0
  cycles_by_source: Counter[str] = dataclasses.field(default_factory=Counter)
  # Kind -> [times, bytes]: input bytes of a reduce-scatter, output bytes of the
  # others. SLICES counts what a device sends to other slices.
  collectives: dict[str, list[float]] = dataclasses.field(default_factory=dict)
  # Custom calls of Mosaic and Triton, name -> times.
  kernels: Counter[str] = dataclasses.field(default_factory=Counter)


def read_program(text: str) -> Program:
  """Reads `compiled.as_text()`, and counts a loop's body once per iteration.

  Raises:
    ValueError: the number of iterations of a loop is unknown.
  """
  computations, program = _computations(text), Program()
  def walk(name: str, times: int):
    for line in computations[name]:
      if loop := _WHILE.search(line):
        walk(loop[2], times * _loop_turns(line, computations[loop[1]]))
        continue
      _count_line(program, line, times)
      if ' fusion(' in line:
        for inner in _CALLED.findall(line):
          for part in computations.get(inner, ()):
            _count_collective(program, part, times)
      elif re.search(r' (call|async-start|conditional)\(', line):
        for inner in _CALLED.findall(line):
          walk(inner, times)
  walk('ENTRY', 1)
  return program


def named_arrays(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
  """The (dtype, shape) of every array that the text names."""
  for dtype, dims in _ARRAY.findall(text):
    if dtype in BYTES:
      yield dtype, _shape_dims(dims)


def _computations(text: str) -> dict[str, list[str]]:
  """Name -> lines of each computation; the main one is ENTRY."""
  found, name = {}, None
  for line in text.splitlines():
    if line.endswith('{') and not line.startswith((' ', 'HloModule')):
      name = 'ENTRY' if line.startswith('ENTRY') else re.match(
          r'%?([\w.\-]+)', line)[1]
      found[name] = []
    elif name:
      found[name].append(line)
  return found


def _loop_turns(line: str, condition: list[str]) -> int:
  """Finds a loop's count: given on CPU and GPU, compared with on TPU."""
  if known := re.search(r'known_trip_count":\{"n":"(\d+)"', line):
    return int(known[1])
  body = '\n'.join(condition)
  if limit := _LESS.search(body):
    if constant := re.search(rf'%?{re.escape(limit[1])} = s32\[\]\S* '
                             r'constant\((\d+)\)', body):
      return int(constant[1])
  raise ValueError(f'a loop of unknown length: {line.strip()[:200]}')


def _count_line(program: Program, line: str, times: int):
  if cycles := re.search(r'"estimated_cycles":"(\d+)"', line):
    cost = int(cycles[1]) * times
    source = re.search(r'op_name="([^"]*)"', line)
    source = source[1] if source else '?'
    program.cycles += cost
    program.cycles_by_source[source] += cost
  if 'custom_call_target="tpu_custom_call"' in line or 'triton' in line:
    if name := re.search(r'%?([\w\-]+?)(?:\.\d+)* = ', line.strip()):
      program.kernels[name[1]] += times
  _count_collective(program, line, times)


def _count_collective(program: Program, line: str, times: int):
  if _BETWEEN_SLICES.search(line):
    dtype, dims = _ARRAY.search(line.split(' = ', 1)[1]).groups()
    kind, size = SLICES, BYTES[dtype] * math.prod(_shape_dims(dims))
  elif found := _COLLECTIVE.search(line):
    kind, start = found.groups()
    result = re.sub(r'/\*.*?\*/|\{[^{}]*\}', '', line.split(' = ', 1)[1].split(
        found[0])[0])
    sizes = [BYTES.get(dtype, 4) * math.prod(_shape_dims(dims))
             for dtype, dims in _ARRAY.findall(result)]
    # The result of a start also contains its input.
    size = (max(sizes, default=0) if start else sum(sizes)) * (
        _collective_group(line) if kind == 'reduce-scatter' else 1)
  else:
    return
  total = program.collectives.setdefault(kind, [0, 0])
  total[0] += times
  total[1] += times * size


def _collective_group(line: str) -> int:
  if iota := re.search(r'replica_groups=\[(\d+),(\d+)\]', line):
    return int(iota[2])
  listed = re.search(r'replica_groups=\{\{([\d,]*)\}', line)
  return len(listed[1].split(',')) if listed else 1


def _shape_dims(dims: str) -> tuple[int, ...]:
  return tuple(map(int, filter(None, dims.split(','))))


# The cost of kernels.
# Shares of a data sheet's rate that good kernels reach.
MATRIX_SHARE, MEMORY_SHARE = 0.7, 0.8
# Vector operations per element; all others count once or are FREE.
EXPENSIVE = {'exp': 4, 'exp2': 3, 'log': 4, 'div': 4, 'rsqrt': 4, 'erf': 12,
             'tanh': 6, 'logistic': 6}
# Layout and bookkeeping, which hardly use the vector unit.
FREE = frozenset({
    'broadcast_in_dim', 'reshape', 'transpose', 'slice', 'squeeze', 'get',
    'swap', 'load', 'store', 'iota', 'concatenate', 'bitcast_convert_type',
    'program_id', 'copy', 'stop_gradient', 'expand_dims', 'masked_load',
    'masked_swap'})


@dataclasses.dataclass
class KernelCost:
  """The cost of all calls of one kernel in a program, on one device."""
  calls: float = 0
  flops: float = 0  # Of products padded to whole tiles of the matrix unit.
  vector: float = 0  # Elementwise operations.
  bytes: float = 0  # Of its arguments and results in memory.

  def scale(self, factor: float):
    """Multiplies the number of calls."""
    for field in dataclasses.fields(self):
      setattr(self, field.name, getattr(self, field.name) * factor)

  def seconds(self, chip: Chip) -> float:
    """The longest of the three times, which overlap."""
    return max(self.flops / (chip.flops * MATRIX_SHARE),
               self.bytes / (chip.bandwidth * MEMORY_SHARE),
               self.vector / chip.vector if chip.vector else 0)


def kernel_costs(jaxpr: Any, tile: int = 128) -> dict[str, KernelCost]:
  """The cost of each kernel by name, with loops expanded.

  Shapes inside a shard_map are one device's, and so are the counts. `jaxpr` is
  the ClosedJaxpr of the differentiated step, `tile` the matrix unit's side.
  """
  costs: dict[str, KernelCost] = {}
  def walk(jaxpr: core.Jaxpr, times: int):
    for equation in jaxpr.eqns:
      name = equation.primitive.name
      if name == 'pallas_call':
        _add_cost(costs, equation, times, tile)
        continue
      turns = equation.params['length'] if name == 'scan' else 1
      for inner in _inner_jaxprs(equation):
        walk(inner, times * turns)
  walk(jaxpr.jaxpr, 1)
  return costs


def _inner_jaxprs(equation: Any) -> Iterator[core.Jaxpr]:
  for value in equation.params.values():
    for part in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(part, core.ClosedJaxpr):
        yield part.jaxpr
      elif isinstance(part, core.Jaxpr):
        yield part


def _add_cost(costs: dict[str, KernelCost], equation: Any, times: int,
              tile: int):
  params = equation.params
  name = (getattr(params.get('name_and_src_info'), 'name', None)
          or params.get('name') or 'kernel')
  programs = math.prod(params['grid_mapping'].grid)
  flops, vector = _jaxpr_work(params['jaxpr'], tile)
  cost = costs.setdefault(name, KernelCost())
  cost.calls += times
  cost.flops += times * programs * flops
  cost.vector += times * programs * vector
  cost.bytes += times * sum(
      x.aval.size * x.aval.dtype.itemsize
      for x in (*equation.invars, *equation.outvars))


def _jaxpr_work(jaxpr: core.Jaxpr, tile: int) -> tuple[float, float]:
  """(FLOP, vector operations) of one run of a kernel's body."""
  flops = vector = 0
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    out = equation.outvars[0].aval if equation.outvars else None
    inner = list(_inner_jaxprs(equation))
    if name == 'dot_general':
      flops += _product_flops(equation, tile)
    elif inner:
      found = [_jaxpr_work(part, tile) for part in inner]
      times = equation.params.get('length', 1) if name == 'scan' else 1
      pick = max if name == 'cond' else sum  # The costlier branch.
      flops += times * pick(f for f, _ in found)
      vector += times * pick(v for _, v in found)
    elif name.startswith('reduce'):
      vector += equation.invars[0].aval.size
    elif name not in FREE and out is not None and getattr(out, 'size', 0) > 1:
      vector += out.size * EXPENSIVE.get(name, 1)
  return flops, vector


def _product_flops(equation: Any, tile: int) -> float:
  """2 M N K, with N and K rounded up to the width of the matrix unit."""
  (left, right), (left_batch, _) = equation.params['dimension_numbers']
  x, y = (v.aval for v in equation.invars)
  def full(size: int) -> int:
    return -(-size // tile) * tile
  batch = math.prod(x.shape[d] for d in left_batch)
  inner = math.prod(x.shape[d] for d in left)
  rows, columns = x.size // batch // inner, y.size // batch // inner
  return 2 * batch * rows * full(columns) * full(inner)
