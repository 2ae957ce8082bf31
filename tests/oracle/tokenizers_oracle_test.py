"""Tokenizers of every kind against transformers' AutoTokenizer.

Folders are written as people have them, with vocabularies learned from real
text, read by both, and written again by robertax.
"""

import io
import json
import os
import re
from unittest import mock

import jax
import numpy as np
import pytest

import robertax
from robertax import text
from robertax.config import parse
from robertax.inspection import conversion
from robertax.interop.tokenizer_files import tokenizer_files
from robertax.train import loop

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.oracle

WIKI = os.path.join(os.environ.get('ROBERTAX_TEST_DATA', ''),
                    'pretrain/wiki.jsonl.zst')
ROBERTA = ['<s>', '<pad>', '</s>', '<unk>']
NAMES = {'cls_token': '<s>', 'sep_token': '</s>', 'pad_token': '<pad>',
         'unk_token': '<unk>', 'mask_token': '<mask>'}
SCRIPTS = '[Ͱ-Ͽ]{3}|[Ѐ-ӿ]{3}|[぀-ヿ一-鿿]{2}|[؀-ۿ]{3}|[ऀ-෿]{2}'
SAMPLES = ['Hello world', '  two   spaces ', 'möchte café COVID-19 naïve',
           'x <e1>man</e1> y', '中文 abc', 'MKTAY', 'ACG CGT', '', 'the ~#@']


@pytest.fixture(scope='module')
def lines():
  """10,000 lines, of which some 900 have Greek, Cyrillic, Han, Arabic, ..."""
  if not os.path.isfile(WIKI):
    pytest.skip('ROBERTAX_TEST_DATA names no folder with pretrain/: no real '
                'text is tokenized')
  import zstandard
  found, plain = [], []
  with open(WIKI, 'rb') as f:
    data = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(
        f, read_across_frames=True)).read(40_000_000)
  for document in data.decode(errors='ignore').split('{"text": "'):
    for line in document.split('\\n'):
      if hit := re.search(SCRIPTS, line):
        found.append(line[max(0, hit.start() - 100):][:300])
      elif len(plain) < 9200 and line:
        plain.append(line[:100])
  lines = (found + plain)[:10_000]
  assert len(found) > 900 and len(lines) > 9_000
  return lines


def special(content, token_id, **flags):
  return {'id': token_id, 'content': content, 'single_word': False,
          'lstrip': content == '<mask>', 'rstrip': False, 'normalized': False,
          'special': True, **flags}


def write(folder, **contents):
  folder.mkdir()
  for name, values in contents.items():
    (folder / f'{name}.json').write_text(json.dumps(values))
  return folder


@pytest.fixture(scope='module')
def unigram(lines):
  """A Unigram's pieces with their scores, learned from every fifth line."""
  made, _ = text.train(text.TokenizerConfig(
      kind='unigram', vocab_size=3000, alphabet_limit=1500),
                       lambda: lines[::5])
  return json.loads(made.to_json())['model']['vocab'][4:-1]


def unigram_state(vocab, specials, unk_id, **parts):
  cuts = {'type': 'Sequence', 'pretokenizers': [
      {'type': 'WhitespaceSplit'},
      {'type': 'Metaspace', 'replacement': '▁', 'prepend_scheme': 'always',
       'split': True}]}
  ids = {piece: i for i, (piece, _) in enumerate(vocab)}
  return {'version': '1.0', 'normalizer': None, 'pre_tokenizer': cuts,
          'post_processor': None, 'decoder': cuts['pretokenizers'][1],
          'added_tokens': [special(x, ids[x]) for x in specials],
          'model': {'type': 'Unigram', 'vocab': vocab, 'unk_id': unk_id}} | (
              parts)


def xlm_roberta(folder, pieces):
  vocab = [[x, 0.] for x in ROBERTA] + pieces + [['<mask>', 0.]]
  return write(
      folder, tokenizer=unigram_state(vocab, [*ROBERTA, '<mask>'], 3),
      config={'model_type': 'xlm-roberta'},
      tokenizer_config={'tokenizer_class': 'XLMRobertaTokenizerFast', **NAMES})


def camembert(folder, pieces):
  first = ['<s>NOTUSED', '<pad>', '</s>NOTUSED', '<unk>', '<unk>NOTUSED', '<s>',
           '</s>']
  vocab = [[x, -100. * (x == '<unk>NOTUSED')] for x in first] + pieces + [
      ['<mask>', 0.]]
  return write(folder, tokenizer=unigram_state(vocab, [*first, '<mask>'], 3),
               config={'model_type': 'camembert'})


