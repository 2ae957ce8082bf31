"""Documents: what `data.corpora` names, and what is left out of it on purpose.

A kind of file is a row of `READERS`. `corpora_of` finds the corpora of a
config; each has a name, files, and a fingerprint, and gives its documents in a
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

from robertax import files
from robertax.config import DataConfig
from robertax.corpus.readers import PACKINGS, Reader, Reading, saved_files
from robertax.errors import InputError, unknown
from robertax.tables import Table

# By a file's ending; each row is a `Reader`.
READERS = Table({
    '.txt': 'robertax.corpus.readers:TXT',
    '.jsonl': 'robertax.corpus.readers:JSONL',
    '.parquet': 'robertax.corpus.readers:PARQUET',
    '.arrow': 'robertax.corpus.readers:ARROW',
    '.warc': 'robertax.corpus.archives:WARC',
    '.wet': 'robertax.corpus.archives:WARC',
    '.xml': 'robertax.corpus.archives:WIKI'})
INVALID_UTF8 = ('error', 'replace')
TFDS = 'tfds:'  # Before a data set's name or folder.
CLEANING_VERSION = 1  # Raised whenever other documents would remain.
_HASH_BYTES = 16  # Two of 10^12 documents agree by chance once in 10^14.
_BUCKET = 2  # Bytes of a hash that say where the others are kept.
# Parts of a dump: enwiki-20260101-pages-articles1.xml-p1p41242.bz2
_SHARD_NUMBER = re.compile(r'(?<=\.xml)-p\d+p\d+$')


def reader_of(path: str) -> Reader | None:
  """The row of `READERS` for a file's name; None: there is none."""
  name, packing = path, ''
  if path.endswith(PACKINGS):
    name, _, packing = path.rpartition('.')
  reader = READERS.get(os.path.splitext(_SHARD_NUMBER.sub('', name))[1])
  return None if reader is None or packing and not reader.packed else reader


