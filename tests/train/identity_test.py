"""What a state belongs to, and what may differ."""

import pytest

from robertax.errors import InputError
from robertax.train import facts

SAVED = {'data.a/32/counts': '1', 'data.a/32/memmap': '2', 'tokenizer': 't',
         'code': '1', 'jax': '0.10.2'}


@pytest.mark.parametrize('key, name', [
    ('data.a/32/counts', 'data'), ('data.a/32/memmap', 'data'),
    ('tokenizer', 'tokenizer'), ('code', 'code')])
def test_a_change_is_refused_unless_allowed_by_name(key, name, capfd):
  now = SAVED | {key: 'x'}
  with pytest.raises(InputError, match=f'{key}: {SAVED[key]} -> x') as e:
    facts.check_identity('W/7', SAVED, now, '')
  assert f'train.allow_changed={name}.' in str(e.value)
  other = 'code' if name != 'code' else 'data'
  with pytest.raises(InputError, match=f'allow_changed={other},{name}'):
    facts.check_identity('W/7', SAVED, now, other)
  facts.check_identity('W/7', SAVED, now, f'{other}, {name}')
  assert f'{key}: {SAVED[key]} -> x' in capfd.readouterr().err


def test_what_is_not_refused(capfd):
  facts.check_identity('W/7', SAVED, dict(SAVED), '')
  assert not capfd.readouterr().err
  # Records of another form: their checksums are others, their counts are not.
  forms = {k: v for k, v in SAVED.items() if 'memmap' not in k}
  facts.check_identity('W/7', SAVED, forms | {'data.a/32/array_record': '9'},
                       '')
  assert not capfd.readouterr().err
  facts.check_identity('W/7', SAVED, SAVED | {'jax': '0.11'}, '')
  assert 'jax: 0.10.2 -> 0.11' in capfd.readouterr().err
  facts.check_identity('W/7', None, SAVED, '')
  assert 'cannot be verified' in capfd.readouterr().err
  with pytest.raises(InputError, match='known are data, tokenizer, code'):
    facts.allowed_names('data,seed')
