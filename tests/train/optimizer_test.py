"""The update against its published formula, written out in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robertax.config import OptimConfig
from robertax.errors import InputError
from robertax.train import optimizer


def numpy_adamw(params, grads, rates, c, decays):
  """Loshchilov & Hutter 2019, algorithm 2, in float64."""
  m = {k: np.zeros_like(v) for k, v in params.items()}
  v = {k: np.zeros_like(p) for k, p in params.items()}
  for t, (g, lr) in enumerate(zip(grads, rates), 1):
    for k in params:
      m[k] = c.b1 * m[k] + (1 - c.b1) * g[k]
      v[k] = c.b2 * v[k] + (1 - c.b2) * g[k] ** 2
      m_hat, v_hat = m[k] / (1 - c.b1 ** t), v[k] / (1 - c.b2 ** t)
      params[k] = params[k] - lr * (
          m_hat / (np.sqrt(v_hat) + c.eps) + decays[k] * params[k])
  return params


@pytest.mark.parametrize('weight_decay_on', ['all', 'matrices'])
def test_adamw_step_by_step(weight_decay_on):
  config = OptimConfig(learning_rate=1e-2, warmup_steps=3, weight_decay=0.1,
                       weight_decay_on=weight_decay_on)
  tx, schedule = optimizer.create(config, 10)
  rng = np.random.default_rng(0)
  shapes = {'kernel': (3, 4), 'bias': (4,), 'norm_scale': (2,)}
  start = {k: rng.normal(size=s) for k, s in shapes.items()}
  grads = [{k: rng.normal(size=s) for k, s in shapes.items()}
           for _ in range(10)]
  decays = {k: 0.1 if weight_decay_on == 'all' or k == 'kernel' else 0.0
            for k in shapes}
  params = {k: jnp.asarray(v, jnp.float32) for k, v in start.items()}
  opt_state = tx.init(params)
  for n, g in enumerate(grads):
    updates, opt_state = tx.update(
        {k: jnp.asarray(v, jnp.float32) for k, v in g.items()}, opt_state,
        params, learning_rate=schedule(n))
    params = optax.apply_updates(params, updates)
  expected = numpy_adamw(dict(start), grads,
                         [float(schedule(n)) for n in range(10)], config,
                         decays)
  for k in shapes:
    np.testing.assert_allclose(params[k], expected[k], rtol=2e-5, atol=1e-6)


def test_linear_schedule_is_fairseqs():
  """polynomial_decay_schedule.py:74-89 with power 1 and end rate 0."""
  config = OptimConfig(learning_rate=6e-4, warmup_steps=24)
  _, schedule = optimizer.create(config, 500)
  for n in (0, 1, 12, 24, 25, 100, 499, 500):
    expected = (6e-4 * n / 24 if n <= 24 else
                6e-4 * (1 - (n - 24) / (500 - 24)))
    assert float(schedule(n)) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_no_warmup_begins_at_the_peak():
  _, schedule = optimizer.create(
      OptimConfig(learning_rate=1.0, warmup_steps=0), 10)
  assert float(schedule(0)) == 1.0


@pytest.mark.parametrize('change, named', [
    ({'name': 'adam'}, 'adamw'), ({'schedule': 'cosin'}, 'linear'),
    ({'weight_decay_on': 'some'}, 'matrices')])
def test_unknown_names_list_the_known(change, named):
  with pytest.raises(InputError, match=named):
    optimizer.create(OptimConfig(**change), 10)


def numpy_bert(params, grads, rates, c, decays):
  """google-research/bert optimization.py:125-170, in float64."""
  m = {k: np.zeros_like(v) for k, v in params.items()}
  v = {k: np.zeros_like(p) for k, p in params.items()}
  for g, lr in zip(grads, rates):
    for k in params:
      m[k] = c.b1 * m[k] + (1 - c.b1) * g[k]
      v[k] = c.b2 * v[k] + (1 - c.b2) * g[k] ** 2
      update = m[k] / (np.sqrt(v[k]) + c.eps) + decays[k] * params[k]
      params[k] = params[k] - lr * update
  return params


def numpy_fairseq(params, grads, rates, c, decays):
  """fairseq optim/adam.py:203-234, in float64."""
  m = {k: np.zeros_like(v) for k, v in params.items()}
  v = {k: np.zeros_like(p) for k, p in params.items()}
  for t, (g, lr) in enumerate(zip(grads, rates), 1):
    for k in params:
      m[k] = c.b1 * m[k] + (1 - c.b1) * g[k]
      v[k] = c.b2 * v[k] + (1 - c.b2) * g[k] ** 2
      denominator = np.sqrt(v[k]) + c.eps
      size = lr * np.sqrt(1 - c.b2 ** t) / (1 - c.b1 ** t)
      p = params[k] - decays[k] * lr * params[k]
      params[k] = p - size * m[k] / denominator
  return params


def numpy_lamb(params, grads, rates, c, decays):
  """You et al. 2020, algorithm 2, in float64; what does not decay is Adam's."""
  m = {k: np.zeros_like(v) for k, v in params.items()}
  v = {k: np.zeros_like(p) for k, p in params.items()}
  for t, (g, lr) in enumerate(zip(grads, rates), 1):
    for k in params:
      m[k] = c.b1 * m[k] + (1 - c.b1) * g[k]
      v[k] = c.b2 * v[k] + (1 - c.b2) * g[k] ** 2
      update = m[k] / (1 - c.b1 ** t) / (
          np.sqrt(v[k] / (1 - c.b2 ** t)) + c.eps) + decays[k] * params[k]
      x, u = np.linalg.norm(params[k]), np.linalg.norm(update)
      ratio = x / u if decays[k] and x and u else 1.
      params[k] = params[k] - lr * ratio * update
  return params


