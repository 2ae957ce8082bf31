"""Several processes make the updates of one."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from robertax.config import MeshConfig
from robertax.parallel.mesh import make_mesh
from tests.train.tiny_run import train


def free_port():
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    return server.getsockname()[1]


# Along `data` over two processes reshard_test has the losses of one device.
@pytest.mark.parametrize('processes, sizes', [
    (2, (1, 1, 2)),
    pytest.param(2, (4, 1, 1), marks=pytest.mark.slow),
    pytest.param(4, (2, 1, 2), marks=pytest.mark.slow)])
def test_same_losses_over_processes(tmp_path, processes, sizes):
  """With a layer's work shared out over two of them, along `data`, and both."""
  devices = int(np.prod(sizes)) // processes
  flags = [flag for flag in os.environ['XLA_FLAGS'].split()
           if 'device_count' not in flag]
  port, out = free_port(), tmp_path / 'out.json'
  running = [subprocess.Popen(
      [sys.executable, '-m', 'tests.train.tiny_run', str(process),
       str(processes), str(port), str(out), *map(str, sizes)],
      env=os.environ | {'XLA_FLAGS': ' '.join(
          [*flags, f'--xla_force_host_platform_device_count={devices}'])},
      stderr=subprocess.PIPE, text=True) for process in range(processes)]
  try:
    for process in running:
      _, errors = process.communicate(timeout=280)
      assert not process.returncode, errors[-3000:]
  finally:
    for process in running:
      process.kill()
  found = json.loads(out.read_text())
  assert found['processes'] == processes
  losses, params = train(make_mesh(
      MeshConfig(), jax.devices()[:1]))
  np.testing.assert_allclose(found['losses'], losses, rtol=1e-5)
  for a, b in zip(found['params'], jax.tree.leaves(params)):
    np.testing.assert_allclose(a, b, atol=2e-4)
