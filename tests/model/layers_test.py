"""Initialization is N(0, .02), not truncated."""

import jax
import numpy as np
import pytest

from robertax.config import ModelConfig
from robertax.model import create

CONFIG = ModelConfig(vocab_size=1000, hidden_size=64, num_layers=3,
                     num_heads=4, mlp_size=256, max_positions=500,
                     tie_embeddings=False)
SIGMAS = 5


@pytest.fixture(scope='module')
def leaves():
  params = create(CONFIG, jax.random.key(0))
  return {jax.tree_util.keystr(path, simple=True, separator='/'):
          np.asarray(leaf, np.float64) for path, leaf
          in jax.tree_util.tree_leaves_with_path(params)}


def matrices(leaves):
  for path, leaf in leaves.items():
    if path == 'embeddings/tokens':
      yield path, np.delete(leaf, 1, axis=0).ravel()
    elif path == 'embeddings/positions':
      yield path, leaf[2:].ravel()
    elif path.endswith(('kernel', 'decoder')):
      yield path, leaf.ravel()


def test_every_matrix_is_gaussian_of_std_02(leaves):
  found = dict(matrices(leaves))
  assert len(found) == 10
  for path, x in found.items():
    assert abs(x.mean()) < SIGMAS * .02 / x.size**.5, path
    assert abs(x.std() / .02 - 1) < SIGMAS / (2 * x.size)**.5, path


def test_nothing_is_truncated(leaves):
  # A Gaussian cut at two sigmas has kurtosis 2.37 and std .0176.
  x = np.concatenate([x for _, x in matrices(leaves)]) / .02
  assert abs((x**4).mean() - 3) < SIGMAS * (96 / x.size)**.5
  beyond = (np.abs(x) > 3).mean()
  assert abs(beyond - .0026998) < SIGMAS * (.0027 / x.size)**.5


def test_layers_and_matrices_differ(leaves):
  firsts = []
  for path, leaf in leaves.items():
    if path.endswith('kernel'):
      firsts += [row.ravel()[:1024] for row in (
          leaf if path.startswith('layers/') else leaf[None])]
  correlation = np.corrcoef(np.stack(firsts))
  np.fill_diagonal(correlation, 0)
  assert len(firsts) == 19
  assert np.abs(correlation).max() < SIGMAS / 1024**.5


def test_biases_norms_and_pad_rows(leaves):
  for path, leaf in leaves.items():
    if path.endswith('bias'):
      assert (leaf == 0).all(), path
    if path.endswith('scale'):
      assert (leaf == 1).all(), path
  assert (leaves['embeddings/tokens'][1] == 0).all()
  assert (leaves['embeddings/positions'][:2] == 0).all()
  assert (leaves['embeddings/tokens'][0] != 0).all()
