"""Folders of Hugging Face, without torch: written, read, and refused."""

import json
import os

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from robertax.errors import InputError
from robertax.interop import huggingface, open_source

CASES = {
    'roberta': {}, 'untied': {'tie_embeddings': False},
    'types': {'num_types': 1}, 'bert': {'kind': 'wordpiece'},
    'pretraining': {'kind': 'wordpiece', 'num_types': 2, 'nsp_head': True},
    'nsp_of_bytes': {'num_types': 2, 'nsp_head': True},
    'classes': {'lm_head': False, 'num_classes': 3, 'labels': ('a', 'b', 'c'),
                'classifier_dropout_rate': 0.2},
    'score': {'lm_head': False, 'num_classes': 1},
    'choice': {'lm_head': False, 'num_classes': 1, 'choice': True},
    'choice_of_bert': {'kind': 'wordpiece', 'lm_head': False, 'num_classes': 1,
                       'choice': True},
    'spans': {'lm_head': False, 'span_head': True},
    'answers_or_none': {'lm_head': False, 'span_head': True, 'num_classes': 1},
    'encoder': {'lm_head': False},
}


@pytest.mark.parametrize('case', CASES)
def test_written_and_read_is_the_same(make, tmp_path, case):
  first = make(**CASES[case])
  huggingface.write_folder(first, str(tmp_path))
  second = open_source(f'hf:{tmp_path}').read()
  assert second.config == first.config
  assert second.labels == (first.labels or tuple(
      ['LABEL_0'] if case == 'score' else []))
  assert second.choice == first.choice
  assert second.tokenizer.fingerprint == first.tokenizer.fingerprint
  assert not second.lines
  a, b = dict(first.params), dict(second.params)
  if case in ('bert', 'pretraining', 'nsp_of_bytes', 'choice_of_bert'):
    # BERT's table begins with the first token: what is before is not there.
    for params in (a, b):
      params['embeddings'] = {**params['embeddings'],
                              'positions': params['embeddings'][
                                  'positions'][2:]}
  jax.tree.map(np.testing.assert_array_equal, b, a)
  os.chmod(tmp_path, 0o755)
  assert (os.stat(tmp_path / 'model.safetensors').st_mode & 0o777) == (
      os.stat(tmp_path / 'config.json').st_mode & 0o777)


def test_the_card_says_how_it_was_made(make, tmp_path):
  import dataclasses

  from robertax.config import Config, to_dict
  made = dataclasses.replace(
      make(), step=7, history={'config': to_dict(Config()), 'metrics': {
          'step': 7, 'eval/loss': 2.5, 'train/loss': 2.75, 'train/mfu': None,
          'train/tokens_per_second': 5.0}})
  huggingface.write_folder(made, str(tmp_path))
  card = (tmp_path / 'README.md').read_text()
  for part in ('pipeline_tag: fill-mask', 'mask_token: "<mask>"',
               '- format: `full_sentences`', '7 of 500,000 updates',
               '| eval/loss | 2.5 |', '| train/loss | 2.75 |',
               'optim.learning_rate = 0.0006', 'AutoModelForMaskedLM'):
    assert part in card, part
  assert 'tokens_per_second' not in card and 'cache_dir' not in card


@pytest.fixture
def folder(make, tmp_path):
  huggingface.write_folder(make(), str(tmp_path))
  return tmp_path


def change(folder, **values):
  path = folder / 'config.json'
  said = json.loads(path.read_text())
  path.write_text(json.dumps(said | values))


def change_weights(folder, edit):
  path = folder / 'model.safetensors'
  arrays = load_file(path)
  edit(arrays)
  save_file(arrays, path)


def refused(folder):
  with pytest.raises(InputError) as caught:
    open_source(f'hf:{folder}').read()
  words = str(caught.value)
  assert '\n' not in words and str(folder) in words
  return words


@pytest.mark.parametrize('values, words', [
    ({'model_type': 'robrta'}, "unknown architecture: "),
    ({'model_type': 'gpt2'}, "Known are: bert, camembert, roberta"),
    ({'architectures': ['RobertaForTokenClassification']},
     "architectures 'RobertaForTokenClassification'"),
    ({'architectures': ['RobertaForQuestionAnswering']},
     'the weights have no qa_outputs.weight'),
    ({'hidden_act': 'gelu_new'}, "robertax has the exact GELU"),
    ({'position_embedding_type': 'relative_key'}, "only 'absolute' is"),
    ({'is_decoder': True}, 'is_decoder is True'),
    ({'hidden_size': 32}, 'roberta.embeddings.LayerNorm.bias, '),
    ({'intermediate_size': 48},
     'layer.{0,1}.intermediate.dense.bias: [40], not [48]'),
    ({'num_hidden_layers': 3},
     'missing roberta.encoder.layer.2.attention.output.LayerNorm.bias'),
    ({'num_hidden_layers': 1},
     'unused roberta.encoder.layer.1.attention.output.LayerNorm.bias'),
    ({'tie_word_embeddings': False}, 'missing lm_head.decoder.weight'),
    ({'num_attention_heads': 5}, 'is not a multiple of model.num_heads=5'),
    ({'vocab_size': 301}, 'vocab_size 301: put the tokenizer'),
    ({'max_position_embeddings': 40}, 'of another shape: roberta.embeddings.'
     'position_embeddings.weight: [32, 24], not [40, 24]'),
    ({'max_position_embeddings': 'many'}, "max_position_embeddings is 'many'"),
    ({'pad_token_id': 0}, 'pads with id 1'),
])
def test_config_and_weights_that_disagree(folder, values, words):
  if values.get('vocab_size'):
    def widen(arrays):
      for name in ('roberta.embeddings.word_embeddings.weight',
                   'lm_head.bias'):
        arrays[name] = np.concatenate([arrays[name], arrays[name]])[:301]
    change_weights(folder, widen)
  change(folder, **values)
  assert words in refused(folder)


