"""Tokenizers of every kind: ids are the library's, and no text is special."""
import json
import unicodedata

import numpy as np
import pytest

from robertax import text
from robertax.config import TokenizerConfig
from robertax.errors import InputError

LINES = ['the cat sat on the mat', 'a <mask> and </s>', 'naïve café'] * 9
ROBERTA = ['<s>', '<pad>', '</s>', '<unk>']
LETTERS = 'ACDEFGHIKLMNPQRSTVWY'


def added(content, token_id, **flags):
  return {'id': token_id, 'content': content, 'single_word': False,
          'lstrip': False, 'rstrip': False, 'normalized': False,
          'special': True, **flags}


def metaspace(model, trainer, specials):
  import tokenizers
  from tokenizers import decoders, pre_tokenizers
  core = tokenizers.Tokenizer(model)
  core.pre_tokenizer = pre_tokenizers.Metaspace()
  core.decoder = decoders.Metaspace()
  core.train_from_iterator(LINES, trainer)
  state = json.loads(core.to_str())
  ids = {x: core.token_to_id(x) for x in specials}
  return {**state, 'added_tokens': [added(x, i) for x, i in ids.items()]}


def unigram():
  from tokenizers import models, trainers
  return metaspace(models.Unigram(), trainers.UnigramTrainer(
      vocab_size=60, special_tokens=[*ROBERTA, '<mask>'], unk_token='<unk>',
      show_progress=False), [*ROBERTA, '<mask>'])


def byte_fallback():
  from tokenizers import models, trainers
  specials = ['<unk>', '<s>', '</s>']
  state = metaspace(models.BPE(unk_token='<unk>', byte_fallback=True),
                    trainers.BpeTrainer(vocab_size=320, special_tokens=[
                        *specials, *(f'<0x{i:02X}>' for i in range(256))],
                        show_progress=False), specials)
  size = len(state['model']['vocab'])
  # As people add them to a Llama's: behind the pieces.
  state['added_tokens'] += [added('<pad>', size), added('<mask>', size + 1),
                            added('<e1>', size + 2)]
  return state


def words(vocab, cuts):
  import tokenizers
  from tokenizers import models
  core = tokenizers.Tokenizer(models.WordLevel(
      {x: i for i, x in enumerate(vocab)},
      unk_token=next(x for x in vocab if 'unk' in x.lower())))
  core.pre_tokenizer = cuts
  return json.loads(core.to_str())


def letters():
  from tokenizers import pre_tokenizers
  return words([*ROBERTA, *LETTERS, '<mask>'],
               pre_tokenizers.Split('', 'isolated'))


def kmers():
  from tokenizers import pre_tokenizers
  return words(['[PAD]', 'ACG', 'CGT', '[MASK]', '[CLS]', 'GTA', '[SEP]',
                '[UNK]'], pre_tokenizers.WhitespaceSplit())


def plain_bpe():
  """BPE of molecules, without a pre-tokenizer."""
  import tokenizers
  from tokenizers import models, trainers
  core = tokenizers.Tokenizer(models.BPE(unk_token='<unk>'))
  core.train_from_iterator(['CC(=O)OC1', 'c1ccccc1', 'CCO'] * 5,
                           trainers.BpeTrainer(
                               vocab_size=40, show_progress=False,
                               special_tokens=[*ROBERTA, '<mask>']))
  return json.loads(core.to_str())


KINDS = {'unigram': unigram, 'bpe': byte_fallback, 'char': letters,
         'word_level': kmers, 'molecules': plain_bpe}
SAMPLES = ['the cat sat', ' the  mat ', 'ACG CGT GTA ACG', 'MKTAY', '',
           'CC(=O)O', 'naïve 中 <e1> x']


@pytest.mark.parametrize('kind', KINDS)
def test_ids_are_the_librarys(kind):
  import tokenizers
  state = KINDS[kind]()
  found = text.Tokenizer(state, 'it')
  assert found.kind == {'molecules': 'bpe'}.get(kind, kind)
  core = tokenizers.Tokenizer.from_str(json.dumps(state))
  for sample, ids in zip(SAMPLES, found.encode_batch(SAMPLES)):
    assert ids.tolist() == core.encode(sample, add_special_tokens=False).ids
  pieces = [core.id_to_token(i) for i in found.special_ids]
  glued = ' '.join(pieces) + 'x'.join(pieces)
  ids = set(found.encode(glued).tolist()) - {found.unk_id}
  assert not ids & set(found.special_ids)
  again = text.Tokenizer.from_json(found.to_json())
  assert again.fingerprint == found.fingerprint
  assert again.layout == found.layout
  assert not np.isin(found.random_ids, found.special_ids).any()
  mask = core.id_to_token(found.mask_id)
  ids = found.encode(f'the cat {mask} sat', allow_mask=True).tolist()
  assert ids.count(found.mask_id) == 1


