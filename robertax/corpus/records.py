"""Records: what a prepared corpus is on disk, and how its files are written.

A folder a corpus:

    robertax-<split>.array_record-0000i-of-0000N   split is train or eval, or
                                                   train_1 .. for duplicates
    features.json, dataset_info.json               so that TFDS opens it
    manifest.json                                  written last

A record is a row of a batch. Nothing is masked yet: records are the corpus, not
an experiment. But pairs are drawn at random, so the pair formats have the
training split several times over, drawn anew each time; `train` is duplicate 0.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import json
import os
from typing import Any, NamedTuple

import numpy as np

from robertax import errors, files
from robertax.errors import InputError
from robertax.files import Checksum, checksum

VERSION = 2  # Raised whenever a byte of a record would change.
SPLITS = ('train', 'eval')
MANIFEST = 'manifest.json'
# The Python data sources of array_record and TFDS log an error for any other.
WRITER_OPTIONS = 'group_size:1'

# A record is a `tf.train.Example`, byte for byte as TensorFlow writes it with
# sorted keys, but written without TensorFlow. Its fields are those of
# `RecordRow` as little-endian bytes; only records of pairs have those of pairs.
ROW_FIELDS = ('documents', 'ids', 'lengths')
PAIR_FIELDS = ('documents', 'first_lengths', 'ids', 'lengths',
               'second_documents')
_NONE = np.zeros(0, np.int32)


class RecordRow(NamedTuple):
  """What a record holds: some examples, back to back, without padding.

  Attributes:
    ids: uint16[n], or uint32[n] where the vocabulary has more than 65,536 ids.
    lengths: int32[k], tokens of each example; they sum to n.
    documents: int32[k], index in the corpus of the document that an example
      begins in.
    first_lengths: int32[k], tokens of `<s> A </s>`; [0] where none are pairs.
    second_documents: int32[k], the document of B: A's own where B follows A,
      another where it is a random one; [0] where none are pairs.
  """
  ids: np.ndarray
  lengths: np.ndarray
  documents: np.ndarray
  first_lengths: np.ndarray = _NONE
  second_documents: np.ndarray = _NONE


def _write_varint(n: int) -> bytes:
  out = bytearray()
  while n > 127:
    out.append(n & 127 | 128)
    n >>= 7
  out.append(n)
  return bytes(out)


def _write_field(number: int, payload: bytes) -> bytes:
  """A length-delimited field."""
  return bytes([number << 3 | 2]) + _write_varint(len(payload)) + payload


def _write_feature(name: bytes, feature: bytes) -> bytes:
  """An entry of the map `Features.feature`."""
  return _write_field(1, _write_field(1, name) + _write_field(2, feature))


def encode_record(row: RecordRow) -> bytes:
  """One row, whose documents are at least 0, as the bytes of its record."""
  fields = PAIR_FIELDS if len(row.first_lengths) else ROW_FIELDS
  return _write_field(1, b''.join(
      _write_feature(name.encode(), _write_field(1, _write_field(1, _little(
          getattr(row, name), name)))) for name in fields))


def _little(values, name: str) -> bytes:
  """Little-endian bytes; all but ids are int32."""
  if name != 'ids':
    return np.asarray(values, '<i4').tobytes()
  return values.astype(values.dtype.newbyteorder('<')).tobytes()


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
  n = shift = 0
  while True:
    byte = data[at]
    at += 1
    n |= (byte & 127) << shift
    if byte < 128:
      return n, at
    shift += 7


def _open_field(data: bytes, at: int) -> tuple[int, int]:
  """(start, end) of the payload of the length-delimited field at `at`."""
  size, start = _read_varint(data, at + 1)
  return start, start + size


def decode_record(data: bytes, dtype: str) -> RecordRow:
  """The inverse of `encode_record`; `dtype` is `Manifest.dtype`."""
  at, end = _open_field(data, 0)
  values = {}
  while at < end:
    at, next_at = _open_field(data, at)
    start, at = _open_field(data, at)
    name = data[start:at].decode()
    for _ in range(3):  # Feature, its list, the list's one value.
      at, _ = _open_field(data, at)
    kind = np.dtype(dtype if name == 'ids' else 'int32').newbyteorder('<')
    values[name] = np.frombuffer(data[at:next_at], kind)
    at = next_at
  return RecordRow(**values)


# The manifest is written last, so a folder that has one is finished. It has a
# checksum of each file, and one of itself.


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

  A record is a row. `num_tokens` counts <s> and </s>, but no padding;
  `shard_lengths` are the records of each shard.
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
    corpus, format, sentences: names; of rows of FORMATS and SPLITTERS.
    sequence_length: most tokens of a row, T.
    max_examples_per_row: most examples of a row, P.
    pair_law: how pairs were drawn, the fields of pairs.PairLaw; None: the
      format has no pairs.
    duplicates: how often the training split is there, drawn anew each time; 1
      where nothing is drawn.
    dtype: 'uint16' or 'uint32'.
    vocab_size, tokenizer: the tokenizer's size and fingerprint.
    forms: which of 'array_record' and 'memmap' the folder has.
    splits: {'train': Split, 'eval': Split}, and train_1 .. of duplicates.
    counts: whatever was cut, dropped, replaced or wasted, by name;
      `padding_fraction` is the share of all rows' T tokens that is padding.
    seconds: how long the preparation took.
    stages: seconds of reading, splitting, tokenizing, packing and writing, of
      all processes together and whenever it was done.
    checksums: of each other file of the folder, by name; {}: prepared before
      there were any.
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
  stages: dict[str, float] = dataclasses.field(default_factory=dict)
  checksums: dict[str, Checksum] = dataclasses.field(default_factory=dict)

  @classmethod
  def read(cls, folder: str) -> 'Manifest':
    """Reads `folder`/manifest.json.

    Raises:
      InputError: there is none (not prepared to the end), it is damaged, or of
        another version.
    """
    folder = os.fspath(folder)
    path = os.path.join(folder, MANIFEST)
    try:
      with files.open(path) as f:
        values = json.load(f)
      own = values.pop('sha256', None)
      if own is not None and own != files.json_hash(values, sort_keys=True):
        raise ValueError('its own checksum is not that of what it says')
      if values['version'] != VERSION:
        raise InputError(
            f'{path}: records of version {values["version"]}, this robertax '
            f'reads version {VERSION}: delete the folder and prepare again.')
      values['splits'] = {
          name: Split(**{**split, 'shard_lengths':
                         tuple(split['shard_lengths'])})
          for name, split in values['splits'].items()}
      values['forms'] = tuple(values['forms'])
      values['checksums'] = files.checksums_from_json(
          values.get('checksums', {}))
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
    """Writes manifest.json; it appears whole."""
    values = dataclasses.asdict(self)
    folder = values.pop('folder')
    values['checksums'] = files.checksums_to_json(self.checksums)
    values['sha256'] = files.json_hash(values, sort_keys=True)
    write_json(os.path.join(folder, MANIFEST), values)

  def check(self, **expected: Any) -> None:
    """Raises an InputError that names each attribute that is not as expected.
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
  """Writes JSON; the file appears whole."""
  with writing_records(path):
    files.write_text(path, json.dumps(values, indent=2) + '\n')