def albert(folder, pieces):
  first = ['<pad>', '<unk>', '[CLS]', '[SEP]', '[MASK]']
  return write(folder, tokenizer=unigram_state(
      [[x, 0.] for x in first] + pieces, first, 1),
               config={'model_type': 'albert'},
               tokenizer_config={'tokenizer_class': 'AlbertTokenizer'})


def byte_fallback(folder, pieces):
  """BPE of SentencePiece with tokens that a person has added."""
  import tokenizers
  from tokenizers import models, normalizers, processors, trainers
  core = tokenizers.Tokenizer(models.BPE(
      unk_token='<unk>', byte_fallback=True, fuse_unk=True))
  core.normalizer = normalizers.Sequence([
      normalizers.Prepend('▁'), normalizers.Replace(' ', '▁')])
  core.train_from_iterator(
      [piece.replace('▁', ' ') for piece, _ in pieces], trainers.BpeTrainer(
          vocab_size=1500, show_progress=False, limit_alphabet=300,
          special_tokens=[*ROBERTA, *(f'<0x{i:02X}>' for i in range(256))]))
  core.post_processor = processors.TemplateProcessing(
      single='<s> $A </s>', pair='<s> $A </s> $B:1 </s>:1',
      special_tokens=[('<s>', 0), ('</s>', 2)])
  state = json.loads(core.to_str())
  state['model'] |= {'byte_fallback': True, 'unk_token': '<unk>'}
  size = len(state['model']['vocab'])
  state['added_tokens'] = [
      *(special(x, i) for i, x in enumerate(ROBERTA)), special('<mask>', size),
      special('<e1>', size + 1), special('</e1>', size + 2),
      special('COVID-19', size + 3, special=False, normalized=True)]
  return write(folder, tokenizer=state, config={'model_type': 'roberta'},
               tokenizer_config={'tokenizer_class': 'PreTrainedTokenizerFast',
                                 **NAMES})


def proteins(folder, pieces):
  import tokenizers
  from tokenizers import models, pre_tokenizers, processors
  core = tokenizers.Tokenizer(models.WordLevel({x: i for i, x in enumerate(
      ['<cls>', '<pad>', '<eos>', '<unk>', *'LAGVSERTIDPKQNFYMHWC', '<mask>'])},
                                               unk_token='<unk>'))
  core.pre_tokenizer = pre_tokenizers.Split('', 'isolated')
  core.post_processor = processors.TemplateProcessing(
      single='<cls> $A <eos>', pair='<cls> $A <eos> $B <eos>',
      special_tokens=[('<cls>', 0), ('<eos>', 2)])
  return write(folder, tokenizer=json.loads(core.to_str()),
               config={'model_type': 'roberta'},
               tokenizer_config={'tokenizer_class': 'PreTrainedTokenizerFast',
                                 **NAMES, 'cls_token': '<cls>',
                                 'sep_token': '<eos>'})


def byte_level(folder, pieces, **settings):
  made = text.train_byte_bpe([' '.join(p for p, _ in pieces)], 500)
  state = json.loads(made.to_json())
  state['added_tokens'] += [special('<e1>', 500), special('</e1>', 501),
                            special('COVID-19', 502, special=False)]
  return write(folder, tokenizer=state, config={'model_type': 'roberta'},
               tokenizer_config={'tokenizer_class': 'RobertaTokenizer',
                                 **settings})


def prefixed(folder, pieces):
  return byte_level(folder, pieces, add_prefix_space=True)


def marks(folder, pieces):
  """As trained here: neither the regex nor the class is RoBERTa's."""
  made, _ = text.train(text.TokenizerConfig(
      vocab_size=500, pre_tokenizer='marks'), lambda: [p for p, _ in pieces])
  return write(folder, config={'model_type': 'roberta'}, **{
      name.removesuffix('.json'): json.loads(content) for name, content in
      tokenizer_files(made, 62, 'roberta', False).items()})


def wordpiece(folder, pieces, **settings):
  made = text.train_wordpiece(lambda: [p.strip('▁') for p, _ in pieces], 1500,
                              lowercase=False)
  return write(folder, tokenizer=json.loads(made.to_json()),
               config={'model_type': 'bert'}, tokenizer_config={
                   'tokenizer_class': 'BertTokenizer', **settings})


def cased(folder, pieces):
  return wordpiece(folder, pieces, do_lower_case=False)


def accents(folder, pieces):
  return wordpiece(folder, pieces, strip_accents=False,
                   tokenize_chinese_chars=False)


def vocab_txt(folder, pieces):
  """Files without tokenizer.json; accents kept in lower case."""
  source = text.load(cased(folder.parent / 'source', pieces))
  files = tokenizer_files(source, 62)
  write(folder, config={'model_type': 'bert'}, tokenizer_config={
      'tokenizer_class': 'BertTokenizer', 'do_lower_case': True,
      'strip_accents': False})
  (folder / 'vocab.txt').write_text(files['vocab.txt'])
  return folder