FORMULAS = {'adamw': numpy_adamw, 'adamw_bert': numpy_bert,
            'adamw_fairseq': numpy_fairseq, 'lamb': numpy_lamb}


def updated(config, start, grads, steps=12):
  """The parameters after an update for each gradient; all nested dicts."""
  tx, schedule = optimizer.create(config, steps)
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), start)
  opt_state = tx.init(params)
  update = jax.jit(tx.update)
  for n, g in enumerate(grads):
    updates, opt_state = update(
        jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), g), opt_state,
        params, learning_rate=schedule(n))
    params = optax.apply_updates(params, updates)
  return params, schedule


@pytest.mark.parametrize('weight_decay_on', ['all', 'matrices'])
@pytest.mark.parametrize('name', sorted(optimizer.OPTIMIZERS))
def test_each_optimizer_is_its_formula(name, weight_decay_on):
  """An eps as large as the gradients tells where it is added."""
  config = OptimConfig(name=name, learning_rate=1e-2, warmup_steps=3,
                       weight_decay=0.1, weight_decay_on=weight_decay_on,
                       eps=1e-2)
  rng = np.random.default_rng(0)
  shapes = {'kernel': (3, 4), 'bias': (4,), 'norm_scale': (2,), 'zero': (3,)}
  start = {k: rng.normal(size=s) for k, s in shapes.items()}
  start['zero'][:] = 0
  grads = [{k: .03 * rng.normal(size=s) for k, s in shapes.items()}
           for _ in range(12)]
  decays = {k: 0.1 if weight_decay_on == 'all' or k in ('kernel', 'zero')
            else 0. for k in shapes}
  params, schedule = updated(config, start, grads)
  expected = FORMULAS[name](dict(start), grads, [
      float(schedule(n)) for n in range(12)], config, decays)
  for k in shapes:
    np.testing.assert_allclose(params[k], expected[k], rtol=2e-5, atol=1e-6)
    assert np.abs(params[k] - start[k]).max() > 1e-4
  others = [FORMULAS[other](dict(start), grads, [
      float(schedule(n)) for n in range(12)], config, decays)
            for other in FORMULAS if other != name]
  assert all(np.abs(other['kernel'] - params['kernel']).max() > 1e-4
             for other in others)


