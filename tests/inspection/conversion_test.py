"""convert(): what is written, what is compared, and that nothing is half there.
"""

import dataclasses
import json
import os

import jax
import numpy as np
import pytest

from robertax import model
from robertax.errors import InputError
from robertax.inspection import conversion, opening, oracle, verification
from robertax.interop import Pretrained, names, tensors


def filled(tokenizer, config):
  """A BERT in which biases and scales matter too."""
  random = np.random.RandomState(0)
  shapes = jax.eval_shape(lambda: model.create(config, jax.random.key(0)))
  return Pretrained(
      jax.tree.map(lambda x: random.randn(*x.shape).astype(np.float32), shapes),
      config, tokenizer, 'random', labels=(), family='bert')


@pytest.fixture(scope='module')
def small(wordpiece):
  """A BERT, as a workdir and as a folder of Hugging Face."""
  return filled(wordpiece.tokenizer, wordpiece.config)


@pytest.fixture
def workdir(small, tmp_path):
  opening.write_workdir(str(tmp_path / 'w'), small)
  return tmp_path / 'w'


def beside(folder):
  return sorted(path.name for path in folder.iterdir())


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(a),
               jax.device_get(b))


@pytest.fixture
def alone(monkeypatch):
  """As where transformers is not installed; the oracle tests have it."""
  monkeypatch.setattr(oracle, 'is_installed', lambda: False)


def test_a_workdir_is_what_was_written(small, workdir):
  found = opening.read_model(str(workdir))
  assert (found.config, found.family, found.step) == (small.config, 'bert', 0)
  assert found.tokenizer.fingerprint == small.tokenizer.fingerprint
  same(found.params, small.params)


def test_there_and_back(small, workdir, tmp_path, alone):
  hf, again = f'hf:{tmp_path}/hf', str(tmp_path / 'again')
  with pytest.raises(verification.Unverified, match='not installed.*=self'):
    conversion.convert(str(workdir), hf, verify='full')
  assert beside(tmp_path) == ['w']
  *_, said, last = conversion.convert(str(workdir), hf, verify='self')
  assert said == f'{hf}: written from {workdir}'
  found = json.loads(last)
  assert list(found) == ['compared', 'not_compared', 'ids_equal',
                         'max_logit_difference']
  assert found['not_compared'] == ['what was written by transformers']
  assert found['ids_equal'] and found['max_logit_difference'] < 1e-6
  conversion.convert(hf, again, verify='self')
  found = opening.read_model(again)
  assert found.config == small.config and found.family == 'bert'
  # BERT has no rows before the first token's.
  for params in (first := dict(small.params), second := dict(found.params)):
    params['embeddings'] = {**params['embeddings'],
                            'positions': params['embeddings'][
                                'positions'][2:]}
  same(second, first)
  assert beside(tmp_path) == ['again', 'hf', 'w']
  mode = os.stat(tmp_path / 'hf').st_mode & 0o777
  os.mkdir(tmp_path / 'other')
  assert mode == os.stat(tmp_path / 'other').st_mode & 0o777


def test_longer_and_with_more_tokens(small, workdir, tmp_path, alone):
  (tmp_path / 'tokens.txt').write_text('covfefe\nZq-9\n')
  conversion.convert(str(workdir), str(tmp_path / 'longer'), verify='full',
                     max_positions=70, add_tokens=str(tmp_path / 'tokens.txt'))
  model = opening.load(str(tmp_path / 'longer'))
  assert model.config.max_positions == 70
  assert model.config.vocab_size == small.config.vocab_size + 2
  assert len(model.encode('one covfefe')) == 4
  assert len(model.encode('one ' * 60)) == 62


def test_a_mismatch_writes_nothing(workdir, tmp_path, alone, monkeypatch):
  write = names.write_params

  def wrong(*args):
    tensors = write(*args)
    name = 'bert.encoder.layer.0.output.dense.weight'
    return tensors | {name: tensors[name][:, ::-1]}
  monkeypatch.setattr(names, 'write_params', wrong)
  with pytest.raises(verification.Unverified, match='differs by up to') as e:
    conversion.convert(str(workdir), f'hf:{tmp_path}/hf', verify='self')
  assert e.value.exit_code == 1 and e.value.verdict.ids_equal
  assert beside(tmp_path) == ['w']


