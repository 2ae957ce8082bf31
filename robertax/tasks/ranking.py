"""Losses over scores of which one, in each group, should be the highest."""

import jax
import jax.numpy as jnp

Sums = dict[str, jax.Array]
# Of a candidate that is not there: its probability is 0 in float32.
ABSENT = -1e30


def choice(scores_GC: jax.Array, targets_G: jax.Array, mask_GC: jax.Array,
           weights_G: jax.Array) -> Sums:
  """Cross-entropy of the softmax over each group's scores.

  RACE (fairseq criterions/sentence_ranking.py), QNLI's ranking, and WSC with
  `--wsc-cross-entropy` (target 0: the query).

  Args:
    scores_GC: float32, C places a group.
    targets_G: int32, the place that should win.
    mask_GC: 1 where a place is taken.
    weights_G: 1 for a group that counts, 0 for filler.

  Returns:
    Scalars: loss_sum in nats, weight_sum, correct_sum (groups whose highest
    score, the first of several, is the target's).
  """
  scores = jnp.where(mask_GC > 0, scores_GC.astype(jnp.float32), ABSENT)
  target = jnp.take_along_axis(scores, targets_G[:, None], axis=1)[:, 0]
  nats = jax.nn.logsumexp(scores, axis=1) - target
  correct = scores.argmax(axis=1) == targets_G
  return {'loss_sum': (weights_G * nats).sum(),
          'weight_sum': weights_G.sum(dtype=jnp.float32),
          'correct_sum': (weights_G * correct).sum()}


def margin(scores_GC: jax.Array, mask_GC: jax.Array, weights_G: jax.Array,
           alpha: float = 1.0, beta: float = 0.0) -> Sums:
  """The margin ranking loss of the query, place 0, over each candidate.

  -lq + alpha * max(0, lc - lq + beta), summed over a group's candidates c
  (Kocijan et al. 2019; fairseq examples/roberta/wsc/wsc_criterion.py, where a
  group without candidates has no loss, as here).

  Args:
    scores_GC: float32; l of the query at place 0, of candidates behind it.
    mask_GC: 1 where a place is taken.
    weights_G: 1 for a group that counts, 0 for filler.
    alpha, beta: weight of the margin, and the margin.

  Returns:
    As `choice`; correct where no candidate is above the query.
  """
  scores = scores_GC.astype(jnp.float32)
  there = (mask_GC > 0)[:, 1:]
  query = scores[:, :1]
  # Where none is, the difference may be anything; its gradient must be 0.
  others = jnp.where(there, scores[:, 1:], query)
  loss = -query + alpha * jnp.maximum(0.0, others - query + beta)
  loss = jnp.where(there, loss, 0.0).sum(axis=1)
  return {'loss_sum': (weights_G * loss).sum(),
          'weight_sum': weights_G.sum(dtype=jnp.float32),
          'correct_sum': (weights_G * query_wins(scores, mask_GC)).sum()}


def query_wins(scores_GC: jax.Array, mask_GC: jax.Array) -> jax.Array:
  """bool[G]: whether no candidate is above the query, which is at place 0."""
  others = jnp.where(mask_GC > 0, scores_GC, ABSENT)
  return jnp.all(scores_GC[:, :1] >= others, axis=1)


def mean_by_span(values_M: jax.Array, spans_M: jax.Array, num_spans: int
                 ) -> jax.Array:
  """The mean of the values of each span: float32[num_spans].

  Args:
    values_M: log-probabilities of masked tokens.
    spans_M: int32, which span each belongs to; num_spans or more: to none.
    num_spans: in all. A span without a token has 0.
  """
  values_M = values_M.astype(jnp.float32)
  sums = jax.ops.segment_sum(values_M, spans_M, num_spans)
  counts = jax.ops.segment_sum(jnp.ones_like(values_M), spans_M, num_spans)
  return sums / jnp.maximum(counts, 1.0)