class Corpus:
  """The documents of one file, or of the files of one folder.

  Attributes:
    name: what metrics and folders call it.
    files: paths, in reading order.
    counts: filled by `documents`: `empty_documents` (nothing but space) were
      skipped, `replaced_bytes` became U+FFFD, and what each reader counts.
    size, position: bytes of the files, and how many of them were read.
    mark: (file, number in it) of the document that was given last; reading can
      begin at a mark.
  """

  def __init__(self, name: str, sources: list[str], text_field: str = 'text',
               invalid_utf8: str = 'error'):
    if invalid_utf8 not in INVALID_UTF8:
      raise unknown('value of data.invalid_utf8', invalid_utf8, INVALID_UTF8)
    self.name = name
    self.files = sources
    self.counts = Counter()
    self.size = sum(files.stat(path).size for path in self.files)
    self.position = 0
    self.mark = 0, 0
    self._text_field = text_field
    self._replace = invalid_utf8 == 'replace'
    self._versions = sorted({
        version for path in self.files
        for version in reader_of(path).versions(path)})

  def fingerprint(self) -> str:
    """A hash of paths, sizes, modification times and package versions."""
    facts = [(files.absolute(path), *files.stat(path)) for path in self.files]
    return files.json_hash([facts, self._text_field, self._replace,
                            *([self._versions] if self._versions else [])])

  def documents(self, mark: tuple[int, int] = (0, 0)) -> Iterator[str]:
    """Reads the documents, one in memory at a time, with Unix line ends.

    Args:
      mark: of the document to begin with. Files before its own are not opened;
        `counts` are those of what was read.

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
  """The corpora of a config's `data` section, cleaned as it says.

  Raises:
    InputError: as `resolve`; a filter that is no function.
  """
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
    `Corpus`, `TfdsText` or `PythonDocs` objects, in the order given. A file's
    corpus is called as the file up to its first dot, one of TFDS as the data
    set, with its config where another config of it is there too.

  Raises:
    InputError: nothing there, nothing readable, or two of one name.
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
  for corpus in found:  # Parts of one data set, such as c4's.
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
  """(name, files) of each corpus that one item of data.corpora means."""
  path = item if files.is_remote(item) else os.path.expanduser(item)
  if files.isdir(path):
    found = saved_files(path, split)
    if found is None:
      found = sorted(
          os.path.join(folder, name)
          for folder, _, names in files.walk(path, onerror=_unreadable)
          for name in names
          if reader_of(name) and not name.startswith('.'))
    if not found:
      raise InputError(f'data.corpora: the folder {path} holds no file ending '
                       f'in {_endings()}.')
    return [(_corpus_name(os.path.basename(files.absolute(path).rstrip('/')),
                          path), _readable(found))]
  if files.exists(path):
    found = [path]
  elif glob.has_magic(path):
    found = [f for f in files.glob(path) if not files.isdir(f)]
    if not found:
      raise InputError(f'data.corpora: no file matches {path}.')
  else:
    raise InputError(f'data.corpora: {path} does not exist.')
  for file in found:
    if not reader_of(file):
      raise InputError(f'data.corpora: {file}: a text file ends in '
                       f'{_endings()}.')
  return [(_corpus_name(os.path.basename(file), file), [file])
          for file in _readable(found)]


def _endings() -> str:
  """The endings of files that are read, for messages."""
  packed = [ending for ending, reader in READERS.items() if reader.packed]
  plain = [ending for ending in READERS if ending not in packed]
  return (f'{", ".join(packed)} (each also {", ".join(PACKINGS)}), '
          f'{", ".join(plain)}')


def _corpus_name(base: str, path: str) -> str:
  name = base.split('.')[0]
  if not name:
    raise InputError(f'data.corpora: {path}: a corpus is named by what stands '
                     'before the first dot, and here nothing does: rename it.')
  return name


def _readable(candidates: list[str]) -> list[str]:
  for file in candidates:
    if not files.is_remote(file) and not os.access(file, os.R_OK):
      raise InputError(f'data.corpora: no permission to read {file}.')
  return candidates


def _unreadable(error: OSError):
  raise InputError(f'data.corpora: cannot read the folder {error.filename}: '
                   f'{error.strerror}.') from error


# Cleaning leaves documents out on purpose, and counts them. All of it is off by
# default: the paper says nothing of it. A `Cleaned` corpus stands for the one
# it wraps, so every pass reads the same documents, and the last 1 % of those
# that remain is held out.


@dataclasses.dataclass(frozen=True)
class Cleaning:
  """What is left out of one corpus; attributes as in DataConfig."""
  drop_duplicates: bool = False
  min_document_chars: int = 0
  document_filter: str = ''

  def of(self, corpus):
    """The corpus, cleaned; itself where nothing is to be left out."""
    return corpus if self == Cleaning() else Cleaned(corpus, self)


class Cleaned:
  """A corpus without what a `Cleaning` leaves out; used as a `Corpus`.

  The filter comes first, which may change a document, then the length, then the
  duplicates, of which the first one stays: so a document is compared as it
  would be learned from.

  Attributes:
    counts: besides the corpus's own `filtered_documents`, `edited_documents`
      (the filter gave another text), `too_short_documents` and
      `duplicate_documents`.
  """

  def __init__(self, corpus, cleaning: Cleaning):
    self._corpus = corpus
    self._cleaning = cleaning
    self._filter = None
    self._facts = [CLEANING_VERSION, cleaning.drop_duplicates,
                   cleaning.min_document_chars]
    if cleaning.document_filter:
      self._filter = load_filter(cleaning.document_filter)
      self._facts += [cleaning.document_filter, source_hash(self._filter)]

  mark = None  # Reading cannot begin in the middle: all before must be seen.

  def __getattr__(self, name: str):
    return getattr(self._corpus, name)  # Name, files, counts, position, ...

  def fingerprint(self) -> str:
    """A hash of the corpus, the switches, and the filter's source file."""
    return files.json_hash([self._corpus.fingerprint(), self._facts])

  def documents(self) -> Iterator[str]:
    """The documents that remain; an error of the filter is an InputError."""
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
    name = self._cleaning.document_filter
    where = f'{self.name}: document {number} ({text[:40]!r}...)'
    try:
      answer = self._filter(text)
    except Exception as e:
      place = ''
      if e.__traceback__.tb_next:
        last = e.__traceback__
        while last.tb_next:
          last = last.tb_next
        place = f' at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}'
      raise InputError(f'{where}: data.document_filter={name}: '
                       f'{type(e).__name__}: {e}{place}') from e
    if isinstance(answer, str) and answer.strip():
      try:
        answer.encode()
      except UnicodeEncodeError as e:
        raise InputError(f'{where}: data.document_filter={name} gave text that '
                         f'is no UTF-8: {e}') from e
      self.counts['edited_documents'] += answer != text
      return answer
    if answer is None or isinstance(answer, str):
      answer = False  # A text that is empty, or nothing but space.
    if type(answer).__name__ not in ('bool', 'bool_'):  # NumPy's too.
      raise InputError(
          f'{where}: data.document_filter={name} gave '
          f'{type(answer).__name__}: True or a text keeps the document, False '
          'or None leaves it out.')
    if answer:
      return text
    self.counts['filtered_documents'] += 1
    return None