def test_a_failure_half_way_leaves_nothing(workdir, tmp_path, monkeypatch):
  def fails(*args):
    raise InputError('the disk is full')
  monkeypatch.setattr(tensors, 'write_safetensors', fails)
  with pytest.raises(InputError, match='the disk is full'):
    conversion.convert(str(workdir), f'hf:{tmp_path}/hf')
  assert beside(tmp_path) == ['w']


@pytest.mark.parametrize('source, target, words', [
    ('{w}', 'fairseq:x.pt', 'fairseq is only read'),
    ('{w}', '{w}', 'there is something already'),
    ('{w}', 'hf:{w}', 'there is something already'),
    ('{tmp}/none', 'hf:{tmp}/x', 'it does not exist'),
    ('hf:{tmp}/none', '{tmp}/x', 'no such folder'),
    ('hf:{w}', '{tmp}/x', 'no "model_type"'),
    ('fairseq:{tmp}/none.pt', '{tmp}/x', 'no such file')])
def test_wrong_sources_and_targets(workdir, tmp_path, source, target, words):
  source, target = (x.format(w=workdir, tmp=tmp_path)
                    for x in (source, target))
  with pytest.raises(InputError, match=words):
    conversion.convert(source, target)
  assert beside(tmp_path) == ['w']


def test_tokens_that_are_not_there(workdir, tmp_path):
  with pytest.raises(InputError, match='add_tokens'):
    conversion.convert(str(workdir), f'hf:{tmp_path}/x',
                       add_tokens=str(tmp_path / 'none.txt'))


def test_one_cannot_go_on_from_weights_alone(small, workdir):
  from robertax.train.checkpoint import Checkpoints
  checkpoints = Checkpoints(str(workdir), read_only=True)
  with pytest.raises(InputError, match='holds weights alone.*init_from='):
    checkpoints.restore(0, dataclasses.make_dataclass('State', ['params'])(
        small.params))
  checkpoints.close()


@pytest.mark.parametrize('target', ['gs://b/x', 'hf:gs://b/x'])
def test_what_is_written_is_local(target):
  with pytest.raises(InputError, match='a local folder'):
    conversion.convert('nowhere', target)


def test_the_batch_has_padding_masks_and_types(small):
  batch = verification.sentence_batch(small.tokenizer, small.config)
  ids, real = batch['input_ids'], batch['segment_ids'] > 0
  assert ids.shape == (6, 32) and not real.all() and real[:, 0].all()
  assert ((ids == small.tokenizer.mask_id).sum(1) == 1).all()
  assert (ids[~real] == small.tokenizer.pad_id).all()
  assert set(np.unique(batch['type_ids'])) == {0, 1}
  assert not batch['type_ids'][~real].any()


def test_a_small_difference_in_one_weight_is_found(small):
  made = filled(small.tokenizer, dataclasses.replace(
      small.config, num_classes=2))
  batch = verification.sentence_batch(made.tokenizer, made.config)
  ours = verification.our_outputs(made, batch)
  found = verification.compare_outputs(ours, ours, batch, 'itself')
  assert set(found) == {'classifier', 'lm_head', 'nsp_head', 'states'}
  assert not any(found.values())
  # Padding has no meaning.
  other = {key: x.copy() for key, x in ours.items()}
  other['lm_head'][batch['segment_ids'] == 0] = 9
  verification.compare_outputs(ours, other, batch, 'padding')
  params = jax.tree.map(np.copy, made.params)
  params['layers']['mlp_out']['kernel'][0, 3, 4] += .5
  changed = verification.our_outputs(
      dataclasses.replace(made, params=params), batch)
  with pytest.raises(InputError, match='differs by up to .* is rounding'):
    verification.compare_outputs(ours, changed, batch, 'changed')
  other['classifier'][0, 0] = np.nan
  with pytest.raises(InputError, match='classifier differs by up to nan'):
    verification.compare_outputs(ours, other, batch, 'nan')
