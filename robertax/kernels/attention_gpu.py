"""Attention for NVIDIA GPUs (Pallas, Triton): scores exist in registers only.

The kernels have not run on a GPU. They are compiled for a Hopper chip
(tests/kernels/attention_gpu_test.py) and run by Pallas's interpreter; their
tile sizes are guesses, and `attention='auto'` does not choose them. From jax
0.11 on, Pallas warns that Mosaic GPU will replace Triton.

A tile of 512 x 512 scores does not fit into a multiprocessor. So a tile of
queries is combined with one tile of keys after the other, with a running
softmax (Dao 2023, FlashAttention-2, section 3.1). The output and the logarithm
of the softmax's divisor are kept for the backward pass, which has two kernels:
one iterates over the keys for a tile of queries, the other over the queries for
a tile of keys. No two programs add to the same number, so a repeated step is
equal bit for bit.
"""

import functools

import jax
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp
import numpy as np

from robertax.kernels.attention import MASKED, NOBODY, dot32
from robertax.kernels.dropout import GOLDEN, bits, threshold

BLOCK = 64  # Queries and keys of a tile.
SMALLEST = 16  # The smallest side of a matrix that Triton multiplies.


def forward(q_BTHK, k_BTHK, v_BTHK, segment_ids, keys, first_head, *, rate,
            interpret=False):
  """The output, and float32[B, H, T], the logarithm of the sum of exp(score).

  The arguments are those of attention_tpu.forward.
  """
  call = _GpuCall(q_BTHK, keys, rate)
  out, lse = call(
      _forward, [(call.block_of, q_BTHK), (call.all_of, k_BTHK),
                 (call.all_of, v_BTHK)], [], segment_ids, keys, first_head,
      num_wide=1, num_narrow=1, interpret=interpret)
  return out, lse


def backward(q_BTHK, k_BTHK, v_BTHK, segment_ids, keys, first_head, kept,
             do_BTHK, *, rate, interpret=False):
  """The gradients of q, k and v; `kept` is the result of `forward`."""
  out_BTHK, lse_BHT = kept
  call = _GpuCall(q_BTHK, keys, rate)
  # sum(P dP), which is subtracted from each row of the softmax's gradient.
  mean_BHT = jnp.einsum('BTHK,BTHK->BHT', out_BTHK, do_BTHK,
                        preferred_element_type=jnp.float32)
  one, every = call.block_of, call.all_of
  (dq,) = call(
      _backward_q, [(one, q_BTHK), (every, k_BTHK), (every, v_BTHK),
                    (one, do_BTHK)],
      [(call.narrow_block, lse_BHT), (call.narrow_block, mean_BHT)],
      segment_ids, keys, first_head, num_wide=1, num_narrow=0,
      interpret=interpret)
  dk, dv = call(
      _backward_kv, [(every, q_BTHK), (one, k_BTHK), (one, v_BTHK),
                     (every, do_BTHK)],
      [(call.narrow_all, lse_BHT), (call.narrow_all, mean_BHT)],
      segment_ids, keys, first_head, num_wide=2, num_narrow=0,
      interpret=interpret)
  return dq, dk, dv


