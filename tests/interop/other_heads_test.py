"""Folders as other tools leave them: heads, names, wrappers, padded tables."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from robertax.errors import InputError
from robertax.interop import huggingface, open_source

CLASSES = ('toxic', 'insult', 'threat')


@pytest.fixture(name='folder')
def _folder(make, tmp_path):
  def folder(labels=(), problem_type='', weights=lambda x: x, **config):
    made = make(labels=labels, num_classes=len(labels),
                lm_head=not labels)
    huggingface.write_folder(dataclasses.replace(
        made, problem_type=problem_type), str(tmp_path))
    path = tmp_path / 'config.json'
    values = json.loads(path.read_text()) | config
    path.write_text(json.dumps({k: v for k, v in values.items()
                                if v is not None}))
    path = str(tmp_path / 'model.safetensors')
    save_file(weights(load_file(path)), path)
    return made, f'hf:{tmp_path}'
  return folder


def assert_same(a, b):
  flat = [json.dumps(jax_paths(x)) for x in (a, b)]
  assert flat[0] == flat[1]


def jax_paths(tree):
  return {k: jax_paths(v) for k, v in tree.items()} if isinstance(
      tree, dict) else np.asarray(tree).tolist()


@pytest.mark.parametrize('names', [
    {'id2label': dict(enumerate(CLASSES))}, {'id2label': list(CLASSES)},
    {'id2label': {'2': 'threat', '0': 'toxic', '1': 'insult'}},
    {'id2label': None, 'label2id': {'threat': 2, 'toxic': 0, 'insult': 1}}])
def test_names_of_classes_in_any_form(folder, names):
  assert open_source(folder(CLASSES, **names)[1]).read().labels == CLASSES


def test_names_that_nobody_gave(folder):
  _, source = folder(CLASSES, id2label=None, label2id=None)
  assert open_source(source).read().labels == ('LABEL_0', 'LABEL_1', 'LABEL_2')


@pytest.mark.parametrize('names, says', [
    ({'0': 'neg', '1': 'pos'}, 'has 2 different names (neg, pos)'),
    ({'0': 'a', '1': 'b', '2': 'a'}, 'has 2 different names (a, b, a)'),
    (['a', 'b', 'c', 'd'], 'has 4 different names'),
    ({'0': 'a', '1': 'b', '3': 'c'}, 'with the numbers 0, 1, 3'),
    ({'zero': 'a'}, 'id2label is '), ('toxic', 'id2label is toxic')])
def test_names_that_do_not_fit(folder, names, says):
  _, source = folder(CLASSES, id2label=names)
  with pytest.raises(InputError) as caught:
    open_source(source).read()
  words = str(caught.value)
  assert says in words and 'config.json' in words and '\n' not in words
  assert 'id2label is' in says or '3 outputs' in words
  # Where the head is not needed, its names are not either.
  assert open_source(source).read(('classifier',)).labels == ()


def test_problem_type_is_kept(folder, tmp_path):
  made, source = folder(CLASSES, 'multi_label_classification')
  found = open_source(source).read()
  assert found.problem_type == 'multi_label_classification'
  huggingface.write_folder(found, str(tmp_path / 'again'))
  again = json.loads((tmp_path / 'again' / 'config.json').read_text())
  assert again['problem_type'] == 'multi_label_classification'
  assert 'sigmoid' in (tmp_path / 'again' / 'README.md').read_text()
  assert_same(found.params, made.params)
  _, source = folder(CLASSES, problem_type='regresion')
  with pytest.raises(InputError, match="Did you mean 'regression'"):
    open_source(source).read()


def longer(rows):
  def change(arrays):
    for name in ('roberta.embeddings.word_embeddings.weight', 'lm_head.bias'):
      x = arrays[name]
      arrays[name] = np.concatenate([x, np.ones_like(x)])[:rows]
    return arrays
  return change


def test_rows_behind_the_last_id_are_dropped(folder, tokenizers):
  ids = tokenizers['byte_bpe'].vocab_size
  made, source = folder(weights=longer(ids + 20), vocab_size=ids + 20)
  found = open_source(source)
  assert found.config.vocab_size == ids
  line, = found.read().lines
  assert '20 rows' in line and str(ids + 20) in line
  assert_same(found.read().params, made.params)


@pytest.mark.parametrize('rows, says', [(-5, '5 ids have no vector'),
                                        (1300, 'more than a padded table')])
def test_tables_of_another_tokenizer(folder, tokenizers, rows, says):
  rows += tokenizers['byte_bpe'].vocab_size

  def fill(arrays):
    for name in ('roberta.embeddings.word_embeddings.weight', 'lm_head.bias'):
      arrays[name] = np.resize(arrays[name], (rows, *arrays[name].shape[1:]))
    return arrays
  _, source = folder(weights=fill, vocab_size=rows)
  with pytest.raises(InputError, match=says) as caught:
    open_source(source).read()
  assert f'{rows} rows' in str(caught.value)


def inside(name):
  return name.replace('encoder.', 'encoder._orig_mod.').replace(
      'layer.1.', 'layer.1.module.')


@pytest.mark.parametrize('rename, says', [
    ('module.{}'.format, 'module.'),
    ('module._orig_mod.{}'.format, 'module., _orig_mod.'),
    ('_fsdp_wrapped_module.{}'.format, '_fsdp_wrapped_module.'),
    ('model.{}'.format, 'model.'), (inside, '_orig_mod., module.')])
def test_names_of_wrappers_are_taken_off(folder, rename, says):
  made, source = folder(weights=lambda x: {rename(k): v for k, v in x.items()})
  found = open_source(source).read()
  assert_same(found.params, made.params)
  assert sorted(found.lines[0].rpartition(': ')[2].split(', ')) == sorted(
      says.split(', '))


def test_a_name_with_and_without_its_wrapper(folder):
  _, source = folder(weights=lambda x: x | {
      'module.lm_head.bias': x['lm_head.bias'] + 1})
  with pytest.raises(InputError, match='lm_head.bias is in it twice'):
    open_source(source)


def test_a_head_of_another_kind(folder):
  def tokens(arrays):
    body = {k: v for k, v in arrays.items() if not k.startswith('lm_head')}
    return body | {'classifier.weight': np.zeros((4, 24), np.float32),
                   'classifier.bias': np.zeros(4, np.float32)}
  made, source = folder(weights=tokens,
                        architectures=['RobertaForTokenClassification'])
  with pytest.raises(InputError) as caught:
    open_source(source).read()
  assert 'RobertaForTokenClassification' in str(caught.value)
  assert 'unused_parameters=classifier,lm_head,nsp_head' in str(caught.value)
  with pytest.raises(InputError, match='unused classifier.bias'):
    open_source(source).read(('lm_head',))
  found = open_source(source).read(('classifier',))
  assert not found.config.num_classes and not found.config.lm_head
  assert 'not used: classifier.bias, classifier.weight' in found.lines[-1]
  assert_same(found.params['layers'], made.params['layers'])


def test_a_part_of_its_own_beside_a_head_we_have(folder):
  _, source = folder(weights=lambda x: x | {
      'projection.weight': np.ones((2, 24), np.float32)})
  with pytest.raises(InputError, match='unused_parameters=lm_head,nsp_head,'
                     'projection takes the rest'):
    open_source(source).read()
  assert 'not used: projection.weight' in open_source(source).read(
      ('projection',)).lines[-1]


@pytest.mark.parametrize('kind, prefix', [('xlm-roberta', 'XLMRoberta'),
                                          ('camembert', 'Camembert')])
def test_model_types_that_are_robertas(folder, kind, prefix):
  made, source = folder(model_type=kind, architectures=[f'{prefix}ForMaskedLM'])
  assert_same(open_source(source).read().params, made.params)
