"""Corpora of one's own text: what `data.corpora` names becomes documents.

A kind of file is a row of `READERS`: .txt holds documents with blank lines
between, .jsonl one document a line, others are what other tools leave. Whatever
is not as it should be is an error with its file and place, or counted.
"""

from collections import Counter
from collections.abc import Iterator
import glob
import hashlib
import json
import os
import re

from robertax import paths
from robertax.corpus.archives import warc
from robertax.corpus.cleaning import Cleaning, filters_of
from robertax.corpus.compression import PACKINGS
from robertax.corpus.python_docs import PythonDocs
from robertax.corpus.readers import arrow, parquet, saved_files
from robertax.corpus.reading import Reader, Reading
from robertax.corpus.text_files import jsonl, txt
from robertax.corpus.tfds_text import PREFIX, TfdsText
from robertax.corpus.wiki_dumps import wiki
from robertax.errors import InputError, unknown

_WARC = Reader(warc, ('warcio', 'resiliparse'), 'warc')
READERS = {
    '.txt': Reader(txt),
    '.jsonl': Reader(jsonl),
    '.parquet': Reader(parquet, ('pyarrow',), packed=False),
    '.arrow': Reader(arrow, ('pyarrow',), packed=False),
    '.warc': _WARC,
    '.wet': _WARC,
    '.xml': Reader(wiki, ('mwparserfromhell',), 'wiki'),
}
INVALID_UTF8 = ('error', 'replace')
# Parts of a dump: enwiki-20260101-pages-articles1.xml-p1p41242.bz2
_PART = re.compile(r'(?<=\.xml)-p\d+p\d+$')


def reader_of(path: str) -> Reader | None:
  """The row of `READERS` for a file, by its name; None: there is none."""
  name, packing = path, ''
  if path.endswith(PACKINGS):
    name, _, packing = path.rpartition('.')
  reader = READERS.get(os.path.splitext(_PART.sub('', name))[1])
  return None if reader is None or packing and not reader.packed else reader


class Corpus:
  """The documents of one file, or of the files of one folder.

  Attributes:
    name: what metrics and folders call it.
    files: paths, in reading order.
    counts: filled by `documents`: `empty_documents` (nothing but space) were
      skipped, `replaced_bytes` became U+FFFD, and what each reader counts.
    size, position: bytes of the files, and how many of them were read.
    mark: (file, number in it) of the document that was given last: with it
      reading can begin there.
  """

  def __init__(self, name: str, sources: list[str], text_field: str = 'text',
               invalid_utf8: str = 'error'):
    if invalid_utf8 not in INVALID_UTF8:
      raise unknown('value of data.invalid_utf8', invalid_utf8, INVALID_UTF8)
    self.name = name
    self.files = sources
    self.counts = Counter()
    self.size = sum(paths.stat(path).size for path in self.files)
    self.position = 0
    self.mark = 0, 0
    self._text_field = text_field
    self._replace = invalid_utf8 == 'replace'
    self._versions = sorted({
        version for path in self.files
        for version in reader_of(path).versions(path)})

  def fingerprint(self) -> str:
    """A hash of where the files are, their sizes and modification times, and
    of the packages that make text of them."""
    facts = [(paths.absolute(path), *paths.stat(path)) for path in self.files]
    return hashlib.sha256(json.dumps(
        [facts, self._text_field, self._replace,
         *([self._versions] if self._versions else [])]).encode()).hexdigest()

  def documents(self, mark: tuple[int, int] = (0, 0)) -> Iterator[str]:
    """Reads the documents, one in memory at a time.

    Lines of a document end with '\n'.

    Args:
      mark: of the document to begin with: files before its own are not opened,
        documents before it in its own are passed over. `counts` are then of
        what was read.

    Raises:
      InputError: with the file and the line, row or record.
    """
    first, passed = mark
    self.counts.clear()
    self.position = sum(paths.stat(path).size for path in self.files[:first])
    for number, path in enumerate(self.files[first:], first):
      given = 0
      before, size = self.position, paths.stat(path).size
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


def corpora_of(data) -> list:
  """The corpora of a config's `data` section, cleaned as it says.

  Args:
    data: has corpora, text_field, invalid_utf8, split, tfds_dir and the keys of
      `cleaning.Cleaning` (data.DataConfig).

  Raises:
    InputError: as `resolve`.
  """
  found = resolve(data.corpora, data.text_field, data.invalid_utf8, data.split,
                  data.tfds_dir)
  filters = filters_of(data.document_filter, [corpus.name for corpus in found])
  return [Cleaning(data.drop_duplicates, data.min_document_chars, one).of(
      corpus) for corpus, one in zip(found, filters)]


def resolve(corpora: str, text_field: str = 'text',
            invalid_utf8: str = 'error', split: str = 'train',
            tfds_dir: str = '') -> list:
  """Finds the corpora that `data.corpora` names.

  Args:
    corpora: with commas between: a file; a folder (all its files together are
      one corpus); a glob (each file a corpus); `tfds:NAME` or `tfds:FOLDER`;
      `python`, the embedded text.
    text_field: the field, column or feature that holds the text.
    invalid_utf8: 'error' or 'replace'.
    split: of data sets with splits.
    tfds_dir: where TFDS's prepared data sets lie.

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
      found.append(PythonDocs())
      continue
    if item.startswith(PREFIX):
      found.append(TfdsText(item, text_field, invalid_utf8, split, tfds_dir))
      continue
    found += [Corpus(name, files, text_field, invalid_utf8)
              for name, files in _files_of(item, split)]
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
  path = item if paths.is_remote(item) else os.path.expanduser(item)
  if paths.isdir(path):
    found = saved_files(path, split)
    if found is None:
      found = sorted(
          os.path.join(folder, name)
          for folder, _, names in paths.walk(path, onerror=_unreadable)
          for name in names
          if reader_of(name) and not name.startswith('.'))
    if not found:
      raise InputError(f'data.corpora: the folder {path} holds no file ending '
                       f'in {_endings()}.')
    return [(_name(os.path.basename(paths.absolute(path).rstrip('/')), path),
             _readable(found))]
  if paths.exists(path):
    found = [path]
  elif glob.has_magic(path):
    found = [f for f in paths.glob(path) if not paths.isdir(f)]
    if not found:
      raise InputError(f'data.corpora: no file matches {path}.')
  else:
    raise InputError(f'data.corpora: {path} does not exist.')
  for file in found:
    if not reader_of(file):
      raise InputError(f'data.corpora: {file}: a text file ends in '
                       f'{_endings()}.')
  return [(_name(os.path.basename(file), file), [file])
          for file in _readable(found)]


def _endings() -> str:
  """The names of files that are read, for messages."""
  packed = [ending for ending, reader in READERS.items() if reader.packed]
  plain = [ending for ending in READERS if ending not in packed]
  return (f'{", ".join(packed)} (each also {", ".join(PACKINGS)}), '
          f'{", ".join(plain)}')


def _name(base: str, path: str) -> str:
  name = base.split('.')[0]
  if not name:
    raise InputError(f'data.corpora: {path}: a corpus is named by what stands '
                     'before the first dot, and here nothing does: rename it.')
  return name


def _readable(candidates: list[str]) -> list[str]:
  for file in candidates:
    if not paths.is_remote(file) and not os.access(file, os.R_OK):
      raise InputError(f'data.corpora: no permission to read {file}.')
  return candidates


def _unreadable(error: OSError):
  raise InputError(f'data.corpora: cannot read the folder {error.filename}: '
                   f'{error.strerror}.') from error