def test_words_and_decoded_text():
  found = text.Tokenizer(unigram(), 'it')
  assert found.decode(found.encode('the cat  sat')) == 'the cat  sat'
  assert found.word_starts[found.encode('the cat')[0]]
  assert found.token_text(found.encode('the')[0]).startswith(' ')
  found = text.Tokenizer(byte_fallback(), 'it')
  assert found.decode(found.encode('a 中 b')) == 'a 中 b'
  assert found.encode('x<e1>').tolist()[-1] == found.vocab_size - 1
  for state, sample in ((letters(), 'MKTAY'), (kmers(), 'ACG CGT')):
    found = text.Tokenizer(state, 'it')
    ids = found.encode(sample)
    assert found.decode(ids) == sample and found.word_starts[ids].all()
  # Special tokens in the middle: random ones are drawn around them.
  assert found.random_ids.tolist() == [1, 2, 5]
  _, spans = text.Tokenizer(unigram(), 'it').encode_with_offsets(['the cat'])[0]
  assert spans[-1].tolist()[1] == 7 and ' ' not in [
      'the cat'[a:b][:1] for a, b in spans.tolist()]


def test_names_beside_a_file(tmp_path):
  """tokenizer_config.json names tokens, and a saved one remembers them."""
  state = letters()
  vocab = state['model']['vocab']
  vocab['<blank>'] = vocab.pop('<mask>')
  path = tmp_path / 'tokenizer.json'
  path.write_text(json.dumps(state))
  with pytest.raises(InputError, match='<mask> is missing.*"mask_token"'):
    text.load(path)
  (tmp_path / 'tokenizer_config.json').write_text(
      json.dumps({'mask_token': {'content': '<blank>'}}))
  found = text.load(path)
  assert found.mask_id == 24 and found.mask_texts == ('<mask>', '<blank>')
  (tmp_path / 'saved').mkdir()
  found.save(tmp_path / 'saved' / 'tokenizer.json')
  assert text.load(tmp_path / 'saved').mask_id == 24


def test_a_vocabulary_of_letters(tmp_path):
  """fairseq's dict.txt, and vocab.json with an empty merges.txt."""
  (tmp_path / 'dict.txt').write_text(''.join(f'{c} 9\n' for c in LETTERS))
  found = text.load(tmp_path)
  assert found.encode('MK').tolist() == found.encode('M K').tolist()
  assert (found.vocab_size, found.mask_id) == (25, 24)
  (tmp_path / 'vocab.json').write_text(json.dumps(
      {x: i for i, x in enumerate([*ROBERTA, '[X]', *LETTERS, '<mask>'])}))
  (tmp_path / 'merges.txt').write_text('#version: 0.2\n')
  found = text.load(tmp_path)
  assert found.kind == 'byte_bpe' and found.encode('MK').tolist() == [15, 13]


def test_dropout_is_off():
  made = text.train_byte_bpe(LINES, 300)
  state = json.loads(made.to_json())
  state['model']['dropout'] = .9
  found = text.Tokenizer(state, 'it')
  assert found.fingerprint == made.fingerprint and 'dropout' in found.notes[0]
  assert json.loads(found.to_json())['model']['dropout'] == .9


def test_gaps_and_doubles():
  state = letters()
  state['model']['vocab']['<mask>'] = 26
  found = text.Tokenizer(state, 'it')
  assert found.vocab_size == 27 and 25 not in found.random_ids
  state['model']['vocab']['<mask>'] = 900
  with pytest.raises(InputError, match='each once: the last one is 900'):
    text.Tokenizer(state, 'it')


