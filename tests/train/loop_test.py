"""Whole runs: killed and resumed, stopped, refused, done."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax.config import parse
from robertax.errors import InputError
from robertax.inspection import report
from robertax.train import checkpoint, loop, session
from robertax.train.clock import LogWindow
from robertax.train.writer import read_metrics
from tests.train.trace_test import traced_steps
from tests.xla_flags import FAST


def text(sentences=1500):
  """Sentences in which most words follow from their neighbours."""
  rng = np.random.default_rng(0)
  words = 'one two three four five six seven eight nine ten'.split()
  lines = []
  for number in range(sentences):
    start = rng.integers(10)
    lines.append(' '.join(words[(start + i) % 10] for i in range(12)) + '.')
    if number % 10 == 9:
      lines.append('')
  return '\n'.join(lines)


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
  """A config of plain values, and the cache that all runs here share."""
  folder = tmp_path_factory.mktemp('tiny')
  (folder / 'counting.txt').write_text(text())
  return {
      'seed': 1,
      'data': {'corpora': str(folder / 'counting.txt'), 'batch_size': 8,
               'sequence_length': 32, 'backend': 'numpy', 'workers': 1,
               'cache_dir': str(folder / 'cache')},
      'tokenizer': {'vocab_size': 300},
      'model': {'hidden_size': 16, 'num_layers': 1, 'num_heads': 2,
                'mlp_size': 32, 'max_positions': 32},
      'optim': {'learning_rate': 3e-3, 'warmup_steps': 10},
      'mesh': {'data': 1},
      'train': {'steps': 30, 'log_every': 1, 'eval_every': 10,
                'checkpoint_every': 7}}


def changed(config, **sections):
  """The config with some values of some sections replaced."""
  return config | {name: config.get(name, {}) | values
                   for name, values in sections.items()}


def one_device(config, folder):
  """A run on the first of the test's devices."""
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    return loop.run(parse(config), str(folder))


@contextlib.contextmanager
def killed_at(step):
  """The body is left by an exception behind so many training steps.

  What it was saving is saved: a thread of this process, unlike a killed one's,
  would go on with it beside the run that follows.
  """
  add, calls, opened = LogWindow.add, [], []

  class Kept(checkpoint.Checkpoints):
    def __init__(self, *args, **named):
      super().__init__(*args, **named)
      opened.append(self)

  def killed(self, number, sums):
    calls.append(1)
    if len(calls) == step:
      opened[-1].wait()
      raise KeyboardInterrupt
    add(self, number, sums)

  with mock.patch.object(LogWindow, 'add', killed), mock.patch.object(
      session, 'Checkpoints', Kept), pytest.raises(KeyboardInterrupt):
    yield


def lines(folder):
  return [m for _, m in read_metrics(f'{folder}/metrics.jsonl')]


def losses(folder):
  return {m['step']: m['train/loss'] for m in lines(folder)
          if 'train/loss' in m}


COMMAND = '''
import json, sys
from robertax.errors import door
from robertax.inspection import report
from robertax.train import loop
from robertax.config import parse

@door
def main(argv):
  ended = loop.run(parse(json.loads(argv[1])), argv[2])
  print(report.last_words(ended, 'the same command'))
  sys.exit(128 + ended.signal if ended.signal else 0)

main(sys.argv)
'''


