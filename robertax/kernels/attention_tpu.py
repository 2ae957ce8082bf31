"""Attention for TPU (Pallas, Mosaic): scores exist in VMEM only.

One program takes one row of the batch, a group of heads that together fill
whole registers (two heads of 64), and all keys of the row. At 512 tokens the
scores of a head are one tile of 1 MiB, so the softmax is a plain one. Longer
rows are cut into tiles of queries.

Only the inputs are kept for the backward pass, which computes scores, softmax
and dropout bits again. So under a checkpoint policy that keeps the output, the
forward kernel does not run a second time.

The arrays stay as the projections make them, [B, T, H K] with heads side by
side. Extracting one head of a pair would cost a rotation of every register. It
is cheaper to set the other head's lanes to zero and let the matrix unit, which
is 128 wide anyway, add zeros.

The kernels are compiled for v4, v5e, v5p and v6e
(tests/tpu_aot/attention_test.py) and run by Pallas's interpreter; they have not
run on a TPU. Rows of up to 2048 tokens compile everywhere, of 4096 not on v4.
For a layer of RoBERTa-large with 32 rows of 512 tokens, v5e's schedule
(compiled, 2026-11-24, `python -m benchmarks.attention_schedule`) takes .74 ms
forward and 1.28 ms backward, and .49 and 1.04 without dropout, whose cost is
mostly the hash: 13 operations per element.
"""

import functools
import math

import jax
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp
import numpy as np

from robertax.kernels.attention import MASKED, NOBODY, dot32
from robertax.kernels.dropout import GOLDEN, bits, threshold

LANES = 128  # The width of a vector register and of the matrix unit.
SCORES = 512 * 512  # How many scores of a head a program holds at a time.


def forward(q_BTHK, k_BTHK, v_BTHK, segment_ids, keys, first_head, *, rate,
            interpret=False):
  """([B, T, H, K] in q's dtype, None); the backward pass needs only the inputs.

  q, k and v are unscaled, segment_ids are int32[B, T] and none is -1, and keys
  are uint32[B, 2], or None with rate 0. `first_head` int32[] is the index of
  head 0 among all heads of the model. `interpret` works on any platform.
  """
  call = _TpuCall(q_BTHK, keys, rate)
  (out,) = call(
      _forward, call.scalars(keys, first_head),
      [(call.queries, q_BTHK), (call.keys, k_BTHK), (call.keys, v_BTHK)],
      segment_ids, [call.queries], products=2, interpret=interpret)
  return out, None


def backward(q_BTHK, k_BTHK, v_BTHK, segment_ids, keys, first_head, kept,
             do_BTHK, *, rate, interpret=False):
  """The gradients of q, k and v; `kept` is None."""
  del kept
  call = _TpuCall(q_BTHK, keys, rate)
  return call(
      _backward, call.scalars(keys, first_head),
      [(call.queries, q_BTHK), (call.keys, k_BTHK), (call.keys, v_BTHK),
       (call.queries, do_BTHK)],
      segment_ids, [call.queries, call.keys, call.keys], products=5,
      interpret=interpret)


