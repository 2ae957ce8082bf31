"""The update against its published formula, written out in NumPy."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robertax.errors import InputError
from robertax.train import optimizer
from robertax.train.config import OptimConfig


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
  for g in grads:
    updates, opt_state = tx.update(
        {k: jnp.asarray(v, jnp.float32) for k, v in g.items()}, opt_state,
        params)
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
