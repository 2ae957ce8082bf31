"""Records: what a prepared corpus is on disk.

One folder a corpus:

    robertax-<split>.array_record-0000i-of-0000N   split is train or eval, or
                                                   train_1 .. for duplicates
    features.json, dataset_info.json               so that TFDS opens it
    manifest.json                                  written last

A record is one row of the batch to be, as corpus/wire.py writes it. Nothing is
masked here: records are the corpus, not an experiment. But pairs of segments
are drawn at random, so the pair formats have the whole training split several
times over, each time drawn anew: `train` is duplicate 0.
"""

from collections.abc import Iterator, Sequence
import os

from robertax import paths
from robertax.corpus.checksums import Checksum
from robertax.corpus.manifest import (
  MANIFEST,
  SPLITS,
  VERSION,
  Manifest,
  Split,
  shard_path,
  split_names,
  write_json,
  writing,
)
from robertax.corpus.publishing import discard, publish, staging
from robertax.corpus.wire import Row, decode_record
from robertax.errors import InputError

__all__ = ['MANIFEST', 'SPLITS', 'VERSION', 'Manifest', 'Split', 'shard_path',
           'split_names', 'write_json', 'writing']
# The Python data sources of array_record and TFDS log an error for any other.
WRITER_OPTIONS = 'group_size:1'


def is_finished(folder: str) -> bool:
  """Whether there are records, to the end."""
  return paths.exists(os.path.join(folder, MANIFEST))


def array_record_module():
  """The array_record library's module, or None where it is not installed."""
  try:
    from array_record.python import array_record_module as module
  except ModuleNotFoundError:  # Installed and broken is not that.
    return None
  return module


class ShardWriter:
  """Writes one array_record file: `*.partial` until `close` renames it."""

  def __init__(self, path: str):
    self._path = path
    self._partial = staging(path)
    with writing(path):
      # The library says nothing of a file it cannot make until it is closed.
      open(self._partial, 'wb').close()
      self._writer = array_record_module().ArrayRecordWriter(
          self._partial, WRITER_OPTIONS)

  def write(self, record: bytes) -> None:
    with writing(self._path):
      self._writer.write(record)

  def close(self) -> Checksum:
    """The file has its name; this is its checksum."""
    with writing(self._path):
      self._writer.close()
    return publish(self._partial, self._path)

  def abandon(self) -> None:
    """Drops what was written, on the way out of an error."""
    try:
      self._writer.close()
    except RuntimeError:
      pass  # It is being thrown away.
    discard(self._partial)


def write_tfds_metadata(folder: str, splits: dict[str, Split],
                        fields: Sequence[str]) -> tuple[str, str]:
  """Lets `tfds.builder_from_directory(folder).as_data_source(split)` work.

  Written by hand: the same two files as tfds.folder_dataset.write_metadata
  makes, without needing TFDS.

  Args:
    folder: of the records.
    splits: of the manifest.
    fields: of a record, each of them raw bytes.

  Returns:
    The names of the two files.
  """
  tfds = 'tensorflow_datasets.core.features'
  text = {'pythonClassName': f'{tfds}.text_feature.Text', 'text': {}}
  write_json(os.path.join(folder, 'features.json'), {
      'pythonClassName': f'{tfds}.features_dict.FeaturesDict',
      'featuresDict': {'features': dict.fromkeys(fields, text)}})
  write_json(os.path.join(folder, 'dataset_info.json'), {
      'name': 'robertax', 'version': f'{VERSION}.0.0',
      'fileFormat': 'array_record',
      'splits': [{
          'name': name,
          'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
          'shardLengths': [str(n) for n in split.shard_lengths],
      } for name, split in splits.items()]})
  return 'features.json', 'dataset_info.json'


def read_rows(manifest: Manifest, split: str) -> Iterator[Row]:
  """Yields the records of a split on disk, in order."""
  for path in manifest.shard_paths(split):
    here = path
    try:
      if paths.is_remote(path):  # The library reads local files alone.
        here = staging(path)
        paths.copy(path, here)
      reader = array_record_module().ArrayRecordReader(here)
      for start in range(0, reader.num_records(), 1024):
        stop = min(start + 1024, reader.num_records())
        for record in reader.read(start, stop):
          yield decode_record(record, manifest.dtype)
      reader.close()
    except (RuntimeError, IndexError, OSError) as e:
      raise InputError(f'{path}: damaged or missing ({e}): delete its folder '
                       'and prepare again.') from e
    finally:
      if here != path:
        discard(here)
