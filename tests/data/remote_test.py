"""Records in a storage: the rows of the same records here, bit for bit."""

import contextlib
import dataclasses
import os
import shutil

import numpy as np
import pytest

from benchmarks import fake_remote
from robertax.corpus import shards
from robertax.corpus.records import Manifest
from robertax.data import pipeline as pipeline_lib
from robertax.data.pipeline import Pipeline, eval_batches, unigram_counts
from robertax.data.remote import ChunkCache, Lookahead, Remote, RowRange
from robertax.data.source import open_source
from robertax.errors import InputError


@pytest.fixture(name='far')
def far_fixture(tmp_path, config):
  """Manifests of copies of these in a storage; and a config, and storage."""
  caches = []

  def far(manifests, **changes):
    storage = fake_remote.mount(tmp_path)
    remote = []
    for manifest in manifests:
      name = os.path.basename(manifest.folder)
      shutil.copytree(manifest.folder, tmp_path / 'bucket' / name,
                      dirs_exist_ok=True)
      remote.append(dataclasses.replace(
          manifest, folder=f'fake://bucket/{name}'))
    settings = config(remote_cache_dir=str(tmp_path / 'cache'),
                      **{'remote_cache_gib': 1e-3, **changes})
    caches.append(ChunkCache.of(settings))
    storage.bytes_read = 0
    return remote, settings, storage
  yield far
  for cache in caches:
    cache.close()


def equal(a, b):
  assert len(a) == len(b)
  for left, right in zip(a, b):
    if left is not None or right is not None:
      np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize('backend', ['tf', 'numpy'])
def test_gathers_the_same_rows(two_corpora, packed_corpus, far, backend):
  for manifests in (two_corpora, packed_corpus):
    remote, settings, _ = far(manifests)
    here = open_source(manifests, 'train', 'numpy')
    there = open_source(remote, 'train', backend, config=settings)
    numbers = np.random.default_rng(0).integers(0, here.num_records, 200)
    equal(there.gather(numbers), here.gather(numbers))
    assert there.gather(np.array([], np.int64)).ids.shape[0] == 0


@pytest.mark.parametrize('changes', [
    {}, {'mixture': '3,1'}, {'shuffle_lanes': 4}, {'backend': 'tf'},
    {'shuffle_lanes': 2, 'mixture': '1,2', 'masks': 'static'}])
def test_batches_are_the_local_ones(two_corpora, far, law, changes):
  remote, settings, _ = far(two_corpora, **changes)
  here = Pipeline(open_source(two_corpora, 'train', 'numpy'),
                  dataclasses.replace(settings, backend='numpy'), law(), seed=3)
  there = Pipeline(open_source(remote, 'train', settings.backend,
                               config=settings), settings, law(), seed=3)
  batches = there.batches(5)
  for step in range(5, 25):
    want, got = here.make_batch(step), next(batches)
    assert want.keys() == got.keys()
    for name in want:
      np.testing.assert_array_equal(got[name], want[name])
  batches.close()
  # And any past batch, without a plan.
  for name, value in here.make_batch(2).items():
    np.testing.assert_array_equal(there.make_batch(2)[name], value)


def used(manifests):
  """Bytes that the training records of these consist of, without heads."""
  return sum(os.stat(shards.array_path(m.folder, 'train', name)).st_size
             - (0 if name == 'ids' else 128)
             for m in manifests for name in shards.MappedArrays._fields)


def on_disk(cache):
  size = 0
  for path in cache.glob('*/*'):
    with contextlib.suppress(FileNotFoundError):  # Gone meanwhile.
      size += path.stat().st_size
  return size


@pytest.mark.parametrize('lanes', [1, 2])
def test_an_epoch_reads_each_byte_once(tmp_path, rows, write, far, law, lanes):
  manifest = write(tmp_path / 'long', rows(400, 32, seed=4), length=32)
  remote, settings, storage = far(
      [manifest], shuffle_block=16, shuffle_window=4, shuffle_lanes=lanes,
      remote_cache_gib=24 * 1024 * lanes / 2**30)
  source = open_source(remote, 'train', 'numpy', config=settings)
  storage.bytes_read = 0
  batches = Pipeline(source, settings, law(), seed=0).batches()
  peak = 0
  for _ in range(50):
    next(batches)
    peak = max(peak, on_disk(tmp_path / 'cache'))
  batches.close()
  cache = ChunkCache.of(settings)
  assert cache.peak <= cache.limit and 0 < peak <= cache.limit
  # Each chunk has one more start than rows; a second epoch may have begun.
  extra = 16 * 26 * lanes + 8 * 16 * 100 * lanes
  assert used([manifest]) <= storage.bytes_read <= used([manifest]) + extra


def test_hosts_with_lanes_read_what_they_use(tmp_path, rows, write, far, law):
  manifest = write(tmp_path / 'long', rows(400, 32, seed=4), length=32)
  read = {}
  for lanes in (1, 4):
    read[lanes] = 0
    for host in range(4):
      shutil.rmtree(tmp_path / 'cache', ignore_errors=True)
      remote, settings, storage = far(
          [manifest], shuffle_block=10, shuffle_window=5, shuffle_lanes=lanes)
      source = open_source(remote, 'train', 'numpy', config=settings)
      storage.bytes_read = 0
      mine = Pipeline(source, settings, law(), seed=0,
                      rows=np.arange(2 * host, 2 * host + 2))
      for step in range(50):
        mine.make_batch(step)
      read[lanes] += storage.bytes_read
      ChunkCache.of(settings).close()
  assert read[4] <= 1.1 * used([manifest])
  assert read[1] > 3 * used([manifest])


