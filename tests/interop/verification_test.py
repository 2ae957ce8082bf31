"""What is compared, and that a difference is found."""

import dataclasses

import jax
import numpy as np
import pytest

from robertax.errors import InputError
from robertax.inspection import conversion


def test_the_batch_has_padding_masks_and_types(make):
  made = make('wordpiece', num_types=2, nsp_head=True)
  batch = conversion.sentence_batch(made.tokenizer, made.config)
  ids, real = batch['input_ids'], batch['segment_ids'] > 0
  assert ids.shape == (6, 30) and not real.all() and real[:, 0].all()
  assert ((ids == made.tokenizer.mask_id).sum(1) == 1).all()
  assert (ids[~real] == made.tokenizer.pad_id).all()
  assert set(np.unique(batch['type_ids'])) == {0, 1}
  assert not batch['type_ids'][~real].any()


def test_a_small_difference_in_one_weight_is_found(make):
  made = make(num_classes=2)
  batch = conversion.sentence_batch(made.tokenizer, made.config)
  ours = conversion.our_outputs(made, batch)
  line = conversion.compare_outputs(ours, ours, batch, 'itself')
  assert 'itself: the same on 6 sentences' in line and 'classifier' in line
  # Padding has no meaning.
  other = {key: x.copy() for key, x in ours.items()}
  other['lm_head'][batch['segment_ids'] == 0] = 9
  conversion.compare_outputs(ours, other, batch, 'padding')
  params = jax.tree.map(np.copy, made.params)
  params['layers']['mlp_out']['kernel'][1, 3, 4] += .5
  changed = conversion.our_outputs(
      dataclasses.replace(made, params=params), batch)
  with pytest.raises(InputError, match='differs by up to .* Nothing was writt'):
    conversion.compare_outputs(ours, changed, batch, 'changed')
  other['classifier'][0, 0] = np.nan
  with pytest.raises(InputError, match='classifier differs by up to nan'):
    conversion.compare_outputs(ours, other, batch, 'nan')
