"""Records: the files of a prepared corpus, and how they are written.

Each corpus has a folder:

    robertax-<split>.array_record-0000i-of-0000N   split is train or eval, or
                                                   train_1 .. for duplicates
    features.json, dataset_info.json               let TFDS open the folder
    manifest.json                                  is written last

A record is a row of a batch, not masked yet. The pair formats have several
duplicates of the training split, because their pairs are drawn at random; each
is drawn anew, and `train` is duplicate 0.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import json
import os
from typing import Any, NamedTuple

import numpy as np

from robertax import errors, files
from robertax.errors import InputError, raise_unless_damage
from robertax.files import Checksum, checksum

# Raised whenever a byte of a record would change. 3: fewer documents are held
# out where the last 1 % are more than 5 % of the text; sentences without ids
# and null rows are left out; folders are read by content, and pages and wikis
# as their own tools read them. Other text has the records of version 2.
VERSION, READABLE = 3, (2, 3)
SPLITS = ('train', 'eval')
MANIFEST = 'manifest.json'
# The Python data sources of array_record and TFDS log an error for other sizes.
WRITER_OPTIONS = 'group_size:1'

# A record is a `tf.train.Example`, with the bytes that TensorFlow would write
# for sorted keys. Its fields are those of `RecordRow` as little-endian bytes;
# only records of pairs have the fields of pairs.
ROW_FIELDS = ('documents', 'ids', 'lengths')
PAIR_FIELDS = ('documents', 'first_lengths', 'ids', 'lengths',
               'second_documents')
_NONE = np.zeros(0, np.int32)


class RecordRow(NamedTuple):
  """The content of a record: examples, back to back, without padding."""
  ids: np.ndarray  # uint16[n], or uint32[n] for more than 65,536 ids.
  lengths: np.ndarray  # int32[k], the tokens of each example; they sum to n.
  documents: np.ndarray  # int32[k], the document in which an example begins.
  # Only records of pairs have int32[k], the tokens of `<s> A </s>`, and
  # int32[k], the document of B, which is A's if B follows A; others have [0].
  first_lengths: np.ndarray = _NONE
  second_documents: np.ndarray = _NONE


def _write_field(number: int, payload: bytes) -> bytes:
  """Encodes a length-delimited field."""
  head, size = bytearray([number << 3 | 2]), len(payload)
  while size > 127:
    head.append(size & 127 | 128)
    size >>= 7
  return bytes([*head, size]) + payload


def encode_record(row: RecordRow) -> bytes:
  """Encodes a row, whose documents are at least 0, as a record."""
  entries = []  # Of the map `Features.feature`.
  for name in PAIR_FIELDS if len(row.first_lengths) else ROW_FIELDS:
    values = np.asarray(getattr(row, name))
    kind = values.dtype.newbyteorder('<') if name == 'ids' else '<i4'
    feature = _write_field(1, _write_field(1, values.astype(kind).tobytes()))
    entries.append(_write_field(
        1, _write_field(1, name.encode()) + _write_field(2, feature)))
  return _write_field(1, b''.join(entries))


def _open_field(data: bytes, at: int) -> tuple[int, int]:
  """Returns the start and end of the length-delimited field at `at`."""
  size = shift = 0
  while True:
    at += 1
    size |= (data[at] & 127) << shift
    shift += 7
    if data[at] < 128:
      return at + 1, at + 1 + size


def decode_record(data: bytes, dtype: str) -> RecordRow:
  """Decodes a record of `encode_record`; `dtype` is `Manifest.dtype`."""
  at, end = _open_field(data, 0)
  values = {}
  while at < end:
    at, next_at = _open_field(data, at)
    start, at = _open_field(data, at)
    name = data[start:at].decode()
    for _ in range(3):  # The feature, its list, and the list's only value.
      at, _ = _open_field(data, at)
    kind = np.dtype(dtype if name == 'ids' else 'int32').newbyteorder('<')
    values[name] = np.frombuffer(data[at:next_at], kind)
    at = next_at
  return RecordRow(**values)


def advice_on(path: str, expected: Checksum | None) -> str:
  """What to do about a file that its reader refuses: its checksum decides."""
  found = expected and files.find_damage(path, expected)
  return found.advice if found else files.DOUBT_ADVICE


def split_names(split: str, duplicates: int) -> tuple[str, ...]:
  """Returns the splits on disk that make up 'train' or 'eval'.

  >>> split_names('train', 3), split_names('eval', 3)
  (('train', 'train_1', 'train_2'), ('eval',))
  """
  if split != 'train':
    return (split,)
  return ('train', *(f'train_{number}' for number in range(1, duplicates)))


@dataclasses.dataclass(frozen=True)
class SplitCounts:
  """Counts of a split; `num_tokens` includes <s> and </s>, but no padding."""
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
  """The content of a folder of records; `manifest.json` is this as JSON.

  It is written last, so a folder with a manifest is finished.
  """
  folder: str  # Where it was read from; not in the file.
  version: int  # `VERSION` of the code that wrote it.
  corpus: str
  format: str  # A row of FORMATS.
  sentences: str  # A row of SPLITTERS.
  sequence_length: int  # Most tokens of a row, T.
  max_examples_per_row: int  # Most examples of a row, P.
  dtype: str  # 'uint16' or 'uint32'.
  vocab_size: int
  tokenizer: str  # Its fingerprint.
  forms: tuple[str, ...]  # Those of 'array_record' and 'memmap' that exist.
  splits: dict[str, SplitCounts]  # Of 'train', 'eval', and duplicates.
  # What was cut, dropped, replaced or wasted, by name; `padding_fraction` is a
  # share of the T tokens of all rows.
  counts: dict[str, int | float]
  seconds: float  # How long the preparation took.
  # How pairs were drawn: the fields of formats.PairLaw.
  pair_law: dict[str, Any] | None = None
  duplicates: int = 1  # How often the training split was drawn.
  # Seconds of reading, splitting, tokenizing, packing and writing, in all
  # processes together, some of them perhaps in an earlier preparation.
  stages: dict[str, float] = dataclasses.field(default_factory=dict)
  # One for each other file, by name; older folders have none.
  checksums: dict[str, Checksum] = dataclasses.field(default_factory=dict)

  @classmethod
  def read(cls, folder: str) -> 'Manifest':
    """Reads `folder`/manifest.json.

    InputError if it is missing (not finished), damaged or of another version.
    """
    folder = os.fspath(folder)
    path = os.path.join(folder, MANIFEST)
    try:
      values = files.read_json(path)
      own = values.pop('sha256', None)
      if own is not None and own != files.json_hash(values, sort_keys=True):
        raise ValueError('its own checksum does not match')
      if values['version'] not in READABLE:
        raise InputError(
            f'{path}: records of version {values["version"]}, this robertax '
            f'reads {" and ".join(map(str, READABLE))}: prepare again, into a '
            'new folder.')
      values['splits'] = {
          name: SplitCounts(**{
              **split, 'shard_lengths': tuple(split['shard_lengths'])})
          for name, split in values['splits'].items()}
      values['forms'] = tuple(values['forms'])
      values['checksums'] = files.checksums_from_json(
          values.get('checksums', {}))
      missing = [name for name in split_names('train', values['duplicates'])[1:]
                 if 'train' in values['splits']
                 and name not in values['splits']]
      if missing:
        raise ValueError(f'splits lacks {", ".join(missing)}')
      for name, split in values['splits'].items():
        if sum(split.shard_lengths) != split.num_records:
          raise ValueError(f'{name}: num_records is not the sum of '
                           'shard_lengths')
      return cls(folder=folder, **values)
    except OSError as e:
      raise_unless_damage(e, folder)
      raise InputError(
          f'{folder}: no finished records here ({MANIFEST}: {e.strerror}). '
          'Run python -m robertax.prepare.') from e
    except InputError:
      raise
    except (ValueError, KeyError, TypeError, AttributeError) as e:
      raise InputError(f'{path}: damaged ({e!r}): {files.DOUBT_ADVICE}.') from e

  def write(self) -> None:
    """Writes manifest.json, which appears whole."""
    values = dataclasses.asdict(self)
    folder = values.pop('folder')
    values['checksums'] = files.checksums_to_json(self.checksums)
    values['sha256'] = files.json_hash(values, sort_keys=True)
    write_json(os.path.join(folder, MANIFEST), values)

  def check(self, **expected: Any) -> None:
    """Raises an InputError that names attributes that are not as expected."""
    wrong = [f'{key} is {getattr(self, key)!r}, wanted {value!r}'
             for key, value in expected.items() if getattr(self, key) != value]
    if wrong:
      raise InputError(f'{self.folder}: these records were made differently: '
                       f'{"; ".join(wrong)}. Rename the folder and prepare '
                       'the corpus again.')

  def split_names(self, split: str) -> tuple[str, ...]:
    """Returns the splits on disk that make up 'train' or 'eval'."""
    return split_names(split, self.duplicates)

  def shard_paths(self, split: str) -> list[str]:
    """Returns the paths of a split's array_record files, in order."""
    total = len(self.splits[split].shard_lengths)
    return [shard_path(self.folder, split, i, total) for i in range(total)]


