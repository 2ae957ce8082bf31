"""metrics.jsonl: each logged step once, whatever happened before."""

import json
import subprocess
import sys
from unittest import mock

import pytest

from benchmarks import fake_remote
from robertax.errors import InputError, TakenOver
from robertax.train.writer import MetricsFile, Writer, read_metrics


def steps(folder):
  return [m['step'] for _, m in read_metrics(f'{folder}/metrics.jsonl')]


def test_values_of_a_step_are_one_line(tmp_path):
  file = MetricsFile(str(tmp_path), None)
  file.add(3, {'train/loss': 1.5})
  file.add(3, {'eval/loss': 1.25, 'train/mfu': None, 'x': float('nan')})
  file.flush()
  file.close()
  line = (tmp_path / 'metrics.jsonl').read_text()
  assert json.loads(line) == {'step': 3, 'train/loss': 1.5, 'eval/loss': 1.25,
                              'train/mfu': None, 'x': None}


def test_cut_back_to_the_restored_step(tmp_path):
  file = MetricsFile(str(tmp_path), None)
  for step in (0, 3, 6, 9, 12):
    file.add(step, {'train/loss': float(step)})
    file.flush()
  file.close()
  # A kill in the middle of a line.
  with open(tmp_path / 'metrics.jsonl', 'a') as f:
    f.write('{"step": 15, "train/lo')
  file = MetricsFile(str(tmp_path), 7)
  file.add(9, {'train/loss': 9.0})
  file.close()
  assert steps(tmp_path) == [0, 3, 6, 9]


def test_a_run_that_begins_anew_empties_the_file(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n')
  MetricsFile(str(tmp_path), None).close()
  assert steps(tmp_path) == []


def test_damage_in_the_middle_is_named(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\noops\n{"step": 2}\n')
  with pytest.raises(InputError, match='line 2'):
    MetricsFile(str(tmp_path), 2)


@pytest.mark.parametrize('content', [b'5\n{"step": 1}\n', b'[]\n[]\n',
                                     b'{"step": "x"}\n\n', b'\xff\n', None])
def test_what_is_no_metrics_file_is_named(tmp_path, content):
  path = tmp_path / 'metrics.jsonl'
  if content is None:
    path.mkdir()
  else:
    path.write_bytes(content)
  with pytest.raises(InputError, match='to begin another') as e:
    MetricsFile(str(tmp_path), 2)
  assert str(path) in str(e.value)


def test_tensorboard_events_are_written(tmp_path):
  pytest.importorskip('tensorboardX')
  writer = Writer(str(tmp_path), None)
  writer.add(1, {'train/loss': 2.0, 'train/mfu': None})
  with mock.patch.object(writer._events, '_put') as put:
    writer.add(1, {'x': float('nan'), 'y': float('inf'), 'z': 1})
  (call,) = put.call_args_list
  assert call.args == (1,) and call.kwargs['summary'].value[0].tag == 'z'
  writer.close()
  assert list(tmp_path.glob('events.*'))


def test_events_bring_no_torch(tmp_path):
  """Which tensorboardX imports wherever it is installed: in vain, for seconds.

  In a process of its own, for this one may have it.
  """
  pytest.importorskip('tensorboardX')
  done = subprocess.run([sys.executable, '-c', f'''
import sys
from robertax.train.writer import Writer
Writer({str(tmp_path)!r}, None).close()
print('torch' in sys.modules, 'tensorboardX' in sys.modules)
'''], capture_output=True, text=True)
  assert done.stdout == 'False True\n', done.stderr


def test_events_that_cannot_be_copied_at_the_end_are_no_error(tmp_path, capfd):
  """Such as those of a run that has lost its workdir."""
  pytest.importorskip('tensorboardX')
  fake_remote.mount(tmp_path)

  def check():
    if lost:
      raise TakenOver('another run has it')

  lost = []
  writer = Writer('fake://', None, check=check)
  writer.add(1, {'train/loss': 2.0})
  lost.append(True)
  with pytest.raises(TakenOver):
    writer.close()
  assert 'another run has it: no more TensorBoard' in capfd.readouterr().err
  assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']
