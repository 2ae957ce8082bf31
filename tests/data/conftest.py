"""Small corpora on disk, in both forms, for the tests of this room."""

import os

import numpy as np
import pytest

from robertax.config import DataConfig
from robertax.corpus import records
from robertax.corpus.records import Manifest, SplitCounts
from robertax.corpus.shards import ArraysWriter
from robertax.data.masking import Masking

try:
  # Else the first batches of backend 'tf' would be NumPy's (data.pipeline).
  import tensorflow  # noqa: F401
except ImportError:
  pass

VOCAB_SIZE = 1000


def random_rows(num_records, length, slots=1, seed=0):
  """[(ids, lengths)]: most rows full, some short."""
  rng = np.random.default_rng(seed)
  rows = []
  for _ in range(num_records):
    size = length if rng.random() < 0.6 else rng.integers(slots, length + 1)
    cuts = rng.choice(np.arange(1, size), rng.integers(
        0, min(slots, size)), replace=False) if slots > 1 else []
    lengths = np.diff([0, *np.sort(cuts), size]).astype(np.int32)
    ids = rng.integers(4, VOCAB_SIZE - 1, size).astype(np.uint16)
    starts = np.cumsum(lengths) - lengths
    ids[starts] = 0
    ids[starts + lengths - 1] = 2
    rows.append((ids, lengths))
  return rows


def write_corpus(folder, rows, *, length, slots=1, split='train', shards=3,
                 **changes):
  """Writes `rows` as array_record shards and memory-mapped."""
  os.makedirs(folder, exist_ok=True)
  parts = np.array_split(np.arange(len(rows)), shards)
  mapped = ArraysWriter(folder, split, 'uint16')
  for index, part in enumerate(parts):
    shard = records.ShardWriter(
        records.shard_path(folder, split, index, shards))
    for number in part:
      ids, lengths = rows[number]
      row = records.RecordRow(ids, lengths,
                              np.full(len(lengths), 3 * number, np.int32))
      shard.write(records.encode_record(row))
      mapped.write(row)
    shard.close()
  mapped.close()
  info = SplitCounts(num_records=len(rows),
                     num_examples=sum(len(x[1]) for x in rows),
                     num_tokens=sum(len(x[0]) for x in rows),
                     shard_lengths=tuple(len(p) for p in parts))
  manifest = Manifest(**(dict(
      folder=str(folder), version=records.VERSION,
      corpus=os.path.basename(folder), format='full_sentences',
      sentences='prose', sequence_length=length, max_examples_per_row=slots,
      dtype='uint16', vocab_size=VOCAB_SIZE, tokenizer='t0',
      forms=('array_record', 'memmap'), splits={split: info}, counts={},
      seconds=0.0) | changes))
  manifest.write()
  return manifest


def make_law(**changes):
  return Masking(**(dict(
      mask_rate=0.15, random_rate=0.1, keep_rate=0.1, specials='fairseq',
      vocab_size=VOCAB_SIZE, mask_id=VOCAB_SIZE - 1,
      special_ids=(0, 1, 2, 3, VOCAB_SIZE - 1)) | changes))


def make_config(**changes):
  return DataConfig(**(dict(
      sequence_length=32, batch_size=8, shuffle_block=4, shuffle_window=3,
      backend='numpy') | changes))


@pytest.fixture(name='law')
def law_fixture():
  return make_law


@pytest.fixture(name='config')
def config_fixture():
  return make_config


@pytest.fixture(name='rows')
def rows_fixture():
  return random_rows


@pytest.fixture(name='write')
def write_fixture():
  return write_corpus


@pytest.fixture(scope='session')
def two_corpora(tmp_path_factory):
  """Manifests of two corpora with one example a row, 32 tokens."""
  folder = tmp_path_factory.mktemp('two')
  return [write_corpus(folder / 'a', random_rows(41, 32, seed=1), length=32),
          write_corpus(folder / 'b', random_rows(30, 32, seed=2), length=32,
                       shards=2)]


@pytest.fixture(scope='session')
def packed_corpus(tmp_path_factory):
  """Manifests of one corpus with up to 4 examples a row of 64 tokens."""
  folder = tmp_path_factory.mktemp('packed')
  return [write_corpus(folder / 'p', random_rows(50, 64, 4, seed=3), length=64,
                       slots=4)]
