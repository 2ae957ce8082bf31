"""One rule per parameter, and optimizer state that lies as parameters do."""

import math
import re

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import optax
import pytest

from robertax import model
from robertax.config import MeshConfig, ModelConfig
from robertax.errors import InputError
from robertax.parallel import mesh
from robertax.parallel.mesh import (
    RULES,
    batch_sharding,
    make_mesh,
    param_shardings,
    state_shardings,
)


def shapes(tied=True, vocab_size=48, pairs=True):
  config = ModelConfig(
      vocab_size=vocab_size, hidden_size=16, num_layers=2, num_heads=4,
      mlp_size=32, max_positions=8, tie_embeddings=tied,
      num_types=2 * pairs, nsp_head=pairs, num_classes=3 * pairs,
      span_head=pairs)
  return jax.eval_shape(lambda: model.create(config, jax.random.key(0)))


def names(tree):
  return [jax.tree_util.keystr(path, simple=True, separator='/')
          for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


@pytest.mark.parametrize('tied, pairs', [(True, True), (False, False)])
def test_exactly_one_rule_for_every_parameter(tied, pairs):
  for name in names(shapes(tied, pairs=pairs)):
    fitting = [rule for rule, _ in RULES if re.fullmatch(rule, name)]
    assert len(fitting) == 1, (name, fitting)


def test_no_rule_is_idle():
  everything = names(shapes(tied=False))
  for rule, _ in RULES:
    assert any(re.fullmatch(rule, name) for name in everything), rule


def test_every_parameter_can_be_laid_on_every_axis():
  for sizes in [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)]:
    mesh = make_mesh(MeshConfig(*sizes))
    laid = param_shardings(mesh, shapes())
    for sharding, leaf in zip(jax.tree.leaves(laid), jax.tree.leaves(shapes())):
      axes = [(axis,) if isinstance(axis, str) else axis or ()
              for axis in sharding.spec]
      parts = [math.prod(mesh.shape[name] for name in names) for names in axes]
      parts += [1] * (leaf.ndim - len(parts))
      assert sharding.shard_shape(leaf.shape) == tuple(
          size // n for size, n in zip(leaf.shape, parts))


def test_data_parallel_alone_copies_every_parameter():
  mesh = make_mesh(MeshConfig())
  for sharding in jax.tree.leaves(param_shardings(mesh, shapes())):
    assert sharding.is_fully_replicated


def test_optimizer_state_lies_as_its_parameters():
  mesh = make_mesh(MeshConfig(2, 2, 2))
  params = shapes()
  tx = optax.chain(optax.clip_by_global_norm(1.), optax.adamw(
      optax.linear_schedule(0., 1., 9)))
  state = {'step': jax.ShapeDtypeStruct((), jnp.int32), 'params': params,
           'opt_state': jax.eval_shape(tx.init, params)}
  laid = state_shardings(mesh, state)
  expected = param_shardings(mesh, params)
  assert laid['params'] == expected
  adam = laid['opt_state'][1][0]
  assert adam.mu == adam.nu == expected
  assert adam.count.spec == laid['step'].spec == P()
  assert not expected['embeddings']['tokens'].is_fully_replicated


def test_zero1_shares_the_optimizer_out_along_data():
  mesh = make_mesh(MeshConfig(2, 2, 2))
  params = shapes()
  laid = state_shardings(mesh, {'mu': params}, zero1=True)['mu']
  plain = param_shardings(mesh, params)
  for leaf, wide, narrow in zip(*map(jax.tree.leaves, (params, plain, laid))):
    before = math.prod(wide.shard_shape(leaf.shape))
    after = math.prod(narrow.shard_shape(leaf.shape))
    # A dim that is even and free is halved; who has none stays.
    free = [size for size, here in zip(leaf.shape, wide.shard_shape(leaf.shape))
            if size == here and size % 2 == 0]
    assert after == (before // 2 if free else before)
  assert laid['layers']['mlp_in']['kernel'] != (
      plain['layers']['mlp_in']['kernel'])


def test_batches_are_shared_out_over_data_and_fsdp():
  mesh = make_mesh(MeshConfig(2, 2, 2))
  assert batch_sharding(mesh).shard_shape((8, 5)) == (2, 5)
  assert batch_sharding(mesh, micro_batches=True).shard_shape(
      (3, 8, 5)) == (3, 2, 5)


def test_a_parameter_without_a_rule_is_refused_by_path():
  mesh = make_mesh(MeshConfig())
  extra = {'layers': {'gate': {'kernel': jnp.ones((2, 2))}}}
  for function in (param_shardings, state_shardings):
    with pytest.raises(InputError, match='layers/gate/kernel: 0 rules'):
      function(mesh, extra)


def test_two_rules_are_refused(monkeypatch):
  monkeypatch.setattr(mesh, 'RULES', RULES + ((r'lm_head/.*', P()),))
  with pytest.raises(InputError, match='lm_head/bias: 2 rules'):
    param_shardings(make_mesh(), shapes())


def test_a_size_that_its_axis_does_not_divide_is_refused():
  mesh = make_mesh(MeshConfig(2, 2, 2))
  with pytest.raises(InputError, match=r'embeddings/tokens: dim 0 of shape '
                     r'\(49, 16\).*multiple of 2.*mesh.model'):
    param_shardings(mesh, shapes(vocab_size=49))
