"""Any run of shards, filled on its own, is what it is when all are."""

import dataclasses
import os

import pytest

from robertax.config import DataConfig, TokenizerConfig
from robertax.corpus import tokens, workers
from robertax.corpus.blocks import read_blocks, shards_of
from robertax.corpus.documents import Corpus
from robertax.corpus.preparation import plan


@pytest.fixture
def folder(tmp_path, documents):
  """A corpus of three files, which opens few of them."""
  text = tmp_path / 'text'
  text.mkdir()
  for i in range(3):
    (text / f'{i}.txt').write_text('\n\n'.join(documents(40, seed=i)))
  return text


@pytest.fixture
def job(folder, tmp_path, tokenizer_path, small_blocks):
  os.makedirs(tmp_path / 'store')
  found = plan(
      DataConfig(corpora=str(folder), cache_dir=str(tmp_path / 'cache'),
                 sequence_length=32),
      TokenizerConfig(path=tokenizer_path), progress=False).jobs[0]
  return dataclasses.replace(found, store_folder=str(tmp_path / 'store'))


def test_reading_begins_at_a_mark(job, folder, monkeypatch):
  corpus, blocks = job.corpus, job.survey.blocks
  texts = list(corpus.documents())
  assert len(texts) == 120 and len(blocks) > 20
  assert {block.mark[0] for block in blocks} == {0, 1, 2}
  opened, real = [], Corpus._advance
  monkeypatch.setattr(Corpus, '_advance', lambda self, n: (
      opened.append(self.position), real(self, n)))
  sizes = [os.stat(path).st_size for path in corpus.files]
  for block in blocks:
    opened.clear()
    rest = corpus.documents(block.mark)
    ((_, found),) = read_blocks(rest, [block], block.start, to_the_end=False)
    assert found == texts[block.start:block.stop]
    assert min(opened) == sum(sizes[:block.mark[0]])


def test_shards_are_the_same_alone_and_together(job, tmp_path):
  shards = job.shards()
  assert len(shards) > 8
  workers.fill_tokens(job, shards, 1, False)
  alone = dataclasses.replace(job, store_folder=str(tmp_path / 'alone'))
  os.makedirs(tmp_path / 'alone')
  for some in ([shards[3]], [shards[5], shards[7]], [shards[-1]], shards[:2]):
    workers.fill_tokens(alone, some, 2, False)
    for shard in some:
      with (open(job.store.path(shard), 'rb') as a,
            open(alone.store.path(shard), 'rb') as b):
        assert a.read() == b.read()
      assert alone.store.places(shard)
  assert alone.store.places(shards[4]) is None


def test_the_store_is_the_text(job, tokenizer):
  shards = job.shards()
  workers.fill_tokens(job, shards, 1, False)
  said = [' '.join(tokenizer.decode(ids) for ids in document)
          for shard in shards for place in job.store.places(shard)
          for document in tokens.read_block(place).nested()]
  assert said == [' '.join(text.split()) for text in job.corpus.documents()]


def test_other_blocks_are_not_taken_for_these(job):
  workers.fill_tokens(job, job.shards(), 1, False)
  blocks = [dataclasses.replace(b, chars=b.chars + 1)
            for b in job.survey.blocks]
  assert job.store.places(job.shards()[0])
  assert job.store.places(shards_of(blocks)[0]) is None
