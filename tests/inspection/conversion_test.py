"""convert(): what is written, what is compared, and that nothing is half there.
"""

import dataclasses
import os

import jax
import numpy as np
import pytest

from robertax.errors import InputError
from robertax.inspection import conversion, opening
from robertax.interop import Pretrained, huggingface


@pytest.fixture(scope='module')
def small(wordpiece):
  """A BERT, as a workdir and as a folder of Hugging Face."""
  random = np.random.RandomState(0)
  return Pretrained(
      jax.tree.map(lambda x: random.randn(*x.shape).astype(np.float32),
                   wordpiece.params),
      wordpiece.config, wordpiece.tokenizer, 'random', labels=(),
      family='bert')


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
  monkeypatch.setattr(conversion, 'has_transformers', lambda: False)


def test_a_workdir_is_what_was_written(small, workdir):
  found = opening.read_model(str(workdir))
  assert (found.config, found.family, found.step) == (small.config, 'bert', 0)
  assert found.tokenizer.fingerprint == small.tokenizer.fingerprint
  same(found.params, small.params)


def test_there_and_back(small, workdir, tmp_path, alone):
  hf, again = f'hf:{tmp_path}/hf', str(tmp_path / 'again')
  lines = conversion.convert(str(workdir), hf, verify=True)
  assert any('the same on 6 sentences' in line for line in lines)
  assert any('not installed' in line for line in lines)
  assert lines[-1] == f'{hf}: written from {workdir}'
  conversion.convert(hf, again, verify=True)
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
  conversion.convert(str(workdir), str(tmp_path / 'longer'), verify=True,
                     max_positions=70, add_tokens=str(tmp_path / 'tokens.txt'))
  model = opening.load(str(tmp_path / 'longer'))
  assert model.config.max_positions == 70
  assert model.config.vocab_size == small.config.vocab_size + 2
  assert len(model.encode('one covfefe')) == 4
  assert len(model.encode('one ' * 60)) == 62


def test_a_mismatch_writes_nothing(workdir, tmp_path, alone, monkeypatch):
  write = huggingface.write_params

  def wrong(*args):
    tensors = write(*args)
    name = 'bert.encoder.layer.0.output.dense.weight'
    return tensors | {name: tensors[name][:, ::-1]}
  monkeypatch.setattr(huggingface, 'write_params', wrong)
  with pytest.raises(InputError, match='differs by up to'):
    conversion.convert(str(workdir), f'hf:{tmp_path}/hf', verify=True)
  assert beside(tmp_path) == ['w']


def test_a_failure_half_way_leaves_nothing(workdir, tmp_path, monkeypatch):
  def fails(*args):
    raise InputError('the disk is full')
  monkeypatch.setattr(huggingface, 'write_safetensors', fails)
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
