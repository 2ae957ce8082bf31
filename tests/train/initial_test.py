"""init_from: what cannot be begun with is named."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax import interop, model, text
from robertax.config import (
    Config,
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    TokenizerConfig,
    to_dict,
)
from robertax.errors import InputError
from robertax.inspection import verification
from robertax.interop import huggingface
from robertax.interop.pretrained import with_positions
from robertax.train import initial


def test_weights_without_what_pairs_need(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(to_dict(Config())))
  (tmp_path / 'checkpoints').mkdir()
  config = initial.initial_config(Config(
      init_from=str(tmp_path), data=DataConfig(format='pairs')))
  config = dataclasses.replace(config, model=dataclasses.replace(
      config.model, num_types=2, nsp_head=True))
  with pytest.raises(InputError, match="model.num_types=0 there, and "
                     "data.format='pairs' needs 2"):
    initial.initial_params(config, {})


def test_weights_with_them_are_looked_for(tmp_path):
  saved = Config(model=ModelConfig(num_types=2, nsp_head=True))
  (tmp_path / 'config.json').write_text(json.dumps(to_dict(saved)))
  (tmp_path / 'checkpoints').mkdir()
  config = initial.initial_config(Config(init_from=str(tmp_path)))
  assert (config.model.num_types, config.model.nsp_head) == (2, True)
  with pytest.raises(InputError, match='has saved no checkpoint yet'):
    initial.initial_params(config, {})


@pytest.fixture(scope='module')
def foreign(tmp_path_factory):
  """A folder of Hugging Face, and what is in it."""
  tokenizer = text.train_byte_bpe([' '.join(verification.SENTENCES)], 290)
  config = ModelConfig(vocab_size=tokenizer.vocab_size, hidden_size=16,
                       num_layers=2, num_heads=2, mlp_size=24,
                       max_positions=20, num_types=1, num_classes=3)
  params = jax.tree.map(np.array, model.create(config, jax.random.key(1)))
  params['embeddings']['types'] += 1
  made = interop.Pretrained(params, config, tokenizer, 'random')
  folder = tmp_path_factory.mktemp('foreign')
  huggingface.write_folder(made, str(folder))
  return f'hf:{folder}', made


def begun(config):
  """What a run of this config begins with, its own parameters first."""
  fresh = model.pad_vocabulary(model.create(
      config.model, jax.random.key(0)))
  return jax.device_get(initial.initial_params(config, fresh))


def test_weights_of_hugging_face(foreign, capsys):
  spec, made = foreign
  config = initial.initial_config(Config(
      init_from=spec, model=ModelConfig(dropout_rate=0.3, num_layers=9)))
  # All but rates is theirs; the classifier is not pretraining's.
  assert config.model == dataclasses.replace(
      made.config, dropout_rate=0.3, num_classes=0)
  assert text.load(config.tokenizer.path).fingerprint == (
      made.tokenizer.fingerprint)
  said = capsys.readouterr().err
  assert 'model.num_layers: 9 -> 2' in said
  params = begun(config)
  size = made.config.vocab_size
  assert len(params['embeddings']['tokens']) == 384 and size == 290
  assert not params['embeddings']['tokens'][size:].any()
  expected = {k: v for k, v in made.params.items() if k != 'classifier'}
  jax.tree.map(np.testing.assert_array_equal,
               model.unpad_vocabulary(made.config, params), expected)
  assert 'dropped: classifier' in capsys.readouterr().err


def test_more_positions_if_they_are_asked_for(foreign, capsys):
  spec, made = foreign
  more = Config(init_from=spec, model=ModelConfig(max_positions=50))
  # A config file's number gives way; a person's does not.
  assert initial.initial_config(more).model.max_positions == 20
  config = initial.initial_config(more, {'model.max_positions'})
  assert config.model.max_positions == 50
  table = begun(config)['embeddings']['positions']
  np.testing.assert_array_equal(
      table, with_positions(made, 50).params[
          'embeddings']['positions'])
  assert '50 positions, 20 of them from there' in capsys.readouterr().err


@pytest.mark.parametrize('section, key, value, words', [
    ('model', 'hidden_size', 36, 'model.hidden_size=36, and 16 there'),
    ('model', 'max_positions', 10, 'and 20 there (it may be more)'),
    ('model', 'num_types', 2, 'model.num_types=2, and 1 there'),
    ('model', 'vocab_size', 291, 'model.vocab_size=291, and 290 there'),
    ('tokenizer', 'vocab_size', 2048, 'tokenizer.vocab_size=2048, and 290'),
    ('tokenizer', 'kind', 'wordpiece', "and 'byte_bpe' there")])
def test_a_flag_that_disagrees(foreign, section, key, value, words):
  config = Config(init_from=foreign[0])
  config = dataclasses.replace(config, **{section: dataclasses.replace(
      getattr(config, section), **{key: value})})
  initial.initial_config(config)  # A config file's value gives way.
  with pytest.raises(InputError, match=re.escape(words)):
    initial.initial_config(config, {f'{section}.{key}', 'train.steps'})


def test_flags_that_agree(foreign):
  spec, made = foreign
  folder = spec.removeprefix('hf:')
  config = Config(init_from=spec, model=ModelConfig(
      hidden_size=16, num_heads=2),
                  tokenizer=TokenizerConfig(
                      path=f'{folder}/tokenizer.json', vocab_size=290))
  assert initial.initial_config(config, {
      'model.hidden_size', 'model.vocab_size', 'model.dropout_rate',
      'tokenizer.path', 'tokenizer.vocab_size'}).model.hidden_size == 16


def test_an_encoder_alone_cannot_go_on(foreign, tmp_path):
  _, made = foreign
  huggingface.write_folder(dataclasses.replace(
      made, config=dataclasses.replace(made.config, lm_head=False),
      params={k: v for k, v in made.params.items() if k != 'lm_head'}),
                  str(tmp_path))
  config = initial.initial_config(Config(init_from=f'hf:{tmp_path}'))
  with pytest.raises(InputError, match='lm_head/bias is missing'):
    begun(config)


def tree(**parts):
  return {part: {'kernel': jnp.full(shape, float(fill))}
          for part, (shape, fill) in parts.items()}


def restore(there, new='classifier', unused='lm_head'):
  params = tree(embeddings=((3, 2), 0), classifier=((2, 3), 0))
  config = Config(task='glue/rte', init_from='W', finetune=FinetuneConfig(
      new_parameters=new, unused_parameters=unused))
  read = lambda wanted: jax.tree.map(lambda w, x: x, wanted, there)
  return initial.fit_weights(config, params, there, read)


def test_the_body_is_restored_and_what_is_dropped_is_said(capsys):
  """A head of three classes there, one of two here: new, and said so."""
  found = restore(tree(embeddings=((3, 2), 5), classifier=((2, 7), 5),
                       lm_head=((2, 2), 5)))
  assert (found['embeddings']['kernel'] == 5).all()
  assert found['classifier']['kernel'].shape == (2, 3)
  assert not found['classifier']['kernel'].any()
  said = capsys.readouterr().err
  assert 'dropped: classifier, lm_head' in said and 'new: classifier' in said


@pytest.mark.parametrize('there, allowed, message', [
    (tree(embeddings=((3, 2), 5), classifier=((2, 7), 5)), {'new': ''},
     r'classifier/kernel is \[2, 7\] there and \[2, 3\] here'),
    (tree(embeddings=((3, 2), 5)), {'new': ''},
     'classifier/kernel is missing'),
    (tree(classifier=((2, 3), 5)), {}, 'embeddings/kernel is missing'),
    (tree(embeddings=((4, 2), 5)), {}, r'embeddings/kernel is \[4, 2\] there'),
    (tree(embeddings=((3, 2), 5), lm_head=((1,), 5)), {'unused': ''},
     'lm_head/kernel is not of this model'),
    (tree(embeddings=((3, 2), 5), stray=((1,), 5)), {},
     'stray/kernel is not of this model')])
def test_what_does_not_fit_is_named(there, allowed, message):
  with pytest.raises(InputError, match=message):
    restore(there, **allowed)


def test_a_head_of_the_same_size_is_kept_where_it_is_not_to_be_new():
  found = restore(tree(embeddings=((3, 2), 5), classifier=((2, 3), 5)), new='')
  assert (found['classifier']['kernel'] == 5).all()
