"""Checksums by NumPy are those by XLA, which old checkpoints hold."""

import jax.numpy as jnp
import numpy as np
import pytest

from robertax.train import facts


@pytest.mark.parametrize('shape', [
    (), (0,), (3, 4), (facts._PART,), (facts._PART + 1,), (7, 5, 3, 9)])
@pytest.mark.parametrize('dtype', [
    'float32', 'bfloat16', 'float16', 'int32', 'int16', 'uint8', 'bool'])
def test_sums_on_the_host_are_those_of_the_devices(shape, dtype):
  values = np.random.default_rng(0).integers(0, 255, shape)
  x = jnp.asarray(values).astype(dtype)
  assert facts.host_sums(np.asarray(x)) == tuple(
      map(int, facts.array_sums(x)))


def test_both_ways_of_tree_sums_agree(monkeypatch):
  tree = {'a': {'b': jnp.arange(6.0).reshape(2, 3)}, 'c': jnp.float32(1)}
  here = facts.tree_sums(tree)
  monkeypatch.setattr(facts, 'MOST_ON_HOST', 0)
  assert here == facts.tree_sums(tree)
  assert here['a/b'][0] == 'float32[2,3]'
