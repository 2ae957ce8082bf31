"""Every config builds, opens with its command, and has the paper's numbers."""

import dataclasses
import importlib.util
import os
import pathlib
import re

import jax
import pytest

from robertax.config import (
    Config,
    check_data,
    defaults,
    parse,
    to_dict,
    with_arg,
)
from robertax.errors import InputError
from robertax.parallel.mesh import make_mesh
from robertax.tasks import TASKS
from robertax.train import optimizer, session

FOLDER = pathlib.Path(__file__).parents[2] / 'configs'
FILES = sorted(FOLDER.rglob('*.py'))


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.stem)
def test_builds_and_opens_with_command_cost_and_expectation(path):
  module = load(path)
  assert isinstance(parse(module.get_config()), Config)
  lines = module.__doc__.splitlines()
  assert f'--config=configs/{path.relative_to(FOLDER)}' in module.__doc__
  assert any(re.match(r'Cost( \(expected\))?: ', line) for line in lines)
  assert re.search('^Expect', module.__doc__, re.M)


# Liu et al. 2019, appendix A, Table 9.
TABLE_9 = {
    'roberta_base': dict(num_layers=12, hidden_size=768, mlp_size=3072,
                         num_heads=12, warmup_steps=24_000,
                         learning_rate=6e-4),
    'roberta_large': dict(num_layers=24, hidden_size=1024, mlp_size=4096,
                          num_heads=16, warmup_steps=30_000,
                          learning_rate=4e-4)}
BOTH = dict(dropout_rate=0.1, attention_dropout_rate=0.1, batch_size=8192,
            weight_decay=0.01, steps=500_000, schedule='linear', eps=1e-6,
            b1=0.9, b2=0.98, clip_norm=0.0, sequence_length=512,
            mask_rate=0.15)


@pytest.mark.parametrize('name', TABLE_9)
def test_numbers_of_table_9(name):
  config = to_dict(parse(load(FOLDER / f'{name}.py').get_config()))
  found = {key: value for section in config.values()
           if isinstance(section, dict) for key, value in section.items()}
  for key, value in (BOTH | TABLE_9[name]).items():
    assert found[key] == value, key


# Liu et al. 2019, Table 3: batch, steps, rate; the last row is You et al.'s
# batch with as many sequences.
TABLE_3 = {'table3_256': (256, 1_000_000, 1e-4), 'table3_2k': (
    2048, 125_000, 7e-4), 'table3_8k': (8192, 31_000, 1e-3), 'lamb_32k': (
        32768, 7_812, 5e-3)}


@pytest.mark.parametrize('name', TABLE_3)
def test_numbers_of_table_3(name):
  config = parse(load(FOLDER / f'{name}.py').get_config())
  batch, steps, rate = TABLE_3[name]
  assert (config.data.batch_size, config.train.steps,
          config.optim.learning_rate) == (batch, steps, rate)
  # Equal passes over the data, but for the rounding of the paper's steps.
  assert batch * steps == pytest.approx(256e6, rel=.01)
  assert 0 < config.optim.warmup_steps < steps
  assert config.model == parse(
      load(FOLDER / 'roberta_base.py').get_config()).model


# Liu et al. 2019, Table 10; fairseq examples/roberta/wsc/README.md.
FINE_TUNING = {
    'race': dict(learning_rate=1e-5, batch_size=16, weight_decay=0.1, epochs=4,
                 warmup_rate=0.06, schedule='linear', sequence_length=512,
                 max_option_length=128, steps=0),
    'wsc': dict(learning_rate=2e-5, batch_size=64, weight_decay=0.01,
                steps=2_000, warmup_steps=250, schedule='linear',
                margin_alpha=1.0, margin_beta=0.0)}


@pytest.mark.parametrize('name', FINE_TUNING)
def test_numbers_of_fine_tuning(name):
  module = load(FOLDER / f'{name}.py')
  config = to_dict(parse(module.get_config()))
  found = {key: value for section in config.values()
           if isinstance(section, dict) for key, value in section.items()}
  for key, value in FINE_TUNING[name].items():
    assert found[key] == value, key
  for task in module.TASKS:
    assert module.get_config(f'task={task},seed=4').task == task
    assert task in TASKS
  with pytest.raises(InputError, match=f'unknown task of configs/{name}.py'):
    module.get_config('task=rte')


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.stem)
def test_names_in_configs_are_rows_of_tables(path):
  config = parse(load(path).get_config())
  optimizer.create(config.optim, config.train.steps)
  check_data(config.data)


