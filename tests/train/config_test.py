"""Numbers that no run can have are refused with their key."""

import pytest

from robertax.config import parse
from robertax.errors import InputError


@pytest.mark.parametrize('key, value', [
    ('optim.learning_rate', float('nan')), ('optim.learning_rate', -1.0),
    ('optim.learning_rate', float('inf')), ('optim.warmup_steps', -1),
    ('optim.eps', -1e-6), ('optim.weight_decay', -0.1),
    ('optim.clip_norm', -1.0), ('optim.b1', 1.0), ('optim.b2', -0.1),
    ('train.steps', 0), ('train.eval_examples', -1),
    ('train.keep_checkpoints', -1), ('model.layer_norm_eps', 0.0),
    ('model.initializer_std', float('nan')), ('model.attention', 'flash')])
def test_wrong_values_are_named(key, value):
  section, name = key.split('.')
  with pytest.raises(InputError, match=key.replace('.', r'\.')) as e:
    parse({section: {name: value}})
  assert str(value) in str(e.value)


@pytest.mark.parametrize('seed', [-1, 1 << 32, 10 ** 30])
def test_seeds_that_would_share_parameters(seed):
  with pytest.raises(InputError, match='from 0 to 4294967295'):
    parse({'seed': seed})
  assert parse({'seed': (1 << 32) - 1}).seed == (1 << 32) - 1