class _TpuCall:
  """Applies kernels to arrays of one shape."""

  def __init__(self, x_BTHK, keys, rate):
    self.rows, self.tokens, self.heads, self.head_dim = x_BTHK.shape
    self.dtype = x_BTHK.dtype
    self.rate = 0.0 if keys is None else rate
    # A tile is whole registers wide, or as wide as the array. Heads that fit
    # neither way (of 80, or three of 128) are filled up with zeros.
    self.size = (pl.next_power_of_2(self.head_dim) if self.head_dim < LANES
                 else -(-self.head_dim // LANES) * LANES)
    self.group = max(LANES // self.size, 1)
    if self.heads % self.group:
      if self.heads * self.size <= 2 * LANES:
        self.group = self.heads
      else:
        self.group, self.size = 1, LANES
    self.width = self.group * self.size
    padded = -(-self.tokens // LANES) * LANES
    self.block = min(padded, max(LANES, SCORES // padded // LANES * LANES))
    self.padded = -(-padded // self.block) * self.block
    self.num_blocks = self.padded // self.block
    self.queries = pl.BlockSpec(
        (None, self.block, self.width),
        lambda row, group, block, _: (row, block, group))
    self.keys = pl.BlockSpec((None, self.padded, self.width),
                             lambda row, group, block, _: (row, 0, group))

  def scalars(self, keys, first_head):
    """int32[1 + 2 B]: the first head's index, then the words of the keys."""
    first_head = jnp.reshape(first_head, (1,)).astype(jnp.int32)
    if not self.rate:
      return first_head
    return jnp.concatenate(
        [first_head, lax.bitcast_convert_type(keys, jnp.int32).reshape(-1)])

  def __call__(self, kernel, scalars, inputs, segment_ids, outputs, *,
               products, interpret):
    fill = ((0, 0), (0, self.padded - self.tokens))
    flat = (self.rows, self.padded, self.heads * self.size)
    arrays = [
        jnp.pad(x, (*fill, (0, 0), (0, self.size - self.head_dim))
                ).reshape(flat) for _, x in inputs]
    segments = jnp.pad(segment_ids.astype(jnp.int32), fill,
                       constant_values=NOBODY)[:, None]
    segment_specs = [
        pl.BlockSpec((None, 1, self.block),
                     lambda row, group, block, _: (row, 0, block)),
        pl.BlockSpec((None, 1, self.padded),
                     lambda row, group, block, _: (row, 0, 0))]
    scores = self.rows * self.heads * self.padded**2
    sums = [] if len(outputs) == 1 or self.num_blocks == 1 else [
        pltpu.VMEM((self.padded, self.width), jnp.float32)] * 2
    found = pl.pallas_call(
        functools.partial(kernel, call=self),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(self.rows, self.heads // self.group, self.num_blocks),
            in_specs=segment_specs + [spec for spec, _ in inputs],
            out_specs=outputs, scratch_shapes=sums),
        out_shape=[jax.ShapeDtypeStruct(flat, self.dtype)] * len(outputs),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=('parallel', 'parallel', 'arbitrary'),
            vmem_limit_bytes=self._vmem(len(inputs) + len(outputs))),
        cost_estimate=pl.CostEstimate(
            flops=2 * products * scores * self.head_dim,
            transcendentals=scores,
            bytes_accessed=math.prod(flat) * self.dtype.itemsize
            * (len(inputs) + len(outputs))),
        interpret=interpret, name=f'attention{kernel.__name__}',
    )(scalars, segments, segments, *arrays)
    return [x.reshape(self.rows, self.padded, self.heads, self.size)[
        :, :self.tokens, :, :self.head_dim] for x in found]

  def _vmem(self, num_arrays):
    """Bytes: two buffers per array, sums in float32, some tiles of scores."""
    width = -(-self.width // LANES) * LANES
    arrays = self.padded * width * (2 * num_arrays * self.dtype.itemsize + 8)
    return max(arrays + 8 * 4 * self.block * self.padded, 16 * 2**20)

  @property
  def by_lanes(self):
    """Whether heads are separated by zeroing lanes, not by slicing."""
    return self.group > 1 and self.width <= LANES

  def lanes(self, head):
    lane = lax.broadcasted_iota(jnp.int32, (1, self.width), 1)
    return (lane >= head * self.size) & (lane < (head + 1) * self.size)

  def cut(self, ref, head):
    """The head's columns of [T, width]; all columns if lanes are zeroed."""
    if self.by_lanes or self.group == 1:
      return ref[...]
    return ref[:, head * self.size:(head + 1) * self.size]

  def cut_alone(self, ref, head):
    """`cut` with the other heads' lanes set to zero."""
    x = self.cut(ref, head)
    return jnp.where(self.lanes(head), x, jnp.zeros_like(x)) if (
        self.by_lanes) else x

  def scaled(self, q):
    return (q.astype(jnp.float32) * self.head_dim**-.5).astype(q.dtype)

  def store(self, ref, parts, add=False):
    """Writes the parts of the heads, as `cut` gives them, side by side."""
    if self.by_lanes:
      whole = parts[-1]
      for head, part in enumerate(parts[:-1]):
        whole = jnp.where(self.lanes(head), part, whole)
      parts, size = [whole], self.width
    else:
      size = self.size
    for n, part in enumerate(parts):
      columns = slice(n * size, (n + 1) * size)
      before = ref[:, columns] if add else 0
      ref[:, columns] = (before + part).astype(ref.dtype)

  def probs(self, scalars, head, q, k, q_segments, k_segments):
    """exp(score - max) of one head, the same after dropout, and its sum.

    The sum is [block, 1], the others are [block, T]. The caller divides smaller
    arrays by the sum instead.
    """
    scores = dot32(q, k, 1, 1)
    scores = jnp.where(q_segments == k_segments, scores, MASKED)
    unnormed = jnp.exp(scores - scores.max(1, keepdims=True))
    total = unnormed.sum(1, keepdims=True)
    if not self.rate:
      return unnormed, unnormed, total
    head += pl.program_id(1) * self.group + scalars[0]
    first, second = (scalars[1 + 2 * pl.program_id(0) + word].astype(jnp.uint32)
                     for word in (0, 1))
    # The index (head T + t) T + s of an element, times GOLDEN, is a sum of one
    # product per dim, modulo 2^32.
    start = (head * self.tokens + pl.program_id(2) * self.block) * self.tokens
    first += start.astype(jnp.uint32) * GOLDEN
    row = lax.broadcasted_iota(jnp.uint32, (self.block, 1), 0)
    column = lax.broadcasted_iota(jnp.uint32, (1, self.padded), 1)
    weyl = (row * np.uint32(self.tokens * int(GOLDEN) % 2**32) + first
            + column * GOLDEN)
    keep = bits(weyl, second) >= threshold(self.rate)
    return unnormed, jnp.where(keep, unnormed, 0.), total


def _column(row):
  """[1, T] -> [T, 1]."""
  return jnp.broadcast_to(row, (8, row.shape[1])).T[:, :1]


def _forward(scalars, q_segments, k_segments, q, k, v, out, *, call):
  q_segments, k_segments = _column(q_segments[...]), k_segments[...]
  parts = []
  for head in range(call.group):
    _, kept, total = call.probs(
        scalars, head, call.scaled(call.cut_alone(q, head)),
        call.cut(k, head), q_segments, k_segments)
    part = dot32(kept.astype(v.dtype), call.cut(v, head), 1, 0)
    parts.append(part * (1 / (total * (1 - call.rate))))
  call.store(out, parts)


def _backward(scalars, q_segments, k_segments, q, k, v, do, dq, dk, dv, *sums,
              call):
  q_segments, k_segments = _column(q_segments[...]), k_segments[...]
  dqs, dks, dvs = [], [], []
  for head in range(call.group):
    q_head = call.scaled(call.cut_alone(q, head))
    k_head = call.cut(k, head)
    unnormed, kept, total = call.probs(
        scalars, head, q_head, k_head, q_segments, k_segments)
    # With P = unnormed / total and D = keep / (1 - rate), the gradient of a
    # score is P (D dP - sum(P D dP)). Both divisions are applied to do, which
    # has fewer elements than P.
    do_head = call.cut_alone(do, head)
    do_head = (do_head.astype(jnp.float32)
               * (1 / (total * (1 - call.rate)))).astype(do.dtype)
    product = kept * dot32(do_head, call.cut(v, head), 1, 1)
    mean = product.sum(1, keepdims=True) / total
    ds = (product - unnormed * mean).astype(q.dtype)
    dqs.append(dot32(ds, k_head, 1, 0) * call.head_dim**-.5)
    dks.append(dot32(ds, q_head, 0, 0))
    dvs.append(dot32(kept.astype(do.dtype), do_head, 0, 0))
  call.store(dq, dqs)
  if not sums:
    call.store(dk, dks)
    call.store(dv, dvs)
    return

  @pl.when(pl.program_id(2) == 0)
  def _():
    for total in sums:
      total[...] = jnp.zeros_like(total)

  for total, parts in zip(sums, (dks, dvs)):
    call.store(total, parts, add=True)

  @pl.when(pl.program_id(2) == call.num_blocks - 1)
  def _():
    for target, total in zip((dk, dv), sums):
      target[...] = total[...].astype(target.dtype)
