
from robertax.tasks import TASKS
from robertax.tasks.glue_files import GLUE
from robertax.tasks.race import TASK_PARTS
from robertax.tasks.squad import VERSION


def test_every_row_is_a_task():
  for name, task in TASKS.items():
    assert callable(task.of), name
    assert isinstance(task.fine_tunes, bool), name


def test_the_rows_are_those_of_their_own_tables():
  assert {name for name in TASKS if name.startswith('glue/')} == {
      f'glue/{name}' for name in GLUE}
  assert {name for name in TASKS if name.startswith('race')} == set(TASK_PARTS)
  assert {name for name in TASKS if name.startswith('squad')} == set(VERSION)
