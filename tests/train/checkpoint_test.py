"""Checkpoints: what comes back is what went in, on another mesh too."""

import logging
import os
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from robertax import model
from robertax.config import MeshConfig, ModelConfig, OptimConfig
from robertax.errors import InputError, TakenOver
from robertax.parallel.mesh import make_mesh
from robertax.train import checkpoint, optimizer, step
from robertax.train.checkpoint import (
    Checkpoints,
    as_dict,
    finished_step,
    from_dict,
    hushed,
)
from robertax.train.workdir import Lease

CONFIG = ModelConfig(vocab_size=64, hidden_size=16, num_layers=2,
                           num_heads=4, mlp_size=32, max_positions=8)


def make_state(mesh, seed):
  tx, _ = optimizer.create(OptimConfig(), 10)
  make = step.state_maker(lambda key: model.create(CONFIG, key), tx)
  abstract = step.abstract_state(make, mesh)
  now = jax.jit(make, out_shardings=jax.tree.map(
      lambda x: x.sharding, abstract))(jax.random.key(seed))
  return now._replace(step=now.step + 7), abstract


def assert_equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    np.testing.assert_array_equal(x, y)


def test_dicts_and_back():
  tree = ({'w': 1, 'v': (2, 3)}, step.TrainState(4, {'a': 5}, [6]))
  assert from_dict(as_dict(tree), tree) == tree
  assert as_dict(tree)['1']['params'] == {'a': 5}


@pytest.mark.parametrize('other', [{'data': 1}, {'data': 2, 'fsdp': 4}])
def test_restored_onto_another_mesh(tmp_path, other):
  mesh = make_mesh(MeshConfig())
  now, _ = make_state(mesh, seed=1)
  checkpoints = Checkpoints(str(tmp_path))
  checkpoints.save(7, now)
  checkpoints.close()
  size = other.get('data', 1) * other.get('fsdp', 1)
  mesh = make_mesh(
      MeshConfig(**other), jax.devices()[:size])
  _, abstract = make_state(mesh, seed=2)
  checkpoints = Checkpoints(str(tmp_path))
  restored = checkpoints.restore(7, abstract)
  checkpoints.close()
  assert int(restored.step) == 7
  assert_equal(restored, now)
  for array, wanted in zip(jax.tree.leaves(restored),
                           jax.tree.leaves(abstract)):
    assert array.sharding == wanted.sharding


def test_weights_alone(tmp_path):
  mesh = make_mesh(MeshConfig())
  now, abstract = make_state(mesh, seed=1)
  checkpoints = Checkpoints(str(tmp_path))
  checkpoints.save(7, now)
  assert_equal(checkpoints.restore_params(7, abstract.params), now.params)
  checkpoints.close()


def test_only_the_newest_are_kept(tmp_path):
  checkpoints = Checkpoints(str(tmp_path), keep=2)
  now, _ = make_state(make_mesh(MeshConfig()), seed=1)
  for number in (1, 2, 3):
    checkpoints.save(number, now)
  checkpoints.close()
  assert sorted(p for p in os.listdir(tmp_path / 'checkpoints')
                if p.isdigit()) == ['2', '3']
  assert finished_step(str(tmp_path)) == 3


def test_no_folder_is_made_by_looking(tmp_path):
  assert finished_step(str(tmp_path / 'none')) is None
  assert not (tmp_path / 'none').exists()


def test_another_shape_is_an_error_that_names_the_checkpoint(tmp_path):
  now, abstract = make_state(make_mesh(MeshConfig()), 1)
  checkpoints = Checkpoints(str(tmp_path))
  checkpoints.save(7, now)
  wrong = dict(abstract.params, extra=jax.ShapeDtypeStruct((3,), jnp.float32))
  with pytest.raises(InputError, match='checkpoints/7'):
    checkpoints.restore_params(7, wrong)
  checkpoints.close()


def test_a_truncated_array_is_an_error_of_one_line(tmp_path):
  now, abstract = make_state(make_mesh(MeshConfig()), 1)
  checkpoints = Checkpoints(str(tmp_path))
  checkpoints.save(7, now)
  checkpoints.wait()
  for path in tmp_path.glob('checkpoints/7/params/**/d/*'):
    path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(InputError, match='checkpoints/7: .* damaged') as e:
    checkpoints.restore_params(7, abstract.params)
  assert '\n' not in str(e.value)
  checkpoints.close()


def test_a_file_in_the_way_is_named(tmp_path):
  (tmp_path / 'checkpoints').write_text('')
  with pytest.raises(InputError, match='checkpoints: a file of that name'):
    Checkpoints(str(tmp_path))


