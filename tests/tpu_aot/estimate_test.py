"""The compiled estimate of a config, for slices that are not here."""

import json
import math
import os
import subprocess
import sys

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from robertax import config as configs  # noqa: E402
from robertax.errors import InputError
from robertax.model.encoder import POLICIES  # noqa: E402
from robertax.parallel.chips import slices
from robertax.parallel.mesh import batch_sharding, make_mesh
from robertax.studies.estimate import estimate, search, step_flops, topology  # noqa: E402

pytestmark = pytest.mark.tpu_aot
pytest.importorskip('libtpu', reason='pip install -r requirements-tpu.txt')

SMALL = {
    'data': {'batch_size': 64, 'sequence_length': 128,
             'format': 'full_sentences'},
    'model': {'vocab_size': 512, 'hidden_size': 256, 'num_layers': 2,
              'num_heads': 4, 'mlp_size': 1024, 'max_positions': 128,
              'dtype': 'bfloat16', 'remat': 'products'}}


def parsed(**more):
  values = {name: dict(section) for name, section in SMALL.items()}
  for key, value in more.items():
    section, name = key.split('__')
    values.setdefault(section, {})[name] = value
  return configs.parse(values)


@pytest.mark.parametrize('parts', [1, 4])
def test_gradients_travel_once_a_step(parts):
  """Their bytes, counted over all loops, whatever the micro-batches."""
  found = estimate(parsed(train__micro_batches=parts), 'v5e:2x2')
  size = 4 * (512 * 256 + 130 * 256 + 256 * 256 + 2 * (
      4 * 256**2 + 2 * 256 * 1024))
  assert found.fits and found.devices == 4
  moved = sum(size for _, size in found.collectives.values())
  assert size <= moved <= 1.1 * size
  # One kernel a layer and micro-batch forward, one backward: what the policy
  # keeps spares the second forward.
  assert {name: cost.calls for name, cost in found.kernels.items()} == {
      'attention_forward': 2 * parts, 'attention_backward': 2 * parts}
  assert found.square == 0 and found.seconds > 0


def test_scores_in_memory_are_seen():
  found = estimate(parsed(model__attention='xla', model__remat='none'),
                   'v5e:2x2')
  assert found.square >= 16 * 4 * 128 * 128 and not found.kernels


def test_what_does_not_fit_says_what_it_wants():
  found = estimate(parsed(data__batch_size=65536, model__remat='none',
                          model__attention='xla'), 'v5e:2x2')
  assert not found.fits and found.memory > found.chip.memory


def test_search_tries_policies_until_all_fits(capsys):
  tried, found = search(parsed(data__batch_size=4), 'v5e:2x2')
  said = capsys.readouterr().err.splitlines()
  assert any(line.startswith('attention, full: not tried') for line in said)
  said = [line for line in said if line.startswith('model.remat=')]
  seconds = {line.split()[0]: float(line.split()[-2]) for line in said}
  assert list(seconds) == [
      f'model.remat={name}' for name in list(POLICIES)[:2]]
  assert found.fits and f'{found.seconds:.4f}' == f'{min(seconds.values()):.4f}'
  assert f'{seconds[f"model.remat={tried.model.remat}"]:.4f}' == (
      f'{found.seconds:.4f}')


@pytest.mark.parametrize('policy, forward', [('none', 1), ('full', 2)])
def test_a_forward_pass_that_is_made_again_counts_again(policy, forward):
  found = estimate(parsed(model__remat=policy), 'v5e:2x2')
  one, two = (found.kernels[f'attention_{name}']
              for name in ('forward', 'backward'))
  assert (one.calls, two.calls) == (2 * forward, 2)
  # exp of 16 rows x 4 heads x 128^2 scores a layer, and the hash of dropout.
  assert one.vector > 4 * one.calls * 16 * 4 * 128**2
  # QK and PV, of heads 64 wide: filled up to the 128 of the matrix unit.
  assert one.flops == one.calls * 16 * 4 * 2 * (2 * 128**3)


