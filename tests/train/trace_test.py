"""A trace of some steps, as xprof reads it."""

import jax
import jax.numpy as jnp
import pytest

from robertax.errors import InputError
from robertax.train.session import Trace, profiled_steps


def traced_steps(folder):
  """step_num of each `train` step of the one trace below a workdir."""
  (path,) = folder.glob('plugins/profile/*/*.xplane.pb')
  data = jax.profiler.ProfileData.from_file(str(path))
  return sorted(
      dict(event.stats)['step_num'] for plane in data.planes
      for line in plane.lines for event in line.events if event.name == 'train')


def test_only_the_steps_asked_for_are_traced(tmp_path, capsys):
  double = jax.jit(lambda x: x * 2)
  trace = Trace(str(tmp_path), '2-3')
  x = jnp.ones(8)
  for number in range(1, 6):
    with trace.step(number):
      x = double(x)
    trace.on_step(number, x)
  trace.close()
  assert traced_steps(tmp_path) == [2, 3]
  assert f'xprof {tmp_path}' in capsys.readouterr().err


def test_a_run_that_ends_within_leaves_what_it_has(tmp_path):
  trace = Trace(str(tmp_path), '1-100')
  with trace.step(1):
    jax.block_until_ready(jnp.ones(3) + 1)
  trace.on_step(1, 0)
  trace.close()
  trace.close()
  assert traced_steps(tmp_path) == [1]


def test_nothing_asked_for_nothing_written(tmp_path):
  for trace in (Trace(str(tmp_path), ''),
                Trace(str(tmp_path), '1-2', write=False)):
    with trace.step(1):
      pass
    trace.on_step(1, 0)
    trace.close()
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('text', ['x', '0-3', '5-4', '3-', '-3', '1-2-3'])
def test_wrong_steps_are_named(text):
  with pytest.raises(InputError, match='profile_steps.*100-105'):
    profiled_steps(text)
