import errno
import json
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from robertax import text
from robertax.errors import InputError
from robertax.text.pieces import BYTE_OF

ODD = ['', ' ', '\n\n\t', 'Hello world!', ' leading', 'trailing  ', '\x00\x07',
       '🙂👩‍👩‍👧', '\u0301\u0302 alone', 'née', '中文', '\ufeff', '\u2028',
       '<mask>', 'a<s>b</s><pad><unk>', '\U0010ffff']


@pytest.fixture(scope='module')
def tokenizer():
  return text.train_byte_bpe(
      ['the cat sat on the mat', 'the <mask> and the <s> </s>'] * 20, 300)


def state_of(tokenizer):
  return json.loads(tokenizer.to_json())


def test_layout(tokenizer):
  n = tokenizer.vocab_size
  assert (tokenizer.bos_id, tokenizer.pad_id, tokenizer.eos_id,
          tokenizer.unk_id, tokenizer.mask_id) == (0, 1, 2, 3, n - 1)
  assert tokenizer.special_ids == (0, 1, 2, 3, n - 1)
  assert [tokenizer.token_text(i) for i in tokenizer.special_ids] == [
      '<s>', '<pad>', '</s>', '<unk>', '<mask>']
  assert tokenizer.dtype is np.uint16


@pytest.mark.parametrize('sample', ODD)
def test_odd_text_round_trips(tokenizer, sample):
  assert tokenizer.decode(tokenizer.encode(sample)) == sample


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=['Cs'])), max_size=5))
def test_every_text_round_trips_and_holds_no_special(tokenizer, samples):
  encoded = tokenizer.encode_batch(samples)
  assert [tokenizer.decode(ids) for ids in encoded] == samples
  for ids in encoded:
    assert ids.dtype == tokenizer.dtype
    assert not np.isin(ids, tokenizer.special_ids).any()


def test_a_batch_is_its_texts_one_by_one(tokenizer):
  for sample, ids in zip(ODD, tokenizer.encode_batch(ODD)):
    assert ids.tolist() == tokenizer.encode(sample).tolist()


def test_mask_is_special_only_on_request(tokenizer):
  sample = 'the  <mask> sat <mask>'
  assert tokenizer.mask_id not in tokenizer.encode(sample)
  ids = tokenizer.encode(sample, allow_mask=True).tolist()
  # The space before a mask goes, the one behind it stays.
  assert ids == [*tokenizer.encode('the'), tokenizer.mask_id,
                 *tokenizer.encode(' sat'), tokenizer.mask_id]


def test_token_text_shows_bytes(tokenizer):
  texts = [tokenizer.token_text(i) for i in range(4, tokenizer.vocab_size - 1)]
  assert len(set(texts)) == len(texts)
  assert '\\xff' in texts and 'a' in texts


def test_token_bytes_are_the_text(tokenizer):
  for sample in ODD:
    ids = tokenizer.encode(sample)
    assert b''.join(map(tokenizer.token_bytes, ids)) == sample.encode()
  assert tokenizer.token_bytes(tokenizer.mask_id) == b'<mask>'


def test_lone_surrogate_is_named(tokenizer):
  with pytest.raises(InputError, match='surrogate'):
    tokenizer.encode('\ud800')


