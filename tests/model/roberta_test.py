"""create and bind: the doors between modules and nested dicts."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from robertax import model
from robertax.config import MeshConfig, ModelConfig
from robertax.errors import InputError
from robertax.kernels import key_words, row_keys
from robertax.parallel.mesh import batch_sharding, make_mesh, param_shardings

CONFIG = ModelConfig(vocab_size=48, hidden_size=32, num_layers=2,
                           num_heads=4, mlp_size=64, max_positions=16)


def paths(params):
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
          for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def loss(params, ids, segment_ids, positions, targets, rows, step):
  module = model.bind(CONFIG, params)
  x = module(ids, segment_ids,
             dropout_key=row_keys(key_words(1, step), rows))
  sums = model.mlm_loss(module.mlm_logits(x, positions), targets,
                        jnp.ones(targets.shape))
  return sums['loss_sum']


def batch(rows=16):
  random = np.random.RandomState(0)
  lengths = random.randint(4, 17, rows)
  return [random.randint(4, 48, (rows, 16)),
          (np.arange(16) < lengths[:, None]).astype(int),
          random.randint(0, 4, (rows, 2)), random.randint(4, 48, (rows, 2)),
          np.arange(rows)]


def test_names_and_shapes():
  got = paths(jax.eval_shape(
      lambda: model.create(CONFIG, jax.random.key(0))))
  expected = {'embeddings/tokens': (48, 32), 'embeddings/positions': (18, 32),
              'lm_head/dense/kernel': (32, 32), 'lm_head/dense/bias': (32,),
              'lm_head/bias': (48,),
              'layers/attention/output/kernel': (2, 4, 8, 32),
              'layers/attention/output/bias': (2, 32),
              'layers/mlp_in/kernel': (2, 32, 64),
              'layers/mlp_in/bias': (2, 64),
              'layers/mlp_out/kernel': (2, 64, 32),
              'layers/mlp_out/bias': (2, 32)}
  for name in ('query', 'key', 'value'):
    expected[f'layers/attention/{name}/kernel'] = (2, 32, 4, 8)
    expected[f'layers/attention/{name}/bias'] = (2, 4, 8)
  for name, shape in [('embeddings/norm', (32,)), ('lm_head/norm', (32,)),
                      ('layers/attention_norm', (2, 32)),
                      ('layers/mlp_norm', (2, 32))]:
    expected[f'{name}/scale'] = expected[f'{name}/bias'] = shape
  assert got == expected


def test_types_and_the_nsp_head_add_parameters_and_change_none():
  config = dataclasses.replace(CONFIG, num_types=2, nsp_head=True)
  plain, pairs = (model.create(c, jax.random.key(3)) for c in (CONFIG, config))
  more = {'embeddings/types': (2, 32), 'nsp_head/pooler/kernel': (32, 32),
          'nsp_head/pooler/bias': (32,), 'nsp_head/output/kernel': (32, 2),
          'nsp_head/output/bias': (2,)}
  assert paths(pairs) == paths(plain) | more
  added = pairs.pop('nsp_head')
  types = pairs['embeddings'].pop('types')
  jax.tree.map(np.testing.assert_array_equal, plain, pairs)
  for matrix in (types, added['pooler']['kernel'], added['output']['kernel']):
    # N(0, .02): the mean square of n numbers has a deviation of (2 / n)^.5.
    square = float(jnp.square(matrix / .02).mean())
    assert abs(square - 1) < 4 * (2 / matrix.size)**.5
  assert not any(part['bias'].any() for part in added.values())
  with pytest.raises(InputError, match='num_types=-1'):
    ModelConfig(num_types=-1)


@pytest.mark.parametrize('large, count', [(False, 124_697_433),
                                          (True, 355_412_057)])
def test_parameters_of_base_and_large(large, count):
  # HF's RobertaForMaskedLM counts 124,697,433 and 355,412,057, and 768 and
  # 1024 of those are its one row of token types, which fairseq has not.
  config = ModelConfig(vocab_size=50265, **(dict(
      hidden_size=1024, num_layers=24, num_heads=16, mlp_size=4096)
                                                  if large else {}))
  shapes = jax.eval_shape(lambda: model.create(config, jax.random.key(0)))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == (
      count - config.hidden_size)


def test_same_key_same_parameters():
  one, same, other = (model.create(CONFIG, jax.random.key(seed))
                      for seed in (3, 3, 4))
  jax.tree.map(np.testing.assert_array_equal, one, same)
  assert (one['embeddings']['tokens'] != other['embeddings']['tokens']).any()


def test_bind_leaves_params_alone_and_holds_no_tracer():
  config = ModelConfig(vocab_size=31, hidden_size=8, num_layers=1,
                             num_heads=1, mlp_size=8, max_positions=4)
  params = model.create(config, jax.random.key(0))
  before = jax.tree.map(np.array, params)
  ids = jnp.ones((1, 4), int)
  run = lambda params: model.bind(config, params)(ids, ids)
  first = jax.jit(run)(params)  # the first bind of this config: traced
  again = jax.jit(lambda p: run(p) * 1)(params)
  np.testing.assert_allclose(first, again, atol=1e-6)
  jax.tree.map(np.testing.assert_array_equal, before, params)


def test_the_loss_is_the_same_on_one_device_and_eight_with_dropout():
  params = model.create(CONFIG, jax.random.key(0))
  grad = jax.jit(jax.value_and_grad(loss))
  alone, gradient = grad(params, *batch(), 5)
  for config in (MeshConfig(2, 2, 2),):
    mesh = make_mesh(config)
    with jax.set_mesh(mesh):
      laid = jax.device_put(params, param_shardings(mesh, params))
      rows = [jax.device_put(x, batch_sharding(mesh))
              for x in batch()]
      value, sharded = grad(laid, *rows, 5)
    np.testing.assert_allclose(value, alone, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(sharded)):
      np.testing.assert_allclose(a, b, atol=2e-4)


def test_gradients_are_finite_and_reach_every_parameter():
  params = model.create(CONFIG, jax.random.key(0))
  gradient = jax.jit(jax.grad(loss))(params, *batch(), 0)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path
  # Padding (zeroed after the embedding) teaches its position row nothing.
  assert (gradient['embeddings']['positions'][:2] == 0).all()


def test_parameters_can_be_created_where_they_belong():
  mesh = make_mesh(MeshConfig(2, 2, 2))
  make = lambda key: model.create(CONFIG, key)
  shapes = jax.eval_shape(make, jax.random.key(0))
  params = jax.jit(make, out_shardings=param_shardings(
      mesh, shapes))(jax.random.key(0))
  assert params['layers']['mlp_in']['kernel'].sharding == NamedSharding(
      mesh, P(None, 'fsdp', 'model'))
  for a, b in zip(jax.tree.leaves(params),
                  jax.tree.leaves(make(jax.random.key(0)))):
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_unresolved_vocabulary_is_refused():
  config = ModelConfig()
  with pytest.raises(InputError, match='model.vocab_size=0'):
    model.create(config, jax.random.key(0))
  with pytest.raises(InputError, match='model.vocab_size=0'):
    model.bind(config, {})


def test_other_parameters_are_refused_by_name():
  params = model.create(CONFIG, jax.random.key(0))
  params['lm_head'] = {'bias': params['lm_head']['bias'], 'extra': jnp.ones(1)}
  with pytest.raises(InputError, match='missing.*lm_head/dense/bias.*too many '
                     '.*lm_head/extra'):
    model.bind(CONFIG, params)
