"""configs/squad.py has the paper's numbers (Liu et al. 2019, Table 10)."""

import importlib.util
import pathlib

import pytest

from robertax.config import parse, to_dict
from robertax.errors import InputError
from robertax.tasks.squad import VERSION
from robertax.train.optimizer import fitting_warmup

PATH = pathlib.Path(__file__).parents[2] / 'configs' / 'squad.py'


@pytest.fixture(scope='module')
def get_config():
  spec = importlib.util.spec_from_file_location('squad', PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config


@pytest.mark.parametrize('arg, task', [
    (None, 'squad'), ('version=1.1', 'squad'), ('version=2.0', 'squad2'),
    ('train.steps=7,version=2.0', 'squad2')])
def test_numbers_of_the_paper(get_config, arg, task):
  config = parse(get_config(arg))
  assert config.task == task and task in VERSION
  assert config.data.batch_size == 48 and config.finetune.epochs == 2
  assert config.optim.learning_rate == 1.5e-5
  assert config.optim.weight_decay == 0.01
  assert (config.optim.b1, config.optim.b2, config.optim.eps) == (
      .9, .98, 1e-6)
  assert config.optim.schedule == 'linear'
  assert config.model.dropout_rate == config.model.attention_dropout_rate == .1
  assert config.train.steps == (7 if 'steps' in (arg or '') else 0)


def test_six_percent_of_any_run_are_warm_up(get_config):
  config = parse(get_config('train.steps=1000'))
  assert fitting_warmup(config).warmup_steps == 60


def test_versions_differ_in_the_task_alone(get_config):
  one, two = (to_dict(parse(get_config(f'version={v}')))
              for v in ('1.1', '2.0'))
  assert {**one, 'task': ''} == {**two, 'task': ''}


def test_another_version_is_refused(get_config):
  with pytest.raises(InputError, match='version=2.1: 1.1 or 2.0'):
    get_config('version=2.1')
