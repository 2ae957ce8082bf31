"""What epoch and step make of the masks: static ones, and a rate's schedule."""

import numpy as np
import pytest

from robertax.data.masking import num_masked
from robertax.data.pipeline import Pipeline, eval_batches
from robertax.data.source import open_source


@pytest.fixture(name='source')
def source_fixture(two_corpora):
  return open_source(two_corpora, 'train', 'numpy')


def by_example(batch):
  return {int(e): (batch['input_ids'][row].tolist(),
                   batch['mlm_positions'][row].tolist())
          for row, e in enumerate(batch['example_ids'][:, 0])}


def test_static_masks_come_again(source, config, law):
  epochs = [by_example(Pipeline(source, config(batch_size=71, **changes), law(),
                                seed=0).make_batch(epoch))
            for epoch, changes in (
                (3, {'masks': 'static'}), (13, {'masks': 'static'}),
                (4, {'masks': 'static'}), (3, {}), (13, {}),
                (13, {'masks': 'static', 'num_static_masks': 5}))]
  third, thirteenth, fourth, dynamic, later, of_five = epochs
  assert third == thirteenth == dynamic == of_five
  for other in (fourth, later):
    assert other.keys() == third.keys()
    assert np.mean([other[e] != third[e] for e in third]) > 0.8


def test_the_rate_is_a_function_of_the_step(source, config, law):
  function = law(mask_rate=0.5, mask_rate_end=0.25, mask_rate_steps=4)
  pipeline = Pipeline(source, config(batch_size=71), function, seed=0)
  shares = []
  for step in (0, 2, 4, 400_000):
    batch = pipeline.make_batch(step)
    assert batch['mlm_weights'].shape[1] == num_masked(0.5, 32, 1)
    shares.append(batch['mlm_weights'].sum() / (batch['segment_ids'] > 0).sum())
  # Rounding is at random, by less than one token in each of 71 examples.
  assert np.abs(np.array(shares) - [0.5, 0.375, 0.25, 0.25]).max() < 0.01
  batch = next(eval_batches(source, config(batch_size=71), function, name='a'))
  share = batch['mlm_weights'].sum() / (batch['segment_ids'] > 0).sum()
  assert abs(share - 0.5) < 0.01
