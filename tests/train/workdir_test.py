"""A workdir that cannot be told whose it is is left alone."""

import pytest

from robertax.errors import InputError
from robertax.train import workdir
from robertax.train.config import Config


@pytest.mark.parametrize('content', ['', '{', '[]', '{"model": {"x": 1}}'])
def test_a_damaged_config_is_named(tmp_path, content):
  (tmp_path / 'config.json').write_text(content)
  with pytest.raises(InputError, match='choose another folder') as e:
    workdir.check(str(tmp_path), Config())
  assert str(tmp_path / 'config.json') in str(e.value)


def test_checkpoints_without_a_config_belong_to_no_config(tmp_path):
  workdir.check(str(tmp_path / 'none'), Config())
  (tmp_path / 'checkpoints').mkdir()
  workdir.check(str(tmp_path), Config())
  (tmp_path / 'checkpoints' / '6').mkdir()
  with pytest.raises(InputError, match='has checkpoints, but no config.json'):
    workdir.check(str(tmp_path), Config())
