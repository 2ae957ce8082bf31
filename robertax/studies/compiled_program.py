"""Reads what the compiler made: optimized HLO text, loops expanded."""

from collections.abc import Iterator
import dataclasses
import math
import re

BYTES = {'f64': 8, 's64': 8, 'u64': 8, 'f32': 4, 's32': 4, 'u32': 4, 'bf16': 2,
         'f16': 2, 's16': 2, 'u16': 2, 's8': 1, 'u8': 1, 'pred': 1}
_ARRAY = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')
_COLLECTIVE = re.compile(r' (all-reduce|all-gather|reduce-scatter|all-to-all|'
                         r'collective-permute)(-start)?\(')
# What goes from one slice to another leaves by the hosts' network.
_BETWEEN_SLICES = re.compile(r' send\(.*_handler_name="xla_megascale_runtime"')
_WHILE = re.compile(r' while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)')
_CALLED = re.compile(r'(?:calls|to_apply)=%?([\w.\-]+)')
_LESS = re.compile(r'ROOT.*compare\([^%]*%?[\w.\-]+, [^%)]*%?([\w.\-]+)\), '
                   r'direction=LT')


SLICES = 'send-between-slices'


@dataclasses.dataclass
class Program:
  """What one run of a program does on one device.

  Attributes:
    cycles: the compiler's own estimate (TPU), without kernels and collectives.
    cycles_by_source: of each operation of the source.
    collectives: kind -> [times, bytes]; of a reduce-scatter the bytes that go
      in, else those that come out. SLICES is what a device sends to others.
    kernels: custom calls of Mosaic and Triton, name -> times.
  """
  cycles: float = 0
  cycles_by_source: dict[str, float] = dataclasses.field(default_factory=dict)
  collectives: dict[str, list[float]] = dataclasses.field(default_factory=dict)
  kernels: dict[str, float] = dataclasses.field(default_factory=dict)


def read(text: str) -> Program:
  """Walks the entry computation, the body of each loop as often as it runs.

  Args:
    text: `compiled.as_text()`.

  Raises:
    ValueError: a loop whose number of turns cannot be told: it would be counted
      once, in silence.
  """
  computations = _computations(text)
  program = Program()

  def walk(name, times):
    for line in computations[name]:
      if loop := _WHILE.search(line):
        walk(loop[2], times * _turns(line, computations[loop[1]]))
        continue
      _count(program, line, times)
      if ' fusion(' in line:
        for inner in _CALLED.findall(line):
          for part in computations.get(inner, ()):
            _count_collective(program, part, times)
      elif re.search(r' (call|async-start|conditional)\(', line):
        for inner in _CALLED.findall(line):
          walk(inner, times)

  walk('ENTRY', 1)
  return program


def arrays(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
  """(dtype, shape) of every array that the text names."""
  for dtype, dims in _ARRAY.findall(text):
    if dtype in BYTES:
      yield dtype, _dims(dims)


def _computations(text):
  found, name = {}, None
  for line in text.splitlines():
    if line.endswith('{') and not line.startswith((' ', 'HloModule')):
      name = 'ENTRY' if line.startswith('ENTRY') else re.match(
          r'%?([\w.\-]+)', line)[1]
      found[name] = []
    elif name:
      found[name].append(line)
  return found


def _turns(line, condition):
  """CPU and GPU programs say it; a TPU's compares with a constant."""
  if known := re.search(r'known_trip_count":\{"n":"(\d+)"', line):
    return int(known[1])
  body = '\n'.join(condition)
  if limit := _LESS.search(body):
    if constant := re.search(rf'%?{re.escape(limit[1])} = s32\[\]\S* '
                             r'constant\((\d+)\)', body):
      return int(constant[1])
  raise ValueError(f'a loop of unknown length: {line.strip()[:200]}')


def _count(program, line, times):
  if cycles := re.search(r'"estimated_cycles":"(\d+)"', line):
    cost = int(cycles[1]) * times
    source = re.search(r'op_name="([^"]*)"', line)
    source = source[1] if source else '?'
    program.cycles += cost
    program.cycles_by_source[source] = (
        program.cycles_by_source.get(source, 0) + cost)
  if 'custom_call_target="tpu_custom_call"' in line or 'triton' in line:
    if name := re.search(r'%?([\w\-]+?)(?:\.\d+)* = ', line.strip()):
      program.kernels[name[1]] = program.kernels.get(name[1], 0) + times
  _count_collective(program, line, times)


def _count_collective(program, line, times):
  if _BETWEEN_SLICES.search(line):
    sent = _ARRAY.search(line.split(' = ', 1)[1])
    total = program.collectives.setdefault(SLICES, [0, 0])
    total[0] += times
    total[1] += times * BYTES[sent[1]] * math.prod(_dims(sent[2]))
    return
  found = _COLLECTIVE.search(line)
  if not found:
    return
  kind, start = found[1], found[2]
  result = re.sub(r'/\*.*?\*/|\{[^{}]*\}', '', line.split(' = ', 1)[1].split(
      found[0])[0])
  sizes = [BYTES.get(dtype, 4) * math.prod(_dims(dims))
           for dtype, dims in _ARRAY.findall(result)]
  # What a start gives holds its input too.
  size = (max(sizes, default=0) if start else sum(sizes)) * (
      _group(line) if kind == 'reduce-scatter' else 1)
  total = program.collectives.setdefault(kind, [0, 0])
  total[0] += times
  total[1] += times * size


def _group(line):
  """Devices that a collective brings together."""
  if iota := re.search(r'replica_groups=\[(\d+),(\d+)\]', line):
    return int(iota[2])
  listed = re.search(r'replica_groups=\{\{([\d,]*)\}', line)
  return len(listed[1].split(',')) if listed else 1


def _dims(dims):
  return tuple(map(int, filter(None, dims.split(','))))