def test_between_slices_each_device_sends_its_part():
  """Gradients are scattered in a slice of four before they leave it."""
  found = estimate(parsed(), '2xv5e:2x2')
  size = 4 * (512 * 256 + 130 * 256 + 256 * 256 + 2 * (
      4 * 256**2 + 2 * 256 * 1024))
  _, sent = found.collectives['send-between-slices']
  assert size / 4 <= sent <= 1.5 * size / 4


def test_flops_of_the_reference_table():
  """performance.md: 2.010 GFLOP a token for large at 512."""
  large = configs.parse({
      'model': {'hidden_size': 1024, 'num_layers': 24, 'num_heads': 16,
                'mlp_size': 4096}})
  tokens = large.data.batch_size * large.data.sequence_length
  assert step_flops(large, 50265) / tokens == pytest.approx(2.010e9, rel=1e-3)


@pytest.mark.parametrize('name, most', [
    ('v5e:2x2', 30), ('v5e:1x1', 108)])
def test_memory_is_what_lies_in_hbm_without_what_lies_in_vmem(name, most):
  """memory_analysis() has 76 and 161 MiB of v5e at the peak of both."""
  found = estimate(parsed(), name)
  assert found.devices == (4 if name == 'v5e:2x2' else 1)
  # State and batch at least; at most as if no temporary took another's room.
  assert found.arguments < found.memory < most * 2**20


def test_memory_has_the_gaps_between_arrays():
  """memory_analysis() has 55 MiB at the peak, and 60 are set aside."""
  found = estimate(parsed(), 'v5p:2x2x1')
  assert found.memory > 58 * 2**20


@pytest.mark.parametrize('name', [
    f'{chip}:{shape}' for chip in ('v4', 'v5e', 'v5p', 'v6e')
    for shape in (*slices(chip)[:8], slices(chip)[-1])])
def test_every_slice_of_the_table_compiles(name):
  """The largest of each too; a shape that no slice has ends the process."""
  _, devices = topology(name)
  sides = name.partition(':')[2].split('x')
  assert len(devices) == math.prod(map(int, sides))
  mesh = make_mesh(configs.MeshConfig(), devices)
  x = jax.ShapeDtypeStruct((len(devices), 128), np.float32,
                           sharding=batch_sharding(mesh))
  jax.jit(lambda x: x.sum(), out_shardings=NamedSharding(mesh, P())).lower(
      x).compile()


@pytest.mark.parametrize('name, words', [
    ('v5e', 'v5e:16x16'), ('cuda:h200:8', '1x1x8'), ('cuda:h9:1x1x1', 'h100'),
    ('v7:2x2', 'known are v4, v5e, v5p, v6e'),
    ('v5e:3x5', 'v5e:4x4')])
def test_a_wrong_topology_says_what_would_do(name, words):
  with pytest.raises(InputError, match=words):
    topology(name)


def test_the_door_ends_in_one_json_line(tmp_path):
  path = tmp_path / 'small.py'
  path.write_text(
      'from robertax.config import defaults\n'
      'def get_config(arg=None):\n'
      '  config = defaults()\n'
      f'  for name, values in {SMALL!r}.items():\n'
      '    config[name].update(values)\n'
      '  return config\n')
  done = subprocess.run(
      [sys.executable, '-m', 'robertax.aot', f'--config={path}',
       '--topology=2xv5e:2x2', '--config.mesh.zero1=True'],
      env=os.environ | {'JAX_PLATFORMS': 'cpu'}, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-2000:]
  assert 'nothing was run' in done.stdout
  line = json.loads(done.stdout.splitlines()[-1])
  assert line['fits'] and line['devices'] == 8 and line['zero1']
  assert set(line) >= {
      'fits', 'hbm_gib', 'hbm_limit_gib', 'estimated_step_seconds',
      'estimated_mfu', 'collectives', 'compile_seconds'}