class Seen:
  """A set of texts, by hashes, in about 16 bytes a text and 4 MB.

  The hashes stand one behind another in 65,536 buckets, and are looked for by
  `bytearray.find`. A Python set would take 100 bytes a text.
  """

  def __init__(self):
    self._buckets = [None] * (1 << 8 * _BUCKET)

  def add(self, text: str) -> bool:
    """Adds a text, and says whether it was there before."""
    key = hashlib.blake2b(text.encode(), digest_size=_HASH_BYTES).digest()
    number, rest = int.from_bytes(key[:_BUCKET], 'big'), key[_BUCKET:]
    bucket = self._buckets[number]
    if bucket is None:
      self._buckets[number] = bytearray(rest)
      return False
    place = bucket.find(rest)
    while place % len(rest) and place >= 0:  # Across two hashes: none.
      place = bucket.find(rest, place + 1)
    if place >= 0:
      return True
    bucket += rest
    return False


def filters_of(document_filter: str, corpora: Sequence[str]) -> list[str]:
  """The filter of each corpus.

  >>> filters_of('f:english', ['books', 'news'])
  ['f:english', 'f:english']
  >>> filters_of('news=f:english,stories=f:told', ['books', 'news', 'stories'])
  ['', 'f:english', 'f:told']

  Raises:
    InputError: a part names no corpus, or one that has a filter already.
  """
  if '=' not in document_filter:
    return [document_filter] * len(corpora)
  found: dict[str, str] = {}
  for part in document_filter.split(','):
    name, _, one = (word.strip() for word in part.partition('='))
    if name not in corpora or name in found or not one:
      raise InputError(
          f'data.document_filter={document_filter!r}: {part!r} is none of '
          'CORPUS=module:function, each corpus once; they are '
          f'{", ".join(corpora)}.')
    found[name] = one
  return [found.get(name, '') for name in corpora]


def load_filter(name: str) -> Callable:
  """The function that `module:function` names, or an InputError."""
  module, colon, function = name.partition(':')
  if not (module and colon and function):
    raise InputError(f'data.document_filter={name!r}: module:function, such as '
                     'my_filters:is_english, a function of a text that gives '
                     'True or False.')
  try:
    found = importlib.import_module(module)
  except ImportError as e:
    raise InputError(
        f'data.document_filter={name!r}: cannot import {module}: {e}. It is '
        f'looked for in {sys.path[0] or "the current folder"} and where '
        'packages are installed.') from e
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
  """A hash of the Python file of a function; an InputError if there is none."""
  try:
    path = inspect.getsourcefile(inspect.unwrap(function))
    with open(path, 'rb') as f:
      return hashlib.sha256(f.read()).hexdigest()
  except (TypeError, OSError) as e:
    raise InputError(
        f'data.document_filter: {function!r} has no Python source file, and '
        'records are told apart by it: wrap it in a function of your own.'
        ) from e