def letters(folder, pieces):
  """RobertaTokenizer's files of 26 ids, with no merges."""
  write(folder, config={'model_type': 'roberta'},
        vocab={x: i for i, x in enumerate(
            [*ROBERTA, *'ACDEFGHIKLMNPQRSTVWY', '<mask>'])},
        added_tokens={'<e1>': 25, 'xyz': 26}, tokenizer_config={
            'tokenizer_class': 'RobertaTokenizer', 'extra_special_tokens': [
                '<e1>']})
  (folder / 'merges.txt').write_text('#version: 0.2\n')
  return folder


CASES = [xlm_roberta, camembert, albert, byte_fallback, proteins, byte_level,
         prefixed, marks, wordpiece, cased, accents, vocab_txt, letters]


def laid_out(tokenizer, *texts):
  ids, types = tokenizer.layout.join(*map(tokenizer.encode, texts))
  return ids.tolist(), types.tolist()


def same(theirs, ours, samples):
  """Ids alone, laid out, and as pairs with types where transformers has any."""
  for sample in samples:
    assert theirs(sample)['input_ids'] == laid_out(ours, sample)[0], sample
    pair = theirs(sample, 'the man')
    ids, types = laid_out(ours, sample, 'the man')
    assert pair['input_ids'] == ids
    assert pair.get('token_type_ids', types) == types
  assert (theirs.cls_token_id, theirs.pad_token_id, theirs.sep_token_id,
          theirs.mask_token_id) == (
              ours.bos_id, ours.pad_id, ours.eos_id, ours.mask_id)
  assert len(theirs) == ours.vocab_size


@pytest.mark.parametrize('make', CASES, ids=lambda make: make.__name__)
def test_ids_in_and_out(make, tmp_path, unigram, lines):
  folder = make(tmp_path / 'in', unigram)
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  ours = text.load(folder)
  # All lines where the kind is new, fewer of the others.
  many = lines[::1 if make in (xlm_roberta, camembert) else 20]
  encoded = theirs(many, add_special_tokens=False)['input_ids']
  assert encoded == [ids.tolist() for ids in ours.encode_batch(many)]
  same(theirs, ours, SAMPLES)

  family = json.loads((folder / 'config.json').read_text())['model_type']
  out = write(tmp_path / 'out', config={'model_type': family})
  for name, content in tokenizer_files(
      ours, 62, family, ours.layout.types[1] > 0).items():
    (out / name).write_text(content)
  again = transformers.AutoTokenizer.from_pretrained(out)
  few = many[::20]
  assert again(few, add_special_tokens=False)['input_ids'] == theirs(
      few, add_special_tokens=False)['input_ids']
  same(again, ours, SAMPLES)
  assert {k: str(v) for k, v in again.get_added_vocab().items()} == {
      k: str(v) for k, v in theirs.get_added_vocab().items()}
  if make not in (letters, vocab_txt):
    # Flags too; transformers 5 has no lstrip of a mask in vocab.json's class.
    assert again.added_tokens_decoder == theirs.added_tokens_decoder
  assert text.load(out).fingerprint == ours.fingerprint


def test_added_words_are_as_add_tokens_has_them(tmp_path, unigram):
  """Words with letters outside ASCII, and of an uncased vocabulary."""
  words = ['café', 'COVID-19', 'München']
  for make in (byte_level, wordpiece):
    folder = make(tmp_path / make.__name__, unigram)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    added = [word for word in words if word not in theirs.get_vocab()]
    ours = text.load(folder).with_added(added)
    theirs.add_tokens(added)
    for sample in ('a café in München', 'COVID-19 covid-19', 'the reran man'):
      assert ours.encode(sample).tolist() == theirs(
          sample, add_special_tokens=False)['input_ids']
    assert ours.decode(ours.encode('café')) == 'café'


@pytest.mark.parametrize('make, kind', [
    (xlm_roberta, 'XLMRobertaForMaskedLM'),
    (camembert, 'CamembertForMaskedLM')], ids=lambda x: getattr(
        x, '__name__', x))
