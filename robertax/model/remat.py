"""What the backward pass finds in memory, and what it makes again.

Each policy is the names of what a block keeps beside its own input; all else is
computed again, from what is kept, when the backward pass reaches the block. The
numbers are the same.
"""

from collections.abc import Callable

import jax
from jax.ad_checkpoint import checkpoint_name

from robertax.errors import unknown

QUERY, KEY, VALUE = 'query', 'key', 'value'
CONTEXT = 'context'  # what attention gives, before its output product
ATTENTION_SUM, MLP_SUM = 'attention_sum', 'mlp_sum'  # what the LayerNorms get
MLP_IN = 'mlp_in'  # before the GELU

# `products` keeps what each product of matrices gives, and makes LayerNorm,
# GELU, dropout and softmax again: cheap operations on what is read anyway.
# `attention` makes the MLP's first product again too, `full` everything.
POLICIES: dict[str, tuple[str, ...] | None] = {
    'none': None,
    'products': (QUERY, KEY, VALUE, CONTEXT, ATTENTION_SUM, MLP_IN, MLP_SUM),
    'attention': (QUERY, KEY, VALUE, CONTEXT, ATTENTION_SUM, MLP_SUM),
    'full': (),
}

keep = checkpoint_name


def rematerialize(function: Callable, name: str) -> Callable:
  """The function, keeping for its backward pass what the policy names.

  Args:
    function: of arrays, run inside a scan.
    name: a row of POLICIES.

  Raises:
    InputError: no such policy.
  """
  if name not in POLICIES:
    raise unknown('model.remat', name, POLICIES)
  if POLICIES[name] is None:
    return function
  # A scan keeps the two passes apart by itself, so CSE need not be prevented.
  return jax.checkpoint(
      function, prevent_cse=False,
      policy=jax.checkpoint_policies.save_only_these_names(*POLICIES[name]))