def shard_path(folder: str, split: str, index: int, total: int) -> str:
  """Returns the path of an array_record file, whose name TFDS expects."""
  return os.path.join(
      folder, f'robertax-{split}.array_record-{index:05d}-of-{total:05d}')


def write_json(path: str, values: Any) -> None:
  """Writes JSON to a file that appears whole."""
  with writing_records(path):
    files.write_text(path, json.dumps(values, indent=2) + '\n')


@contextlib.contextmanager
def writing_records(path: str) -> Iterator[None]:
  """Does what errors.writing does, for errors of array_record as well."""
  try:
    with errors.writing(path):
      yield
  except (RuntimeError, OSError) as e:
    raise InputError(f'cannot write {path}: {e}') from e


class Unfinished:
  """A context manager that calls `abandon` after an error."""

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    if kind:
      self.abandon()


class FileWriter(Unfinished):
  """Writes one file piece by piece; `close` gives it its final name."""

  def __init__(self, path: str):
    self._path = path
    with writing_records(path):
      self._partial = files.staging(path)
      self._file = self._open()

  def _open(self):
    return open(self._partial, 'wb')

  def write(self, data: bytes) -> None:
    with writing_records(self._path):
      self._file.write(data)

  def close(self) -> Checksum:
    """Gives the file its final name; returns its checksum."""
    with writing_records(self._path):
      self._file.close()
      found = checksum(self._partial)
      files.publish(self._partial, self._path)
    return found

  def abandon(self) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # The disk may be full.
      self._file.close()
    files.discard(self._partial)