def test_continued_pretraining(make, kind, tmp_path, unigram, lines):
  """A random model of their shape: in, 50 steps, out, the same logits."""
  folder = make(tmp_path / 'in', unigram)
  tokenizer = text.load(folder)
  torch.manual_seed(0)
  model = getattr(transformers, kind)
  model(model.config_class(
      vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2,
      num_attention_heads=2, intermediate_size=48, type_vocab_size=1,
      pad_token_id=tokenizer.pad_id, max_position_embeddings=
      tokenizer.pad_id + 33)).save_pretrained(folder)
  corpus = tmp_path / 'corpus.txt'
  corpus.write_text('\n\n'.join(lines[:1200:3]))
  config = parse({
      'data': {'corpora': str(corpus), 'batch_size': 8, 'sequence_length': 32,
               'backend': 'numpy', 'workers': 1, 'cache_dir': str(
                   tmp_path / 'cache')},
      'init_from': f'hf:{folder}', 'model': {'max_positions': 32},
      'optim': {'learning_rate': 1e-3, 'warmup_steps': 5},
      'train': {'steps': 50, 'log_every': 25}})
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    loop.run(config, str(tmp_path / 'w'))
  said = conversion.convert(
      str(tmp_path / 'w'), f'hf:{tmp_path}/out', verify=True)
  assert 'what was written: texts: lm_head, states' in said[-1]
  card = (tmp_path / 'out' / 'README.md').read_text()
  assert f'# {kind}' in card
  hf = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / 'out')
  assert type(hf).__name__ == kind
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / 'out')
  ours = robertax.load(str(tmp_path / 'w'))
  before = transformers.AutoModelForMaskedLM.from_pretrained(folder)
  assert not torch.equal(before.lm_head.bias, hf.lm_head.bias)
  ids = theirs('Paris is the <mask> of France.', return_tensors='pt')
  with torch.no_grad():
    logits = hf.eval()(**ids).logits[0].log_softmax(-1).numpy()
  row = ids['input_ids'].numpy().astype(np.int32)
  found = ours.log_probs(row, np.ones_like(row), np.arange(
      row.shape[1], dtype=np.int32)[None])[0]
  np.testing.assert_allclose(found[:, :logits.shape[1]], logits, atol=1e-4)


def test_models_of_sentencepiece(tmp_path, lines):
  """A .model file, whose ids transformers' converters make."""
  sentencepiece = pytest.importorskip('sentencepiece')
  (tmp_path / 'lines.txt').write_text('\n'.join(lines[::4]))
  for kind, name, flags in (
      ('XLMRoberta', 'sentencepiece.bpe.model', {}),
      ('Camembert', 'sentencepiece.bpe.model', {}),
      ('Albert', 'spiece.model', {
          'pad_id': 0, 'unk_id': 1, 'bos_id': -1, 'eos_id': -1,
          'control_symbols': '[CLS],[SEP],[MASK]'})):
    folder = write(tmp_path / kind, tokenizer_config={
        'tokenizer_class': f'{kind}Tokenizer'}, config={
            'model_type': {'XLMRoberta': 'xlm-roberta'}.get(
                kind, kind.lower())})
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / 'lines.txt'), model_prefix=str(folder / 'it'),
        vocab_size=2000, character_coverage=.99, minloglevel=2, **flags)
    os.rename(folder / 'it.model', folder / name)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours, many = text.load(folder), lines[::10]
    assert theirs(many, add_special_tokens=False)['input_ids'] == [
        ids.tolist() for ids in ours.encode_batch(many)]
    same(theirs, ours, SAMPLES)


@pytest.mark.parametrize('name, kind', [
    ('BartTokenizer', 'byte_bpe'), ('LongformerTokenizerFast', 'byte_bpe'),
    ('LEDTokenizer', 'byte_bpe'), ('MobileBertTokenizerFast', 'wordpiece'),
    ('LayoutLMTokenizer', 'wordpiece'), ('LxmertTokenizer', 'wordpiece'),
    ('SqueezeBertTokenizer', 'wordpiece')])
def test_classes_that_transformers_has_under_other_names(tmp_path, name, kind):
  made, _ = text.train(text.TokenizerConfig(kind=kind, vocab_size=400),
                       lambda: SAMPLES * 3)
  # These classes build their own normalizer and pre-tokenizer.
  state = json.loads(made.to_json()) | {'normalizer': {'type': 'Lowercase'}}
  folder = write(tmp_path / 'made', tokenizer=state,
                 config={'model_type': 'roberta'},
                 tokenizer_config={'tokenizer_class': name,
                                   **made.special_names()})
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  ours = text.load(folder)
  for sample in SAMPLES:
    assert ours.encode(sample).tolist() == theirs.encode(
        sample, add_special_tokens=False)
  assert any('in another way than the file' in note for note in ours.notes)


def test_an_unknown_class_is_said(tmp_path):
  made, _ = text.train(text.TokenizerConfig(vocab_size=400), lambda: SAMPLES)
  for name, said in (('DebertaTokenizer', 1), ('PreTrainedTokenizerFast', 0)):
    folder = write(tmp_path / name, tokenizer=json.loads(made.to_json()),
                   tokenizer_config={'tokenizer_class': name})
    assert sum('may cut text in another way' in note
               for note in text.load(folder).notes) == said
