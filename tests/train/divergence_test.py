"""NaN and spikes under each policy, against a plain loop over the batches."""

import json
import math
import os
import signal
from unittest import mock

import jax
import numpy as np
import optax
import pytest

from robertax.config import OptimConfig, parse
from robertax.data.feed import split_micro_batches
from robertax.errors import Diverged, InputError
from robertax.kernels.dropout import seed_words
from robertax.parallel.mesh import batch_sharding, make_mesh
from robertax.tasks.pretrain import Pretrain
from robertax.train import divergence, loop, optimizer
from robertax.train.checkpoint import as_dict, from_dict
from robertax.train.divergence import Judge, PassedOver
from robertax.train.session import Interruption
from robertax.train.step import compiled
from tests.train.loop_test import changed, lines, one_device, tiny  # noqa: F401

BAD = 12  # The batch that is poisoned.
STEPS = 24


@pytest.fixture(scope='module')
def config(tiny):  # noqa: F811
  return changed(tiny, train={'steps': STEPS, 'eval_every': 1000,
                              'checkpoint_every': 7, 'watchdog_seconds': 0},
                 optim={'on_divergence': 'skip'})


@pytest.fixture
def poisoned(monkeypatch):
  """Two weights of one batch are so large that its loss is inf - inf."""
  plain = Pretrain.train_batches

  def batches(self, start_step, rows):
    for number, batch in enumerate(plain(self, start_step, rows), start_step):
      if number == BAD:
        weights = batch['mlm_weights'].copy()
        weights[0, :2] = 3e38, -3e38
        batch = batch | {'mlm_weights': weights}
      yield batch

  monkeypatch.setattr(Pretrain, 'train_batches', batches)


def by_hand(values, batches_of_steps):
  """Losses and parameters of a plain loop; None: no update is made."""
  config = parse(values)
  device = jax.devices()[:1]
  mesh = make_mesh(config.mesh, device)
  task = Pretrain.of(config, 1)
  programs = compiled(task.objective, config.optim, mesh, False)
  _, schedule = optimizer.create(config.optim, STEPS)
  rates, losses = optimizer.rates(schedule, STEPS), []
  with jax.set_mesh(mesh):
    now = programs.create(jax.random.key(config.seed))
    sharding = batch_sharding(mesh, micro_batches=True)
    for rate, number in zip(rates, batches_of_steps):
      if number is None:
        now = now._replace(step=now.step + 1)
        losses.append(None)
        continue
      batch = split_micro_batches(task.pipeline(number).make_batch(number), 1)
      batch.pop('example_ids')
      now, sums = programs.train(
          now, jax.device_put(batch, sharding), seed_words(config.seed), rate)
      losses.append(float(sums['loss_sum']) / float(sums['weight_sum']))
  return losses, jax.device_get(now.params)


def losses_of(folder):
  return [m['train/loss'] for m in lines(folder)[1:]]


def last_params(folder, like):
  from robertax.train.checkpoint import Checkpoints
  checkpoints = Checkpoints(str(folder), read_only=True)
  try:
    return checkpoints.restore_params(STEPS, jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype,
                                       sharding=jax.sharding.SingleDeviceSharding(
                                           jax.devices()[0])), like))
  finally:
    checkpoints.close()


def assert_same(folder, expected):
  losses, params = expected
  assert losses_of(folder) == losses
  jax.tree.map(np.testing.assert_array_equal, last_params(folder, params),
               params)


def interrupted_at(step, config, folder):
  """A run that SIGTERM stops behind a step."""
  calls = iter(range(1, 1000))
  with mock.patch.object(
      Interruption, 'agreed',
      lambda self: signal.SIGTERM if next(calls) == step else 0):
    return one_device(config, folder)


def test_skip_is_the_run_without_that_update(config, poisoned, tmp_path,
                                             capsys):
  expected = by_hand(config, [None if k == BAD else k for k in range(STEPS)])
  one_device(config, tmp_path / 'whole')
  assert 'step 13: the loss is nan' in (said := capsys.readouterr().err)
  assert 'skipped (1 so far)' in said and 'embeddings/tokens' in said
  assert lines(tmp_path / 'whole')[BAD + 1]['train/loss'] is None
  assert_same(tmp_path / 'whole', expected)
  skipped = {m['step']: m['train/skipped_steps']
             for m in lines(tmp_path / 'whole')[1:]}
  assert skipped == {k: int(k == BAD + 1) for k in range(1, STEPS + 1)}
  # Stopped on either side of it and resumed: the same, bit for bit.
  interrupted_at(9, config, tmp_path / 'parts')
  interrupted_at(BAD + 3 - 9, config, tmp_path / 'parts')
  one_device(config, tmp_path / 'parts')
  assert_same(tmp_path / 'parts', expected)


