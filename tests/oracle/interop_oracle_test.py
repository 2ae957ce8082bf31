"""Hugging Face's models <-> ours: every tensor, and every logit.

Odd shapes with random weights, in which biases and scales matter too; all
architectures of hf_heads.ARCHITECTURES, of RoBERTa and of BERT.
"""

import json
import os
import pathlib

import numpy as np
import pytest
from safetensors.numpy import load_file

import robertax
from robertax import text
from robertax.inspection import oracle, verification
from robertax.interop import huggingface, names, open_source
from robertax.interop.pretrained import with_positions, with_tokens

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.oracle

LINES = [' '.join(verification.SENTENCES)] * 3
# Six odd shapes.
SHAPES = {
    'head_80': dict(hidden_size=160, num_hidden_layers=3,
                    num_attention_heads=2, intermediate_size=96,
                    max_position_embeddings=90, type_vocab_size=1),
    'one_layer': dict(hidden_size=48, num_hidden_layers=1,
                      num_attention_heads=6, intermediate_size=200,
                      max_position_embeddings=70, layer_norm_eps=1e-5),
    'untied': dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=1,
                   intermediate_size=64, max_position_embeddings=66,
                   tie_word_embeddings=False, type_vocab_size=2),
    'one_head_wide': dict(hidden_size=96, num_hidden_layers=2,
                          num_attention_heads=3, intermediate_size=33,
                          max_position_embeddings=514, type_vocab_size=1),
    'deep': dict(hidden_size=32, num_hidden_layers=24, num_attention_heads=16,
                 intermediate_size=128, max_position_embeddings=40,
                 type_vocab_size=1),
    'three_types': dict(hidden_size=24, num_hidden_layers=2,
                        num_attention_heads=2, intermediate_size=24,
                        max_position_embeddings=33, type_vocab_size=3),
}
FAMILIES = {'roberta': 'Roberta', 'bert': 'Bert'}
NAMES = (pathlib.Path(__file__).parents[1] / 'interop' / 'golden'
         / 'hf_names.json')
OTHERS = [(family, end) for family in FAMILIES for end in
          huggingface.ARCHITECTURES if (family, end) != ('roberta',
                                                         'ForPreTraining')]


@pytest.fixture(scope='module', autouse=True)
def one_thread():
  torch.set_num_threads(1)


@pytest.fixture(scope='module')
def tokenizers():
  return {'roberta': text.train_byte_bpe(LINES, 400),
          'bert': text.train_wordpiece(lambda: LINES, 250)}


def make(folder, family, end, tokenizer, **values):
  """A folder that save_pretrained has written, weights random."""
  torch.manual_seed(len(values) + len(end))
  config = getattr(transformers, f'{FAMILIES[family]}Config')(
      vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id, **values)
  module = getattr(transformers, f'{FAMILIES[family]}{end}')(config)
  with torch.no_grad():
    for name, parameter in module.named_parameters():
      scale = name.endswith('LayerNorm.weight') or 'layer_norm.weight' in name
      parameter.copy_(scale + torch.randn(parameter.shape)
                      * (.2 if scale else .1))
    if not config.tie_word_embeddings and end == 'ForMaskedLM':
      # Of the two biases of such a decoder one has no effect.
      head = module.lm_head if family == 'roberta' else module.cls.predictions
      head.bias.copy_(head.decoder.bias)
  module.save_pretrained(folder)
  put_tokenizer(folder, tokenizer)
  return module


def put_tokenizer(folder, tokenizer):
  for name, content in huggingface.tokenizer_files(tokenizer, 512).items():
    (folder / name).write_text(content)


def their_outputs(folder, batch):
  name = json.loads(open(f'{folder}/config.json').read())['architectures'][0]
  found = {'missing': {}}
  outputs = oracle.class_outputs(name, folder, {'one': batch}, found)
  assert not found['missing'][name]
  return {key.partition('/')[2]: x for key, x in outputs.items()}


def same_ids(tokenizer, folder):
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  for text_ in verification.SENTENCES:
    assert theirs(text_)['input_ids'] == [
        tokenizer.bos_id, *tokenizer.encode(text_).tolist(), tokenizer.eos_id]
  assert theirs.mask_token_id == tokenizer.mask_id


