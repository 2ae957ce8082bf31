"""init_from: what cannot be begun with is named."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from robertax.data.config import DataConfig
from robertax.errors import InputError
from robertax.model import ModelConfig
from robertax.tasks.config import FinetuneConfig
from robertax.train import initial
from robertax.train.config import Config, to_dict


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


def tree(**parts):
  return {part: {'kernel': jnp.full(shape, float(fill))}
          for part, (shape, fill) in parts.items()}


def restore(there, new='classifier', unused='lm_head'):
  params = tree(embeddings=((3, 2), 0), classifier=((2, 3), 0))
  config = Config(task='glue/rte', init_from='W', finetune=FinetuneConfig(
      new_parameters=new, unused_parameters=unused))
  read = lambda wanted: jax.tree.map(lambda w, x: x, wanted, there)
  return initial.restored(config, params, there, read)


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
