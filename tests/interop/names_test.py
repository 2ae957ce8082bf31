"""The table is complete: ours, theirs, and each once.

What transformers has is in golden/hf_names.json, which tests/oracle holds
against the installed one.
"""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from robertax import model
from robertax.config import ModelConfig
from robertax.interop import names
from robertax.interop.names import Naming
from robertax.interop.tensors import Tensor

GOLDEN = json.loads((pathlib.Path(__file__).parent / 'golden'
                     / 'hf_names.json').read_text())
ALL = ModelConfig(
    vocab_size=50, hidden_size=12, num_layers=2, num_heads=3, mlp_size=20,
    max_positions=9, num_types=2, tie_embeddings=False, nsp_head=True,
    num_classes=3, span_head=True)


def paths(config):
  shapes = jax.eval_shape(lambda: model.create(config, jax.random.key(0)))
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
          for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)}


def test_every_parameter_of_ours_has_one_row():
  rows = [row.ours for row in names.ROWS]
  assert sorted(rows) == sorted(paths(ALL))
  assert {row.rule for row in names.ROWS} == set(names.RULES)


@pytest.mark.parametrize('key', GOLDEN)
def test_every_tensor_of_theirs_has_one_name(key):
  """Of whole state dicts; rows are of two layers."""
  family = 'bert' if key.startswith('Bert') else 'roberta'
  choice = key == 'RobertaForMultipleChoice'
  mine = []
  for row in names.ROWS:
    name = getattr(row, family)
    if choice:
      name = names.CHOICE.get(name, name)
    if name and not (family == 'bert' and row.ours.startswith('classifier/d')):
      # BERT's pooler is one head's or the other's: nsp_head has it too.
      mine += [name.format(n=n) for n in range(
          2 if row.ours.startswith('layers/') else 1)]
  for name in GOLDEN[key]:
    if key.endswith('Model'):
      name = f'{family}.{name}'
      if '.pooler.' in name:
        continue  # Nothing of ours: it is dropped, and said to be.
    assert mine.count(name) + (
        name in names.COPIES[family] and name not in mine) + (
            name in names.BUFFERS[family]) == 1, name


@pytest.mark.parametrize('family, first', [
    ('roberta', 2), ('roberta', 1), ('roberta', 6), ('bert', 0),
    ('fairseq', 2)])
def test_there_and_back_is_the_same(family, first):
  """Of all heads that a family has; with positions that begin anywhere."""
  config = dataclasses.replace(ALL, **{
      'roberta': {'nsp_head': False}, 'bert': {'num_classes': 0},
      'fairseq': {'nsp_head': False, 'span_head': False,
                  'num_types': 0}}[family])
  random = np.random.RandomState(0)
  params = {}
  for path, shape in paths(config).items():
    x = random.randn(*shape).astype(np.float32)
    if path == 'embeddings/positions':
      x[:max(0, 2 - first)] = 0  # Rows that the other side has no room for.
    names._put(params, path, x)
  layout = Naming(family, first, head='mnli')
  tensors = names.write_params(params, config, layout)
  assert all(x.flags.c_contiguous for x in tensors.values())
  row = next(r for r in names.ROWS if r.ours == 'embeddings/positions')
  positions = getattr(row, family)
  assert tensors[positions].shape == (first + 9, 12)
  found, lines = names.read_params(
      mapping_tensors(tensors), config, layout, 'x')
  assert not lines
  assert jax.tree.structure(found) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, found, params)


def mapping_tensors(arrays):
  return {name: Tensor(x.shape, lambda x=x: x) for name, x in arrays.items()}


def test_a_linear_layer_is_theirs_transposed():
  """y = x W^T + b with torch's W, heads or not."""
  random = np.random.RandomState(1)
  x = random.randn(12)
  kernel = random.randn(12, 3, 4).astype(np.float32)  # D, H, K
  theirs = names.to_theirs('linear', kernel, 0)
  np.testing.assert_allclose(theirs @ x, np.einsum(
      'd,dhk->hk', x, kernel).reshape(-1), rtol=1e-5)
  back = random.randn(3, 4, 12).astype(np.float32)  # H, K, D
  theirs = names.to_theirs('linear_of_heads', back, 0)
  heads = random.randn(3, 4)
  np.testing.assert_allclose(theirs @ heads.reshape(-1), np.einsum(
      'hk,hkd->d', heads, back), rtol=1e-5)
