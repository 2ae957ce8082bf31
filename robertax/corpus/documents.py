"""Documents: the corpora that `data.corpora` names, and their cleaning.

`corpora_of` finds the corpora of a config, and `all_corpora` those of
data.eval_corpora too; folders.py says which files are text. A corpus has a
name, files and a fingerprint, and its documents have a fixed order.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import hashlib
import importlib
import inspect
import itertools
import os
import re
import sys
import traceback

import numpy as np

from robertax import files
from robertax.config import DOCUMENTS, DataConfig
from robertax.corpus import folders
from robertax.corpus.readers import TXT, Reading, cut
from robertax.errors import InputError, unknown
from robertax.progress import say_once

INVALID_UTF8 = ('error', 'replace')
TFDS = 'tfds:'  # Before a data set's name or folder.
CLEANING_VERSION = 1  # Raised whenever other documents would remain.
_HASH_BYTES = 16  # Among 10^12 documents two collide with chance 10^-14.
_BUCKET = 2  # The bytes of a hash that select its bucket.


class Corpus:
  """The documents of one file, or of the files of one folder.

  Attributes:
    name: its name in metrics and folders.
    files: paths, in reading order.
    counts: filled by `documents`: the `empty_documents` (only space) that were
      skipped, the `replaced_bytes` that became U+FFFD, and the reader's counts.
    size, position: bytes of the files, and how many of them have been read.
    mark: (file, index in it) of the last document; reading can start there.
    blank_lines_end: whether blank lines end documents in one of the files.
  """

  def __init__(self, found: folders.Files, text_field: str = 'text',
               invalid_utf8: str = 'error', documents: str = 'blank_lines',
               max_document_chars: int = 0):
    for name, value, known in (('invalid_utf8', invalid_utf8, INVALID_UTF8),
                               ('documents', documents, DOCUMENTS)):
      if value not in known:
        raise unknown(f'value of data.{name}', value, known)
    self.name, self.files, self.counts = found.name, found.paths, Counter()
    self.size = sum(files.stat(path).size for path in self.files)
    self.position, self.mark = 0, (0, 0)
    self._readers, self._replace = found.readers, invalid_utf8 == 'replace'
    self._field, self._law = text_field, (documents, max_document_chars)
    self.blank_lines_end = documents == 'blank_lines' and TXT in found.readers
    self._versions = sorted({
        version for path, reader in zip(found.paths, found.readers)
        for version in reader.versions(path)})

  def fingerprint(self) -> str:
    """Hashes paths, sizes, modification times and package versions."""
    facts = [(files.absolute(path), *files.stat(path)) for path in self.files]
    return files.json_hash([
        facts, self._field, self._replace,
        *([self._versions] if self._versions else []),
        *([] if self._law == ('blank_lines', 0) else [self._law])])

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
      reading = Reading(path, self._field, self._replace, self.counts,
                        self._advance, size, *self._law)
      for text in cut(self._readers[number].read(reading), reading.most,
                      self.counts):
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
  """Finds the corpora of data.corpora, as `resolve` does, and cleans them."""
  return all_corpora(data)[0]


def all_corpora(data: DataConfig) -> tuple[list, list]:
  """Finds the corpora to train on, and those of data.eval_corpora, if any.

  InputError if a file is in both.
  """
  def resolved(key: str) -> list:
    try:
      return resolve(getattr(data, key), data.text_field, data.invalid_utf8,
                     data.split, data.tfds_dir, data.documents,
                     data.max_document_chars, key)
    except InputError as e:  # Most messages begin with the usual key.
      raise InputError(re.sub('^data.corpora', f'data.{key}', str(e))) from e
  found = [resolved('corpora'),
           resolved('eval_corpora') if data.eval_corpora else []]
  _check_apart(*found)
  filters = iter(filters_of(data.document_filter, list(dict.fromkeys(
      corpus.name for corpora in found for corpus in corpora))))
  one_of = {}
  for corpus in itertools.chain(*found):
    if corpus.name not in one_of:
      one_of[corpus.name] = next(filters)
  train, held = ([Cleaning(
      data.drop_duplicates, data.min_document_chars, one_of[corpus.name]
  ).of(corpus) for corpus in corpora] for corpora in found)
  if held:
    train, held = ([Whole(corpus, split) for corpus in corpora]
                   for corpora, split in ((train, 'train'), (held, 'eval')))
  return train, held


def _check_apart(train: list, held: list) -> None:
  """Refuses text that is trained on and held out; says what is read twice."""
  def places(corpus) -> list[str]:
    return getattr(corpus, 'places', None) or [
        path if files.is_remote(path) else os.path.realpath(path)
        for path in corpus.files]

  seen: dict[str, str] = {}
  for corpus in train:
    twice = [place for place in places(corpus) if place in seen]
    if twice:
      say_once(f'{corpus.name}: {len(twice):,} of its files are also read as '
               f'{seen[twice[0]]}: {twice[0]}.')
    seen |= dict.fromkeys(places(corpus), corpus.name)
  for corpus in held:
    for place in places(corpus):
      # `train[90%:]` of a TFDS data set is part of `train`.
      if (place if place in seen else place.partition('[')[0]) in seen:
        raise InputError(
            f'data.eval_corpora: {place} (of {corpus.name}) is also in '
            'data.corpora: a model that has seen the text '
            'cannot be judged by it. Name other files in one of the two.')


class Whole:
  """A corpus that is trained on as a whole ('train'), or held out ('eval')."""

  def __init__(self, corpus, split: str):
    self._corpus, self.split = corpus, split

  def __getattr__(self, name: str):
    return getattr(self._corpus, name)

  def fingerprint(self) -> str:
    return files.json_hash([self._corpus.fingerprint(), self.split])


def resolve(corpora: str, text_field: str = 'text', invalid_utf8: str = 'error',
            split: str = 'train', tfds_dir: str = '',
            documents: str = 'blank_lines', max_document_chars: int = 0,
            key: str = 'corpora') -> list:
  """Finds the corpora that `data.corpora` names; arguments as in DataConfig.

  Behind an @, an item has its own split: `tfds:NAME@test`, `FOLDER@test`.

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
      name = item.removeprefix(TFDS)
      head, _, wanted = name.rpartition('@')
      if not head or '/' in wanted:
        head, wanted = name, split
      found.append(TfdsText(head, text_field, invalid_utf8, wanted, tfds_dir,
                            max_document_chars))
    else:
      found += [Corpus(one, text_field, invalid_utf8, documents,
                       max_document_chars)
                for one in folders.find(item, split, text_field)]
  if not found:
    raise InputError(f'data.{key} is empty: name a file, a folder, a '
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
          f'data.{key}: two corpora are called {corpus.name!r}: '
          f'{places[corpus.name]} and {place}. Rename one, or put both files '
          'into a folder, which is one corpus.')
    places[corpus.name] = place
  return found


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
