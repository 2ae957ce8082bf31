"""What an evaluation prints, and how long its device waits for the host."""

import queue
import threading
import time
import types

import jax
import numpy as np
import pytest

from robertax.config import MeshConfig, parse
from robertax.data.finetuning import Examples, TuningBatches
from robertax.errors import InputError
from robertax.parallel import processes
from robertax.parallel.mesh import make_mesh
from robertax.train import evaluate
from robertax.train.evaluate import Evaluation, Scoring, evaluation_table


def test_a_table_keeps_its_columns_when_a_run_diverges():
  metrics = {'eval/a/loss': 1.5, 'eval/a/perplexity': 1e134,
             'eval/b/loss': float('nan'), 'eval/b/perplexity': float('inf'),
             'eval/loss': 2.0, 'eval/perplexity': 7.25}
  lines = evaluation_table(30, metrics).splitlines()
  assert [line.split() for line in lines] == [
      ['eval,', 'step', '30', 'loss', 'perplexity'], ['a', '1.5000', '1e+134'],
      ['b', 'nan', 'inf'], ['all', '2.0000', '7.2500']]
  assert len({len(line) for line in lines}) == 1


ROWS, BATCH = 10_000, 100


class Result:
  """An array that is there when the device has made it."""

  def __init__(self):
    self.done, self.value = threading.Event(), None

  def __array__(self, dtype=None, copy=None):
    assert self.done.wait(20)
    time.sleep(1e-3)  # The way to the host.
    return self.value


class Device:
  """Takes batches in their order, a fixed time for each.

  Not a program that sleeps: a CPU runs one that calls Python in the thread that
  starts it.
  """

  def __init__(self, make):
    self._make, self._queue, self._started = make, queue.Queue(), 0
    self.spans, self.most_ahead = [], 0
    threading.Thread(target=self._run, daemon=True).start()

  def __call__(self, params, batch):
    result = Result()
    self._started += 1
    self._queue.put((batch, result))
    return {'x': result}

  def _run(self):
    for number in range(1, ROWS):
      batch, result = self._queue.get()
      begun = time.perf_counter()
      time.sleep(8e-3)
      self.most_ahead = max(self.most_ahead, self._started - number)
      result.value = np.asarray(self._make(batch))
      self.spans.append((begun, time.perf_counter()))
      result.done.set()

  @property
  def idle(self):
    """The share of the time between the first batch and the last."""
    busy = sum(end - begun for begun, end in self.spans)
    return 1 - busy / (self.spans[-1][1] - self.spans[0][0])


def evaluation(mesh, monkeypatch, rows=ROWS):
  """A sum over all rows: (Evaluation, its device, what it should be)."""
  def batches():
    for start in range(0, rows, BATCH):
      time.sleep(1e-3)  # As masking takes time.
      yield {'x': np.arange(start, start + BATCH)}

  device = Device(lambda batch: np.float64(np.sum(batch['x'])))
  monkeypatch.setattr(evaluate, 'eval_step', lambda _: device)
  task = types.SimpleNamespace(
      objective=None, summarize=dict, eval_constants=lambda *_: {},
      eval_sets=lambda *_: {'set': batches}, eval_bad_records=dict)
  return (Evaluation(parse({'data': {'batch_size': BATCH}}), task, mesh),
          device, rows * (rows - 1) / 2)


def scoring(mesh, monkeypatch, rows=ROWS):
  """The first token of each example, added up with its number."""
  firsts = np.arange(rows) % 90 + 4
  batches = TuningBatches(
      Examples.of([np.full(8, first) for first in firsts]), batch_size=BATCH,
      seed=0, max_length=8)
  device = Device(lambda batch: np.take_along_axis(
      np.array(batch['input_ids'])[0], np.array(batch['class_positions'])[0],
      1))
  monkeypatch.setattr(evaluate, 'output_step', lambda *_: device)
  weights = np.arange(rows)
  task = types.SimpleNamespace(
      objective=types.SimpleNamespace(token_outputs=()), dev_splits=['dev'],
      batches=lambda _: batches,
      eval_batches=lambda _: batches.evaluation(8 * BATCH),
      score=lambda _, answers: {'x': (answers['x'] * weights).sum()})
  return Scoring(parse({}), task, mesh), device, (firsts * weights).sum()


@pytest.mark.parametrize('kind', [evaluation, scoring])
def test_the_device_does_not_wait_for_the_host(monkeypatch, kind):
  """Of 10,000 rows, while one batch is fetched the next is under way."""
  mesh, idle = make_mesh(MeshConfig(), jax.devices()[:1]), []
  while not idle or min(idle) > .05 and len(idle) < 5:
    with jax.set_mesh(mesh):
      evaluate_all, device, expected = kind(mesh, monkeypatch)
      assert evaluate_all({})['eval/x'] == expected
    assert len(device.spans) == ROWS // BATCH and device.most_ahead == 1
    idle.append(device.idle)  # Other work of this machine adds to it.
  assert min(idle) <= .05


def test_devices_that_share_threads_have_one_program_at_a_time(monkeypatch):
  with jax.set_mesh(mesh := make_mesh(MeshConfig(), jax.devices()[:4])):
    evaluate_all, device, expected = evaluation(mesh, monkeypatch, 400)
    assert evaluate_all({})['eval/x'] == expected
  assert device.most_ahead == 0


@pytest.mark.parametrize('first', [True, False])
def test_one_process_masks_the_held_out_text_for_the_unigram(
    monkeypatch, first):
  asked, found = [], {'set': {'unigram_sum': 2.5}}
  mesh = make_mesh(MeshConfig(), jax.devices()[:1])
  made, *_ = evaluation(mesh, monkeypatch)
  made._task.eval_constants = lambda *of: asked.append(of) or found
  monkeypatch.setattr(processes, 'first', lambda: first)
  # What process 0 tells the others.
  monkeypatch.setattr(processes, 'gather', lambda value: [value or found])
  monkeypatch.setattr(processes, 'together', lambda function: function())
  assert made._constants == found
  assert len(asked) == first


def test_a_set_without_masked_tokens_does_not_end_a_run(monkeypatch, capsys):
  def batches(weight):
    return lambda: iter([{'x': np.full(BATCH, weight)}])

  def summarize(sums):
    if not sums['weight_sum']:
      raise InputError('no token')
    return dict(sums)
  mesh = make_mesh(MeshConfig(), jax.devices()[:1])
  monkeypatch.setattr(evaluate, 'eval_step', lambda _: lambda params, batch: {
      'weight_sum': batch['x'].sum()})
  sets = {'tiny': batches(0.), 'large': batches(1.)}
  task = types.SimpleNamespace(
      objective=None, summarize=summarize, eval_constants=lambda *_: {},
      eval_sets=lambda *_: sets, eval_bad_records=dict)
  with jax.set_mesh(mesh):
    every = Evaluation(parse({'data': {'batch_size': BATCH}}), task, mesh)
    assert every({}) == {'eval/large/weight_sum': 100., 'eval/weight_sum': 100.}
    assert 'tiny: so little text' in capsys.readouterr().err
    del sets['large']
    with pytest.raises(InputError, match='tiny: no token'):
      every({})
