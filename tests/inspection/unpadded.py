"""One text at a time, as it is: what batches and padding must not change."""

import functools

import jax
import numpy as np

from robertax import model as modelling


def row(loaded, text):
  """int32[1, T], <s> and </s> included."""
  tok = loaded.tokenizer
  return np.array([[tok.bos_id, *tok.encode(text), tok.eos_id]], np.int32)


def states(loaded, text):
  """(float32[T, D], its ids)."""
  ids = row(loaded, text)
  return np.asarray(_states(loaded.config, loaded.params, ids))[0], ids[0]


def masked_log_probs(loaded, text):
  """Of each token, that one masked: float32[T - 2]."""
  ids, found = row(loaded, text), []
  for place in range(1, ids.size - 1):
    masked = ids.copy()
    masked[0, place] = loaded.tokenizer.mask_id
    logits = _logits(loaded.config, loaded.params, masked)[0, place]
    found.append(jax.nn.log_softmax(logits)[ids[0, place]])
  return np.array(found)


@functools.partial(jax.jit, static_argnums=0)
def _states(config, params, ids):
  real = np.ones(ids.shape, np.int32)
  return modelling.bind(config, params).encode(ids, real)


@functools.partial(jax.jit, static_argnums=0)
def _logits(config, params, ids):
  module = modelling.bind(config, params)
  x = module.encode(ids, np.ones(ids.shape, np.int32))
  return module.mlm_logits(x, np.arange(ids.shape[1])[None])