def check_both_ways(tmp_path, family, end, tokenizer, **values):
  """HF -> ours -> HF: the same tensors, and logits at every real token."""
  there, back = tmp_path / 'there', tmp_path / 'back'
  make(there, family, end, tokenizer, **values)
  pretrained = open_source(f'hf:{there}').read()
  huggingface.write_folder(pretrained, str(back))
  first = load_file(there / 'model.safetensors')
  second = load_file(back / 'model.safetensors')
  unused = {name for name in first if 'pooler.' in name} - second.keys()
  assert not unused or end == 'Model'
  assert first.keys() - unused == second.keys()
  for name in second:
    np.testing.assert_array_equal(first[name], second[name], err_msg=name)
  said = [json.loads((folder / 'config.json').read_text())
          for folder in (there, back)]
  for key in ('architectures', 'model_type', 'id2label', *(
      set(huggingface.CONFIG_KEYS.values())
      | {'max_position_embeddings', 'pad_token_id'})):
    # A config.json of theirs leaves out what is their default.
    assert said[0].get(key, said[1].get(key)) == said[1].get(key), key
  batch = verification.sentence_batch(tokenizer, pretrained.config)
  ours = verification.our_outputs(pretrained, batch)
  wanted = {'ForMaskedLM': {'lm_head'}, 'ForQuestionAnswering': {'start'},
            'ForSequenceClassification': {'classifier'},
            'ForMultipleChoice': {'classifier'}, 'Model': set(),
            'ForPreTraining': {'lm_head', 'nsp_head'}}[end]
  for folder in (there, back):
    theirs = their_outputs(str(folder), batch)
    assert wanted <= ours.keys() & theirs.keys()
    for key in wanted:
      assert ours[key].std() > .05  # Not agreeing about nothing.
    verification.compare_outputs(ours, theirs, batch, str(folder))
  same_ids(tokenizer, back)
  return pretrained, ours, batch


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('shape', SHAPES)
def test_odd_shapes(tmp_path, tokenizers, shape, family):
  pretrained, ours, batch = check_both_ways(
      tmp_path, family, 'ForMaskedLM', tokenizers[family], **SHAPES[shape])
  if shape == 'one_layer':
    packed_rows_agree(pretrained, ours, batch)


def packed_rows_agree(pretrained, ours, batch):
  """Two texts in one row have the logits that transformers gives each."""
  lengths = batch['segment_ids'].sum(1)
  short = np.argsort(lengths)[:2]
  assert lengths[short].sum() <= pretrained.config.max_positions
  packed = {key: np.concatenate(
      [value[row][:lengths[row]] for row in short])[None]
            for key, value in batch.items()}
  packed['segment_ids'] = np.repeat([1, 2], lengths[short])[None].astype(
      np.int32)
  found = verification.our_outputs(pretrained, packed)['lm_head'][0]
  alone = np.concatenate([ours['lm_head'][row][:lengths[row]]
                          for row in short])
  np.testing.assert_allclose(found, alone, atol=1e-4)


@pytest.mark.parametrize('family, end', OTHERS)
def test_all_heads(tmp_path, tokenizers, family, end):
  labels = {'num_labels': 3, 'id2label': {0: 'no', 1: 'perhaps', 2: 'yes'},
            'label2id': {'no': 0, 'perhaps': 1, 'yes': 2}}
  more = labels if end == 'ForSequenceClassification' else {}
  pretrained, _, _ = check_both_ways(
      tmp_path, family, end, tokenizers[family], **SHAPES['head_80'], **more)
  assert pretrained.labels == (('no', 'perhaps', 'yes') if more else ())
  assert pretrained.choice == (end == 'ForMultipleChoice')


@pytest.mark.parametrize('family', FAMILIES)
def test_classes_of_texts_and_pairs_as_the_pipeline_says(
    tmp_path, tokenizers, family):
  """load().classify, BERT's two types included; 2 texts of each length."""
  labels = {'num_labels': 3, 'id2label': {0: 'no', 1: 'perhaps', 2: 'yes'},
            'label2id': {'no': 0, 'perhaps': 1, 'yes': 2}}
  make(tmp_path, family, 'ForSequenceClassification', tokenizers[family],
       **SHAPES['head_80'] | {'type_vocab_size': 1 + (family == 'bert')},
       **labels)
  model = robertax.load(f'hf:{tmp_path}')
  pipeline = transformers.pipeline(
      'text-classification', model=str(tmp_path), tokenizer=str(tmp_path))
  texts = list(verification.SENTENCES[:4])
  pairs = list(zip(texts, reversed(texts)))
  for asked, theirs in ((texts, texts), (pairs, [
      {'text': a, 'text_pair': b} for a, b in pairs])):
    found = model.classify(asked)
    said = pipeline(theirs, top_k=None)
    assert len(found) == len(said) == 4
    for ours, wanted in zip(found, said):
      assert ours.label == wanted[0]['label']
      assert ours.probabilities == pytest.approx(
          {x['label']: x['score'] for x in wanted}, abs=1e-5)
  assert len({round(one.probability, 3) for one in found}) > 1


def state_names(family, end):
  """Names of a whole state dict, buffers and twins too; two layers."""
  config = getattr(transformers, f'{FAMILIES[family]}Config')(
      **SHAPES['one_layer'] | {'num_hidden_layers': 2}, vocab_size=90)
  with torch.device('meta'):
    module = getattr(transformers, f'{FAMILIES[family]}{end}')(config)
  return sorted({*module.state_dict(),
                 *(name for name, _ in module.named_buffers())})


def all_names():
  """What tests/interop/golden/hf_names.json holds; make_golden.py writes it."""
  return {FAMILIES[family] + end: state_names(family, end)
          for family, end in OTHERS}


