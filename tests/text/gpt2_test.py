import json
import os
import pathlib
import re

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from benchmarks import fake_remote
from robertax import text
from robertax.errors import InputError
from robertax.text.pieces import BYTE_OF

LETTERS = {byte: letter for letter, byte in BYTE_OF.items()}


def write(folder, merges=('h e', 'l l', 'he ll'), drop='', extra=''):
  """A small vocabulary of GPT-2's kind; dict.txt lists it backwards."""
  folder = pathlib.Path(folder)
  pieces = [*BYTE_OF, 'he', 'll', 'hell', '<|endoftext|>']
  encoder = {piece: i for i, piece in enumerate(pieces)}
  (folder / 'encoder.json').write_text(json.dumps(encoder))
  (folder / 'vocab.bpe').write_text(
      '#version: 0.2\n' + ''.join(f'{m}\n' for m in merges))
  words = [str(i) for i in range(len(pieces))][::-1] + ['madeupword0000']
  (folder / 'dict.txt').write_text(
      ''.join(f'{w} {1}\n' for w in words if w != drop) + extra)
  return len(pieces)


def test_ids_follow_the_dictionary(tmp_path):
  n = write(tmp_path)
  tokenizer = text.load(tmp_path)
  assert tokenizer.vocab_size == 4 + n + 1 + 1
  # <|endoftext|> is first in dict.txt, then 'hell'.
  assert tokenizer.encode('hell').tolist() == [5]
  assert tokenizer.token_text(4 + n) == 'madeupword0000'
  assert 4 not in tokenizer.encode('<|endoftext|>')


def test_they_are_read_from_a_bucket_too(tmp_path):
  (tmp_path / 'there').mkdir()
  write(tmp_path / 'there')
  fake_remote.mount(tmp_path)
  found = text.load('fake://there')
  assert found.fingerprint == text.load(tmp_path / 'there').fingerprint
  (tmp_path / 'there' / 'dict.txt').unlink()
  with pytest.raises(InputError, match='fake://there: it has no dict.txt'):
    text.load('fake://there')


@pytest.mark.parametrize('changes, says', [
    (dict(drop='7'), "has 259 of the 260 pieces"),
    (dict(extra='9999 1\n'), "line 262: '9999' is not an id"),
    (dict(extra='nonsense\n'), 'line 262: expected'),
    (dict(extra='7 1\n'), 'twice'),
    (dict(merges=['h e', 'l l']), 'missing, such as'),
    (dict(merges=['h e', 'l l', 'h ell x']), 'line 4: expected two pieces'),
    (dict(merges=['h e', 'l l', 'x y']), 'line 4: expected two pieces'),
])
def test_files_that_do_not_fit_are_named(tmp_path, changes, says):
  write(tmp_path, **changes)
  with pytest.raises(InputError, match=says):
    text.load(tmp_path)


@pytest.mark.parametrize('name', ['encoder.json', 'vocab.bpe', 'dict.txt'])
def test_missing_and_damaged_files_are_named(tmp_path, name):
  write(tmp_path)
  (tmp_path / name).write_bytes(b'\xff\xff')
  with pytest.raises(InputError, match=f'{name}: not UTF-8'):
    text.load(tmp_path)
  (tmp_path / name).unlink()
  with pytest.raises(InputError, match=f'it has no {name}'):
    text.load(tmp_path)


@pytest.fixture(scope='module')
def folder():
  """Where the real files lie."""
  path = os.path.join(os.environ.get('ROBERTAX_TEST_DATA', ''), 'bpe')
  if not os.path.exists(os.path.join(path, 'dict.txt')):
    pytest.skip('ROBERTAX_TEST_DATA names no folder with bpe/: the real '
                'vocabulary is not tested')
  return path


@pytest.fixture(scope='module')
def roberta(folder):
  return text.load(folder)


@pytest.mark.parametrize('sample, ids', [
    # fairseq examples/roberta/README.md
    ('Hello world!', [31414, 232, 328]),
    # transformers docs, model_doc/roberta
    ('Hello world', [31414, 232]),
    (' Hello world', [20920, 232]),
    # transformers tests/models/roberta/test_modeling_roberta.py; its text,
    # less a number, stands in test_tokenization_roberta.py
    ('Hello world! cécé herlolip',
     [31414, 232, 328, 740, 1140, 12695, 69, 46078, 1588]),
])
def test_robertas_ids(roberta, sample, ids):
  assert roberta.encode(sample).tolist() == ids


def test_robertas_size(roberta):
  assert (roberta.vocab_size, roberta.mask_id) == (50265, 50264)
  assert [roberta.token_text(i) for i in range(50261, 50264)] == [
      'madeupword0000', 'madeupword0001', 'madeupword0002']


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=['Cs'])))
def test_robertas_text_round_trips(roberta, sample):
  assert roberta.decode(roberta.encode(sample)) == sample


@pytest.fixture(scope='module')
def plain_bpe(folder):
  """GPT-2's algorithm in plain Python (openai/gpt-2 src/encoder.py), ASCII."""
  folder = pathlib.Path(folder)
  encoder = json.loads((folder / 'encoder.json').read_text())
  ranks = {tuple(line.split()): i for i, line in enumerate(
      (folder / 'vocab.bpe').read_text(encoding='utf-8').split('\n')[1:])}
  place = {line.split()[0]: i + 4 for i, line in enumerate(
      (folder / 'dict.txt').read_text().splitlines())}
  words = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+"
                     r'| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+')

  def encode(sample):
    ids = []
    for word in words.findall(sample):
      parts = [LETTERS[b] for b in word.encode()]
      while len(parts) > 1:
        rank, i = min((ranks.get(pair, 1e9), i) for i, pair in
                      enumerate(zip(parts, parts[1:])))
        if rank == 1e9:
          break
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
      ids += [place[str(encoder[part])] for part in parts]
    return ids

  return encode


@settings(deadline=None, max_examples=200)
@given(st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    st.lists(st.sampled_from(
        "The the quick don't I'll 1999 internationalization  \n ... -- GPU's"
        .split(' '))).map(' '.join)))
def test_robertas_ids_are_gpt2s(roberta, plain_bpe, sample):
  assert roberta.encode(sample).tolist() == plain_bpe(sample)