def is_finished(folder: str) -> bool:
  """Whether the preparation of a folder of records is finished."""
  return files.exists(os.path.join(folder, MANIFEST))


def array_record_module():
  """Imports the array_record library's module; None if it is not installed."""
  try:
    from array_record.python import array_record_module as module
  except ModuleNotFoundError:  # A broken installation raises other errors.
    return None
  return module


def import_tensorflow():
  """Imports tensorflow, and leaves the accelerators to JAX."""
  level = 'TF_CPP_MIN_LOG_LEVEL'
  ours = level not in os.environ
  os.environ.setdefault(level, '2')
  import tensorflow as tf
  if ours:  # The import has read it; the caller's environment is restored.
    os.environ.pop(level, None)
  with contextlib.suppress(RuntimeError):  # TensorFlow is in use already.
    tf.config.set_visible_devices([], 'GPU')
  return tf


class ShardWriter(FileWriter):
  """Writes one array_record file record by record."""

  def _open(self):
    # The library reports a file that it cannot create only in `close`.
    super()._open().close()
    return array_record_module().ArrayRecordWriter(
        self._partial, WRITER_OPTIONS)


def write_tfds_metadata(folder: str, splits: dict[str, SplitCounts],
                        fields: Sequence[str]) -> tuple[str, str]:
  """Lets `tfds.builder_from_directory(folder).as_data_source(split)` work.

  Writes what tfds.folder_dataset.write_metadata writes for records with these
  fields, without TFDS, and returns the names of the two files.
  """
  tfds = 'tensorflow_datasets.core.features'
  text = {'pythonClassName': f'{tfds}.text_feature.Text', 'text': {}}
  write_json(os.path.join(folder, 'features.json'), {
      'pythonClassName': f'{tfds}.features_dict.FeaturesDict',
      'featuresDict': {'features': dict.fromkeys(fields, text)}})
  write_json(os.path.join(folder, 'dataset_info.json'), {
      'name': 'robertax', 'version': f'{VERSION}.0.0',
      'fileFormat': 'array_record', 'splits': [{
          'name': name,
          'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
          'shardLengths': [str(n) for n in split.shard_lengths],
      } for name, split in splits.items()]})
  return 'features.json', 'dataset_info.json'


def read_rows(manifest: Manifest, split: str) -> Iterator[RecordRow]:
  """Yields the records of a split on disk in order; InputError if damaged."""
  for path in manifest.shard_paths(split):
    here = path
    try:
      if files.is_remote(path):  # The library reads local files only.
        here = files.staging(path)
        files.copy(path, here)
      reader = array_record_module().ArrayRecordReader(here)
      total = reader.num_records()
      for start in range(0, total, 1024):
        for record in reader.read(start, min(start + 1024, total)):
          yield decode_record(record, manifest.dtype)
      reader.close()
    except (RuntimeError, IndexError, OSError) as e:
      raise_unless_damage(e, path)
      advice = advice_on(path, manifest.checksums.get(
          os.path.basename(path)) if here == path else None)
      raise InputError(f'{path}: damaged or missing ({e}): {advice}.') from e
    finally:
      if here != path:
        files.discard(here)