class _GpuCall:
  """Applies kernels to arrays of one shape."""

  def __init__(self, x_BTHK, keys, rate):
    self.rows, self.tokens, self.heads, self.head_dim = x_BTHK.shape
    self.dtype = x_BTHK.dtype
    self.rate = 0.0 if keys is None else rate
    # The sides of Triton's arrays must be powers of two.
    self.width = max(pl.next_power_of_2(self.head_dim), SMALLEST)
    self.block = min(BLOCK, max(pl.next_power_of_2(self.tokens), SMALLEST))
    self.num_blocks = -(-self.tokens // self.block)
    self.padded = self.num_blocks * self.block
    self.block_of = pl.BlockSpec(
        (None, self.block, None, self.width),
        lambda block, head, row: (row, block, head, 0))
    self.all_of = pl.BlockSpec((None, self.padded, None, self.width),
                               lambda block, head, row: (row, 0, head, 0))
    self.narrow_block = pl.BlockSpec(
        (None, None, self.block), lambda block, head, row: (row, head, block))
    self.narrow_all = pl.BlockSpec((None, None, self.padded),
                                   lambda block, head, row: (row, head, 0))

  def __call__(self, kernel, wide, narrow, segment_ids, keys, first_head, *,
               num_wide, num_narrow, interpret):
    tokens, width = self.padded - self.tokens, self.width - self.head_dim
    arrays = [jnp.pad(x, ((0, 0), (0, tokens), (0, 0), (0, width)))
              for _, x in wide]
    arrays += [jnp.pad(x, ((0, 0), (0, 0), (0, tokens))) for _, x in narrow]
    segments = jnp.pad(segment_ids.astype(jnp.int32), ((0, 0), (0, tokens)),
                       constant_values=NOBODY)
    if keys is None:
      keys = jnp.zeros((self.rows, 2), jnp.uint32)
    first_head = jnp.reshape(first_head, (1,)).astype(jnp.uint32)
    found = pl.pallas_call(
        functools.partial(kernel, call=self),
        grid=(self.num_blocks, self.heads, self.rows),
        in_specs=[
            pl.BlockSpec((1,), lambda block, head, row: (0,)),
            pl.BlockSpec((None, 2), lambda block, head, row: (row, 0)),
            pl.BlockSpec((None, self.padded),
                         lambda block, head, row: (row, 0)),
            *(spec for spec, _ in wide), *(spec for spec, _ in narrow)],
        out_specs=([self.block_of] * num_wide
                   + [self.narrow_block] * num_narrow),
        out_shape=[
            jax.ShapeDtypeStruct(
                (self.rows, self.padded, self.heads, self.width), self.dtype)
        ] * num_wide + [
            jax.ShapeDtypeStruct((self.rows, self.heads, self.padded),
                                 jnp.float32)] * num_narrow,
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret, name=f'attention{kernel.__name__}',
    )(first_head, keys, segments, *arrays)
    return ([x[:, :self.tokens, :, :self.head_dim] for x in found[:num_wide]]
            + [x[:, :, :self.tokens] for x in found[num_wide:]])

  def scaled(self, q):
    return (q.astype(jnp.float32) * self.head_dim**-.5).astype(q.dtype)

  def undropped(self, do):
    """do / (1 - rate), which saves dividing the probabilities."""
    return (do.astype(jnp.float32) * (1 / (1 - self.rate))).astype(do.dtype)

  def scores(self, q, k, segments, q_block, k_block):
    scores = dot32(q, k, 1, 1)
    same = (segments[self.part(q_block)][:, None]
            == segments[self.part(k_block)][None])
    return jnp.where(same, scores, MASKED)

  def part(self, block):
    return pl.ds(block * self.block, self.block)

  def words(self, first_head, keys):
    """The part of the hash that is constant within a program.

    The index (head T + t) T + s of an element, times GOLDEN, is a sum of one
    product per dim, modulo 2^32.
    """
    head = pl.program_id(1).astype(jnp.uint32) + first_head[0]
    return (keys[0] + head * np.uint32(self.tokens**2 * int(GOLDEN) % 2**32),
            keys[1])

  def keep(self, words, q_block, k_block, probs):
    """`probs` [block, block], with dropped elements set to 0."""
    if not self.rate:
      return probs
    lane = lax.iota(jnp.uint32, self.block)
    row, column = (lane + number.astype(jnp.uint32) * np.uint32(self.block)
                   for number in (q_block, k_block))
    row = row * np.uint32(self.tokens * int(GOLDEN) % 2**32) + words[0]
    keep = bits(row[:, None] + (column * GOLDEN)[None],
                words[1]) >= threshold(self.rate)
    return jnp.where(keep, probs, 0.)


def _forward(first_head, keys, segments, q, k, v, out, lse, *, call):
  block, words = pl.program_id(0), call.words(first_head, keys)
  q_block = call.scaled(q[...])

  def meet(number, carry):
    total, top, acc = carry
    scores = call.scores(q_block, k[call.part(number), :], segments, block,
                         number)
    new_top = jnp.maximum(top, scores.max(1))
    shrink = jnp.exp(top - new_top)
    unnormed = jnp.exp(scores - new_top[:, None])
    kept = call.keep(words, block, number, unnormed)
    acc = acc * shrink[:, None] + dot32(
        kept.astype(v.dtype), v[call.part(number), :], 1, 0)
    return total * shrink + unnormed.sum(1), new_top, acc

  # A token sees at least itself. Until then all of its scores are MASKED, and
  # what they add is multiplied by 0 afterwards.
  total, top, acc = lax.fori_loop(0, call.num_blocks, meet, (
      jnp.zeros(call.block, jnp.float32),
      jnp.full(call.block, -jnp.inf, jnp.float32),
      jnp.zeros((call.block, call.width), jnp.float32)))
  out[...] = (acc / (total * (1 - call.rate))[:, None]).astype(out.dtype)
  lse[...] = top + jnp.log(total)


def _backward_q(first_head, keys, segments, q, k, v, do, lse, mean, dq, *,
                call):
  block, words = pl.program_id(0), call.words(first_head, keys)
  q_block, do_block = call.scaled(q[...]), call.undropped(do[...])
  lse_block, mean_block = lse[...], mean[...]

  def meet(number, acc):
    k_block = k[call.part(number), :]
    scores = call.scores(q_block, k_block, segments, block, number)
    probs = jnp.exp(scores - lse_block[:, None])
    dp = call.keep(words, block, number,
                   dot32(do_block, v[call.part(number), :], 1, 1))
    ds = probs * (dp - mean_block[:, None])
    return acc + dot32(ds.astype(k.dtype), k_block, 1, 0)

  acc = lax.fori_loop(0, call.num_blocks, meet, jnp.zeros(
      (call.block, call.width), jnp.float32))
  dq[...] = (acc * call.head_dim**-.5).astype(dq.dtype)


def _backward_kv(first_head, keys, segments, q, k, v, do, lse, mean, dk, dv, *,
                 call):
  block, words = pl.program_id(0), call.words(first_head, keys)
  k_block, v_block = k[...], v[...]

  def meet(number, carry):
    dk_sum, dv_sum = carry
    q_block = call.scaled(q[call.part(number), :])
    do_block = call.undropped(do[call.part(number), :])
    scores = call.scores(q_block, k_block, segments, number, block)
    probs = jnp.exp(scores - lse[call.part(number)][:, None])
    kept = call.keep(words, number, block, probs)
    ds = (kept * dot32(do_block, v_block, 1, 1)
          - probs * mean[call.part(number)][:, None])
    return (dk_sum + dot32(ds.astype(q.dtype), q_block, 0, 0),
            dv_sum + dot32(kept.astype(do.dtype), do_block, 0, 0))

  zeros = jnp.zeros((call.block, call.width), jnp.float32)
  dk_sum, dv_sum = lax.fori_loop(0, call.num_blocks, meet, (zeros, zeros))
  dk[...] = dk_sum.astype(dk.dtype)
  dv[...] = dv_sum.astype(dv.dtype)
