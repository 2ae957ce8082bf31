"""BERT's two phases: rows of one length, then of another."""

import itertools

import numpy as np
import pytest

from robertax.config import check_data
from robertax.data.pipeline import Phase, Phases, Pipeline
from robertax.data.source import open_source
from robertax.errors import InputError


@pytest.fixture(name='phases')
def phases_fixture(two_corpora, packed_corpus, config, law):
  short = Pipeline(open_source(two_corpora, 'train', 'numpy'),
                   config(sequence_length=32), law(), seed=1)
  long = Pipeline(open_source(packed_corpus, 'train', 'numpy'),
                  config(sequence_length=64), law(), seed=1, first_step=5)
  return short, long, Phases([Phase(short, 5), Phase(long)])


def test_batches_are_those_of_the_phases(phases):
  short, long, both = phases
  for start in (0, 3, 5, 6):
    batches = both.batches(start)
    found = list(itertools.islice(batches, 9 - start))
    batches.close()
    for step, batch in enumerate(found, start):
      want = (short if step < 5 else long).make_batch(step)
      assert batch['input_ids'].shape == (8, 32 if step < 5 else 64)
      assert both.pipeline(step) is (short if step < 5 else long)
      for name in want:
        np.testing.assert_array_equal(batch[name], want[name], name)


def test_the_second_begins_with_its_first_batch(packed_corpus, config, law,
                                                phases):
  alone = Pipeline(open_source(packed_corpus, 'train', 'numpy'),
                   config(sequence_length=64), law(), seed=1)
  for name, value in alone.make_batch(2).items():
    np.testing.assert_array_equal(phases[1].make_batch(7)[name], value, name)


def test_passes_add_up(phases):
  _, _, both = phases
  assert both.epoch(4) == 32 / 71
  assert both.epoch(7) == pytest.approx(40 / 71 + 16 / 50)


@pytest.mark.parametrize('length, steps', [(32, 0), (0, 5), (-1, -1), (-8, 5)])
def test_both_or_none(config, length, steps):
  with pytest.raises(InputError, match='first_sequence_length'):
    check_data(config(first_sequence_length=length, first_sequence_steps=steps))
  check_data(config(first_sequence_length=16, first_sequence_steps=5))
