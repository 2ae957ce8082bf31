"""init_from: what cannot be begun with is named."""

import dataclasses
import json

import pytest

from robertax.data.config import DataConfig
from robertax.errors import InputError
from robertax.model import ModelConfig
from robertax.train import initial
from robertax.train.config import Config, to_dict


def test_weights_without_what_pairs_need(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(to_dict(Config())))
  (tmp_path / 'checkpoints').mkdir()
  config = initial.initial_config(Config(
      init_from=str(tmp_path), data=DataConfig(format='pairs')))
  config = dataclasses.replace(config, model=dataclasses.replace(
      config.model, num_types=2, nsp_head=True))
  with pytest.raises(InputError, match="model.num_types=0 there, and "
                     "data.format='pairs' needs 2"):
    initial.initial_params(config, {})


def test_weights_with_them_are_looked_for(tmp_path):
  saved = Config(model=ModelConfig(num_types=2, nsp_head=True))
  (tmp_path / 'config.json').write_text(json.dumps(to_dict(saved)))
  (tmp_path / 'checkpoints').mkdir()
  config = initial.initial_config(Config(init_from=str(tmp_path)))
  assert (config.model.num_types, config.model.nsp_head) == (2, True)
  with pytest.raises(InputError, match='has saved no checkpoint yet'):
    initial.initial_params(config, {})
