"""Documents: the corpora that `data.corpora` names, and their cleaning.

Each kind of file is a row of `READERS`. `corpora_of` finds the corpora of a
config. A corpus has a name, files and a fingerprint, and its documents have a
fixed order.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import glob
import hashlib
import importlib
import inspect
import os
import re
import sys
import traceback

import numpy as np

from robertax import files
from robertax.config import DataConfig
from robertax.corpus.readers import PACKINGS, Reader, Reading, saved_files
from robertax.errors import InputError, unknown
from robertax.tables import LazyTable

# The keys are endings of file names; each row is a `Reader`.
READERS = LazyTable({
    '.txt': 'robertax.corpus.readers:TXT',
    '.jsonl': 'robertax.corpus.readers:JSONL',
    '.parquet': 'robertax.corpus.readers:PARQUET',
    '.arrow': 'robertax.corpus.readers:ARROW',
    '.arrows': 'robertax.corpus.readers:ARROW',
    '.ipc': 'robertax.corpus.readers:ARROW',
    '.feather': 'robertax.corpus.readers:ARROW',
    '.warc': 'robertax.corpus.archives:WARC',
    '.wet': 'robertax.corpus.archives:WET',
    '.xml': 'robertax.corpus.archives:WIKI'})
INVALID_UTF8 = ('error', 'replace')
TFDS = 'tfds:'  # Before a data set's name or folder.
CLEANING_VERSION = 1  # Raised whenever other documents would remain.
_HASH_BYTES = 16  # Among 10^12 documents two collide with chance 10^-14.
_BUCKET = 2  # The bytes of a hash that select its bucket.
# Parts of a dump have names like enwiki-20260101-pages-articles1.xml-p1p41.bz2
_SHARD_NUMBER = re.compile(r'(?<=\.xml)-p\d+p\d+$')


def reader_of(path: str) -> Reader | None:
  """Returns the row of `READERS` for a file's name, if any."""
  name, packing = path, ''
  if path.endswith(PACKINGS):
    name, _, packing = path.rpartition('.')
  reader = READERS.get(os.path.splitext(_SHARD_NUMBER.sub('', name))[1])
  return None if reader is None or packing and not reader.packed else reader


class Corpus:
  """The documents of one file, or of the files of one folder.

  Attributes:
    name: its name in metrics and folders.
    files: paths, in reading order.
    counts: filled by `documents`: the `empty_documents` (only space) that were
      skipped, the `replaced_bytes` that became U+FFFD, and the reader's counts.
    size, position: bytes of the files, and how many of them have been read.
    mark: (file, index in it) of the last document; reading can start there.
  """

  def __init__(self, name: str, sources: list[str], text_field: str = 'text',
               invalid_utf8: str = 'error'):
    if invalid_utf8 not in INVALID_UTF8:
      raise unknown('value of data.invalid_utf8', invalid_utf8, INVALID_UTF8)
    self.name, self.files, self.counts = name, sources, Counter()
    self.size = sum(files.stat(path).size for path in self.files)
    self.position, self.mark = 0, (0, 0)
    self._text_field, self._replace = text_field, invalid_utf8 == 'replace'
    self._versions = sorted({
        version for path in self.files
        for version in reader_of(path).versions(path)})

  def fingerprint(self) -> str:
    """Hashes paths, sizes, modification times and package versions."""
    facts = [(files.absolute(path), *files.stat(path)) for path in self.files]
    return files.json_hash([facts, self._text_field, self._replace,
                            *([self._versions] if self._versions else [])])

  def documents(self, mark: tuple[int, int] = (0, 0)) -> Iterator[str]:
    """Yields the documents, one in memory at a time, with Unix line ends.

    Args:
      mark: the mark of the first document. Earlier files are not opened, and
        `counts` has only what was read.

    Raises:
      InputError: wrong text, with the file and the line, row or record.
    """
    first, passed = mark
    self.counts.clear()
    self.position = sum(files.stat(path).size for path in self.files[:first])
    for number, path in enumerate(self.files[first:], first):
      given = 0
      before, size = self.position, files.stat(path).size
      reading = Reading(path, self._text_field, self._replace, self.counts,
                        self._advance, size)
      for text in reader_of(path).read(reading):
        if text and not text.isspace():
          self.mark = number, given
          given += 1
          if number > first or given > passed:
            yield text
        else:
          self.counts['empty_documents'] += 1
      self.position = before + size

  def _advance(self, num_bytes: int) -> None:
    self.position += num_bytes


