"""What W/best holds and what metrics.jsonl says agree, whatever befalls a run.

Against a play: updates whose only weights are the names of the start and of
the step that made them, and evaluations that are drawn, so that a step that is
taken again has other weights and another value.
"""

import math
import os
import random
import types

import jax
import jax.numpy as jnp
import pytest

from robertax.train import checkpoint, workdir
from robertax.train.checkpoint import Checkpoints
from robertax.train.evaluate import Best
from robertax.train.writer import MetricsFile, read_metrics

STEPS = 24
TASK = types.SimpleNamespace(fine_tunes=True, metric='score')
TRAIN = types.SimpleNamespace(steps=STEPS, keep_best=False,
                              on_write_error='stop')


class Killed(BaseException):
  pass


class Saved:
  """Checkpoints that are names alone: step -> the weights of each step."""

  def __init__(self):
    self.finished, self.under_way, self.sure = {}, {}, set()

  def save(self, step, history):
    self.finished |= self.under_way
    self.under_way = {step: dict(history)}
    self.finished = dict(sorted(self.finished.items())[-3:])
    self.sure.add(step)

  def check_held(self):
    """Nobody else has the workdir."""

  def restorable(self):
    steps = [*list(self.finished)[-2:], *self.under_way]
    self.sure &= set(steps)
    return steps


class Play:
  """A run that is killed, taken back, and goes on, many times."""

  def __init__(self, folder, seed):
    self.folder, self.draw, self.saved = str(folder), random.Random(seed), (
        Saved())
    self.values, self.starts, self.sure = {}, 0, True
    self.most = 0

  def read(self, step):
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return tuple(Checkpoints(
        self.folder, read_only=True, folder='best').restore_params(
            step, {'w': jax.ShapeDtypeStruct((2,), 'int32', sharding=one)})[
                'w'].tolist())

  def scores(self):
    """Step -> the value that a line says."""
    path = f'{self.folder}/metrics.jsonl'
    if not os.path.exists(path):
      return {}
    return {line['step']: line['eval/score'] for _, line in read_metrics(path)
            if line.get('eval/score') is not None}

  def check(self):
    """What others take is what a line says, and the best of such."""
    scores = self.scores()
    steps = checkpoint.saved_steps(f'{self.folder}/best')
    self.most = max(self.most, len(steps))
    folder, step = workdir.best_or_newest(self.folder)
    there = [s for s in steps if s in scores]
    if self.sure and scores:  # Never further back than is provided for.
      assert max(scores, key=scores.get) in there
    if not there:
      assert folder == 'checkpoints'
      return
    assert folder == 'best' and step == max(there, key=scores.get)
    assert self.values[self.read(step)] == scores[step]

  def restored(self):
    """Where a start goes on; some of what is saved is damaged."""
    saved = self.saved
    if self.draw.random() < .5:
      saved.finished |= saved.under_way  # It was just in time.
    saved.under_way = {}
    for _ in range(self.draw.choice([0, 0, 0, 0, 1, 1, 3])):
      if saved.finished:
        del saved.finished[max(saved.finished)]
    step = max(saved.finished, default=None)
    self.sure &= step is None or step in saved.sure
    return step, dict(saved.finished.get(step, {}))

  def start(self, monkeypatch, kill):
    """From a checkpoint to the end, or to where it is killed."""
    restored, history = self.restored()
    self.starts += 1
    every, saves = self.draw.choice([1, 1, 2, 5]), self.draw.choice([2, 3, 7])
    slope = self.draw.choice([.2, .2, 0, -.1])
    keep, left = checkpoint.keep_steps, self.draw.randint(1, 12)

    def killed(folder, steps):
      nonlocal left
      left -= 1
      if kill and not left:
        raise Killed
      keep(folder, steps)

    with monkeypatch.context() as m:
      m.setattr(checkpoint, 'keep_steps', killed)
      weights = {'w': jnp.array(history.get(restored, (0, 0)), 'int32')}
      best = Best(self.folder, TASK, restored, TRAIN, self.saved, weights)
      file = MetricsFile(self.folder, restored)
      self.check()
      for step in range((restored or 0) + 1, STEPS + 1):
        history[step] = name = self.starts, step
        weights = {'w': jnp.array(name, 'int32')}
        file.add(step, {'train/loss': 1.0})
        if step % every == 0 or step == STEPS:
          value = self.draw.random() + slope * step
          value = math.nan if self.draw.random() < .1 else value
          self.values[name] = value
          best.note(step, {'eval/score': value}, weights)
          if kill and self.draw.random() < .03:
            raise Killed
          file.add(step, {'eval/score': value})
        file.flush()
        self.check()
        if kill and self.draw.random() < .05:
          raise Killed
        if step % saves == 0 or step == STEPS:
          self.saved.save(step, history)
      self.saved.finished |= self.saved.under_way
      return best, weights


def test_weights_of_a_future_that_was_given_up_are_told_apart(tmp_path):
  """As earlier versions left them: their step was evaluated once more."""
  weights = {name: {'w': jnp.array(value, 'int32')} for name, value in (
      ('old', (1, 1)), ('new', (2, 2)), ('now', (3, 3)))}
  for folder, step, name in (('best', 4, 'old'), ('best', 6, 'new'),
                             ('checkpoints', 4, 'new'),
                             ('checkpoints', 6, 'new')):
    saved = Checkpoints(str(tmp_path), folder=folder)
    saved.replace_params(step, weights[name])
    saved.close()
  file = MetricsFile(str(tmp_path), None)
  for step, value in ((4, .9), (6, .8), (8, .7)):
    file.add(step, {'eval/score': value})
    file.flush()
  file.close()
  best = Best(str(tmp_path), TASK, 8, TRAIN, Checkpoints(
      str(tmp_path), read_only=True), weights['now'])
  assert (best.step, best.value) == (6, .8)
  assert 'abandoned-4' in os.listdir(tmp_path / 'best')


# Of many: these find what each part of the rule is for.
@pytest.mark.parametrize('seed', [6, 7, 9, 13])
def test_what_is_kept_is_what_the_metrics_say(tmp_path, monkeypatch, seed):
  play = Play(tmp_path, seed)
  for number in range(8):
    try:
      best, last = play.start(monkeypatch, kill=number < 7)
      break
    except Killed:
      play.check()
  before = play.scores()
  found = tuple(best.params(last, STEPS)['w'].tolist())
  assert found[1] == best.step
  # One whose evaluation says so, or the last where there is none.
  assert before.get(best.step) == play.values[found] or (
      not before and best.step == STEPS)
  if play.sure and before:
    assert before[best.step] == max(before.values())
  assert os.listdir(tmp_path / 'best') == [str(best.step)]
  assert play.read(best.step) == found
  assert play.most <= 6  # Five, and a sixth until they are removed.
