"""A small tokenizer, corpora of known text, and the words to prepare them."""

import random

import pytest

from robertax import text
from robertax.config import DataConfig, TokenizerConfig

WORDS = ('the a cat dog sat ran on under mat tree and then it was not seen '
         'again by any of them').split()


def make_documents(number, seed=0, sentences=12):
  """Texts of some lines of some sentences."""
  rng = random.Random(seed)

  def sentence():
    words = rng.choices(WORDS, k=rng.randint(2, 14))
    return ' '.join(words).capitalize() + rng.choice('...?!')

  return ['\n'.join(
      ' '.join(sentence() for _ in range(rng.randint(1, 3)))
      for _ in range(rng.randint(1, sentences))) for _ in range(number)]


@pytest.fixture(name='documents')
def documents_fixture():
  return make_documents


@pytest.fixture(scope='session')
def tokenizer():
  return text.train_byte_bpe(make_documents(50), 400)


@pytest.fixture(scope='session')
def tokenizer_path(tokenizer, tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.json'
  tokenizer.save(path)
  return str(path)


@pytest.fixture
def small_blocks(monkeypatch):
  """Blocks of a few documents and shards of two blocks."""
  from robertax.corpus import blocks
  monkeypatch.setattr(blocks, 'MIN_CHARS', 1500)
  monkeypatch.setattr(blocks, 'MIN_DOCUMENTS', 2)
  monkeypatch.setattr(blocks, 'BLOCKS_PER_SHARD', 2)


@pytest.fixture
def prepare(tmp_path, tokenizer_path):
  """prepare(corpora, cache='name', ...) with the small tokenizer, quietly."""
  from robertax import corpus

  def run(corpora, cache='cache', tokenizer_config=None, memmap=False,
          vocab_size=0, **values):
    config = DataConfig(**{
        **dict(corpora=str(corpora), cache_dir=str(tmp_path / cache),
               sequence_length=32, workers=1), **values})
    return corpus.prepare(
        config, tokenizer_config or TokenizerConfig(path=tokenizer_path),
        memmap=memmap, vocab_size=vocab_size, progress=False)

  return run


@pytest.fixture
def txt(tmp_path, documents):
  """A .txt corpus of 120 documents."""
  path = tmp_path / 'animals.txt'
  path.write_text('\n\n'.join(documents(120)))
  return path