@pytest.mark.parametrize('kind', ['byte_bpe', 'wordpiece', 'unigram', 'char'])
@pytest.mark.parametrize('cuts', ['default', 'marks'])
def test_training(kind, cuts):
  thai = ['ที่นี่มีน้ำ กำลังดี'] * 20 + LINES
  config = TokenizerConfig(kind=kind, vocab_size=290, pre_tokenizer=cuts)
  found, lines = text.train(config, lambda: thai)
  again, _ = text.train(config, lambda: [thai])
  assert found.fingerprint == again.fingerprint and found.kind == kind
  for sample in (thai[0], 'the cat sat'):
    ids = found.encode(sample)
    assert found.unk_id not in ids
    if kind == 'unigram':
      sample = unicodedata.normalize('NFKC', sample)
    if kind != 'wordpiece' or cuts == 'marks':
      assert found.decode(ids) == sample
  marks = [line for line in lines if 'combining marks' in line]
  assert len(marks) == (cuts == 'default' and kind in ('byte_bpe', 'wordpiece'))


def test_the_alphabet_has_a_limit():
  chinese = [''.join(chr(0x4e00 + i) for i in range(300)) * 2 + 'xx yy']
  for kind in ('char', 'wordpiece', 'unigram'):
    config = TokenizerConfig(kind=kind, vocab_size=3000, alphabet_limit=200)
    found, lines = text.train(config, lambda: chinese)
    assert '200 of 30' in lines[0] and found.unk_id in found.encode(chinese[0])
    more = TokenizerConfig(kind=kind, vocab_size=3000)
    found, lines = text.train(more, lambda: chinese)
    assert found.unk_id not in found.encode(chinese[0])
    assert not any('alphabet_limit' in line for line in lines)


@pytest.mark.parametrize('key, value, says', [
    ('continuing_subword_prefix', 5, 'is not a string'),
    ('continuing_subword_prefix', '##', 'does not continue with'),
    ('type', [], 'its model is')])
def test_damaged_models(key, value, says):
  state = json.loads(text.train_byte_bpe(LINES, 300).to_json())
  state['model'][key] = value
  with pytest.raises(InputError, match=says):
    text.Tokenizer(state, 'it')


@pytest.mark.parametrize('change, says', [
    ({'pre_tokenizer': 'gpt2'}, 'default, marks'),
    ({'kind': 'chars'}, "mean 'char'"),
    ({'kind': 'char', 'vocab_size': 5}, 'at least 6')])
def test_wrong_configs(change, says):
  with pytest.raises(InputError, match=says):
    text.check(TokenizerConfig(**change))
  with pytest.raises(InputError, match='alphabet_limit=0'):
    TokenizerConfig(alphabet_limit=0)


def test_bytes_as_a_fallback_are_decoded_as_by_the_library():
  import tokenizers
  from tokenizers import decoders, models
  names = [*ROBERTA, '<mask>', 'a', '▁b', *(
      f'<0x{byte:02X}>' for byte in range(256))]
  core = tokenizers.Tokenizer(models.BPE(
      {x: i for i, x in enumerate(names)}, [], byte_fallback=True))
  core.decoder = decoders.Sequence([
      decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse()])
  made = text.Tokenizer(json.loads(core.to_str()), 'x')
  rng = np.random.default_rng(0)
  for _ in range(200):
    parts = [[5], [6], *([7 + byte for byte in letter.encode()]
                         for letter in 'é中🙂'), rng.integers(7, 263, 3)]
    row = [int(i) for n in rng.integers(0, len(parts), 5) for i in parts[n]]
    assert made.decode(row) == core.decode(row).removeprefix(' '), row


def test_merges_that_make_a_special_token_are_left_out():
  """As a BPE has them that was trained on text with '</s>' in it."""
  import tokenizers
  from tokenizers import models, pre_tokenizers, trainers
  made = tokenizers.Tokenizer(models.BPE(unk_token='<unk>'))
  made.pre_tokenizer = pre_tokenizers.Sequence([
      pre_tokenizers.WhitespaceSplit(),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
  made.train_from_iterator(['a </s> b </s>x'] * 20, trainers.BpeTrainer(
      vocab_size=400, show_progress=False,
      special_tokens=['<s>', '<pad>', '</s>', '<unk>', '<mask>'],
      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
  merges = json.loads(made.to_str())['model']['merges']
  assert '</s>' in [''.join(pair) for pair in merges]
  found = text.Tokenizer.from_json(made.to_str())
  ids = found.encode('a </s> b </s>x')
  assert not set(ids.tolist()) & set(found.special_ids)
  assert found.decode(ids) == 'a</s>b</s>x'