def test_only_a_writer_removes_what_a_kill_left(tmp_path):
  """A reader leaves it: it may be the save under way of a run that is alive.

  Once, looking for the newest step removed it in the background too, and the
  two removals raced: the next save then failed with a vanished folder.
  """
  mesh = make_mesh(MeshConfig())
  now, abstract = make_state(mesh, seed=1)
  checkpoints = Checkpoints(str(tmp_path))
  checkpoints.save(7, now)
  checkpoints.close()
  left = tmp_path / 'checkpoints' / '8.orbax-checkpoint-tmp'
  for number in range(300):
    (left / 'params' / str(number)).mkdir(parents=True)
  assert finished_step(str(tmp_path)) == 7
  reader = Checkpoints(str(tmp_path), read_only=True)
  restored = reader.restore(7, abstract)
  reader.close()
  assert_equal(restored.params, now.params)
  assert len(list((left / 'params').iterdir())) == 300
  writer = Checkpoints(str(tmp_path))
  writer.save(8, now)
  writer.close()
  assert not left.exists() and finished_step(str(tmp_path)) == 8


def test_what_a_device_says_is_no_damage(tmp_path, monkeypatch):
  """Out of memory, a run would else set aside all that it has."""
  now, abstract = make_state(make_mesh(MeshConfig()), seed=1)
  checkpoints = Checkpoints(str(tmp_path))
  checkpoints.save(7, now)
  checkpoints.wait()

  def full(*args, **named):
    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory')

  monkeypatch.setattr(ocp.StandardCheckpointHandler, 'restore', full)
  with pytest.raises(jax.errors.JaxRuntimeError):
    checkpoints.restore_newest(abstract)
  assert finished_step(str(tmp_path)) == 7
  checkpoints.close()


def test_loggers_and_hooks_are_lent(caplog):
  absl, loop = logging.getLogger('absl'), logging.getLogger('asyncio')

  def state():
    return sys.unraisablehook, absl.filters[:], loop.level

  before = state()
  record = logging.LogRecord('absl', logging.WARNING, '/x/orbax/y.py', 1,
                             'Given directory is read only', (), None)
  with pytest.raises(KeyError), hushed():
    assert not absl.filter(record)
    with hushed():
      assert not absl.filter(record)
    assert not absl.filter(record) and state() != before
    raise KeyError
  assert state() == before and absl.filter(record)


def test_who_has_lost_the_workdir_saves_nothing(tmp_path):
  """Nor is that a failure to write, with which a run could go on."""
  def lost():
    raise TakenOver('another run has it')

  state, _ = make_state(make_mesh(MeshConfig(data=1), jax.devices()[:1]), 1)
  checkpoints = Checkpoints(str(tmp_path), strict=False, check=lost)
  with pytest.raises(TakenOver):
    checkpoints.save(7, state)
  checkpoints.close()
  assert not os.listdir(tmp_path / 'checkpoints')


def test_a_save_that_fails_removes_nothing_of_a_successor(tmp_path):
  lost = []

  def check():
    if lost:
      raise TakenOver('another run has it')

  state, _ = make_state(make_mesh(MeshConfig(data=1), jax.devices()[:1]), 1)
  checkpoints = Checkpoints(str(tmp_path), strict=False, check=check)
  checkpoints.save(7, state)
  checkpoints.wait()
  theirs = tmp_path / 'checkpoints' / '8.orbax-checkpoint-tmp-1'
  theirs.mkdir()
  lost.append(True)
  with pytest.raises(TakenOver):
    with checkpoints._tolerance.saving(8):
      raise OSError('what the successor has removed')
  assert theirs.exists()


def test_going_back_waits_out_what_a_save_would_survive(
    tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(checkpoint, 'RETRY_SECONDS', 0.3)
  lease = Lease(str(tmp_path))
  checkpoints = Checkpoints(str(tmp_path), strict=False, check=lease.check)
  (tmp_path / '.lease').rename(tmp_path / 'kept')
  (tmp_path / '.lease').mkdir()  # It can be neither read nor written.
  state, _ = make_state(make_mesh(MeshConfig(data=1), jax.devices()[:1]), 1)
  checkpoints.save(7, state)  # That the last one failed is no obstacle.

  def end():
    (tmp_path / '.lease').rmdir()
    (tmp_path / 'kept').rename(tmp_path / '.lease')

  timer = threading.Timer(0.1, end)
  timer.start()
  checkpoints.close_to_go_back()
  timer.join()
  said = capsys.readouterr().err
  assert 'step 7 is not saved' in said and 'waits with going back' in said
  (tmp_path / '.lease').unlink()
  with pytest.raises(TakenOver):
    checkpoints.close_to_go_back()
  lease.give_back()


def test_two_that_hush_at_once_leave_everything_as_it_was():
  before = sys.unraisablehook, logging.getLogger('asyncio').level
  first, second = hushed(), hushed()
  first.__enter__()
  second.__enter__()
  first.__exit__(None, None, None)
  assert sys.unraisablehook != before[0]
  second.__exit__(None, None, None)
  assert (sys.unraisablehook, logging.getLogger('asyncio').level) == before