def test_arguments_behind_the_colon():
  config = load(FOLDER / 'roberta_base.py').get_config(
      'batch_size=2048,steps=125000,optim.learning_rate=7e-4,seed=3')
  parsed = parse(config)
  assert parsed.data.batch_size == 2048 and parsed.train.steps == 125_000
  assert parsed.optim.learning_rate == 7e-4 and parsed.seed == 3


@pytest.mark.parametrize('arg, message', [
    ('batchsize=3', 'batch_size'), ('train.batch_size=3', 'train.batch_size'),
    ('batch_size=many', 'batch_size')])
def test_wrong_arguments_are_named(arg, message):
  with pytest.raises(InputError, match=message):
    with_arg(defaults(), arg)


@pytest.mark.parametrize('values, message', [
    ({'trian': {}}, 'train'), ({'train': 3}, 'train.<key>'),
    ({'train': {'step': 3}}, "'train.step'.*train.steps"),
    ({'train': {'steps': 0}}, 'train.steps=0'),
    ({'model': {'hidden_size': 100, 'num_heads': 3}}, 'num_heads=3'),
    ({'optim': {'learning_rate': 'fast'}}, 'optim.learning_rate')])
def test_wrong_values_are_named(values, message):
  with pytest.raises(InputError, match=message):
    parse(values)


def test_the_laptop_has_the_recipe_of_the_reference_run():
  laptop, reference = (parse(load(FOLDER / f'{name}.py').get_config())
                       for name in ('laptop', 'reference'))
  assert laptop.data.corpora == laptop.data.mixture == ''
  assert dataclasses.replace(laptop, data=reference.data) == reference
  assert dataclasses.replace(
      laptop.data, corpora=reference.data.corpora,
      mixture=reference.data.mixture) == reference.data


@pytest.mark.parametrize('name', ['quickstart', 'laptop', 'reference'])
def test_one_machine_holds_what_is_made_for_it(name):
  session.check_size(parse(load(FOLDER / f'{name}.py').get_config()),
                     make_mesh())


def test_what_no_machine_holds_is_refused_with_what_would_do():
  with pytest.raises(InputError, match=r'8,192 rows.*micro_batches.*laptop'):
    session.check_size(parse(load(FOLDER / 'roberta_base.py').get_config()),
                       make_mesh(devices=jax.devices()[:1]))


def test_years_are_said(capsys):
  config = load(FOLDER / 'one_gpu.py').get_config()
  config.train.micro_batches = 256
  session.check_size(parse(config), make_mesh(devices=jax.devices()[:1]))
  days = int(re.search(r'about ([\d,]+) days', capsys.readouterr().err)[1])
  # 6 FLOP a parameter and token, 75 GFLOP/s a core.
  assert days == pytest.approx(6 * 13.1e9 * 85e6 / (
      75e9 * os.cpu_count() * 86_400), rel=.02)


def test_only_the_quickstart_has_a_text_of_its_own():
  own = {path.stem for path in FILES
         if parse(load(path).get_config()).data.corpora == 'python'}
  assert own == {'quickstart'}


def test_absurd_epochs_are_said_before_anything_is_prepared(tmp_path, capsys):
  (tmp_path / 'a.txt').write_text('One line of text.\n' * 1000)
  config = load(FOLDER / 'laptop.py').get_config()
  config.data.corpora = str(tmp_path / 'a.txt')
  session.check_size(parse(config), make_mesh(devices=jax.devices()[:1]))
  said = capsys.readouterr().err
  # 13,000 steps x 16 rows x 128 tokens; 18,000 bytes / 4.
  assert 'about 5,916 epochs' in said and '--config.train.steps=88' in said
  config.train.steps = 500
  session.check_size(parse(config), make_mesh(devices=jax.devices()[:1]))
  assert 'epochs' not in capsys.readouterr().err
