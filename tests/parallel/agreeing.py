"""A process of processes_test: `python -m tests.parallel.agreeing I N PORT W`.

Processes 0 and 1 share a folder, process 2 has one of its own.
"""

import logging
import sys
import threading
import time
import warnings

from robertax.data.rows import BadRecords
from robertax.errors import InputError
from robertax.parallel import processes
from robertax.progress import say


class Odd(InputError):

  def __init__(self, row, why):
    super().__init__(f'row {row} is {why}')


def speak(me):
  """In every way in which a process can."""
  print(f'{me} speaks')
  say(f'{me} tells')
  print(f'{me} whispers', file=sys.stderr)
  warnings.warn(f'{me} warns', stacklevel=1)
  logging.getLogger('other.package').warning(f'{me} logs')

  def die():
    raise ValueError(f'{me} dies')

  thread = threading.Thread(target=die)
  thread.start()
  thread.join()


def main():
  number, count, port, folder = sys.argv[1:]
  me = int(number)
  assert processes.start(f'127.0.0.1:{port}', int(count), me,
                         heartbeat_seconds=10) == 'flags'
  log = open(f'{folder}/log', 'a', buffering=1)
  assert processes.gather(me * me) == [i * i for i in range(int(count))]
  assert processes.together(lambda: me + 1) == me + 1

  def wrong():
    if me == 1:
      raise Odd(7, 'odd')

  for function, words in (
      (lambda: processes.together(wrong), 'process 1 of 3: row 7 is odd'),
      (lambda: processes.same('config', {'a': 1, 'seed': me // 2}),
       "process 2 of 3 has another config than process 0: {'seed': 1} there, "
       "{'seed': 0} here")):
    try:
      function()
      raise AssertionError(words)
    except InputError as e:
      assert words in str(e), e
      # All end by it, in order, and process 0 says it.
      assert e.agreed and type(e) is InputError
  try:
    processes.together(wrong, Odd)
    raise AssertionError('none is odd')
  except Odd as e:
    assert str(e) == 'process 1 of 3: row 7 is odd' and e.agreed
  processes.same('config', {'a': 1})

  # Two have met record 3, each on a disk of its own; process 2 none.
  bad = BadRecords('skip')
  for record in [3, 5 + me][:2 - me]:
    bad.report(f'/disk{me}/corpus/train', record, 'damaged')
  assert bad.count() == 2 and bad.count() == 2

  def prepare():
    log.write(f'{me} begins\n')
    time.sleep(0.5)
    log.write(f'{me} ends\n')
    return me * 10

  disk = f'{folder}/{"own" if me == 2 else "shared"}'
  assert processes.in_turn(disk, prepare) == me * 10
  speak(me)
  with processes.as_one():
    if me == 1:
      raise InputError('alone in this')


if __name__ == '__main__':
  main()
