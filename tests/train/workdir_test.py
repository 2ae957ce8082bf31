"""A workdir that cannot be told whose it is is left alone."""

import dataclasses
import json

import pytest

from robertax.config import Config, ModelConfig, to_dict
from robertax.errors import InputError
from robertax.train import workdir


@pytest.mark.parametrize('content', ['', '{', '[]', '{"model": {"x": 1}}'])
def test_a_damaged_config_is_named(tmp_path, content):
  (tmp_path / 'config.json').write_text(content)
  with pytest.raises(InputError, match='choose another folder') as e:
    workdir.check_config(str(tmp_path), Config())
  assert str(tmp_path / 'config.json') in str(e.value)


def test_a_link_to_nowhere_is_named(tmp_path):
  (tmp_path / 'link').symlink_to(tmp_path / 'gone')
  with pytest.raises(InputError, match=r'link is a link to .*gone, which does'):
    workdir.check_writable(str(tmp_path / 'link' / 'W'))


def test_checkpoints_without_a_config_belong_to_no_config(tmp_path):
  workdir.check_config(str(tmp_path / 'none'), Config())
  (tmp_path / 'checkpoints').mkdir()
  workdir.check_config(str(tmp_path), Config())
  (tmp_path / 'checkpoints' / '6').mkdir()
  with pytest.raises(InputError, match='has checkpoints, but no config.json'):
    workdir.check_config(str(tmp_path), Config())


def test_what_a_task_has_filled_in_need_not_be_given_again(tmp_path):
  """A run's config.json has the vocabulary's size, and what pairs need."""
  given = Config(model=ModelConfig(hidden_size=48))
  filled = dataclasses.replace(given, model=dataclasses.replace(
      given.model, vocab_size=300, num_types=2, nsp_head=True))
  (tmp_path / 'config.json').write_text(json.dumps(to_dict(filled)))
  workdir.check_config(str(tmp_path), given)
  workdir.check_config(str(tmp_path), filled)
  assert workdir.read_config(str(tmp_path)) == filled
  for key, value in (('num_types', 3), ('vocab_size', 301)):
    other = dataclasses.replace(given, model=dataclasses.replace(
        given.model, **{key: value}))
    with pytest.raises(InputError, match=f'model.{key}: .* -> {value}'):
      workdir.check_config(str(tmp_path), other)


def test_a_config_of_older_versions_keeps_its_layout_of_pairs(tmp_path):
  values = to_dict(Config())
  del values['model']['pair_layout']
  (tmp_path / 'config.json').write_text(json.dumps(values))
  saved = workdir.read_config(str(tmp_path))
  assert saved.model.pair_layout == 'types'
  assert workdir.check_config(str(tmp_path), Config()) == saved
