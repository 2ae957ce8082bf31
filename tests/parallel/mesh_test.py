"""Meshes over eight devices."""

import jax
from jax.sharding import AxisType
import pytest

from robertax.config import MeshConfig
from robertax.errors import InputError
from robertax.parallel.mesh import make_mesh


@pytest.mark.parametrize('sizes, expected', [
    ((-1, 1, 1), (8, 1, 1)), ((-1, 2, 2), (2, 2, 2)), ((1, -1, 1), (1, 8, 1)),
    ((4, 2, 1), (4, 2, 1)), ((1, 1, -1), (1, 1, 8))])
def test_sizes(sizes, expected):
  mesh = make_mesh(MeshConfig(*sizes))
  assert tuple(mesh.shape.items()) == tuple(
      zip(('data', 'fsdp', 'model'), expected))
  assert mesh.axis_types == (AxisType.Auto,) * 3


def test_some_devices_only():
  mesh = make_mesh(MeshConfig(), jax.devices()[:1])
  assert mesh.devices.tolist() == [[[jax.devices()[0]]]]


@pytest.mark.parametrize('sizes', [(3, 1, 1), (-1, 3, 1), (-1, 16, 1),
                                   (1, 1, 1)])
def test_sizes_that_do_not_fit_the_devices_are_refused(sizes):
  with pytest.raises(InputError, match=f'mesh.fsdp={sizes[1]}.* 8 devices'):
    make_mesh(MeshConfig(*sizes))


def test_impossible_configs_are_refused():
  with pytest.raises(InputError, match='mesh.model=0'):
    MeshConfig(model=0)
  with pytest.raises(InputError, match='mesh.data and mesh.fsdp are -1'):
    MeshConfig(-1, -1)
