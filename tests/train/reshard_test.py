"""Saved by two processes, restored on other meshes: the run is the same."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from robertax.config import MeshConfig
from robertax.parallel.mesh import make_mesh
from tests.train import reshard_run
from tests.train.processes_test import free_port

BEFORE, AFTER = 5, 20


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A checkpoint of two processes, and what they do behind it.

  The one above it is damaged: both set it aside, and agree on the other.
  """
  folder = tmp_path_factory.mktemp('two')
  flags = [flag for flag in os.environ['XLA_FLAGS'].split()
           if 'device_count' not in flag]
  port, out = free_port(), folder / 'out.json'
  running = [subprocess.Popen(
      [sys.executable, '-m', 'tests.train.reshard_run', *map(str, (
          process, 2, port, folder / 'w', folder / 'copy', out, BEFORE, AFTER,
          4, 1, 1))],
      env=os.environ | {'XLA_FLAGS': ' '.join(
          [*flags, '--xla_force_host_platform_device_count=2'])},
      stderr=subprocess.PIPE, text=True) for process in range(2)]
  try:
    said = [process.communicate(timeout=280)[1] for process in running]
  finally:
    for process in running:
      process.kill()
  assert not any(p.returncode for p in running), said[0][-3000:]
  assert f'damaged-{BEFORE + 1}-1' in said[0]
  assert not (folder / 'copy' / 'checkpoints' / str(BEFORE + 1)).exists()
  return folder / 'w', json.loads(out.read_text())


@pytest.mark.parametrize('sizes', [(2, 2, 2), (1, 1, 1)])
def test_twenty_steps_behind_a_restore_on_another_mesh(saved, sizes):
  folder, expected = saved
  mesh = make_mesh(MeshConfig(*sizes),
                   jax.devices()[:int(np.prod(sizes))])
  losses, batches = reshard_run.train(mesh, folder, BEFORE, AFTER, False)
  assert batches == expected['batches']
  np.testing.assert_allclose(losses, expected['losses'], rtol=1e-5)
