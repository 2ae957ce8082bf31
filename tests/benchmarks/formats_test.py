import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import formats
from robertax import model


def test_slices_are_of_different_documents(tmp_path):
  path = tmp_path / 'news.jsonl'
  path.write_text(''.join(
      json.dumps({'text': f'{n} ' + 'word ' * 20}) + '\n' for n in range(60)))
  for _ in range(2):  # The second time they are there already.
    formats.write_slices(str(path), str(tmp_path / 'out'), 1000)
  found = {}
  for name in ('train', 'heldout'):
    lines = (tmp_path / 'out' / name / 'news.jsonl').read_text().splitlines()
    texts = [json.loads(line)['text'] for line in lines]
    assert 1000 <= sum(map(len, texts)) < 1200
    found[name] = set(texts)
  assert not found['train'] & found['heldout']
  with pytest.raises(SystemExit, match='half'):
    formats.write_slices(str(path), str(tmp_path / 'all'), 5000)


def test_a_pair_model_is_asked_as_if_all_were_segment_a():
  pairs = model.ModelConfig(
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
      logits(config, formats.plain(params)),
      logits(pairs, params, jnp.zeros_like(ids)), rtol=1e-4)
  assert 'nsp_head' in params and 'types' in params['embeddings']


def test_the_table_has_means_and_spreads():
  found = formats.table({
      'static': [{'own': 2., 'common': 3., 'steps': 7},
                 {'own': 4., 'common': 3., 'steps': 7}],
      'segment_pair': [{'own': 1., 'common': 1., 'steps': 9, 'nsp': .5}]})
  *_, static, pairs = found.splitlines()
  assert static == (
      '| FULL-SENTENCES, static masks | 7 | 3.000 (2.000 to 4.000) | '
      '3.000 (3.000 to 3.000) |  |')
  assert pairs.endswith('| 0.500 (0.500 to 0.500) |')


def test_every_format_and_both_masks_are_in_it():
  from robertax.corpus import FORMATS
  assert {v['format'] for v in formats.VARIANTS.values()} == set(FORMATS)
  assert formats.SHOWN.keys() == formats.VARIANTS.keys()
  for variant in formats.VARIANTS:
    config = formats.make_config('x', 'train', variant, 3)
    assert config.seed == 3 and config.model.max_positions == formats.LENGTH
    assert config.data.masks == (
        'static' if variant == 'static' else 'dynamic')
