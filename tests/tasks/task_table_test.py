import inspect
import typing

import pytest

from robertax.tasks import TASKS, FinetuningTask, PretrainingTask
from robertax.tasks.glue_files import GLUE
from robertax.tasks.race import TASK_PARTS
from robertax.tasks.squad import VERSION
from robertax.tasks.task import AnsweringObjective, Objective


def members(protocol):
  """{name: what the protocol says of it, None of an attribute}."""
  found = {}
  for cls in reversed(protocol.__mro__):
    if not getattr(cls, '_is_protocol', False):
      continue
    found |= dict.fromkeys(vars(cls).get('__annotations__', ()))
    found |= {name: value for name, value in vars(cls).items()
              if not name.startswith('_')}
  return found


def missing(cls, protocol):
  """Names of the protocol's members that a class has not, or otherwise."""
  declared = {name for base in cls.__mro__
              for name in getattr(base, '__annotations__', {})}
  for name, value in members(protocol).items():
    if value is None or isinstance(value, property):
      if name not in declared and not hasattr(cls, name):
        yield name
    elif not hasattr(cls, name):
      yield name
    else:
      ours = inspect.signature(inspect.getattr_static(cls, name).__func__
                               if isinstance(value, classmethod)
                               else getattr(cls, name))
      theirs = inspect.signature(value.__func__ if isinstance(
          value, classmethod) else value)
      if list(ours.parameters) != list(theirs.parameters):
        yield f'{name}{ours}'


@pytest.mark.parametrize('name', TASKS)
def test_a_row_has_the_members_of_its_protocol(name):
  task = TASKS[name]
  protocol = FinetuningTask if task.fine_tunes else PretrainingTask
  assert not list(missing(task, protocol))
  objective = typing.get_type_hints(task).get('objective')
  if task.fine_tunes:
    objective = getattr(task, 'objective_class', objective)
  assert not list(missing(
      objective, AnsweringObjective if task.fine_tunes else Objective))


def test_a_missing_or_other_member_is_found():
  class Half:
    fine_tunes = False
    tokenizer: object

    def describe(self, step):
      return ''

  found = list(missing(Half, PretrainingTask))
  assert 'fine_tunes' not in found and 'tokenizer' not in found
  assert {'of', 'model', 'summarize', 'describe(self, step)'} <= set(found)


def test_the_rows_are_those_of_their_own_tables():
  assert {name for name in TASKS if name.startswith('glue/')} == {
      f'glue/{name}' for name in GLUE}
  assert {name for name in TASKS if name.startswith('race')} == set(TASK_PARTS)
  assert {name for name in TASKS if name.startswith('squad')} == set(VERSION)