def test_lamb_measures_each_layer_alone():
  """Blocks are stored as one array; the ratio is of a block."""
  config = OptimConfig(name='lamb', learning_rate=1e-2, warmup_steps=0,
                       weight_decay=0.1)
  rng = np.random.default_rng(1)
  sizes = np.array([.01, 1., 100.])[:, None, None]
  stack = sizes * rng.normal(size=(3, 4, 5))
  grads = [rng.normal(size=(3, 4, 5)) for _ in range(5)]
  together, _ = updated(config, {'layers': {'kernel': stack}},
                        [{'layers': {'kernel': g}} for g in grads])
  for n in range(3):
    alone, _ = updated(config, {'other': {'kernel': stack[n]}},
                       [{'other': {'kernel': g[n]}} for g in grads])
    np.testing.assert_allclose(together['layers']['kernel'][n],
                               alone['other']['kernel'], rtol=1e-6)


@pytest.mark.parametrize('name', sorted(optimizer.OPTIMIZERS))
def test_a_first_moment_in_bfloat16_is_rounded_and_no_more(name):
  """Of 200 updates of a noisy quadratic, which both bring to its minimum."""
  rng = np.random.default_rng(2)
  target, noise = rng.normal(size=(32,)), rng.normal(size=(200, 32))

  def run(dtype):
    config = OptimConfig(name=name, learning_rate=3e-2, warmup_steps=10,
                         weight_decay=0., first_moment_dtype=dtype)
    tx, schedule = optimizer.create(config, 200)
    params = {'kernel': jnp.ones(32)}
    state = tx.init(params)
    update = jax.jit(tx.update)
    for n in range(200):
      grads = {'kernel': params['kernel'] - target + .1 * noise[n]}
      updates, state = update(
          grads, state, params, learning_rate=schedule(n))
      params = optax.apply_updates(params, updates)
    moment = optax.tree.get(state, 'mu')['kernel']
    assert moment.dtype == dtype
    assert optax.tree.get(state, 'nu')['kernel'].dtype == jnp.float32
    return np.asarray(params['kernel'])

  whole, rounded = run('float32'), run('bfloat16')
  far = np.abs(whole - np.ones(32)).max()
  assert 0 < np.abs(whole - rounded).max() < .02 * far


@pytest.mark.parametrize('name', sorted(optimizer.OPTIMIZERS))
def test_layer_decay_scales_the_update_of_each_layer(name):
  """Heads x 1, the last of three layers x d, embeddings x d^4; decay too."""
  config = OptimConfig(name=name, learning_rate=1e-2, warmup_steps=0,
                       weight_decay=.1)
  rng = np.random.default_rng(0)
  start = {'embeddings': {'tokens': rng.normal(size=(5, 2))},
           'layers': {'mlp': {'kernel': rng.normal(size=(3, 2, 2)),
                              'bias': rng.normal(size=(3, 2))}},
           'classifier': {'kernel': rng.normal(size=(2, 2))}}
  grads = [jax.tree.map(lambda x: rng.normal(size=x.shape), start)]
  whole, _ = updated(config, start, grads)
  scaled, _ = updated(dataclasses.replace(config, layer_decay=.5), start,
                      grads)
  change = lambda new: jax.tree.map(lambda a, b: a - np.float32(b), new, start)
  ratio = jax.tree.map(lambda a, b: a / b, change(scaled), change(whole))
  np.testing.assert_allclose(ratio['classifier']['kernel'], 1, rtol=1e-3)
  np.testing.assert_allclose(ratio['embeddings']['tokens'], 1 / 16, rtol=1e-2)
  for leaf in jax.tree.leaves(ratio['layers']):
    for layer, wanted in enumerate((1 / 8, 1 / 4, 1 / 2)):
      np.testing.assert_allclose(leaf[layer], wanted, rtol=1e-2)
