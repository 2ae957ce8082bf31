#!/usr/bin/env bash
# XLA on CPUs: the last bits of a sum depend on the number of its threads.
#
# The CPU client has a thread for each core that the process may use (its
# affinity), or as many as PJRT_NPROC says, and one for each device at least. A
# sum over leading dimensions is split over them, so the same program on the
# same numbers has other last bits on another number of cores. Training that is
# killed and resumed on the same machine is bitwise; on another one it need not
# be, and nothing says so but what a checkpoint has recorded.
#
# Seen with jax and jaxlib 0.10.2, two cores, Python 3.11:
#   float32[8,512,768] summed over its first two dimensions: one value with 1
#   thread, another with 2 to 4, a third with 8 to 64. A product of matrices
#   [1024,1024] x [1024,1024]: the same with all.
#
# Exit code 0: as seen; 1: the behaviour has changed. Needs python3 with jax.
set -euo pipefail
export JAX_PLATFORMS=cpu XLA_FLAGS=
said=$(for threads in 1 2 4 8 64; do
  PJRT_NPROC=$threads python3 - <<'P'
import hashlib
import os

import jax
import numpy as np

numbers = np.random.default_rng(0)


def bits(function, *shapes):
  inputs = [numbers.normal(size=shape).astype(np.float32) for shape in shapes]
  found = np.asarray(jax.jit(function)(*inputs))
  return hashlib.sha256(found.tobytes()).hexdigest()[:8]


print(os.environ['PJRT_NPROC'], 'threads: sum',
      bits(lambda x: x.sum((0, 1)), (8, 512, 768)), 'product',
      bits(lambda x, y: x @ y, (1024, 1024), (1024, 1024)))
P
done)
echo "$said"
sums=$(cut -d' ' -f4 <<<"$said" | sort -u | wc -l)
products=$(cut -d' ' -f6 <<<"$said" | sort -u | wc -l)
[[ $sums == 3 && $products == 1 ]]