def test_the_golden_names_are_those_of_this_transformers():
  assert json.loads(NAMES.read_text()) == all_names()


def test_parts_with_an_index_and_half_precision(tmp_path, tokenizers):
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  module = make(whole, 'roberta', 'ForMaskedLM', tokenizers['roberta'],
                **SHAPES['head_80'])
  module.save_pretrained(parts, max_shard_size='200KB')
  put_tokenizer(parts, tokenizers['roberta'])
  assert not (parts / 'model.safetensors').exists()
  assert len(list(parts.glob('*.safetensors'))) > 2
  first = names.write_params(*whole_params(whole))
  second = names.write_params(*whole_params(parts))
  assert first.keys() == second.keys()
  for name in first:
    np.testing.assert_array_equal(first[name], second[name])
  for dtype in (torch.bfloat16, torch.float16):
    half = tmp_path / str(dtype)
    module.to(dtype).save_pretrained(half)
    put_tokenizer(half, tokenizers['roberta'])
    params = open_source(f'hf:{half}').read().params
    tokens = params['embeddings']['tokens']
    assert tokens.dtype == np.float32
    np.testing.assert_allclose(
        tokens, first['roberta.embeddings.word_embeddings.weight'], rtol=8e-3,
        atol=1e-6)


def whole_params(folder):
  pretrained = open_source(f'hf:{folder}').read()
  return (pretrained.params, pretrained.config,
          huggingface.layout_of(pretrained))


@pytest.mark.parametrize('family', FAMILIES)
def test_a_tokenizer_that_transformers_has_saved(tmp_path, tokenizers, family):
  """Its tokenizer.json has more in it than ours; the ids are the same."""
  put_tokenizer(tmp_path, tokenizers[family])
  (tmp_path / 'config.json').write_text(json.dumps({'model_type': family}))
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  theirs.save_pretrained(tmp_path / 'again')
  found = huggingface.read_tokenizer(str(tmp_path / 'again'))
  assert found.mask_id == tokenizers[family].mask_id
  for text_ in verification.SENTENCES:
    assert found.encode(text_).tolist() == theirs(text_)['input_ids'][1:-1]
  said = 'a b <mask> c' if family == 'roberta' else 'a b [MASK] c'
  assert found.encode(said, allow_mask=True).tolist() == (
      theirs(said)['input_ids'][1:-1])


def test_bin_of_torch_and_old_names(tmp_path, tokenizers):
  """pytorch_model.bin, LayerNorm.gamma, and position_ids in the file."""
  module = make(tmp_path, 'bert', 'ForPreTraining', tokenizers['bert'],
                **SHAPES['one_layer'])
  expected = open_source(f'hf:{tmp_path}').read().params
  state = {name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace(
      'LayerNorm.bias', 'LayerNorm.beta'): x
           for name, x in module.state_dict().items()}
  state['bert.embeddings.position_ids'] = torch.arange(70)[None]
  os.remove(tmp_path / 'model.safetensors')
  torch.save(state, tmp_path / 'pytorch_model.bin')
  found = open_source(f'hf:{tmp_path}').read().params
  for path in (('nsp_head', 'output', 'kernel'), ('embeddings', 'norm', 'bias'),
               ('layers', 'mlp_norm', 'scale'), ('lm_head', 'norm', 'scale')):
    a, b = expected, found
    for key in path:
      a, b = a[key], b[key]
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('family', FAMILIES)
def test_added_tokens_and_longer_positions(tmp_path, tokenizers, family):
  make(tmp_path / 'a', family, 'ForMaskedLM', tokenizers[family],
       **SHAPES['one_layer'])
  pretrained = open_source(f'hf:{tmp_path}/a').read()
  words = ['budgetarily', 'Zq-9', 'b☂']
  longer = with_positions(
      with_tokens(pretrained, words), 150)
  huggingface.write_folder(longer, str(tmp_path / 'b'))
  batch = verification.sentence_batch(longer.tokenizer, longer.config)
  verification.compare_outputs(
      verification.our_outputs(longer, batch),
      their_outputs(str(tmp_path / 'b'), batch), batch, 'b')
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / 'b')
  for text_ in ('the budgetarily Zq-9 b☂ 東京 xZq-9 Zq-9.', 'Zq-9', 'cat Zq-9s',
                *verification.SENTENCES):
    assert theirs(text_)['input_ids'][1:-1] == (
        longer.tokenizer.encode(text_).tolist()), text_
  again = open_source(f'hf:{tmp_path}/b').read()
  assert again.tokenizer.fingerprint == longer.tokenizer.fingerprint
  # From vocab.json and merges.txt (or vocab.txt) alone, the same again.
  if family == 'roberta':
    os.remove(tmp_path / 'b' / 'tokenizer.json')
    alone = huggingface.read_tokenizer(str(tmp_path / 'b'))
    for text_ in ('the budgetarily Zq-9.', *verification.SENTENCES):
      assert alone.encode(text_).tolist() == (
          longer.tokenizer.encode(text_).tolist())