def corpora_of(data: DataConfig) -> list:
  """Finds the corpora of a config, as `resolve` does, and cleans them."""
  found = resolve(data.corpora, data.text_field, data.invalid_utf8, data.split,
                  data.tfds_dir)
  filters = filters_of(data.document_filter, [corpus.name for corpus in found])
  return [Cleaning(data.drop_duplicates, data.min_document_chars, one).of(
      corpus) for corpus, one in zip(found, filters)]


def resolve(corpora: str, text_field: str = 'text',
            invalid_utf8: str = 'error', split: str = 'train',
            tfds_dir: str = '') -> list:
  """Finds the corpora that `data.corpora` names; arguments as in DataConfig.

  Returns:
    `Corpus`, `TfdsText` or `PythonDocs` objects, in the given order. The name
    of a corpus is that of its file or folder up to the first dot, or of the
    TFDS data set, with its config if there are several configs of one.

  Raises:
    InputError: a corpus is missing or not readable, or two have one name.
  """
  found = []
  for item in filter(None, (part.strip() for part in corpora.split(','))):
    if item == 'python':
      from robertax.corpus.python_docs import PythonDocs
      found.append(PythonDocs())
    elif item.startswith(TFDS):
      from robertax.corpus.tfds_text import TfdsText
      found.append(TfdsText(item.removeprefix(TFDS), text_field,
                            invalid_utf8, split, tfds_dir))
    else:
      found += [Corpus(name, paths, text_field, invalid_utf8)
                for name, paths in _files_of(item, split)]
  if not found:
    raise InputError('data.corpora is empty: name a file, a folder, a '
                     'glob, tfds:NAME, or python, the embedded text.')
  called = Counter(corpus.name for corpus in found)
  for corpus in found:  # There may be several configs of one TFDS data set.
    if called[corpus.name] > 1 and getattr(corpus, 'config', ''):
      corpus.name = f'{corpus.name}-{corpus.config}'
  places = {}
  for corpus in found:
    place = corpus.files[0] if corpus.files else corpus.name
    if corpus.name in places:
      raise InputError(
          f'data.corpora: two corpora are called {corpus.name!r}: '
          f'{places[corpus.name]} and {place}. Rename one, or put both files '
          'into a folder, which is one corpus.')
    places[corpus.name] = place
  return found


def _files_of(item: str, split: str) -> list[tuple[str, list[str]]]:
  """Returns the name and files of each corpus that an item names."""
  path = item if files.is_remote(item) else os.path.expanduser(item)
  is_folder = files.isdir(path)
  if is_folder:
    found = saved_files(path, split)
    if found is None:
      found = sorted(
          os.path.join(folder, name)
          for folder, _, names in files.walk(path, onerror=_unreadable)
          for name in names if reader_of(name) and not name.startswith('.'))
    if not found:
      raise InputError(f'data.corpora: the folder {path} holds no file ending '
                       f'in {_endings()}.')
  elif files.exists(path):
    found = [path]
  elif glob.has_magic(path):
    found = [f for f in files.glob(path) if not files.isdir(f)]
    if not found:
      raise InputError(f'data.corpora: no file matches {path}.')
  else:
    raise InputError(f'data.corpora: {path} does not exist'
                     f'{files.similar(path)}.')
  for file in found:
    if not is_folder and not reader_of(file):
      raise InputError(f'data.corpora: {file}: a text file ends in '
                       f'{_endings()}.')
    if not files.is_remote(file) and not os.access(file, os.R_OK):
      raise InputError(f'data.corpora: no permission to read {file}.')
  if is_folder:
    return [(_corpus_name(files.absolute(path).rstrip('/')), found)]
  return [(_corpus_name(file), [file]) for file in found]