def test_weights_that_are_not_the_models(folder):
  change_weights(folder, lambda x: x.update(
      {'lm_head.dense.bias': np.ones(5, np.float32),
       'extra.a': np.ones(1, np.float32),
       'roberta.pooler.dense.bias': np.ones(24, np.float32)}))
  words = refused(folder)
  assert 'lm_head.dense.bias: [5], not [24]' in words
  assert 'unused extra.a.' in words and 'pooler' not in words


def test_what_is_left_unused_is_said(folder):
  change_weights(folder, lambda x: x.update(
      {'roberta.pooler.dense.bias': np.ones(24, np.float32),
       'roberta.pooler.dense.weight': np.ones((24, 24), np.float32),
       'roberta.embeddings.position_ids': np.arange(32)[None]}))
  found = open_source(f'hf:{folder}').read()
  assert found.lines == (
      f'{folder}: not used: roberta.pooler.dense.bias, '
      'roberta.pooler.dense.weight',)


def test_a_tied_decoder_must_be_the_table(folder):
  change_weights(folder, lambda x: x.update(
      {'lm_head.decoder.weight':
           x['roberta.embeddings.word_embeddings.weight'].copy()}))
  open_source(f'hf:{folder}').read()
  change_weights(folder, lambda x: x.update(
      {'lm_head.decoder.weight': x['lm_head.decoder.weight'] + 1}))
  assert 'the config says that they are tied' in refused(folder)


def test_truncated_and_missing_files(folder, tmp_path_factory):
  whole = (folder / 'model.safetensors').read_bytes()
  for length in (len(whole) - 9, 200, 3, 0):
    (folder / 'model.safetensors').write_bytes(whole[:length])
    assert 'not a whole safetensors file' in refused(folder)
  os.remove(folder / 'model.safetensors')
  assert 'it has no weights' in refused(folder)
  index = folder / 'model.safetensors.index.json'
  index.write_text(json.dumps({'weight_map': {'a': '../other.safetensors'}}))
  assert 'not a file of that folder' in refused(folder)
  index.write_text(json.dumps({'weight_map': {'a': 'part-1.safetensors'}}))
  assert 'part-1.safetensors, which does not exist' in refused(folder)
  index.write_text('{"weight_map": 3}')
  assert 'not an index' in refused(folder)
  (folder / 'config.json').write_text('{"model_type": ')
  assert 'not JSON' in refused(folder)
  (folder / 'config.json').write_text('{}')
  assert 'no "model_type"' in refused(folder)
  assert 'no config.json in it' in refused(tmp_path_factory.mktemp('empty'))
  assert 'no such folder' in refused(folder / 'none')


def test_parts_are_the_whole(folder):
  expected = open_source(f'hf:{folder}').read().params
  arrays = load_file(folder / 'model.safetensors')
  os.remove(folder / 'model.safetensors')
  where = {}
  for number in range(3):
    part = f'model-0000{number}.safetensors'
    some = dict(sorted(arrays.items())[number::3])
    save_file(some, folder / part)
    where |= dict.fromkeys(some, part)
  index = folder / 'model.safetensors.index.json'
  index.write_text(json.dumps({'weight_map': where}))
  found = open_source(f'hf:{folder}').read().params
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  os.remove(folder / 'model-00001.safetensors')
  assert 'model-00001.safetensors, which does not exist' in refused(folder)


def test_no_tokenizer_and_other_files_of_one(folder):
  expected = open_source(f'hf:{folder}').read().tokenizer
  os.remove(folder / 'tokenizer.json')
  found = open_source(f'hf:{folder}').read().tokenizer
  text = 'The committee, Zürich. Привет'
  assert found.encode(text).tolist() == expected.encode(text).tolist()
  os.remove(folder / 'vocab.json')
  assert 'it has no tokenizer' in refused(folder)


def test_half_precision_becomes_float32(folder):
  import ml_dtypes
  change_weights(folder, lambda x: x.update(
      {name: value.astype(ml_dtypes.bfloat16) for name, value in x.items()}))
  params = open_source(f'hf:{folder}').read().params
  assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype('float32')}
