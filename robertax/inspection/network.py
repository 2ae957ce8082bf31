"""A network with its tokenizer: arrays in, arrays out, few shapes compiled.

`Model` extends it to answer questions about texts.
"""

from collections.abc import Iterator, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robertax import model as modelling
from robertax.config import ModelConfig
from robertax.errors import InputError
from robertax.text import Tokenizer

SHORTEST = 8  # The smallest length; lengths and row counts are powers of two.


def with_ends(tokenizer: Tokenizer, ids: np.ndarray, max_positions: int,
              text: str) -> np.ndarray:
  """int32 ids with <s> and </s>; InputError, with the text, if too many."""
  row = np.concatenate([[tokenizer.bos_id], ids, [tokenizer.eos_id]])
  if len(row) > max_positions:
    raise InputError(
        f'the text is {len(row)} tokens long, the model has {max_positions} '
        f'positions: give a shorter one than {text[:60]!r}...')
  return row.astype(np.int32)


def row_batches(rows: Sequence[np.ndarray], pad_id: int, max_positions: int,
                max_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray,
                                                   np.ndarray]]:
  """Yields batches of rows of similar length, the shortest first.

  Each is (row numbers [n], input_ids int32[B, T], segment_ids int32[B, T]), in
  which rows from n on are padding. B is a power of two, and so is T unless it
  is `max_positions`. A batch has at most `max_tokens` tokens, padding included;
  a longer row is a batch alone.
  """
  lengths = np.array([min(max_positions, max(SHORTEST, _next_power(len(row))))
                      for row in rows])
  for length in sorted(set(lengths.tolist())):
    numbers = np.flatnonzero(lengths == length)
    most = max(1, max_tokens // length)
    most = 1 << (most.bit_length() - 1)
    for start in range(0, len(numbers), most):
      part = numbers[start:start + most]
      shape = (_next_power(len(part)), length)
      input_ids = np.full(shape, pad_id, np.int32)
      segment_ids = np.zeros(shape, np.int32)
      for place, number in enumerate(part):
        row = rows[number]
        input_ids[place, :len(row)], segment_ids[place, :len(row)] = row, 1
      yield part, input_ids, segment_ids


def _next_power(count: int) -> int:
  return max(1, 1 << (count - 1).bit_length())


class Network:
  """Weights, shape and tokenizer of a model.

  `step` is how many updates the weights have had, `labels` are the names of
  classes, if any, and `longest` is the most tokens of a text to classify.
  """

  def __init__(self, params: Any, config: ModelConfig,
               tokenizer: Tokenizer, step: int,
               labels: Sequence[str] = (), longest: int = 0):
    self.params, self.config = params, config
    self.tokenizer, self.step = tokenizer, step
    self.labels = tuple(labels)
    self.longest = min(longest or config.max_positions, config.max_positions)
    self._states = jax.jit(functools.partial(_states, config),
                           static_argnames='all_layers')
    self._log_probs, self._class_logits, self._target_log_probs = (
        jax.jit(functools.partial(function, config))
        for function in (_log_probs, _class_logits, _target_log_probs))

  def states(self, input_ids: np.ndarray, segment_ids: np.ndarray,
             all_layers: bool = False) -> np.ndarray:
    """float32[B, T, D], or [N + 1, B, T, D] with all layers."""
    return np.asarray(self._states(self.params, input_ids, segment_ids,
                                   all_layers=all_layers))

  def log_probs(self, input_ids: np.ndarray, segment_ids: np.ndarray,
                positions: np.ndarray) -> np.ndarray:
    """float32[B, M, V]: log p of every token at `positions` int32[B, M]."""
    return np.asarray(self._log_probs(self.params, input_ids, segment_ids,
                                      positions))


def _encoded(config, params, input_ids, segment_ids, type_ids=None,
             all_layers=False):
  module = modelling.bind(config, params)
  types = jnp.zeros_like(input_ids) if type_ids is None else type_ids
  return module, module.encode(
      input_ids, segment_ids, types if config.num_types else None,
      all_layers=all_layers)


def _class_logits(config, params, input_ids, segment_ids, type_ids):
  module, x_BTD = _encoded(config, params, input_ids, segment_ids, type_ids)
  first = jnp.zeros((len(input_ids), 1), jnp.int32)
  return module.class_logits(x_BTD, first)[:, 0].astype(jnp.float32)


def _states(config, params, input_ids, segment_ids, all_layers):
  _, x_BTD = _encoded(config, params, input_ids, segment_ids,
                      all_layers=all_layers)
  return x_BTD.astype(jnp.float32)


def _log_probs(config, params, input_ids, segment_ids, positions):
  module, x_BTD = _encoded(config, params, input_ids, segment_ids)
  return jax.nn.log_softmax(module.mlm_logits(x_BTD, positions))


def _target_log_probs(config, params, input_ids, segment_ids, positions,
                      targets):
  """float32[B, M]: log p of `targets` at `positions`, both int32[B, M]."""
  log_probs = _log_probs(config, params, input_ids, segment_ids, positions)
  return jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
