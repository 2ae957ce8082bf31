"""A model of pairs, asked as if all were segment A; what all are asked."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from robertax import model
from robertax.config import ModelConfig
from robertax.paper.inputs import heldout_config, plain_params
from robertax.paper.scales import SCALES, pretraining_config
from robertax.paper.tables import TABLES


def test_a_pair_model_is_asked_as_if_all_were_segment_a():
  pairs = ModelConfig(
      vocab_size=50, hidden_size=16, num_layers=1, num_heads=2, mlp_size=32,
      max_positions=16, num_types=2, nsp_head=True)
  params = jax.tree.map(lambda x: x + .3,
                        model.create(pairs, jax.random.key(0)))
  config = dataclasses.replace(pairs, num_types=0, nsp_head=False)
  ids = jnp.arange(24).reshape(2, 12) + 4
  where = jnp.array([[1, 5], [0, 7]])
  segments = jnp.ones_like(ids)

  def logits(config, params, *types):
    module = model.bind(config, params)
    return module.mlm_logits(module.encode(ids, segments, *types), where)

  np.testing.assert_allclose(
      logits(config, plain_params(params)),
      logits(pairs, params, jnp.zeros_like(ids)), rtol=1e-4)
  assert 'nsp_head' in params and 'types' in params['embeddings']


def test_all_rows_of_a_table_are_asked_the_same():
  for table in ('1', '2'):
    configs = {
        heldout_config(pretraining_config(row, SCALES['tiny'], seed=seed),
                     'x.txt') for row in TABLES[table].made for seed in (0, 1)
    }
    assert len(configs) == 1
