"""GPUs that are not here: what is said, and what the compiler gets."""

import re

import pytest

from robertax.errors import InputError
from robertax.parallel import chips


@pytest.mark.parametrize('chip', sorted(chips.TARGETS))
def test_a_target_is_the_chip_of_the_same_name(chip):
  text = chips.TARGETS[chip]
  assert text.count('{') == text.count('}') == 4
  values = dict(re.findall(r'(\w+): ("[^"]*"|[\d.]+)', text))
  known = chips.CHIPS[chip]
  assert chips.chip_of(values['device_description_str'].strip('"')) == known
  assert float(values['memory_bandwidth']) == pytest.approx(
      known.bandwidth, rel=1e-2)
  assert known.memory <= int(values['device_memory_size']) < known.memory * 1.02


@pytest.mark.parametrize('arguments, named', [
    (('h300', '1x1x8'), 'h100'), (('h200', '8'), '1x1x8'),
    (('h200', '0x1x8'), '1x1x8')])
def test_what_cannot_be_is_said(arguments, named):
  with pytest.raises(InputError, match=named):
    chips.cuda_devices(*arguments)


def test_without_a_compiler_it_is_said_how_to_get_it(monkeypatch):
  monkeypatch.setattr(chips, 'plugin', lambda: None)
  with pytest.raises(InputError, match='pip install'):
    chips.cuda_devices('h100')


@pytest.mark.skipif(not chips.plugin(), reason='no jax_cuda12_plugin or '
                    'jax_cuda13_plugin: no compiler for GPUs')
@pytest.mark.parametrize('chip', sorted(chips.TARGETS))
def test_devices_are_of_the_kind(chip):
  devices = chips.cuda_devices(chip, '1x1x8')
  assert len(devices) == 8
  assert chips.chip_of(devices[0].device_kind) == chips.CHIPS[chip]
