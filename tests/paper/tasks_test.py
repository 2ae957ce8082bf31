"""Fine-tuning as the paper does it: the numbers of configs/, row by row."""

import dataclasses
import importlib.util
import pathlib

import pytest

from robertax.config import parse
from robertax.paper import scales
from robertax.paper.scales import SCALES

FOLDER = pathlib.Path(__file__).parents[2] / 'configs'
FILES = {'squad1': ('squad', 'version=1.1'), 'squad2': ('squad', 'version=2.0'),
         'race': ('race', '')}


@pytest.mark.parametrize('name', scales.PAPER_TASKS)
def test_numbers_are_those_of_the_config_file(name):
  file, arg = FILES.get(name, ('glue', f'task={name}'))
  spec = importlib.util.spec_from_file_location(file, FOLDER / f'{file}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  there = parse(module.get_config(arg))
  here = scales.tuning_config(name, SCALES['paper'], {}, '', 0)
  # A file's log is read by people.
  there, here = (dataclasses.replace(
      one, train=dataclasses.replace(one.train, log_every=1),
      finetune=dataclasses.replace(one.finetune, predict_test=False))
                 for one in (there, here))
  assert here == there
  assert here.finetune.epochs == scales.PAPER_TASKS[name].epochs


def test_glue_is_swept_and_others_are_not():
  paper, tiny = SCALES['paper'], SCALES['tiny']
  assert scales.sweep_settings('rte', paper) == ((1e-5, 2e-5, 3e-5), (16, 32))
  assert scales.sweep_settings('squad2', paper) == ((), ())
  assert scales.sweep_settings('rte', tiny) == ((), ())
  # Six settings of five seeds, ten epochs.
  task = scales.PAPER_TASKS['rte']
  assert scales.tuning_tokens('rte', paper) == 300 * task.tokens


def test_what_begins_with_mnli():
  assert {name for name, task in scales.PAPER_TASKS.items()
          if task.after == 'mnli'} == {'rte', 'mrpc', 'stsb'}
