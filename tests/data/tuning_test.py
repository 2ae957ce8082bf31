"""Batches for fine-tuning: pure, whole, the same on any number of hosts."""

import functools

import numpy as np
import pytest

from robertax.data.feed import host_rows
from robertax.data.finetuning import Examples, TuningBatches, collect_answers

COUNT = 37


@pytest.fixture(scope='module')
def examples():
  """Ids tell the example: e * 100 + place."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(3, 30, COUNT)
  lengths[4] = 60
  return Examples.of(
      [e * 100 + np.arange(n) for e, n in enumerate(lengths)],
      values={'class_targets': np.arange(COUNT, dtype=np.int32)},
      marks={'span_starts': lengths - 1, 'many': np.stack(
          [np.zeros(COUNT, int), np.full(COUNT, -1)], 1)},
      second_starts=lengths // 2)


def batches_of(examples, **more):
  return TuningBatches(examples, **{
      'batch_size': 8, 'seed': 3, 'max_length': 64, 'pad_id': 9999,
      'types': True, **more})


def check(batch, examples):
  """Each slot's tokens, segment, type and marks are its example's own."""
  length = batch['input_ids'].shape[1]
  row_groups = len(batch['class_positions'])
  tokens = {name: batch[name].reshape(row_groups, -1) for name in (
      'input_ids', 'segment_ids', 'type_ids')}
  seen = np.zeros_like(tokens['input_ids'], bool)
  for at, slot in np.ndindex(batch['example_ids'].shape):
    number = batch['example_ids'][at, slot]
    assert batch['class_weights'][at, slot] == (number >= 0)
    if number < 0:
      assert not batch['class_positions'][at, slot]
      assert not batch['class_targets'][at, slot]
      continue
    start = batch['class_positions'][at, slot]
    here = slice(start, start + examples.lengths[number])
    assert start // length == (here.stop - 1) // length  # One row.
    np.testing.assert_array_equal(tokens['input_ids'][at, here],
                                  examples.sequence(number))
    assert (tokens['segment_ids'][at, here] == slot + 1).all()
    np.testing.assert_array_equal(
        tokens['type_ids'][at, here],
        np.arange(examples.lengths[number]) >= examples.second_starts[number])
    seen[at, here] = True
    if 'class_targets' in examples.values:
      assert batch['class_targets'][at, slot] == number
    if 'span_starts' in examples.marks:
      assert batch['span_starts'][at, slot] == here.stop - 1
      assert batch['many'][at, slot].tolist() == [start, 0]
  assert (tokens['input_ids'][~seen] == 9999).all()
  assert not tokens['segment_ids'][~seen].any()


def test_batches_are_whole_and_epochs_permutations(examples):
  batches = batches_of(examples)
  assert batches.epoch_steps == 5
  orders = []
  for epoch in range(3):
    found = []
    for step in range(5 * epoch, 5 * epoch + 5):
      batch = batches.make_batch(step)
      check(batch, examples)
      ids = batch['example_ids']
      found.append(sorted(ids[ids >= 0]))
    assert [len(f) for f in found] == [8, 8, 8, 8, 5]
    assert sorted(sum(found, [])) == list(range(COUNT))
    orders.append(found)
  assert orders[0] != orders[1] != orders[2]
  assert orders[0] != [sorted(batches_of(examples, seed=4).groups(n))
                       for n in range(5)]


def test_a_batch_is_a_function_of_seed_and_step(examples):
  first, other = batches_of(examples), batches_of(examples)
  late = other.train(7, np.arange)
  for step in (7, 8):
    for (name, a), b in zip(first.make_batch(step).items(),
                            next(late).values()):
      np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize('micro, hosts', [(1, 2), (2, 2), (2, 1)])
def test_hosts_make_the_rows_that_lie_on_their_devices(examples, micro, hosts):
  """Also where a field has one row for several rows of tokens."""
  groups = np.arange(COUNT) // 3
  grouped = Examples.of(
      [examples.sequence(n) for n in range(COUNT)], groups=groups,
      group_values={'group_targets': np.arange(groups[-1] + 1)},
      second_starts=examples.second_starts)
  batches = batches_of(grouped, max_length=60, unit=micro * hosts)
  whole = batches.make_batch(1)
  parts = [batches.of_host(whole, functools.partial(
      host_rows, micro_batches=micro, process_index=h, process_count=hosts))
           for h in range(hosts)]
  for name, value in whole.items():
    cut = value.reshape(micro, hosts, -1, *value.shape[1:])
    for h, part in enumerate(parts):
      np.testing.assert_array_equal(
          part[name], cut[:, h].reshape(part[name].shape), err_msg=name)


def test_groups_lie_side_by_side(examples):
  groups = np.arange(COUNT) // 4
  grouped = Examples.of(
      [examples.sequence(n) for n in range(COUNT)], groups=groups,
      values={'class_targets': np.arange(COUNT, dtype=np.int32)},
      group_values={'group_targets': np.arange(groups[-1] + 1)},
      second_starts=examples.second_starts)
  batches = batches_of(grouped, batch_size=3, max_length=64)
  for step in range(batches.epoch_steps):
    batch = batches.make_batch(step)
    check(batch, grouped)
    weights = batch['group_weights']
    members = batch['example_ids'].reshape(*weights.shape, -1)
    assert members.shape[-1] == 4
    for at, place in np.argwhere(weights > 0):
      mine = members[at, place]
      group = batch['group_targets'][at, place]
      assert (mine[mine >= 0] // 4 == group).all() and mine[0] == 4 * group
    assert (members[weights == 0] == -1).all()


def test_answers_come_back_in_order(examples):
  batches = batches_of(examples)

  def outputs():
    for batch in batches.evaluation(256):
      check(batch, examples)
      yield batch, {'slot': batch['example_ids'][..., None] * 2.0,
                    'token': batch['input_ids'] + 1}
  found = collect_answers(examples, outputs(), frozenset({'token'}))
  np.testing.assert_array_equal(found['slot'][:, 0], 2.0 * np.arange(COUNT))
  np.testing.assert_array_equal(found['token'], examples.ids + 1)


def test_the_survey_counts_what_batches_have(examples):
  batches = batches_of(examples)
  survey = batches.survey(5)
  made = [batches.make_batch(n) for n in range(5)]
  assert set(survey.shapes) == {b['input_ids'].shape for b in made}
  padding = np.mean(np.concatenate(
      [b['segment_ids'].ravel() == 0 for b in made]))
  assert survey.padding_fraction == pytest.approx(padding)
