"""Fine-tuning as the paper does it: the numbers of configs/, row by row."""

import dataclasses
import importlib.util
import pathlib

import pytest

from robertax.config import parse
from robertax.paper.scales import SCALES
from robertax.studies import paper_tasks

FOLDER = pathlib.Path(__file__).parents[2] / 'configs'
FILES = {'squad1': ('squad', 'version=1.1'), 'squad2': ('squad', 'version=2.0'),
         'race': ('race', '')}


@pytest.mark.parametrize('name', paper_tasks.TASKS)
def test_numbers_are_those_of_the_config_file(name):
  file, arg = FILES.get(name, ('glue', f'task={name}'))
  spec = importlib.util.spec_from_file_location(file, FOLDER / f'{file}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  there = parse(module.get_config(arg))
  here = paper_tasks.tuning(name, SCALES['paper'], {}, '', 0)
  # A file's log is read by people.
  there, here = (dataclasses.replace(
      one, train=dataclasses.replace(one.train, log_every=1),
      finetune=dataclasses.replace(one.finetune, predict_test=False))
                 for one in (there, here))
  assert here == there
  assert here.finetune.epochs == paper_tasks.TASKS[name].epochs


def test_glue_is_swept_and_others_are_not():
  paper, tiny = SCALES['paper'], SCALES['tiny']
  assert paper_tasks.settings('rte', paper) == ((1e-5, 2e-5, 3e-5), (16, 32))
  assert paper_tasks.settings('squad2', paper) == ((), ())
  assert paper_tasks.settings('rte', tiny) == ((), ())
  # Six settings of five seeds, ten epochs.
  task = paper_tasks.TASKS['rte']
  assert paper_tasks.updates_tokens('rte', paper) == 300 * task.tokens


def test_what_begins_with_mnli():
  assert {name for name, task in paper_tasks.TASKS.items()
          if task.after == 'mnli'} == {'rte', 'mrpc', 'stsb'}
