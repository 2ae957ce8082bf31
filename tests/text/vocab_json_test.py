"""vocab.json and merges.txt: Hugging Face's two files of a byte-level BPE."""

import json

import pytest

from benchmarks import fake_remote
from robertax import text
from robertax.errors import InputError

LINES = ['the cat and the hat', 'a cat is that cat', 'Zürich naïve']


@pytest.fixture
def folder(tmp_path):
  """The files of a trained tokenizer, without its tokenizer.json."""
  trained = text.train_byte_bpe(LINES * 3, 280)
  model = json.loads(trained.to_json())['model']
  (tmp_path / 'vocab.json').write_text(json.dumps(model['vocab']))
  (tmp_path / 'merges.txt').write_text('\n'.join(
      ['#version: 0.2', *(pair if isinstance(pair, str) else ' '.join(pair)
                          for pair in model['merges'])]), 'utf-8')
  return tmp_path, trained


def test_the_same_ids(folder):
  path, trained = folder
  found = text.load(str(path))
  assert found.fingerprint == trained.fingerprint
  for line in LINES:
    assert found.encode(line).tolist() == trained.encode(line).tolist()


def test_they_are_read_from_a_bucket_too(folder):
  path, trained = folder
  fake_remote.mount(path.parent)
  (path / 'added_tokens.json').write_text(json.dumps(
      {'cats': trained.vocab_size}))
  found = text.load(f'fake://{path.name}')
  assert found.fingerprint == text.load(str(path)).fingerprint
  assert found.vocab_size == trained.vocab_size + 1


def test_added_tokens(folder):
  path, trained = folder
  (path / 'added_tokens.json').write_text(json.dumps(
      {'Zq-9': trained.vocab_size + 1, 'cats': trained.vocab_size,
       '<mask>': trained.mask_id}))
  found = text.load(str(path))
  assert found.vocab_size == trained.vocab_size + 2
  assert found.encode('cats Zq-9').tolist() == [
      trained.vocab_size, *trained.encode(' '), trained.vocab_size + 1]
  assert found.mask_id == trained.mask_id
  (path / 'added_tokens.json').write_text('{"Zq-9": 999}')
  with pytest.raises(InputError, match='do not follow'):
    text.load(str(path))


@pytest.mark.parametrize('name, content, words', [
    ('vocab.json', '{"a": ', 'not JSON'), ('vocab.json', '[]', 'expected'),
    ('vocab.json', '{"a": "b"}', 'expected an object'),
    ('merges.txt', 'x y\n', 'two pieces whose union'),
    ('merges.txt', '', 'are missing')])
def test_damaged_files(folder, name, content, words):
  path, _ = folder
  (path / name).write_text(content)
  with pytest.raises(InputError, match=words):
    text.load(str(path))
