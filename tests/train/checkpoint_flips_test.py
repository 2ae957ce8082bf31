"""One flipped byte anywhere in a checkpoint is seen, or changes no value.

ROBERTAX_FLIPS=200 flips as many positions as the promise says; by default
fewer, of the same kinds of files.
"""

import os
import random

import jax
import numpy as np
import pytest

from robertax.config import MeshConfig
from robertax.errors import InputError
from robertax.parallel.mesh import make_mesh
from robertax.train import facts
from robertax.train.checkpoint import Checkpoints
from robertax.train.facts import Damaged
from tests.train.checkpoint_test import assert_equal, make_state

COUNT = int(os.environ.get('ROBERTAX_FLIPS', 40))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """One checkpoint, its state, and every file of it."""
  folder = tmp_path_factory.mktemp('flips')
  mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
  now, abstract = make_state(mesh, seed=1)
  # Moments that are not all zero: zeros are stored as nothing.
  now = now._replace(opt_state=jax.tree.map(
      lambda x: x + jax.random.uniform(jax.random.key(3), x.shape).astype(
          x.dtype), now.opt_state))
  checkpoints = Checkpoints(str(folder))
  checkpoints.save(7, now)
  checkpoints.close()
  files = sorted(p for p in (folder / 'checkpoints' / '7').rglob('*')
                 if p.is_file())
  return folder, now, abstract, files


def positions(files, count):
  """(file, place): each file once, then by their sizes."""
  draw = random.Random(0)
  chosen = [(path, draw.randrange(path.stat().st_size)) for path in files]
  sizes = [path.stat().st_size for path in files]
  while len(chosen) < count:
    path = draw.choices(files, sizes)[0]
    chosen.append((path, draw.randrange(path.stat().st_size)))
  return chosen[:max(count, len(files))]


def restored(folder, abstract):
  checkpoints = Checkpoints(str(folder), read_only=True)
  try:
    return checkpoints.restore(7, abstract)
  finally:
    checkpoints.close()


def test_flipped_bytes_are_seen_or_harmless(saved):
  folder, now, abstract, files = saved
  assert_equal(restored(folder, abstract)[1:], now[1:])
  draw, seen, harmless = random.Random(1), [], []
  for path, place in positions(files, COUNT):
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[place] ^= draw.randrange(1, 256)
    path.write_bytes(flipped)
    try:
      assert_equal(restored(folder, abstract)[1:], now[1:])
      harmless.append(path.name)
    except Damaged as e:
      assert 'checkpoints/7: this checkpoint is damaged' in str(e)
      assert '\n' not in str(e)
      seen.append(path.name)
    finally:
      path.write_bytes(whole)
  print(f'{len(seen)} seen, {len(harmless)} harmless, in '
        f'{sorted(set(harmless))}')
  assert len(seen) + len(harmless) >= COUNT
  # Most of the bytes are values: a test that flips none would prove nothing.
  assert len(seen) > COUNT // 4
  assert_equal(restored(folder, abstract)[1:], now[1:])


def test_any_other_value_has_another_checksum(saved):
  """Also where orbax's own checksums are right: what was written was wrong."""
  folder, now, abstract, _ = saved
  found = facts.read_facts(f'{folder}/checkpoints', 7)
  params = jax.tree.map(np.array, now.params)
  assert not facts.unlike_arrays(found, {'params': params})
  params['embeddings']['tokens'][3, 2] = np.nextafter(
      params['embeddings']['tokens'][3, 2], 9, dtype=np.float32)
  assert facts.unlike_arrays(found,
                             {'params': params}) == 'params/embeddings/tokens'
  tokens = params['embeddings']['tokens']
  tokens[[5, 6]] = tokens[[6, 5]]
  params['layers'] = jax.tree.map(lambda x: x + 1, params['layers'])
  assert 'and' in facts.unlike_arrays(found, {'params': params})


@pytest.mark.parametrize('content', [b'', b'{', b'[]', b'{"sums": {}}'])
def test_facts_that_are_none_are_damage(saved, content):
  folder, _, abstract, _ = saved
  path = folder / 'checkpoints' / '7' / 'facts' / 'metadata'
  whole = path.read_bytes()
  path.write_bytes(content)
  try:
    with pytest.raises(InputError, match='facts/metadata'):
      restored(folder, abstract)
  finally:
    path.write_bytes(whole)