def _endings() -> str:
  packed = [ending for ending, reader in READERS.items() if reader.packed]
  plain = [ending for ending in READERS if ending not in packed]
  return (f'{", ".join(packed)} (each also {", ".join(PACKINGS)}), '
          f'{", ".join(plain)}')


def _corpus_name(path: str) -> str:
  name = os.path.basename(path).split('.')[0]
  if not name:
    raise InputError(f'data.corpora: {path}: the part before the first dot '
                     'names a corpus, and here it is empty: rename it.')
  return name


def _unreadable(error: OSError):
  raise InputError(f'data.corpora: cannot read the folder {error.filename}: '
                   f'{error.strerror}.') from error


@dataclasses.dataclass(frozen=True)
class Cleaning:
  """What to leave out of a corpus, as in DataConfig: nothing by default."""
  drop_duplicates: bool = False
  min_document_chars: int = 0
  document_filter: str = ''

  def of(self, corpus):
    """Returns the corpus, wrapped if there is something to leave out."""
    return corpus if self == Cleaning() else Cleaned(corpus, self)


class Cleaned:
  """A corpus without what a `Cleaning` leaves out; used as a `Corpus`.

  All passes read it instead of the corpus, and 1 % of what remains is held out.
  The filter, which may change a document, comes before the length and the
  duplicates, of which the first one stays. So documents are compared as they
  would be learned from.

  Attributes:
    counts: also has `filtered_documents`, `edited_documents` (the filter gave
      another text), `too_short_documents` and `duplicate_documents`.
  """

  def __init__(self, corpus, cleaning: Cleaning):
    self._corpus, self._cleaning, self._filter = corpus, cleaning, None
    self._facts = [CLEANING_VERSION, cleaning.drop_duplicates,
                   cleaning.min_document_chars]
    if cleaning.document_filter:
      self._filter = load_filter(cleaning.document_filter)
      self._facts += [cleaning.document_filter, source_hash(self._filter)]

  mark = None  # Duplicates are found only by reading from the beginning.

  def __getattr__(self, name: str):
    return getattr(self._corpus, name)  # Name, files, counts, position, ...

  def fingerprint(self) -> str:
    """Hashes the corpus, the switches, and the filter's source file."""
    return files.json_hash([self._corpus.fingerprint(), self._facts])

  def documents(self) -> Iterator[str]:
    """Yields what remains; an error of the filter is an InputError."""
    seen = Seen() if self._cleaning.drop_duplicates else None
    least = self._cleaning.min_document_chars
    for number, text in enumerate(self._corpus.documents(), 1):
      if self._filter and (text := self._filtered(text, number)) is None:
        continue
      if len(text) < least:
        self.counts['too_short_documents'] += 1
      elif seen is not None and seen.add(text):
        self.counts['duplicate_documents'] += 1
      else:
        yield text

  def _filtered(self, text: str, number: int) -> str | None:
    where = (f'{self.name}: document {number} ({text[:40]!r}...): '
             f'data.document_filter={self._cleaning.document_filter}')
    try:
      answer = self._filter(text)
    except Exception as e:
      *inside, last = traceback.extract_tb(e.__traceback__)
      place = f' at {last.filename}:{last.lineno}' if inside else ''
      raise InputError(f'{where}: {type(e).__name__}: {e}{place}') from e
    if isinstance(answer, str) and answer.strip():
      try:
        answer.encode()
      except UnicodeEncodeError as e:
        raise InputError(f'{where} gave text that is not UTF-8: {e}') from e
      self.counts['edited_documents'] += answer != text
      return answer
    if answer is None or isinstance(answer, str):
      answer = False  # The text is empty, or only space.
    if not isinstance(answer, bool | np.bool_):
      raise InputError(
          f'{where} gave {type(answer).__name__}: True or a text keeps the '
          'document, False or None leaves it out.')
    if answer:
      return text
    self.counts['filtered_documents'] += 1
    return None