def test_stop_says_where_and_saves_nothing_of_it(config, poisoned, tmp_path):
  stopping = changed(config, optim={'on_divergence': 'stop'},
                     train={'checkpoint_every': BAD + 1})
  with pytest.raises(Diverged, match='step 13: the loss is nan.*roll') as e:
    one_device(stopping, tmp_path)
  assert (e.value.step, e.value.exit_code) == (13, 3)
  assert not os.listdir(tmp_path / 'checkpoints')
  # It goes on with another policy, which the workdir's config does not forbid.
  one_device(changed(stopping, optim={'on_divergence': 'skip'}), tmp_path)
  assert lines(tmp_path)[-1]['step'] == STEPS


def test_roll_back_is_the_run_without_those_batches(config, poisoned, tmp_path,
                                                    capsys):
  back = changed(config, optim={'on_divergence': 'roll_back',
                                'roll_back_batches': 3})
  taken = [*range(BAD - 2), *range(BAD + 1, STEPS + 3)]
  expected = by_hand(back, taken)
  one_device(back, tmp_path / 'whole')
  assert ('rolled back to step 7; batches 11 to 13 are passed over'
          in capsys.readouterr().err)
  assert_same(tmp_path / 'whole', expected)
  assert [m['step'] for m in lines(tmp_path / 'whole')] == [*range(STEPS + 1)]
  assert [m['train/passed_over_batches'] for m in lines(tmp_path / 'whole')[8:]
          ] == [3 * (k >= BAD - 2) for k in range(7, STEPS)]
  (entry,) = json.loads((tmp_path / 'whole' / 'passed_over.json').read_text())
  assert entry['batches'] == [BAD - 2, BAD] and entry['checkpoint'] == 7
  # Resumed behind the bad batches.
  interrupted_at(BAD + 3, back, tmp_path / 'parts')
  one_device(back, tmp_path / 'parts')
  assert_same(tmp_path / 'parts', expected)


def test_where_rolling_back_does_not_help_the_run_stops(tmp_path):
  attempts = []

  def attempt():
    attempts.append(1)
    raise Diverged('step 5: the loss is nan', 5)

  with pytest.raises(Diverged, match='3 times the run was rolled back'):
    divergence.rolling_back(attempt, str(tmp_path), OptimConfig(
        on_divergence='roll_back', roll_back_batches=2))
  assert len(attempts) == 4
  passed = PassedOver.read(str(tmp_path))
  # Batches 3 and 4 first; then those that steps 3 and 4 took instead.
  assert [passed.batch(k) for k in range(5)] == [0, 1, 2, 9, 10]


def test_batches_are_those_that_are_not_passed_over():
  """Against a list from which they are removed."""
  entries = [{'batches': [5, 7], 'checkpoint': 0},
             {'batches': [8, 8], 'checkpoint': 0},
             {'batches': [20, 29], 'checkpoint': 0},
             {'batches': [25, 26], 'checkpoint': 0},
             {'batches': [0, 0], 'checkpoint': 0}]
  passed = PassedOver(entries)
  left = [k for k in range(200) if not any(
      e['batches'][0] <= k <= e['batches'][1] for e in entries)]
  assert [passed.batch(k) for k in range(60)] == left[:60]
  closed = []

  def begin(first):
    try:
      yield from range(first, 10**6)
    finally:
      closed.append(first)

  for start in (0, 3, 4, 10, 30):
    made = passed.batches(begin, start)
    assert [next(made) for _ in range(30)] == left[start:start + 30]
    made.close()
  # Each piece was closed: those before a gap, and the last.
  assert closed == [1, 9, 30, 4, 9, 30, 9, 30, 15, 30, 45]


def test_a_damaged_list_is_an_error(tmp_path):
  (tmp_path / 'passed_over.json').write_text('[{"batches": [3, 1]}]')
  with pytest.raises(InputError, match='passed_over.json'):
    PassedOver.read(str(tmp_path))


