"""Reading a compiled program, against programs whose counts are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax.parallel.chips import CHIPS, chip_of
from robertax.parallel.mesh import make_mesh
from robertax.studies import compiled_program


def compiled(function, *arguments):
  return jax.jit(function).lower(*arguments).compile().as_text()


def test_collectives_of_loops_are_counted_as_often_as_they_run():
  """An all-reduce of [4, 16] outside, and one of [16] in 3 x 5 turns."""
  mesh = make_mesh()

  def local(x):
    def turn(total, _):
      return total + jax.lax.psum(jnp.sin(total), 'data'), None
    total = jax.lax.scan(lambda c, _: (
        jax.lax.scan(turn, c, length=5)[0], None), x[0], length=3)[0]
    return jax.lax.psum(x, 'data') + total

  with jax.set_mesh(mesh):
    text = compiled(jax.shard_map(
        local, in_specs=jax.P('data'), out_specs=jax.P(), check_vma=False),
                    jax.ShapeDtypeStruct((32, 16), np.float32))
  assert compiled_program.read_program(text).collectives == {
      'all-reduce': [16, 4 * 16 * 4 + 15 * 16 * 4]}


def test_a_reduce_scatter_counts_what_goes_in():
  def local(x):
    return jax.lax.psum_scatter(x, 'data', tiled=True)

  with jax.set_mesh(make_mesh()):
    text = compiled(jax.shard_map(
        local, in_specs=jax.P(), out_specs=jax.P('data'), check_vma=False),
                    jax.ShapeDtypeStruct((64, 2), np.float32))
  (kind, (times,
          size)), = compiled_program.read_program(text).collectives.items()
  assert (kind, times, size) == ('reduce-scatter', 1, 64 * 2 * 4)


TPU = '''HloModule jit_step
%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %fusion.1 = f32[8]{0} fusion(%x), kind=kLoop, calls=%inner, \
metadata={op_name="jit(f)/mul"}, backend_config={"estimated_cycles":"100"}
  %attention_forward.5 = bf16[8]{0} custom-call(%x), \
custom_call_target="tpu_custom_call"
}
%condition (p: (s32[], f32[8])) -> pred[] {
  %constant.7 = s32[]{:T(128)} constant(24)
  ROOT %compare = pred[] compare(%i, %constant.7), direction=LT
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %while.1 = (s32[], f32[8]) while(%t), condition=%condition, body=%body
  ROOT %fusion.2 = f32[8]{0} fusion(%y), kind=kLoop, calls=%inner, \
metadata={op_name="jit(f)/add"}, backend_config={"estimated_cycles":"7"}
}
'''


def test_a_tpu_loop_says_its_length_in_its_condition():
  program = compiled_program.read_program(TPU)
  assert program.cycles == 24 * 100 + 7
  assert program.cycles_by_source == {'jit(f)/mul': 2400, 'jit(f)/add': 7}
  assert program.kernels == {'attention_forward': 24}


def test_a_loop_of_unknown_length_is_not_counted_once_in_silence():
  with pytest.raises(ValueError, match='unknown length'):
    compiled_program.read_program(TPU.replace('direction=LT', 'direction=NE'))


def test_arrays_are_all_that_the_text_names():
  text = compiled(lambda x: x @ x.T, np.ones((3, 5), np.float32))
  shapes = {shape for _, shape in compiled_program.named_arrays(text)}
  assert {(3, 5), (3, 3)} <= shapes


@pytest.mark.parametrize('kind, name', [
    ('TPU v5 lite', 'v5e'), ('TPU v5', 'v5p'), ('TPU v4', 'v4'),
    ('TPU v6 lite', 'v6e'), ('NVIDIA H100 80GB HBM3', 'h100'), ('cpu', None)])
def test_chips_by_the_kind_that_jax_says(kind, name):
  assert chip_of(kind) == (CHIPS[name] if name else None)


def test_what_is_sent_to_another_slice():
  """As libtpu 0.0.42.1 has it: the network's runtime sends from the host."""
  send = ('  %send.5 = (f32[64,8,128]{2,1,0:T(8,128)}, u32[], token[]) '
          'send(%bitcast.11, %after-all.5), channel_id=12, '
          'is_host_transfer=true, frontend_attributes={'
          '_xla_host_transfer_handler_name="xla_megascale_runtime"}')
  program = compiled_program.read_program('\n'.join([
      'ENTRY %main () -> f32[] {', send,
      send.replace('send(', 'send-done(').replace('send.5', 'send-done.5'),
      '}']))
  assert program.collectives == {compiled_program.SLICES: [1, 4 * 64 * 8 * 128]}
