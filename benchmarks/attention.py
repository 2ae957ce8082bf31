"""Times each attention implementation: `python -m benchmarks.attention`.

Uses random q, k, v of one layer, with two segments per row. Each implementation
runs forward alone, and forward with backward (a `step`). Rounds alternate the
order (A B B A), and a ratio is the median over rounds of two times of the same
round. Before timing, each result is compared with `xla`. Needs only jax, flax,
optax and numpy; the last line is one JSON object.

On a CPU only `xla` is timed: kernels are interpreted there, so their times
would be meaningless.
"""

import argparse
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from robertax.errors import InputError, first_line
from robertax.kernels import attention, key_words, row_keys

BY_PLATFORM = {'cpu': ('xla',), 'gpu': ('xla', 'fused', 'cudnn'),
               'tpu': ('xla', 'fused', 'splash')}


def inputs(rows: int, tokens: int, heads: int, head_dim: int, dtype: str):
  """Random q, k, v, a gradient direction, segment ids and dropout keys."""
  random = np.random.default_rng(0)
  arrays = [jnp.asarray(random.standard_normal(
      (rows, tokens, heads, head_dim), np.float32), dtype) for _ in range(4)]
  segment_ids = np.ones((rows, tokens), np.int32)
  segment_ids[:, tokens // 2:] = 2
  return (*arrays, jnp.asarray(segment_ids),
          row_keys(key_words(0, 0), jnp.arange(rows)))


def functions(name: str, rate: float):
  """The jitted functions (forward, step) of the values of `inputs`."""
  def forward(q, k, v, direction, segment_ids, keys):
    del direction
    return attention(q, k, v, segment_ids=segment_ids, dropout_key=keys,
                     dropout_rate=rate, implementation=name)

  def step(q, k, v, direction, *rest):
    out, vjp = jax.vjp(
        lambda q, k, v: forward(q, k, v, direction, *rest), q, k, v)
    return out, *vjp(direction)

  return jax.jit(forward), jax.jit(step)


def milliseconds(function, arrays, calls: int) -> float:
  begin = time.perf_counter()
  for _ in range(calls):
    out = function(*arrays)
  jax.block_until_ready(out)
  return (time.perf_counter() - begin) / calls * 1e3


def error(found, expected) -> float:
  """The largest difference, relative to the array's largest number."""
  return max(float(np.abs(np.asarray(x, np.float32) - y).max()
                   / np.abs(y).max())
             for x, y in zip(found, (np.asarray(y, np.float32)
                                     for y in expected)))


def measure(names, shape, dtype: str, rate: float, rounds: int, calls: int,
            tolerance: float) -> dict[str, dict[str, float] | None]:
  """Times of each implementation; None if it does not support the case."""
  arrays = inputs(*shape, dtype)
  expected = functions('xla', rate)[1](*arrays)
  ready, results = {}, {}
  for name in names:
    forward, step = functions(name, rate)
    try:
      off = error(step(*arrays), expected)
      jax.block_until_ready(forward(*arrays))
    except (InputError, RuntimeError, NotImplementedError) as e:
      print(f'{name}: not available here: {first_line(e)}', flush=True)
      results[name] = None
      continue
    if not off <= tolerance:
      raise SystemExit(f'{name}: {off:.2g} away from xla: not timed')
    ready[name] = forward, step
    results[name] = {'error': off}
  times = {(name, part): [] for name in ready for part in (0, 1)}
  for number in range(rounds):
    order = list(times) if number % 2 else list(times)[::-1]
    for name, part in order:
      times[name, part].append(
          milliseconds(ready[name][part], arrays, calls))
  for name, found in results.items():
    if found is None:
      continue
    for part, key in enumerate(('forward', 'step')):
      found[f'{key}_ms'] = statistics.median(times[name, part])
      found[f'{key}_ratio_to_xla'] = statistics.median(
          xla / own for xla, own in zip(times['xla', part], times[name, part])
      ) if 'xla' in ready else None
    print(f'{name}: forward {found["forward_ms"]:.3f} ms, with backward '
          f'{found["step_ms"]:.3f} ms', flush=True)
  return results


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--implementations', help='names, separated by commas; '
                      'default: those of the platform')
  parser.add_argument('--rows', type=int, default=32)
  parser.add_argument('--tokens', type=int, default=512)
  parser.add_argument('--heads', type=int, default=16)
  parser.add_argument('--head_dim', type=int, default=64)
  parser.add_argument('--dtype', choices=('bfloat16', 'float32'),
                      default='bfloat16')
  parser.add_argument('--dropout', type=float, default=0.1)
  parser.add_argument('--rounds', type=int, default=8)
  parser.add_argument('--calls', type=int, default=10, help='calls per round')
  given = parser.parse_args(arguments)
  platform = jax.default_backend()
  names = (given.implementations.split(',') if given.implementations
           else BY_PLATFORM.get(platform, ('xla',)))
  if platform == 'cpu':
    print('On a CPU kernels are interpreted, so only xla is timed.')
  shape = given.rows, given.tokens, given.heads, given.head_dim
  results = measure(
      names, shape, given.dtype, given.dropout, given.rounds, given.calls,
      tolerance=2e-2 if given.dtype == 'bfloat16' else 1e-2)
  print(json.dumps({
      'platform': platform, 'device': jax.devices()[0].device_kind,
      'jax': jax.__version__, 'shape': shape, 'dtype': given.dtype,
      'dropout': given.dropout, 'implementations': results}))


if __name__ == '__main__':
  main()