def start(config, folder):
  env = os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': FAST,
                      'PYTHONPATH': os.getcwd()}
  return subprocess.Popen(
      [sys.executable, '-c', COMMAND, json.dumps(config), str(folder)],
      env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_lines(folder, count, process):
  path = f'{folder}/metrics.jsonl'
  end = time.time() + 120
  while time.time() < end and process.poll() is None:
    if os.path.exists(path):
      with open(path) as f:
        if sum(1 for _ in f) >= count:
          return
    time.sleep(0.005)
  raise AssertionError(
      f'no {count} lines came: {process.communicate()[0][-2000:]}')


def finish(process, code):
  said = process.communicate(timeout=240)[0]
  assert process.returncode == code, said[-3000:]
  return said


def said_here(config, folder):
  """A run in this process, on one device: what the command would say."""
  with contextlib.redirect_stderr(io.StringIO()) as said:
    ended = one_device(config, folder)
    assert not ended.signal
    return report.last_words(ended, 'the same command') + said.getvalue()


@pytest.fixture(scope='module')
def undisturbed(tiny, tmp_path_factory):
  """A run of 300 steps left alone."""
  config = changed(tiny, train={'steps': 300, 'checkpoint_every': 25,
                                'eval_every': 100})
  folder = tmp_path_factory.mktemp('undisturbed')
  return config, folder, said_here(config, folder)


def test_a_run_learns_and_says_what_to_do_next(undisturbed):
  config, folder, said = undisturbed
  read = lines(folder)
  assert [m['step'] for m in read] == list(range(301))
  assert [m['step'] for m in read if 'eval/loss' in m] == [0, 100, 200, 300]
  last = read[-1]
  assert last['eval/loss'] < last['eval/unigram_loss'] - 0.5
  assert last['eval/loss'] == last['eval/counting/loss']
  assert last['eval/perplexity'] == pytest.approx(np.exp(last['eval/loss']))
  assert last['eval/bits'] == pytest.approx(last['eval/loss'] / np.log(2))
  assert last['train/mfu'] is None and last['train/tokens_per_second'] > 0
  epochs = [m['train/epoch'] for m in read[1:]]
  np.testing.assert_allclose(epochs, epochs[0] * np.arange(1, 301))
  assert 0 < last['train/padding_fraction'] < 1
  assert 'guessed' in said and 'robertax.load' in said
  assert (folder / 'learning_curve.png').stat().st_size > 10_000
  assert json.loads((folder / 'config.json').read_text())['model'][
      'vocab_size'] == 300
  assert list(folder.glob('events.*'))


def clock_lines(folder):
  return [json.loads(line)
          for line in (folder / 'clock.jsonl').read_text().splitlines()]


KINDS = ('start', 'input_wait', 'step', 'checkpoint', 'evaluation')


def test_the_split_adds_up_to_the_time_that_has_passed(undisturbed):
  """Over the whole run, and from each 50 steps to the next."""
  _, folder, _ = undisturbed
  times = {line['step']: line['time'] for line in clock_lines(folder)
           if line['step'] % 50}  # Of others there are two: logged, saved.
  spent = {m['step']: sum(m[f'train/{kind}_seconds'] for kind in KINDS)
           for m in lines(folder)[1:]}
  begun = clock_lines(folder)[0]
  assert begun['step'] == 0
  bounds = [0, *range(49, 300, 50)]
  times[0] = begun['time']
  for first, last in zip(bounds, bounds[1:]):
    passed = times[last] - times[first]
    split = sum(spent[step] for step in range(first + 1, last + 1))
    assert split == pytest.approx(passed, rel=0.02, abs=0.005)
  last = lines(folder)[-1]
  assert 0 < last['train/goodput'] < 1
  # Saving and evaluating are there where they were done.
  assert sum(m['train/evaluation_seconds'] > 0
             for m in lines(folder)[1:]) == 3  # At 0, 100 and 200.


@pytest.mark.parametrize('log_every, backend', [(1, 'numpy'), (3, 'tf')])
def test_kill_and_resume_is_bitwise(undisturbed, tmp_path, log_every, backend):
  """The undisturbed run is of backend numpy: tf gives the very same losses.

  With numpy a process is killed and this one resumes it; with tf, which takes
  seconds to import, an exception in this one stands for the kill.
  """
  config, folder, _ = undisturbed
  config = changed(config, train={'log_every': log_every},
                   data={'backend': backend})
  begun = time.time()
  if backend == 'numpy':
    process = start(config, tmp_path)
    wait_for_lines(tmp_path, 130 // log_every, process)
    process.kill()
    process.communicate()
  else:
    with killed_at(130):
      one_device(config, tmp_path)
  said = said_here(config, tmp_path)
  ended = time.time()
  expected = {s: v for s, v in losses(folder).items() if s % log_every == 0}
  assert losses(tmp_path) == expected
  assert [m['step'] for m in lines(tmp_path)] == sorted(
      {0, 100, 200, 300} | expected.keys())
  assert lines(tmp_path)[-1]['eval/loss'] == lines(folder)[-1]['eval/loss']
  # Goodput by hand: seconds of steps, in which each step stands once, over all
  # from the first start to the last step.
  clock = clock_lines(tmp_path)
  last = next(c['time'] for c in clock if c['start'] == 2 and c['step'] == 300)
  assert begun < clock[0]['time'] < last < ended
  by_hand = sum(m['train/step_seconds'] for m in lines(tmp_path)[1:]
                if 'train/step_seconds' in m) / (last - clock[0]['time'])
  # What was logged behind the restored step is cut, and the steps between the
  # line before it and that step are in no line then.
  assert lines(tmp_path)[-1]['train/goodput'] == pytest.approx(
      by_hand, rel=0.01 if log_every == 1 else 0.05)
  assert 'over 2 starts' in said


def test_sigterm_loses_no_step(undisturbed, tmp_path):
  config, folder, _ = undisturbed
  process = start(config, tmp_path)
  wait_for_lines(tmp_path, 40, process)
  process.send_signal(signal.SIGTERM)
  said = finish(process, 128 + signal.SIGTERM)
  stopped = lines(tmp_path)[-1]['step']
  assert f'SIGTERM at step {stopped}' in said and 'To go on' in said
  assert (tmp_path / 'checkpoints' / str(stopped)).is_dir()
  one_device(config, tmp_path)
  assert losses(tmp_path) == losses(folder)


def test_done_changes_nothing(undisturbed):
  config, folder, _ = undisturbed

  def seen():
    return {p: (p.stat().st_mtime_ns, p.stat().st_size)
            for p in folder.rglob('*') if p.is_file()}

  before = seen()
  ended = one_device(config, folder)
  assert (ended.step, ended.trained) == (300, 0)
  assert seen() == before


def test_workdir_of_another_config_shows_the_keys(undisturbed):
  config, folder, _ = undisturbed
  with pytest.raises(InputError, match=r'optim.b2: 0.98 -> 0.999'):
    one_device(changed(config, optim={'b2': 0.999}), folder)


def test_init_from_takes_weights_not_the_step(undisturbed, tmp_path):
  config, folder, _ = undisturbed
  config = changed(config, train={'steps': 2}) | {'init_from': str(folder)}
  ended = one_device(config, tmp_path)
  assert (ended.step, ended.trained) == (2, 2)
  first = lines(tmp_path)[0]
  assert first['step'] == 0
  assert first['eval/loss'] == pytest.approx(lines(folder)[-1]['eval/loss'])


def test_warmup_longer_than_the_run_is_cut(tiny, tmp_path, capsys):
  one_device(changed(tiny, optim={'warmup_steps': 1000},
                     train={'profile_steps': '3-5'}), tmp_path)
  assert 'cut to 1 (6 %)' in capsys.readouterr().err
  rates = [m['train/learning_rate'] for m in lines(tmp_path)[1:]]
  assert rates[1] == pytest.approx(3e-3) and rates[-1] < 2e-4
  assert traced_steps(tmp_path) == [3, 4, 5]


@pytest.mark.parametrize('change, message', [
    ({'data': {'batch_size': 6}, 'train': {'micro_batches': 4}},
     r'data.batch_size=6 is not a multiple of 4'),
    ({'data': {'sequence_length': 64}}, r'model.max_positions=32'),
    ({'model': {'vocab_size': 299}}, r'model.vocab_size=299'),
    ({'data': {'corpora': '/none.txt'}}, r'/none.txt'),
    ({'optim': {'name': 'adamx'}}, r'optim.name'),
    ({'optim': {'schedule': 'cosin'}}, r'optim.schedule'),
    ({'model': {'attention': 'flash'}}, r'model.attention'),
    ({'optim': {'lr': 1.0}}, r"unknown config key 'optim.lr'"),
    ({'mesh': {'data': 3}}, r'mesh'),
    ({'data': {'format': 'full_sentence'}}, r'full_sentences'),
    ({'data': {'backend': 'torch'}}, r'numpy'),
    ({'data': {'mask_rate': 1.5}}, r'mask_rate'),
])
def test_wrong_input_is_named_and_leaves_no_workdir(
    tiny, tmp_path, change, message):
  with pytest.raises(InputError, match=message):
    one_device(changed(tiny, **change), tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


def test_wrong_task(tiny, tmp_path):
  with pytest.raises(InputError, match='pretrain'):
    one_device(tiny | {'task': 'pretrian'}, tmp_path)


def test_eight_devices_and_micro_batches_give_the_same_losses(tiny, tmp_path):
  """Through the whole pipeline: relative 1e-5, fp32, dropout .1."""
  tiny = changed(tiny, train={'steps': 15})
  one_device(tiny, tmp_path / 'one')
  split = changed(tiny, train={'micro_batches': 4})
  one_device(split, tmp_path / 'split')
  loop.run(parse(changed(tiny, mesh={'data': -1})), str(tmp_path / 'eight'))
  expected = losses(tmp_path / 'one')
  for name in ('split', 'eight'):
    found = losses(tmp_path / name)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(list(found.values()), list(expected.values()),
                               rtol=1e-5)


def test_too_little_memory_is_a_line_with_what_would_do(tmp_path):
  def attempt(*arguments):
    return jnp.zeros(1 << 48).block_until_ready()

  with mock.patch.object(loop, '_attempt', attempt):
    with pytest.raises(InputError, match='not enough.*micro_batches .now 1'):
      loop.run(parse({}), str(tmp_path / 'w'))
