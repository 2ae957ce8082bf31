"""Another vocabulary: where the row of each new token comes from."""

import dataclasses

import jax
import numpy as np
import pytest

from robertax import interop, model, text
from robertax.config import Config, ModelConfig, TokenizerConfig
from robertax.errors import InputError
from robertax.interop import huggingface
from robertax.interop.pretrained import token_rows
from robertax.train import initial

ENGLISH = 9 * ['the cat sat on the other mat, then it sang', 'another cat']
GERMAN = 9 * ['die Katze saß auf der Matte, dann sang sie the', 'sat 東京']


@pytest.fixture(scope='module')
def tokenizers():
  return {'bpe': text.train_byte_bpe(ENGLISH, 300),
          'wordpiece': text.train_wordpiece(lambda: ENGLISH, 110),
          'german': text.train_byte_bpe(GERMAN, 300)}


def table(tokenizer):
  return np.random.default_rng(5).normal(
      size=(tokenizer.vocab_size, 4)).astype(np.float32)


def id_of(tokenizer, piece):
  return next(i for i in range(tokenizer.vocab_size)
              if tokenizer.token_bytes(i) == piece.encode())


@pytest.mark.parametrize('old, new', [
    ('bpe', 'wordpiece'), ('wordpiece', 'bpe'), ('wordpiece', 'german'),
    ('bpe', 'german')])
def test_each_row_is_what_the_old_tokenizer_says(tokenizers, old, new):
  """The law, written anew for one id at a time."""
  old, new = tokenizers[old], tokenizers[new]
  before = table(old)
  rows = token_rows(old, new)
  after = rows.of(before)
  assert after.dtype == np.float32 and len(after) == new.vocab_size
  for role in ('bos_id', 'pad_id', 'eos_id', 'unk_id', 'mask_id'):
    np.testing.assert_array_equal(after[getattr(new, role)],
                                  before[getattr(old, role)])
  seen = {old.token_bytes(i): i for i in reversed(range(old.vocab_size))
          if i not in old.special_ids}
  kinds = [0, 0]
  for i in range(new.vocab_size):
    piece = new.token_bytes(i)
    if i in new.special_ids:
      continue
    if piece in seen:
      np.testing.assert_array_equal(after[i], before[seen[piece]])
      kinds[0] += 1
    elif '\ufffd' not in (word := piece.decode(errors='replace')):
      ids = [n for n in old.encode(word) if n != old.unk_id]
      if ids:
        np.testing.assert_allclose(after[i], before[ids].mean(0), atol=1e-6)
        kinds[1] += 1
  assert min(kinds) > 5
  np.testing.assert_array_equal(token_rows(old, new).of(before), after)


def test_a_space_in_front_is_the_same_in_each_kind(tokenizers):
  bpe, wordpiece = tokenizers['bpe'], tokenizers['wordpiece']
  assert id_of(bpe, ' the') != id_of(wordpiece, ' the')
  rows = token_rows(wordpiece, bpe)
  assert rows.old_ids[id_of(bpe, ' the')] == [id_of(wordpiece, ' the')]


def test_text_that_the_old_one_does_not_know_is_drawn(tokenizers):
  old, new = tokenizers['wordpiece'], tokenizers['german']
  rows, before = token_rows(old, new), table(old)
  drawn = [i for i, ids in enumerate(rows.old_ids) if not ids]
  assert drawn and f'{len(drawn)} drawn' in rows.describe()
  found = rows.of(before)[drawn]
  assert len(np.unique(found, axis=0)) == len(found)  # Each another.
  assert np.abs(found - before.mean(0)).max() < 6 * before.std()
  bias = rows.of(before[:, 0])
  np.testing.assert_allclose(bias[drawn], before[rows.pieces, 0].mean())


@pytest.fixture
def source(tmp_path, tokenizers):
  config = ModelConfig(
      vocab_size=tokenizers['bpe'].vocab_size, hidden_size=8, num_layers=1,
      num_heads=2, mlp_size=8, max_positions=20, tie_embeddings=False)
  params = jax.tree.map(np.array, model.create(config, jax.random.key(1)))
  found = interop.Pretrained(params, config, tokenizers['bpe'], 'random')
  huggingface.write_folder(found, str(tmp_path / 'hf'))
  tokenizers['german'].save(tmp_path / 'tokenizer.json')
  return f'hf:{tmp_path}/hf', found, str(tmp_path / 'tokenizer.json')


def test_a_run_begins_with_it(source, tokenizers, capsys):
  """The body is the old one; embeddings, decoder and bias are transferred."""
  spec, old, path = source
  german = tokenizers['german']
  wanted = Config(init_from=spec, init_from_vocabulary='transfer',
                  tokenizer=TokenizerConfig(path=path))
  config = initial.initial_config(wanted, {'tokenizer.path'})
  assert config.tokenizer.path == path
  assert config.model == dataclasses.replace(
      old.config, vocab_size=german.vocab_size)
  fresh = model.pad_vocabulary(model.create(config.model, jax.random.key(0)))
  found = jax.device_get(initial.initial_params(config, fresh, german))
  assert f'{german.vocab_size} ids, ' in capsys.readouterr().err
  assert len(found['embeddings']['tokens']) % 128 == 0  # Padded.
  found = model.unpad_vocabulary(config.model, found)
  rows = token_rows(tokenizers['bpe'], german)
  expected = model.encoder.map_tables(old.params, rows.of)
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  # Today's behaviour is the default: the tokenizer comes with the weights.
  plain = dataclasses.replace(wanted, init_from_vocabulary='error')
  assert initial.initial_config(plain).model.vocab_size == old.config.vocab_size
  with pytest.raises(InputError, match="init_from_vocabulary='transfer'"):
    initial.initial_config(plain, {'tokenizer.path'})
