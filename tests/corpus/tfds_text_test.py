"""A small data set of our own, built by TFDS, in both of its file formats."""

import os
import shutil

import numpy as np
import pytest

from robertax.corpus.documents import resolve
from robertax.errors import InputError

TEXTS = [f'text {i}\r\nof é' * 20 for i in range(200)] + [' \n']
TESTS = ['one', 'two', 'three']


@pytest.fixture(name='prepared', scope='module',
                params=['tfrecord', 'array_record'])
def prepared_fixture(request, tmp_path_factory):
  import tensorflow_datasets as tfds

  class SmallText(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Texts of our own."""
    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=n) for n in ('en', 'de')]

    def _info(self):
      return tfds.core.DatasetInfo(
          builder=self, features=tfds.features.FeaturesDict({
              'text': tfds.features.Text(), 'id': np.int32}))

    def _split_generators(self, manager):
      return {'train': self._generate_examples(TEXTS),
              'test': self._generate_examples(TESTS)}

    def _generate_examples(self, texts):
      for i, text in enumerate(texts):
        yield i, {'text': text, 'id': i}

  data_dir = tmp_path_factory.mktemp(request.param)
  for config in ('en', 'de'):
    SmallText(data_dir=data_dir, config=config,
              file_format=request.param).download_and_prepare(
                  download_config=tfds.download.DownloadConfig(num_shards=3))
  yield data_dir


def read(source, **options):
  (corpus,) = resolve(source, **options)
  return list(corpus.documents()), corpus


def expected():
  return sorted(t.replace('\r', '') for t in TEXTS[:-1])


def test_by_name(prepared, monkeypatch):
  documents, corpus = read('tfds:small_text/en', tfds_dir=str(prepared))
  assert sorted(documents) == expected()
  assert corpus.name == 'small_text'
  assert corpus.counts['empty_documents'] == 1
  assert corpus.position == corpus.size == sum(
      map(os.path.getsize, corpus.files)) > 0
  assert list(corpus.documents()) == documents
  positions = [corpus.position for _ in corpus.documents()]
  assert positions == sorted(positions) and positions[50] < corpus.size / 2


def test_two_parts_of_one_data_set(prepared):
  """As C4's: else they could not be told apart, nor renamed."""
  found = resolve('tfds:small_text/en,tfds:small_text/de',
                  tfds_dir=str(prepared))
  assert [corpus.name for corpus in found] == ['small_text-en', 'small_text-de']
  with pytest.raises(InputError, match="two corpora are called 'small_text-en"):
    resolve('tfds:small_text/en,tfds:small_text/en', tfds_dir=str(prepared))


def test_by_folder(prepared):
  folder = f'{prepared}/small_text/en/1.0.0'
  documents, corpus = read(f'tfds:{folder}')
  assert sorted(documents) == expected() and corpus.name == 'small_text'
  other, _ = read('tfds:small_text/en', tfds_dir=str(prepared))
  assert documents == other


def test_splits(prepared):
  source = 'tfds:small_text/en'
  assert sorted(read(source, tfds_dir=str(prepared), split='test')[0]
                ) == sorted(TESTS)
  whole = read(source, tfds_dir=str(prepared))[0]
  first = read(source, tfds_dir=str(prepared), split='train[:10%]')[0]
  assert first == whole[:len(first)] and 18 <= len(first) <= 21


@pytest.mark.parametrize('options, says', [
    (dict(split='dev'), "no split 'dev': it has test, train|train, test"),
    (dict(text_field='body'), "no feature 'body'; its features are"),
    (dict(text_field='id'), "the feature 'id' should be text"),
])
def test_wrong_keys_are_named(prepared, options, says):
  with pytest.raises(InputError, match=says):
    read('tfds:small_text/en', tfds_dir=str(prepared), **options)


def test_nothing_is_downloaded(tmp_path):
  with pytest.raises(InputError) as e:
    resolve('tfds:pg19', tfds_dir=str(tmp_path))
  assert 'pg19/0.1.1 is not prepared' in str(e.value)
  assert f'tfds build pg19 --data_dir={tmp_path}' in str(e.value)
  assert not list(tmp_path.iterdir())
  with pytest.raises(InputError, match='tfds:no_such_set: '):
    resolve('tfds:no_such_set', tfds_dir=str(tmp_path))
  with pytest.raises(InputError, match='holds no dataset_info.json'):
    resolve(f'tfds:{tmp_path}')


def test_the_fingerprint_follows_files_and_split(prepared, tmp_path):
  shutil.copytree(prepared, tmp_path / 'a')
  source = f'tfds:{tmp_path}/a/small_text/en/1.0.0'

  def fingerprint(**options):
    (corpus,) = resolve(source, **options)
    return corpus.fingerprint(), corpus.files

  first, files = fingerprint()
  assert fingerprint()[0] == first != fingerprint(split='test')[0]
  os.utime(files[0], ns=(1, 1))
  assert fingerprint()[0] != first


def test_damaged_files_are_named(prepared, tmp_path):
  shutil.copytree(prepared, tmp_path / 'a')
  source = f'tfds:{tmp_path}/a/small_text/en/1.0.0'
  (corpus,) = resolve(source)
  with open(corpus.files[0], 'r+b') as f:
    f.truncate(100)  # Of array_record, the half would still have all.
  with pytest.raises(InputError, match='cannot be read') as e:
    list(corpus.documents())
  assert source in str(e.value)
