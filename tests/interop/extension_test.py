"""Longer positions, more tokens."""

import jax
import numpy as np
import pytest

from robertax.errors import InputError
from robertax.inspection import verification
from robertax.interop.pretrained import with_positions, with_tokens


def test_positions_repeat_from_the_first(make):
  before = make()
  after = with_positions(before, 75)
  old, new = (x.params['embeddings']['positions'] for x in (before, after))
  assert new.shape == (77, 24) and after.config.max_positions == 75
  np.testing.assert_array_equal(new[:32], old)
  np.testing.assert_array_equal(new[32:62], old[2:])
  np.testing.assert_array_equal(new[62:], old[2:17])
  # What was short enough before is what it was.
  batch = verification.sentence_batch(before.tokenizer, before.config)
  verification.compare_outputs(verification.our_outputs(before, batch),
                             verification.our_outputs(after, batch), batch,
                             'both')
  with pytest.raises(InputError, match='longer, not shorter'):
    with_positions(before, 29)


@pytest.mark.parametrize('kind', ['byte_bpe', 'wordpiece'])
@pytest.mark.parametrize('tied', [True, False])
def test_new_tokens_begin_as_the_mean_of_their_pieces(make, kind, tied):
  before = make(kind, tie_embeddings=tied)
  size = before.config.vocab_size
  after = with_tokens(before, ['tortoise-9', 'library'])
  assert after.config.vocab_size == after.tokenizer.vocab_size == size + 2
  pieces = before.tokenizer.encode('tortoise-9')
  assert len(pieces) > 1
  for path in (('embeddings', 'tokens'), ('lm_head', 'bias'),
               ('lm_head', 'decoder')):
    if path[1] not in before.params[path[0]]:
      continue
    old, new = (x.params[path[0]][path[1]] for x in (before, after))
    np.testing.assert_array_equal(new[:size], old)
    np.testing.assert_allclose(new[size], old[pieces].mean(0), rtol=1e-6)
  new = after.tokenizer
  assert size in new.encode('the tortoise-9.') and new.mask_id < size
  assert size not in new.encode('tortoise-99')
  assert new.token_text(size) in ('tortoise-9', ' tortoise-9')
  assert new.random_ids[0] == before.tokenizer.random_ids[0]
  others = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(
      after.params) if path[-1].key not in ('tokens', 'decoder')
            and leaf.shape != (size + 2,)]
  assert len(others) >= len(jax.tree.leaves(before.params)) - 3


@pytest.mark.parametrize('token, words', [
    ('', 'without spaces'), (' a', 'without spaces'), ('<mask>', 'has an id'),
    ('e', 'has an id')])
def test_what_cannot_be_added(make, token, words):
  with pytest.raises(InputError, match=words):
    with_tokens(make(), [token])
  with pytest.raises(InputError, match='has an id'):
    with_tokens(make(), ['new1', 'new1'])
