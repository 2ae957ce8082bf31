"""What lies where: as JAX itself lays it on eight devices."""

import jax
import numpy as np
import pytest

from launch import inspect_notebook
from robertax import model as modelling
from robertax.config import MeshConfig, ModelConfig
from robertax.errors import InputError
from robertax.parallel.mesh import make_mesh, param_shardings

CONFIG = ModelConfig(vocab_size=300, hidden_size=32, num_layers=2, num_heads=4,
                     mlp_size=64, max_positions=30)
LARGE = ModelConfig(vocab_size=50_265, hidden_size=1024, num_layers=24,
                    num_heads=16, mlp_size=4096)


@pytest.mark.parametrize('sizes', [(2, 2, 2), (1, 8, 1), (8, 1, 1), (1, 2, 4)])
def test_each_device_holds_what_jax_gives_it(sizes):
  mesh = make_mesh(MeshConfig(*sizes))
  shapes = jax.eval_shape(lambda: modelling.pad_vocabulary(
      modelling.create(CONFIG, jax.random.key(0))))
  real = {jax.tree_util.keystr(path, simple=True, separator='/'): (leaf, s)
          for (path, leaf), (_, s) in zip(*map(
              jax.tree_util.tree_leaves_with_path,
              (shapes, param_shardings(mesh, shapes))))}
  found = inspect_notebook.placements(CONFIG, *sizes)
  assert {p.path for p in found} == set(real)
  for one in found:
    leaf, sharding = real[one.path]
    assert one.part == sharding.shard_shape(leaf.shape)
    where = sharding.devices_indices_map(leaf.shape)
    numbers = one.numbers()
    assert numbers.max() == one.parts - 1
    assert (np.bincount(numbers.ravel()) == one.copies).all()
    for place, device in np.ndenumerate(mesh.devices):
      index = [slice_.start // part if slice_.start else 0
               for slice_, part in zip(where[device], one.part)]
      assert numbers[place] == (np.ravel_multi_index(index, one.split)
                                if index else 0)


def test_large_on_256_devices():
  table = inspect_notebook.placement_table(LARGE, fsdp=16, model=16)
  assert '256 devices' in table.note and '355.' in table.note
  rows = {row[0]: row for row in table.cells}
  assert rows['layers/attention/query/kernel'][3] == '[24, 64, 1, 64]'
  assert rows['layers/mlp_norm/scale'][4] == '256'
  png = inspect_notebook.placement_picture(LARGE, fsdp=16,
                                           model=16)._repr_png_()
  assert png.startswith(b'\x89PNG')


def test_what_does_not_divide_is_named():
  with pytest.raises(InputError, match='layers/attention'):
    inspect_notebook.placement_table(CONFIG, model=8)