class Seen:
  """A set of hashes of texts, which takes about 16 bytes a text and 4 MB.

  The hashes are back to back in 65,536 buckets, which `bytearray.find`
  searches. A Python set would take 100 bytes a text.
  """

  def __init__(self):
    self._buckets = [None] * (1 << 8 * _BUCKET)

  def add(self, text: str) -> bool:
    """Adds a text; returns whether it was in the set before."""
    key = hashlib.blake2b(text.encode(), digest_size=_HASH_BYTES).digest()
    number, rest = int.from_bytes(key[:_BUCKET], 'big'), key[_BUCKET:]
    bucket = self._buckets[number]
    if bucket is None:
      self._buckets[number] = bytearray(rest)
      return False
    place = bucket.find(rest)
    while place % len(rest) and place >= 0:  # This match spans two hashes.
      place = bucket.find(rest, place + 1)
    if place >= 0:
      return True
    bucket += rest
    return False


def filters_of(document_filter: str, corpora: Sequence[str]) -> list[str]:
  """Returns the filter of each corpus.

  >>> filters_of('f:english', ['books', 'news'])
  ['f:english', 'f:english']
  >>> filters_of('news=f:english,stories=f:told', ['books', 'news', 'stories'])
  ['', 'f:english', 'f:told']

  A part that names no corpus, or one that has a filter, is an InputError.
  """
  if '=' not in document_filter:
    return [document_filter] * len(corpora)
  found: dict[str, str] = {}
  for part in document_filter.split(','):
    name, _, one = (word.strip() for word in part.partition('='))
    if name not in corpora or name in found or not one:
      raise InputError(
          f'data.document_filter={document_filter!r}: {part!r} is not '
          'CORPUS=module:function with another corpus in each part; they are '
          f'{", ".join(corpora)}.')
    found[name] = one
  return [found.get(name, '') for name in corpora]


def load_filter(name: str) -> Callable:
  """Imports `module:function`; InputError if there is no such function."""
  module, _, function = name.partition(':')
  if not (module and function):
    raise InputError(f'data.document_filter={name!r}: expected '
                     'module:function, such as my_filters:is_english, a '
                     'function of a text that returns True or False.')
  try:
    found = importlib.import_module(module)
  except ImportError as e:
    raise InputError(
        f'data.document_filter={name!r}: cannot import {module}: {e}. It must '
        f'be in {sys.path[0] or "the current folder"} or where packages are '
        'installed.') from e
  try:
    for part in function.split('.'):
      found = getattr(found, part)
  except AttributeError as e:
    known = [key for key, value in vars(found).items()
             if inspect.isfunction(value) and not key.startswith('_')]
    raise InputError(f'data.document_filter={name!r}: {module} has no such '
                     f'function; it has {", ".join(known[:8]) or "none"}.'
                     ) from e
  if not callable(found):
    raise InputError(f'data.document_filter={name!r}: not a function, but '
                     f'{type(found).__name__}.')
  return found


def source_hash(function: Callable) -> str:
  """Hashes the Python file of a function; InputError if there is none."""
  try:
    path = inspect.getsourcefile(inspect.unwrap(function))
    with open(path, 'rb') as f:
      return hashlib.sha256(f.read()).hexdigest()
  except (TypeError, OSError) as e:
    raise InputError(
        f'data.document_filter: {function!r} has no Python source file, which '
        'the name of the records depends on: wrap it in a function of your '
        'own.') from e
