"""Estimates our attention kernels with the TPU compiler, without a TPU.

`python -m benchmarks.attention_schedule` (with requirements-tpu.txt) compiles
the kernels for one chip and counts the instruction bundles of the final
schedule. A kernel has no loop, so each program runs every bundle once, and
bundles x programs / clock is its time, unless memory stalls it. Times are
compiled, not measured. The last line is one JSON object: milliseconds per
layer.
"""

import argparse
import glob
import json
import os
import tempfile

# Chips with one core, and their clocks: data-sheet FLOP/s / FLOP per cycle
# (v5e 197e12 / (4 x 128^2 x 2), v6e 918e12 / (4 x 256^2 x 2)).
CLOCKS = {'v5e': 1.5e9, 'v6e': 1.75e9}
ROWS, TOKENS, HEADS, HEAD_DIM = 32, 512, 16, 64  # RoBERTa-large, one chip
PAIRS = 2  # heads that a program takes


def bundles(folder: str) -> int:
  """Bundles of the longest program compiled into the folder; empties it."""
  longest = 0
  for path in glob.glob(os.path.join(folder, '*')):
    if path.endswith('final_hlo-static-per-bundle-utilization.txt'):
      with open(path) as file:
        longest = max(longest, len(
            file.read().split('UTILIZATION:')[1].strip().split('\n')))
    os.remove(path)
  return longest


def measure(chip: str, folder: str) -> dict[str, float]:
  import jax
  from jax.experimental import topologies
  import jax.numpy as jnp

  from robertax.kernels import attention_tpu

  device = topologies.get_topology_desc(
      platform='tpu', topology_name=f'{chip}:2x2').devices[0]

  def field(dtype, *shape):
    return jax.ShapeDtypeStruct(
        shape, dtype, sharding=jax.sharding.SingleDeviceSharding(device))

  x = field(jnp.bfloat16, ROWS, TOKENS, HEADS * HEAD_DIM)
  rest = field(jnp.int32, ROWS, TOKENS), field(jnp.uint32, ROWS, 2)

  def split(x):
    return x.reshape(ROWS, TOKENS, HEADS, HEAD_DIM)

  def join(xs):
    return [x.reshape(ROWS, TOKENS, HEADS * HEAD_DIM) for x in xs]

  found = {}
  for rate in (0.1, 0.0):
    def forward(q, k, v, do, segment_ids, keys, rate=rate):
      del do
      return join(attention_tpu.forward(
          *map(split, (q, k, v)), segment_ids, keys, 0, rate=rate)[:1])

    def backward(q, k, v, do, segment_ids, keys, rate=rate):
      return join(attention_tpu.backward(
          *map(split, (q, k, v)), segment_ids, keys, 0, None, split(do),
          rate=rate))

    for function in (forward, backward):
      jax.jit(function).lower(x, x, x, x, *rest).compile()
      count = bundles(folder)
      name = f'{function.__name__}, dropout {rate}'
      found[name] = count * ROWS * HEADS / PAIRS / CLOCKS[chip] * 1e3
      print(f'{name}: {count} bundles per program, {found[name]:.3f} ms per '
            'layer', flush=True)
  return found


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--chip', choices=sorted(CLOCKS), default='v5e')
  given = parser.parse_args(arguments)
  with tempfile.TemporaryDirectory() as folder:
    # It must be set before libtpu is loaded.
    os.environ['LIBTPU_INIT_ARGS'] = (
        f'--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true')
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')
    os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
    os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
    found = measure(given.chip, folder)
  print(json.dumps({'chip': given.chip, 'milliseconds_a_layer': found}))


if __name__ == '__main__':
  main()