def decisions_by_hand(losses, norms, spike_loss, spike_norm):
  """What the guard must say, in plain NumPy."""
  good, found = [], []
  for loss, norm in zip(losses, norms):
    last = good[-optimizer.GUARD_WINDOW:]
    spiked = False
    if len(last) >= optimizer.GUARD_LEAST:
      mean = np.mean([x for x, _ in last])
      median = np.sort([x for _, x in last])[(len(last) - 1) // 2]
      spiked = (bool(spike_loss) and loss > mean + spike_loss
                or bool(spike_norm) and norm > spike_norm * median)
    found.append(bool(spiked))
    if not spiked and np.isfinite(loss) and np.isfinite(norm):
      good.append((loss, norm))
  return found


@pytest.mark.parametrize('spike_loss, spike_norm', [(1.0, 0.0), (0.0, 4.0),
                                                    (1.0, 4.0)])
def test_spikes_are_found_and_skipped_and_the_state_carries_them(
    spike_loss, spike_norm):
  rng = np.random.default_rng(3)
  losses = (5 - np.arange(400) / 100 + rng.normal(0, .1, 400)).astype('f')
  norms = np.exp(rng.normal(0, .3, 400)).astype('f')
  for step in (5, 40, 41, 200, 380):  # The first comes too early to be known.
    losses[step] += 3
  norms[[50, 201, 399]] *= 50
  losses[90], norms[91] = np.nan, np.inf
  config = OptimConfig(on_divergence='skip', spike_loss=spike_loss,
                       spike_gradient_norm=spike_norm)
  tx = optimizer.guarded(optimizer.scale_by_given_rate(), config)
  tx = optax.GradientTransformationExtraArgs(tx.init, jax.jit(tx.update))
  params = {'w': np.zeros(2, np.float32)}
  state, found = tx.init(params), []
  for loss, norm in zip(losses, norms):
    # A checkpoint after every step.
    state = from_dict(as_dict(state), state)
    updates, state = tx.update(params, state, params, learning_rate=-1.0,
                               objective=loss, gradient_norm=norm)
    found.append(bool(optimizer.newest_is_spike(state)))
  expected = decisions_by_hand(losses, norms, spike_loss, spike_norm)
  assert found == expected and sum(found) >= 3


def test_a_guard_keeps_the_optimizer_as_it_was():
  """Adam's moments and count too, and with it as many bits as without."""
  config = OptimConfig(on_divergence='skip')
  with_guard, _ = optimizer.create(config, 10)
  without, _ = optimizer.create(OptimConfig(), 10)
  params = {'w': np.arange(3, dtype=np.float32)}
  state = plain = with_guard.init(params)
  assert jax.tree.structure(state) == jax.tree.structure(without.init(params))
  for value in (1.0, np.nan, 2.0):
    grads = {'w': np.full(3, value, np.float32)}
    updates, state = with_guard.update(
        grads, state, params, learning_rate=0.1, objective=np.float32(1),
        gradient_norm=np.float32(value))
    if math.isnan(value):
      np.testing.assert_array_equal(updates['w'], 0)
    else:
      _, plain = without.update(grads, plain, params, learning_rate=0.1)
    jax.tree.map(np.testing.assert_array_equal, state, plain)


def test_skipping_for_ever_stops():
  judge = Judge(OptimConfig(on_divergence='skip'), {'w': 0})
  with pytest.raises(Diverged, match='skipping does not help'):
    for step in range(1, divergence.MOST_SKIPPED + 1):
      judge.add(step, {'objective': np.float32(np.nan),
                       'gradient_norm': np.float32(1)})
      judge.look()
  assert step == divergence.MOST_SKIPPED


def test_a_run_with_thresholds_resumes_bitwise(config, tmp_path):
  """The ring is part of the checkpoint, on one device and on eight."""
  spiky = changed(config, optim={'spike_gradient_norm': 1.1},
                  train={'steps': 45})
  with mock.patch.object(optimizer, 'GUARD_LEAST', 8):
    one_device(spiky, tmp_path / 'whole')
    interrupted_at(20, spiky, tmp_path / 'parts')
    one_device(spiky, tmp_path / 'parts')
  skipped = [m['train/skipped_steps'] for m in lines(tmp_path / 'whole')[1:]]
  assert sum(skipped) >= 2
  for key in ('train/loss', 'train/skipped_steps', 'train/parameter_norm'):
    assert [m[key] for m in lines(tmp_path / 'whole')[1:]] == [
        m[key] for m in lines(tmp_path / 'parts')[1:]]
  assert loop.run(parse(changed(spiky, mesh={'data': -1})), str(
      tmp_path / 'whole')).trained == 0
