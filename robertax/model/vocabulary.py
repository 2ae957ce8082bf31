"""The vocabulary's rows: padded inside a run, the tokenizer's outside.

Tables that have a row for each id are padded to a multiple of 128 in the
TrainState, and so in checkpoints: matrix units work on tiles of 128, and any
power of two up to 128 divides the rows along the mesh's `model` axis, which
50,265 = 3^2 x 5 x 1117 would not be. The rule knows no mesh, so a checkpoint
can be read onto any. Outside (`create`, `load`, other programs' files) there
are the tokenizer's rows alone. A padded row is no id's: it is 0, its logit is
-inf, and so its gradient and every update are 0 too.
"""

from collections.abc import Callable
import math
from typing import Any

import jax
import jax.numpy as jnp

from robertax.config import ModelConfig

MULTIPLE = 128
# What has a row for each id, where the model has it at all.
TABLES = (('embeddings', 'tokens'), ('lm_head', 'bias'), ('lm_head', 'decoder'))


def pad_vocabulary(params: Any) -> Any:
  """Appends rows of 0 up to a multiple of 128. Traceable.

  Args:
    params: nested dict of arrays, as from `create`; or padded already, which
      changes nothing.

  Returns:
    The same with V rounded up, in new dicts; all other leaves are the same.
  """
  def pad(table):
    more = -len(table) % MULTIPLE
    return table if not more else jnp.pad(
        table, [(0, more)] + [(0, 0)] * (table.ndim - 1))
  return _changed(params, pad)


def unpad_vocabulary(config: ModelConfig, params: Any) -> Any:
  """The inverse of `pad_vocabulary`: the tokenizer's rows. Traceable.

  Args:
    config: its vocab_size rows are kept.
    params: padded or not.
  """
  return _changed(params, lambda table: (
      table if len(table) == config.vocab_size else table[:config.vocab_size]))


def mask_padding(bias_V: jax.Array, vocab_size: int) -> jax.Array:
  """The decoder's bias, -inf from id `vocab_size` on: no such id is likely."""
  if len(bias_V) == vocab_size:
    return bias_V
  return jnp.where(jnp.arange(len(bias_V)) < vocab_size, bias_V, -math.inf)


def _changed(params: Any, change: Callable[[jax.Array], jax.Array]) -> Any:
  if not isinstance(params, dict):
    return params
  changed = dict(params)
  for part, name in TABLES:
    if name in changed.get(part, ()):
      changed[part] = {**changed[part], name: change(changed[part][name])}
  return changed
