"""What Pallas kernels cost, counted from the program that calls them.

The compiler's estimate leaves kernels out. So each call is found in the jaxpr,
and what one run of its body does is counted: products of the matrix unit, and
elementwise operations of the vector unit, whose elements are what a hash or an
exponential costs.
"""

import dataclasses
import math
from typing import Any

from jax.extend import core

from robertax.parallel.chips import Chip

# Shares of a data sheet's rate that good kernels reach.
MATRIX_SHARE, MEMORY_SHARE = 0.7, 0.8
# Vector operations of one element; what is not here counts once, or is free.
EXPENSIVE = {'exp': 4, 'exp2': 3, 'log': 4, 'div': 4, 'rsqrt': 4, 'erf': 12,
             'tanh': 6, 'logistic': 6}
# Layout and bookkeeping: no work of the vector unit worth counting.
FREE = frozenset({
    'broadcast_in_dim', 'reshape', 'transpose', 'slice', 'squeeze', 'get',
    'swap', 'load', 'store', 'iota', 'concatenate', 'bitcast_convert_type',
    'program_id', 'copy', 'stop_gradient', 'expand_dims', 'masked_load',
    'masked_swap'})


@dataclasses.dataclass
class KernelCost:
  """Of all calls of one kernel in a program, on one device.

  Attributes:
    calls: times that it is started.
    flops: of its products, filled up to whole tiles of the matrix unit.
    vector: elementwise operations.
    bytes: of its arguments and results in memory.
  """
  calls: float = 0
  flops: float = 0
  vector: float = 0
  bytes: float = 0

  def scale(self, factor: float):
    """As many times the calls."""
    for field in dataclasses.fields(self):
      setattr(self, field.name, getattr(self, field.name) * factor)

  def seconds(self, chip: Chip) -> float:
    """The slowest of the three, that being what the others hide behind."""
    return max(self.flops / (chip.flops * MATRIX_SHARE),
               self.bytes / (chip.bandwidth * MEMORY_SHARE),
               self.vector / chip.vector if chip.vector else 0)


def kernel_costs(jaxpr: Any, tile: int = 128) -> dict[str, KernelCost]:
  """Of each kernel by name, loops expanded.

  Inside a shard_map shapes are one device's, and so are the counts.

  Args:
    jaxpr: a ClosedJaxpr, of the whole step after differentiation.
    tile: side of the matrix unit.
  """
  costs = {}

  def walk(jaxpr, times):
    for equation in jaxpr.eqns:
      name = equation.primitive.name
      if name == 'pallas_call':
        _add(costs, equation, times, tile)
        continue
      inner_times = times * (
          equation.params['length'] if name == 'scan' else 1)
      for inner in _inner(equation):
        walk(inner, inner_times)

  walk(jaxpr.jaxpr, 1)
  return costs


def _inner(equation):
  for value in equation.params.values():
    for part in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(part, core.ClosedJaxpr):
        yield part.jaxpr
      elif isinstance(part, core.Jaxpr):
        yield part


def _add(costs, equation, times, tile):
  params = equation.params
  name = (getattr(params.get('name_and_src_info'), 'name', None)
          or params.get('name') or 'kernel')
  programs = math.prod(params['grid_mapping'].grid)
  flops, vector = _work(params['jaxpr'], tile)
  cost = costs.setdefault(name, KernelCost())
  cost.calls += times
  cost.flops += times * programs * flops
  cost.vector += times * programs * vector
  cost.bytes += times * sum(
      x.aval.size * x.aval.dtype.itemsize
      for x in (*equation.invars, *equation.outvars))


def _work(jaxpr, tile):
  """(FLOP, vector operations) of one run of a kernel's body."""
  flops = vector = 0
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    out = equation.outvars[0].aval if equation.outvars else None
    inner = list(_inner(equation))
    if name == 'dot_general':
      flops += _product(equation, tile)
    elif inner:
      found = [_work(part, tile) for part in inner]
      times = equation.params.get('length', 1) if name == 'scan' else 1
      # Of a branch the dearer side.
      pick = max if name == 'cond' else sum
      flops += times * pick(f for f, _ in found)
      vector += times * pick(v for _, v in found)
    elif name.startswith('reduce'):
      vector += equation.invars[0].aval.size
    elif name not in FREE and out is not None and getattr(out, 'size', 0) > 1:
      vector += out.size * EXPENSIVE.get(name, 1)
  return flops, vector


def _product(equation, tile):
  """2 M N K; what is narrower than the matrix unit pays for all its width."""
  (left, right), (left_batch, _) = equation.params['dimension_numbers']
  x, y = (v.aval for v in equation.invars)

  def full(size):
    return -(-size // tile) * tile

  batch = math.prod(x.shape[d] for d in left_batch)
  inner = math.prod(x.shape[d] for d in left)
  rows = x.size // batch // inner
  columns = y.size // batch // inner
  return 2 * batch * rows * full(columns) * full(inner)