def test_a_second_epoch_reads_nothing_if_all_fits(two_corpora, far, law):
  remote, settings, storage = far(two_corpora)
  source = open_source(remote, 'train', 'numpy', config=settings)
  its = Pipeline(source, settings, law(), seed=0)
  for step in range(9):
    its.make_batch(step)
  read = storage.bytes_read
  for step in range(9, 30):
    its.make_batch(step)
  assert storage.bytes_read == read


def test_evaluation_and_unigram_counts(two_corpora, packed_corpus, far, law):
  for manifests in (two_corpora[:1], packed_corpus):
    remote, settings, _ = far(manifests)
    here = open_source(manifests, 'train', 'numpy')
    there = open_source(remote, 'train', 'numpy', config=settings)
    for most in (0, 7):
      got, want = (list(eval_batches(source, settings, law(), name='a',
                                     max_examples=most))
                   for source in (there, here))
      assert len(got) == len(want)
      for a, b in zip(got, want):
        for name in b:
          np.testing.assert_array_equal(a[name], b[name])
      np.testing.assert_array_equal(unigram_counts(there, 1000, most),
                                    unigram_counts(here, 1000, most))


def test_unigram_runs_are_spread_and_few_chunks(tmp_path, rows, write, far):
  manifest = write(tmp_path / 'long', rows(3000, 8, seed=4), length=8)
  remote, settings, storage = far([manifest])
  source = open_source(remote, 'train', 'numpy', config=settings)
  before = storage.opens
  counts = unigram_counts(source, 1000, 640)
  assert storage.opens - before == 10 * 5
  tokens = counts.sum() / 640
  assert tokens == pytest.approx(manifest.splits['train'].num_tokens / 3000,
                                 rel=.1)


def test_missing_and_damaged(two_corpora, far, tmp_path, law, monkeypatch):
  monkeypatch.setattr('robertax.files._TRIES', 1)
  remote, settings, _ = far(two_corpora[:1])
  folder = tmp_path / 'bucket' / 'a'

  def opened():
    return open_source(remote, 'train', 'numpy', config=settings)

  ids = (folder / 'train.ids.bin').read_bytes()
  (folder / 'train.ids.bin').write_bytes(ids[:-2])
  with pytest.raises(InputError, match='fake://bucket/a/train.ids.bin: [0-9]+ '
                                       'numbers, its manifest says'):
    opened()
  (folder / 'train.ids.bin').write_bytes(ids)
  source = opened()
  (folder / 'train.ids.bin').write_bytes(ids[:len(ids) // 2])
  batches = Pipeline(source, settings, law(), seed=0).batches()
  with pytest.raises(InputError, match='cannot read .*train.ids.bin'):
    for _ in range(9):
      next(batches)
  batches.close()
  (folder / 'train.ids.bin').write_bytes(ids)
  starts = folder / 'train.row_starts.npy'
  data = bytearray(starts.read_bytes())
  data[128 + 8 * 3] ^= 255
  starts.write_bytes(data)
  with pytest.raises(InputError, match='damaged'):
    open_source(remote, 'train', 'numpy', config=settings).gather(np.arange(9))
  (folder / 'train.lengths.npy').unlink()
  with pytest.raises(InputError, match='train.lengths.npy'):
    opened()


def test_records_without_the_mapped_form_are_refused(two_corpora, far):
  remote, settings, _ = far(two_corpora)
  bare = dataclasses.replace(remote[0], forms=('array_record',))
  with pytest.raises(InputError, match='prepare with --memmap'):
    open_source([bare], 'train', 'tf', config=settings)


def test_other_records_in_the_same_place_are_other_chunks(two_corpora, far):
  remote, settings, _ = far(two_corpora)
  cache = ChunkCache.of(settings)
  a = Remote(remote[0], 'train', cache)
  b = Remote(dataclasses.replace(remote[0], seconds=1.5), 'train', cache)
  assert a.chunk(RowRange(0, 4)).name != b.chunk(RowRange(0, 4)).name


def test_a_manifest_is_read_from_a_storage(two_corpora, far):
  remote, _, _ = far(two_corpora)
  assert Manifest.read('fake://bucket/a') == remote[0]
  with pytest.raises(InputError, match='no finished records here'):
    Manifest.read('fake://bucket/none')


def test_a_cache_that_holds_no_batch_is_named(two_corpora, far, law):
  remote, settings, _ = far(two_corpora, remote_cache_gib=1000 / 2**30)
  source = open_source(remote, 'train', 'numpy', config=settings)
  batches = Pipeline(source, settings, law(), seed=0).batches()
  with pytest.raises(InputError, match='data.remote_cache_gib'):
    for _ in range(9):
      next(batches)
  batches.close()


def test_looks_ahead_of_a_slow_reader(two_corpora, far, law):
  remote, settings, storage = far(two_corpora)
  source = open_source(remote, 'train', 'numpy', config=settings)
  its = Pipeline(source, settings, law(), seed=0)
  with source.lookahead(lambda step: its.locate(step)[1], its._order.chunks,
                        0) as ahead:
    cache = ChunkCache.of(settings)
    with cache.changed:
      assert cache.changed.wait_for(lambda: len(ahead._held) > 8, 20)
    for entry in [entry for _, held in list(ahead._held) for entry in held]:
      entry.arrays.result()
    opens = storage.opens
    for step in range(8):
      its.make_batch(step)
      ahead.passed(step)
    assert storage.opens == opens
  assert not cache._pinned


def test_a_local_source_has_no_thread(two_corpora):
  source = open_source(two_corpora, 'train', 'numpy')
  with source.lookahead(None, None, 0) as ahead:
    assert not ahead._thread.is_alive()
    ahead.passed(3)
  assert isinstance(ahead, Lookahead) and pipeline_lib.GRID == 64