@contextlib.contextmanager
def writing_records(path: str) -> Iterator[None]:
  """As errors.writing, for errors of array_record too."""
  try:
    with errors.writing(path):
      yield
  except (RuntimeError, OSError) as e:
    raise InputError(f'cannot write {path}: {e}') from e


def _publish(partial: str, path: str) -> Checksum:
  """Gives a closed file its name (files.publish); its checksum."""
  with writing_records(path):
    found = checksum(partial)
    files.publish(partial, path)
  return found


class Unfinished:
  """A context manager that drops what an error leaves unfinished."""

  def abandon(self) -> None:
    raise NotImplementedError

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    if kind:
      self.abandon()


class FileWriter(Unfinished):
  """Writes one file piece by piece; `close` gives it its name."""

  def __init__(self, path: str):
    self._path = path
    with writing_records(path):
      self._partial = files.staging(path)
      self._file = open(self._partial, 'wb')

  def write(self, data: bytes) -> None:
    with writing_records(self._path):
      self._file.write(data)

  def close(self) -> Checksum:
    """The file has its name; this is its checksum."""
    with writing_records(self._path):
      self._file.close()
    return _publish(self._partial, self._path)

  def abandon(self) -> None:
    with contextlib.suppress(OSError):  # A full disk: the rest is dropped too.
      self._file.close()
    files.discard(self._partial)


def is_finished(folder: str) -> bool:
  """Whether a folder holds records that are prepared to the end."""
  return files.exists(os.path.join(folder, MANIFEST))


def array_record_module():
  """The array_record library's module, or None where it is not installed."""
  try:
    from array_record.python import array_record_module as module
  except ModuleNotFoundError:  # Installed and broken is not that.
    return None
  return module


def import_tensorflow():
  """tensorflow, kept off the accelerators, which are JAX's."""
  level = 'TF_CPP_MIN_LOG_LEVEL'
  ours = level not in os.environ
  os.environ.setdefault(level, '2')
  import tensorflow as tf
  if ours:  # It is read by now; the caller's environment stays as it was.
    os.environ.pop(level, None)
  try:
    tf.config.set_visible_devices([], 'GPU')
  except RuntimeError:
    pass  # Someone already uses TensorFlow in this process, and chose.
  return tf


class ShardWriter(Unfinished):
  """Writes one array_record file; `close` gives it its name."""

  def __init__(self, path: str):
    self._path = path
    self._partial = files.staging(path)
    with writing_records(path):
      # The library says nothing of a file it cannot make until it is closed.
      open(self._partial, 'wb').close()
      self._writer = array_record_module().ArrayRecordWriter(
          self._partial, WRITER_OPTIONS)

  def write(self, record: bytes) -> None:
    with writing_records(self._path):
      self._writer.write(record)

  def close(self) -> Checksum:
    """The file has its name; this is its checksum."""
    with writing_records(self._path):
      self._writer.close()
    return _publish(self._partial, self._path)

  def abandon(self) -> None:
    with contextlib.suppress(RuntimeError):
      self._writer.close()
    files.discard(self._partial)


def write_tfds_metadata(folder: str, splits: dict[str, Split],
                        fields: Sequence[str]) -> tuple[str, str]:
  """Lets `tfds.builder_from_directory(folder).as_data_source(split)` work.

  Writes what tfds.folder_dataset.write_metadata does, without needing TFDS, and
  returns the names of the two files. `fields` are those of a record.
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


def read_rows(manifest: Manifest, split: str) -> Iterator[RecordRow]:
  """Yields the records of a split on disk, in order."""
  for path in manifest.shard_paths(split):
    here = path
    try:
      if files.is_remote(path):  # The library reads local files only.
        here = files.staging(path)
        files.copy(path, here)
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
        files.discard(here)
