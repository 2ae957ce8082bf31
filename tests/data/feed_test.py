import threading

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from robertax.data.feed import Feed, host_rows, split_micro_batches
from robertax.errors import InputError


@pytest.fixture(name='mesh')
def mesh_fixture():
  if len(jax.devices()) < 8:
    pytest.skip('needs 8 devices')
  return jax.make_mesh((4, 2, 1), ('data', 'fsdp', 'model'),
                       axis_types=(AxisType.Auto,) * 3)


def batches(count, size=16):
  for step in range(count):
    yield {'input_ids': np.arange(size * 4, dtype=np.int32).reshape(size, 4)
                        + 100 * step,
           'mlm_weights': np.full((size, 2), step, np.float32),
           'example_ids': np.full((size, 1), 1 << 48, np.int64)}


def test_lays_batches_on_the_mesh_in_order(mesh):
  sharding = NamedSharding(mesh, P(('data', 'fsdp')))
  with Feed(batches(5), sharding, 2) as feed:
    for step, batch in enumerate(feed):
      assert batch.keys() == {'input_ids', 'mlm_weights'}
      assert batch['input_ids'].sharding == sharding
      assert (np.asarray(batch['input_ids'])[0, 0], batch['mlm_weights'][3, 1]
              ) == (100 * step, step)
    assert step == 4 and feed.waited_seconds >= 0
  assert not [t for t in threading.enumerate()
              if t.name == 'robertax-prefetch']


def test_micro_batches(mesh):
  sharding = NamedSharding(mesh, P(None, ('data', 'fsdp')))
  host = next(batches(1))
  with Feed([split_micro_batches(host, 2)], sharding) as feed:
    ids = next(feed)['input_ids']
  assert ids.shape == (2, 8, 4)
  assert (np.asarray(ids).reshape(16, 4) == host['input_ids']).all()


@pytest.mark.parametrize('micro_batches, hosts', [(1, 1), (1, 4), (2, 2),
                                                  (4, 2), (2, 8)])
def test_host_rows_are_its_addressable_shards(mesh, micro_batches, hosts):
  size = 32
  sharding = NamedSharding(mesh, P(None, ('data', 'fsdp')))
  numbers = np.arange(size).reshape(micro_batches, -1)
  slices = sharding.devices_indices_map(numbers.shape)
  devices = np.asarray(jax.devices()).reshape(hosts, -1)
  for host in range(hosts):
    # The devices that this host would have, in the order of the mesh.
    mine = [d for d in mesh.devices.ravel() if d in devices[host]]
    want = np.concatenate([numbers[slices[d]] for d in mine], 1)
    rows = host_rows(size, micro_batches, host, hosts)
    got = split_micro_batches({'x': rows}, micro_batches)['x']
    assert (got == want).all()


def test_rows_that_do_not_divide():
  with pytest.raises(InputError, match='batch_size=12.*2 micro.*4 hosts'):
    host_rows(12, 2, 0, 4)


def test_exceptions_reach_the_consumer(mesh):
  def broken():
    yield from batches(1)
    raise InputError('shard 3 is damaged')
  with Feed(broken(), NamedSharding(mesh, P())) as feed:
    next(feed)
    with pytest.raises(InputError, match='shard 3'):
      next(feed)
