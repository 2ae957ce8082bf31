"""The manifest: what a folder of records holds, and how one is told whole.

Written last, so a folder with it is finished. It has a checksum of each file,
and one of itself.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import json
import os
from typing import Any

from robertax import errors, paths
from robertax.corpus import checksums
from robertax.corpus.checksums import Checksum
from robertax.errors import InputError

VERSION = 2  # Raised whenever a byte of a record would change.
SPLITS = ('train', 'eval')
MANIFEST = 'manifest.json'


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
    stages: seconds of what its making took, of all processes together and
      whenever it was done: reading, splitting, tokenizing, packing, writing.
    checksums: of each other file of the folder, by name (`Checksum`): what
      `verification` holds the files against. {}: prepared before there were
      any.
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
      InputError: there is none (not prepared, or not to the end), it is
        damaged, or of another version.
    """
    folder = os.fspath(folder)
    path = os.path.join(folder, MANIFEST)
    try:
      with paths.open(path) as f:
        values = json.load(f)
      own = values.pop('sha256', None)
      if own is not None and own != _hash(values):
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
      values['checksums'] = checksums.from_json(values.get('checksums', {}))
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
    folder = values.pop('folder')
    values['checksums'] = checksums.to_json(self.checksums)
    values['sha256'] = _hash(values)
    write_json(os.path.join(folder, MANIFEST), values)

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


def _hash(values: dict[str, Any]) -> str:
  """Of a manifest's values, as they come back from JSON."""
  return hashlib.sha256(json.dumps(values, sort_keys=True).encode()
                        ).hexdigest()


def write_json(path: str, values: Any) -> None:
  """Writes JSON; the file appears whole or not at all."""
  with writing(path):
    paths.write_text(path, json.dumps(values, indent=2) + '\n')


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
  """As errors.writing, and array_record's errors are InputErrors too."""
  try:
    with errors.writing(path):
      yield
  except (RuntimeError, OSError) as e:
    raise InputError(f'cannot write {path}: {e}') from e
