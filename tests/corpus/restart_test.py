"""Preparations that are killed go on, and write what one left alone writes."""

import glob
import hashlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from robertax.corpus import blocks
from robertax.corpus.tokens import TokenWriter
from robertax.text import Tokenizer

# A preparation with blocks and shards so small that there are many, and slow
# enough to be killed in each of its stages.
SCRIPT = '''
import sys, time
sys.path[:] = {path!r}
from robertax import corpus
from robertax.corpus import blocks, shards, tokens
from robertax.config import DataConfig, TokenizerConfig
blocks.MIN_CHARS, blocks.MIN_DOCUMENTS, blocks.BLOCKS_PER_SHARD = 1500, 2, 2
for kind in (shards.ShardFiles, tokens.TokenWriter):
  def write(self, *args, real=kind.write):
    time.sleep(.01)
    real(self, *args)
  kind.write = write
print('ready', flush=True)
corpus.prepare(
    DataConfig(corpora={corpora!r}, cache_dir={cache!r}, sequence_length=32,
               format='sentence_pair', pair_duplicates=2, workers={workers},
               encoder='tokenizers'),
    TokenizerConfig(path={tokenizer!r}), memmap=True, progress=False)
'''


def files(cache):
  """Every file of the finished records: {name: hash}; the manifest apart."""
  return {os.path.relpath(path, cache): hashlib.sha256(
      open(path, 'rb').read()).hexdigest()
          for path in glob.glob(f'{cache}/records/*/*')
          if not path.endswith('manifest.json')}


@pytest.mark.parametrize('kills', [
    3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, txt, tokenizer_path, kills):
  def start(cache, workers):
    return subprocess.Popen(
        [sys.executable, '-c', SCRIPT.format(
            path=sys.path, corpora=str(txt), cache=str(tmp_path / cache),
            workers=workers, tokenizer=tokenizer_path)],
        stdout=subprocess.PIPE)

  with start('alone', 1) as process:
    process.stdout.readline()
    began = time.monotonic()
    assert process.wait(60) == 0
    whole = time.monotonic() - began
  rng, killed = random.Random(kills), 0
  seen = set()
  for number in range(kills):
    with start('killed', 1 + number % 2) as process:
      process.stdout.readline()
      time.sleep(rng.uniform(0, min(whole, 2.5 * whole / kills)))
      process.send_signal(signal.SIGKILL)
      killed += process.wait(60) == -signal.SIGKILL
    seen.add(len(glob.glob(f'{tmp_path}/killed/*/*/*-of-*.json')))
  with start('killed', 2) as process:
    assert process.wait(60) == 0
  assert killed and len(seen) > 1
  assert files(f'{tmp_path}/killed') == files(f'{tmp_path}/alone')


@pytest.fixture
def calls(monkeypatch):
  """The texts that were tokenized, batch by batch."""
  found, real = [], Tokenizer.encode_flat

  def counted(self, texts):
    found.append(texts)
    return real(self, texts)

  monkeypatch.setattr(Tokenizer, 'encode_flat', counted)
  return found


def test_another_format_or_length_tokenizes_nothing(
    prepare, txt, small_blocks, calls, monkeypatch):
  prepare(txt)
  sentences = sum(map(len, calls))
  assert sentences > 1000
  monkeypatch.setattr(blocks.Survey, 'add', None)  # Nor is it read again.
  for change in (dict(sequence_length=16), dict(format='doc_sentences'),
                 dict(format='segment_pair', pair_duplicates=3)):
    prepare(txt, **change)
  assert sum(map(len, calls)) == sentences


def test_without_keeping_it_there_is_no_store(prepare, txt, tmp_path, calls):
  prepare(txt, keep_tokens=False)
  assert not glob.glob(f'{tmp_path}/cache/tokens/*/*.tokens')
  before = len(calls)
  prepare(txt, sequence_length=16, keep_tokens=False)
  assert len(calls) > before


def test_a_restart_tokenizes_only_what_is_missing(
    prepare, txt, small_blocks, calls, monkeypatch):
  prepare(txt, 'whole')
  all_of_it = sum(map(len, calls))
  calls.clear()
  with monkeypatch.context() as patch:
    patch.setattr(TokenWriter, 'close', _fail_at(4))
    with pytest.raises(KeyboardInterrupt):
      prepare(txt)
  first = sum(map(len, calls))
  prepare(txt)
  assert 0 < first < all_of_it
  # A shard is 2 blocks; 3 of them were finished, the fourth is made again.
  assert all_of_it < sum(map(len, calls)) < all_of_it + first
  (a,), (b,) = (prepare(txt, c).manifests for c in ('cache', 'whole'))
  assert a.checksums == b.checksums and a.counts == b.counts


def _fail_at(number):
  real, calls = TokenWriter.close, []

  def close(self, **seconds):
    calls.append(1)
    if len(calls) == number:
      raise KeyboardInterrupt
    real(self, **seconds)

  return close
