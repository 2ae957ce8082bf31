"""Which slices of TPUs there are."""

import pytest

from robertax.errors import InputError
from robertax.parallel.chips import CHIPS, slices
from robertax.studies.estimate import topology


@pytest.mark.parametrize('name, close', [
    ('v5e:32x32', 'v5e:16x16, v5e:8x16, v5e:8x8'),  # A pod has 256 chips.
    ('v5e:16x32', 'v5e:16x16'), ('v5e:2x128', 'v5e:16x16'),
    ('v6e:4x4x4', 'v6e:8x8'), ('v5e:3x5', 'v5e:4x4'), ('v6e:4x2', 'v6e:2x4'),
    ('v5p:4x4', 'v5p:2x2x4'), ('v5p:8x4x4', 'v5p:4x4x8'),
    ('v5p:2x2x8', 'v5p:2x4x4'), ('v5p:4x4x384', 'v5p:16x16x24'),
    ('v4:16x16x32', 'v4:8x16x32, v4:16x16x16'),
    ('2xv4:1x1', 'v4:2x2x1')])
def test_what_no_slice_is_like_is_refused_with_the_closest(name, close):
  """Without a compiler: that of TPUs aborts the process for some of them."""
  with pytest.raises(InputError) as raised:
    topology(name)
  kind, shape = name.removeprefix('2x').split(':')
  assert f'no slice of {kind} has this shape' in str(raised.value)
  assert f'{kind}:{shape}' in str(raised.value)
  assert f'Close ones are {close}' in str(raised.value)
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize('name', ['v5e:0x4', '0xv5e:2x2', 'v5e:16', 'v5e:x'])
def test_what_is_no_topology_is_refused(name):
  with pytest.raises(InputError, match='a chip and its slice, such as'):
    topology(name)


def test_absurd_numbers_of_slices_are_refused():
  with pytest.raises(InputError, match='256 slices at most'):
    topology('2147483648xv5e:2x2')


def test_the_slices_of_each_generation():
  """Google's pages for v4, v5e, v5p and v6e have these, and none beyond."""
  tpus = [name for name, chip in CHIPS.items() if chip.clock]
  assert tpus == ['v4', 'v5e', 'v5p', 'v6e']
  assert slices('v5e') == slices('v6e') == (
      '1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
  for name, largest in (('v4', '16x16x16'), ('v5p', '16x16x24')):
    known = slices(name)
    assert {'2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8',
            '8x8x8', '8x8x16', '8x16x16'} < set(known)
    assert known[-1] == largest and len(set(known)) == len(known)