def test_saved_is_loaded(tokenizer, tmp_path):
  path = tmp_path / 'tokenizer.json'
  tokenizer.save(path)
  assert list(tmp_path.iterdir()) == [path]
  for given_path in (path, tmp_path):
    loaded = text.load(given_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.to_json() == tokenizer.to_json()
    assert loaded.encode('the cat').tolist() == (
        tokenizer.encode('the cat').tolist())


def test_a_full_disk_leaves_nothing_half_written(
    tokenizer, tmp_path, monkeypatch):
  def full(*_):
    raise OSError(errno.ENOSPC, 'full')

  monkeypatch.setattr('os.replace', full)
  with pytest.raises(InputError, match='disk is full'):
    tokenizer.save(tmp_path / 'tokenizer.json')
  assert not list(tmp_path.iterdir())


def test_fingerprint_tells_tokenizers_apart(tokenizer):
  other = text.train_byte_bpe(['another text altogether'] * 9, 300)
  assert other.fingerprint != tokenizer.fingerprint


def test_saved_has_robertas_post_processing(tokenizer, tmp_path):
  """What Hugging Face adds: <s> a </s></s> b </s>, and a mask eats its space.

  The library itself is asked, as PreTrainedTokenizerFast(tokenizer_file=) does.
  """
  import tokenizers
  core = tokenizers.Tokenizer.from_str(tokenizer.to_json())
  a, b = tokenizer.encode('cat').tolist(), tokenizer.encode('mat').tolist()
  assert core.encode('cat').ids == [0, *a, 2]
  assert core.encode('cat', 'mat').ids == [0, *a, 2, 2, *b, 2]
  assert core.encode('cat <mask>').ids == [0, *a, tokenizer.mask_id, 2]


def change(state, **model):
  return {**state, 'model': {**state['model'], **model}}


def without(vocab, *tokens):
  return {t: i for i, t in enumerate(t for t in vocab if t not in tokens)}


@pytest.mark.parametrize('spoil, says', [
    (lambda s: [], 'no "model"'),
    (lambda s: {}, 'no "model"'),
    (lambda s: change(s, type='Markov'), 'its model is Markov'),
    (lambda s: change(s, type='Unigram'), 'no "vocab"'),
    (lambda s: change(s, merges=None), 'merges'),
    (lambda s: change(s, vocab={}), 'vocab'),
    (lambda s: change(s, merges=[['q', 'zz']]), 'not a tokenizer'),
    (lambda s: change({**s, 'added_tokens': []}, vocab=without(
        s['model']['vocab'], '<mask>')), '<mask> is missing'),
    (lambda s: change(s, vocab={t: i * 2 for t, i in
                                s['model']['vocab'].items()}), 'each once'),
    (lambda s: change(s, vocab={**s['model']['vocab'], '<s>': '0'}),
     'each once'),
    (lambda s: {**s, 'added_tokens': [5]}, 'added_tokens'),
    (lambda s: {**s, 'added_tokens': 'x'}, 'added_tokens'),
])
def test_wrong_files_are_named(tokenizer, tmp_path, spoil, says):
  path = tmp_path / 'tokenizer.json'
  path.write_text(json.dumps(spoil(state_of(tokenizer))))
  with pytest.raises(InputError, match=says) as e:
    text.load(path)
  assert str(path) in str(e.value)


@pytest.mark.parametrize('name, content, says', [
    ('absent.json', None, 'does not exist'),
    ('t.json', 'not json', 'not JSON'),
    ('t.json', '[' * 100_000, 'not JSON'),
    ('t.json', b'\xff\xfe', 'not a tokenizer.json'),
])
def test_what_is_no_tokenizer_is_named(tmp_path, name, content, says):
  path = tmp_path / name
  if isinstance(content, bytes):
    path.write_bytes(content)
  elif content is not None:
    path.write_text(content)
  with pytest.raises(InputError, match=says) as e:
    text.load(path)
  assert str(path) in str(e.value)


def test_a_missing_byte_is_found(tokenizer, tmp_path):
  state = state_of(tokenizer)
  state['model'] |= {'vocab': without(state['model']['vocab'], 'Ġ'),
                     'merges': []}
  state['added_tokens'] = []
  found = text.Tokenizer.from_json(json.dumps(state), 'x')
  assert '1 of the 256 bytes' in found.notes[0]
  assert found.decode(found.encode('a b')) == 'ab'  # As the library has it.


def test_a_text_that_is_no_string_is_named(tokenizer):
  with pytest.raises(InputError, match='a text to encode is a list'):
    tokenizer.encode(['x'])


def test_byte_letters_are_a_bijection():
  assert sorted(BYTE_OF.values()) == list(range(256))
  assert BYTE_OF['Ġ'] == ord(' ') and BYTE_OF['a'] == ord('a')


def test_importing_is_light():
  code = ('import robertax.text, robertax.corpus, sys; '
          'print([m for m in ("jax", "tensorflow", "array_record", '
          '"tensorflow_datasets", "ml_collections") if m in sys.modules])')
  out = subprocess.run([sys.executable, '-c', code], capture_output=True,
                       text=True, check=True,
                       env={**__import__('os').environ,
                            'PYTHONPATH': ':'.join(sys.path)})
  assert out.stdout.strip() == '[]'


@pytest.mark.parametrize('kind', ['byte_bpe', 'wordpiece'])
def test_offsets_are_the_characters_of_each_piece(kind):
  lines = ['the cat sat on the mat. naïve — Île 中国'] * 20
  if kind == 'byte_bpe':
    tokenizer = text.train_byte_bpe(lines, 300)
  else:
    tokenizer = text.train_wordpiece(lambda: lines, 100)
  samples = ['the cat  sat', '', ' the', 'Île naïve\n\tcat 🙂', 'the mat.  ']
  found = tokenizer.encode_with_offsets(samples)
  assert [ids.tolist() for ids, _ in found] == [
      ids.tolist() for ids in tokenizer.encode_batch(samples)]
  for sample, (ids, offsets) in zip(samples, found):
    assert offsets.shape == (len(ids), 2) and offsets.dtype == np.int32
    for token, (start, end) in zip(ids, offsets):
      piece, whole = tokenizer.token_bytes(token), sample[start:end]
      if kind == 'byte_bpe':
        # Of a piece of some bytes of a character, the character.
        assert piece in (whole.encode(), b' ' + whole.encode()) or (
            piece.strip() in whole.encode() and len(whole) == 1)
      elif token != tokenizer.unk_id:
        plain = whole.lower().replace('ï', 'i').replace('î', 'i')
        assert piece.decode().strip() == plain
  starts = dict(zip(samples, (o[:, 0].tolist() for _, o in found)))
  if kind == 'byte_bpe':
    assert starts[' the'] == [1] and starts['the cat  sat'][-1] == 9


def test_offsets_of_a_lone_surrogate(tokenizer):
  with pytest.raises(InputError, match='surrogate'):
    tokenizer.encode_with_offsets(['\ud800'])


def test_added_tokens_are_found_before_pieces():
  tok = text.train_byte_bpe(['the cat sat'] * 3, 270)
  more = tok.with_added(['cat-9', 'ſ'])
  size = tok.vocab_size
  assert more.vocab_size == size + 2 and more.mask_id == tok.mask_id
  assert more.encode('the cat-9 ſ').tolist() == [
      *tok.encode('the'), *tok.encode(' '), size, *tok.encode(' '), size + 1]
  assert size not in more.encode('cat-99')
  assert more.decode(more.encode('the cat-9!')) == 'the cat-9!'
  assert more.random_ids[0] == tok.random_ids[0]
  again = text.Tokenizer.from_json(more.to_json())
  assert again.fingerprint == more.fingerprint != tok.fingerprint
  # A second time they come behind the first.
  assert more.with_added(['dog-1']).encode('dog-1').tolist() == [size + 2]


def test_a_mask_at_4_as_in_hugging_faces_recipe():
  """Their trainer gives its special tokens the first five ids."""
  tok = text.train_byte_bpe(['the cat sat'] * 3, 270)
  state = json.loads(tok.to_json())
  vocab = state['model']['vocab']
  moved = {piece: i + 1 if 4 <= i < tok.mask_id else i
           for piece, i in vocab.items()} | {'<mask>': 4}
  state['model']['vocab'] = moved
  for token in state['added_tokens']:
    token['id'] = moved[token['content']]
  found = text.Tokenizer.from_json(json.dumps(state))
  assert found.mask_id == 4 and found.random_ids[0] == 4
  assert found.encode('the <mask>sat', allow_mask=True).tolist() == [
      *(tok.encode('the') + 1), 4, *(tok.encode('sat') + 1)]
  assert found.decode(found.encode('the cat')) == 'the cat'
