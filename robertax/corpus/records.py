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
import contextlib
import dataclasses
import json
import os
from typing import Any

from robertax import errors, paths
from robertax.corpus.wire import Row, decode_record
from robertax.errors import InputError

VERSION = 2  # Raised whenever a byte of a record would change.
SPLITS = ('train', 'eval')
MANIFEST = 'manifest.json'
# The Python data sources of array_record and TFDS log an error for any other.
WRITER_OPTIONS = 'group_size:1'


def split_names(split: str, duplicates: int) -> tuple[str, ...]:
  """Names of the splits on disk that 'train' or 'eval' consists of.

  >>> split_names('train', 3), split_names('eval', 3)
  (('train', 'train_1', 'train_2'), ('eval',))
  """
  if split != 'train':
    return (split,)
  return ('train', *(f'train_{number}' for number in range(1, duplicates)))


@dataclasses.dataclass(frozen=True)
class Split:
  """Counts of one split; `split['num_records']` works as well.

  Attributes:
    num_records: rows.
    num_examples: examples in them.
    num_tokens: ids stored, <s> included, padding not.
    num_documents, num_sentences: as the splitter saw them.
    shard_lengths: records of each shard.
  """
  num_records: int = 0
  num_examples: int = 0
  num_tokens: int = 0
  num_documents: int = 0
  num_sentences: int = 0
  shard_lengths: tuple[int, ...] = ()

  def __getitem__(self, name: str):
    return getattr(self, name)


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What a folder of records holds; `manifest.json` is this as JSON.

  Attributes:
    folder: where it was read from (not in the file).
    version: `VERSION` of the code that wrote it.
    corpus: the corpus's name.
    format, sentences: names in formats.FORMATS and sentences.SPLITTERS.
    sequence_length: most tokens of a row, T.
    max_examples_per_row: most examples of a row, P.
    pair_law: how pairs were drawn, the fields of pairs.PairLaw; None: the
      format has no pairs.
    duplicates: how often the training split is there, drawn anew each time; 1
      where nothing is drawn.
    dtype: 'uint16' or 'uint32'.
    vocab_size, tokenizer: the tokenizer's size and fingerprint.
    forms: which of 'array_record' and 'memmap' lie in the folder.
    splits: {'train': Split, 'eval': Split}, and train_1 .. of duplicates.
    counts: whatever was cut, dropped, replaced or wasted, by name;
      `padding_fraction` is the share of all rows' T tokens that is padding.
    seconds: how long the preparation took.
  """
  folder: str
  version: int
  corpus: str
  format: str
  sentences: str
  sequence_length: int
  max_examples_per_row: int
  dtype: str
  vocab_size: int
  tokenizer: str
  forms: tuple[str, ...]
  splits: dict[str, Split]
  counts: dict[str, int | float]
  seconds: float
  pair_law: dict[str, Any] | None = None
  duplicates: int = 1

  @classmethod
  def read(cls, folder: str) -> 'Manifest':
    """Reads `folder`/manifest.json.

    Raises:
      InputError: there is none (not prepared, or not to the end), it is
        damaged, or of another version.
    """
    folder = os.fspath(folder)
    path = paths.join(folder, MANIFEST)
    try:
      with paths.open(path) as f:
        values = json.load(f)
      if values['version'] != VERSION:
        raise InputError(
            f'{path}: records of version {values["version"]}, this robertax '
            f'reads version {VERSION}: delete the folder and prepare again.')
      values['splits'] = {
          name: Split(**{**split, 'shard_lengths':
                         tuple(split['shard_lengths'])})
          for name, split in values['splits'].items()}
      values['forms'] = tuple(values['forms'])
      missing = [name for name in split_names('train', values['duplicates'])[1:]
                 if name not in values['splits']]
      if missing:
        raise ValueError(f'splits lacks {", ".join(missing)}')
      for name, split in values['splits'].items():
        if sum(split.shard_lengths) != split.num_records:
          raise ValueError(f'{name}: num_records is not the sum of '
                           'shard_lengths')
      return cls(folder=folder, **values)
    except OSError as e:
      raise InputError(
          f'{folder}: no finished records here ({MANIFEST}: {e.strerror}). '
          'Run python -m robertax.prepare.') from e
    except InputError:
      raise
    except (ValueError, KeyError, TypeError, AttributeError) as e:
      raise InputError(f'{path}: damaged ({e!r}): delete its folder and '
                       'prepare again.') from e

  def write(self) -> None:
    """Writes manifest.json: whole, or not at all."""
    values = dataclasses.asdict(self)
    write_json(os.path.join(values.pop('folder'), MANIFEST), values)

  def check(self, **expected: Any) -> None:
    """Says that these are the records one expects.

    Args:
      **expected: any attribute with the value it should have, such as
        tokenizer=t.fingerprint, format='full_sentences', sequence_length=512.

    Raises:
      InputError: with every attribute that differs.
    """
    wrong = [f'{key} is {getattr(self, key)!r}, wanted {value!r}'
             for key, value in expected.items() if getattr(self, key) != value]
    if wrong:
      raise InputError(f'{self.folder}: records made otherwise: '
                       f'{"; ".join(wrong)}. Delete the folder and prepare '
                       'the corpus again.')

  def split_names(self, split: str) -> tuple[str, ...]:
    """Names on disk of 'train' or 'eval': one for each duplicate."""
    return split_names(split, self.duplicates)

  def shard_paths(self, split: str) -> list[str]:
    """Paths of the array_record files of a split, in order."""
    total = len(self.splits[split].shard_lengths)
    return [shard_path(self.folder, split, i, total) for i in range(total)]


def shard_path(folder: str, split: str, index: int, total: int) -> str:
  """Path of one array_record file, named as TFDS wants it."""
  return os.path.join(
      folder, f'robertax-{split}.array_record-{index:05d}-of-{total:05d}')


def write_json(path: str, values: Any) -> None:
  """Writes JSON; the file appears whole or not at all."""
  with writing(path):
    with open(f'{path}.partial', 'w', encoding='utf-8') as f:
      json.dump(values, f, indent=2)
      f.write('\n')
    os.replace(f'{path}.partial', path)


def array_record_module():
  """The array_record library's module, or None where it is not installed."""
  try:
    from array_record.python import array_record_module as module
  except ModuleNotFoundError:  # Installed and broken is not that.
    return None
  return module


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
  """As errors.writing, and array_record's errors are InputErrors too."""
  try:
    with errors.writing(path):
      yield
  except (RuntimeError, OSError) as e:
    raise InputError(f'cannot write {path}: {e}') from e


class ShardWriter:
  """Writes one array_record file: `*.partial` until `close` renames it."""

  def __init__(self, path: str):
    self._path = path
    self._partial = f'{path}.partial'
    with writing(path):
      # The library says nothing of a file it cannot make until it is closed.
      open(self._partial, 'wb').close()
      self._writer = array_record_module().ArrayRecordWriter(
          self._partial, WRITER_OPTIONS)

  def write(self, record: bytes) -> None:
    with writing(self._path):
      self._writer.write(record)

  def close(self) -> None:
    with writing(self._path):
      self._writer.close()
      os.replace(self._partial, self._path)

  def abandon(self) -> None:
    """Drops what was written, on the way out of an error."""
    try:
      self._writer.close()
    except RuntimeError:
      pass  # It is being thrown away.
    if os.path.exists(self._partial):
      os.remove(self._partial)


def write_tfds_metadata(folder: str, splits: dict[str, Split],
                        fields: Sequence[str]) -> None:
  """Lets `tfds.builder_from_directory(folder).as_data_source(split)` work.

  Written by hand: the same two files as tfds.folder_dataset.write_metadata
  makes, without needing TFDS.

  Args:
    folder: of the records.
    splits: of the manifest.
    fields: of a record, each of them raw bytes.
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


def read_rows(manifest: Manifest, split: str) -> Iterator[Row]:
  """Yields the records of a split on disk, in order."""
  for path in manifest.shard_paths(split):
    try:
      reader = array_record_module().ArrayRecordReader(path)
      for start in range(0, reader.num_records(), 1024):
        stop = min(start + 1024, reader.num_records())
        for record in reader.read(start, stop):
          yield decode_record(record, manifest.dtype)
      reader.close()
    except (RuntimeError, IndexError) as e:
      raise InputError(f'{path}: damaged or missing ({e}): delete its folder '
                       'and prepare again.') from e
