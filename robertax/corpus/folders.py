"""Folders: which files are text to learn from, and how each is read.

A file is known by the ending of its name (`READERS`), in any case, or by its
first bytes. Of a folder or a glob only text is taken, and what is passed over
is printed with the reason; a file that is named itself is read if it can be.
"""

import codecs
from collections import Counter
from collections.abc import Iterator
import glob
import json
import os
import re
from typing import NamedTuple

from robertax import files
from robertax.corpus.readers import PACKINGS, Reader, first_bytes, saved_files
from robertax.errors import InputError
from robertax.progress import say_once
from robertax.tables import LazyTable

# The keys are endings of file names; each row is a `Reader`.
READERS = LazyTable({
    '.txt': 'robertax.corpus.readers:TXT',
    '.text': 'robertax.corpus.readers:TXT',
    '.jsonl': 'robertax.corpus.readers:JSONL',
    '.json': 'robertax.corpus.readers:JSONL',
    '.ndjson': 'robertax.corpus.readers:JSONL',
    '.parquet': 'robertax.corpus.readers:PARQUET',
    '.arrow': 'robertax.corpus.readers:ARROW',
    '.arrows': 'robertax.corpus.readers:ARROW',
    '.ipc': 'robertax.corpus.readers:ARROW',
    '.feather': 'robertax.corpus.readers:ARROW',
    '.warc': 'robertax.corpus.archives:WARC',
    '.wet': 'robertax.corpus.archives:WET',
    '.xml': 'robertax.corpus.archives:WIKI'})
# Other files have these endings too, so that in folders their content decides.
_DOUBTFUL = ('.json', '.xml')
_RAW = ('.csv', '.tsv', '.html', '.htm', '.xhtml', '.xml')
# Data beside other text is all that is read, unless it is less than this share
# of the bytes: a requirements.txt among sources is no corpus.
DATA_SHARE = 0.1
# Files that say something about a folder's other files.
ABOUT = re.compile(
    r'(readme|licen[cs]e|copying|notice|changelog|citation|_metadata|'
    r'_common_metadata|dataset_infos?|(sha\d*|md5|check)sums?)([-._].*)?', re.I)
_SPLITS = {'train': 'train|training', 'validation': 'valid|validation|val|dev',
           'test': 'test|testing'}
# Parts of a dump have names like enwiki-20260101-pages-articles1.xml-p1p41.bz2
_SHARD_NUMBER = re.compile(r'(?<=\.xml)-p\d+p\d+$')
_NAMED = 3  # Names that a line gives of each kind.


class Files(NamedTuple):
  """The files of one corpus, in reading order, and how each is read."""
  name: str
  paths: list[str]
  readers: list[Reader]


def ending_of(path: str) -> str:
  """Returns the ending without that of a compression, in lower case."""
  name = os.path.basename(path).lower()
  if name.endswith(PACKINGS):
    name = name.rpartition('.')[0]
  return os.path.splitext(_SHARD_NUMBER.sub('', name))[1]


def reader_of(path: str) -> Reader | None:
  """Returns the row of `READERS` for a file's name, if any."""
  reader = READERS.get(ending_of(path))
  packed = path.lower().endswith(PACKINGS)
  return None if reader is None or packed and not reader.packed else reader


def _said_ending(path: str) -> str:
  packed = path.lower().endswith(PACKINGS)
  return (ending_of(path) + packed * os.path.splitext(path)[1].lower()
          or 'without an ending')


class _Known(NamedTuple):
  """What a file is: data or other text with a reader, or why it is no text."""
  reader: Reader | None
  data: bool = True
  why: str = ''


def _by_content(path: str, field: str) -> _Known:
  """Recognises a file by its first bytes."""
  head, packing = first_bytes(path)
  if head is None:  # Of known data its reader says so.
    return _Known(reader_of(path), why='' if reader_of(path) else 'damaged')
  head = head.removeprefix(b'\xef\xbb\xbf')
  for start, ending in ((b'PAR1', '.parquet'), (b'ARROW1', '.arrow'),
                        (b'FEA1', '.feather'), (b'WARC/', '.warc'),
                        (b'\xff\xff\xff\xff', '.arrow')):
    if head.startswith(start):
      reader = READERS[ending]
      if packing and not reader.packed:
        return _Known(None, why=f'{ending} inside {packing}: unpack it')
      return _Known(reader)
  if head.lstrip().startswith(b'<') and b'<mediawiki' in head:
    return _Known(READERS['.xml'])
  if b'\0' in head:
    return _Known(None, why='binary')
  line = head.lstrip().partition(b'\n')[0]
  if line.startswith(b'{'):
    try:
      value = json.loads(line)
      if field in value and isinstance(value[field], str | None):
        return _Known(READERS['.jsonl'])
      return _Known(None, why=f'JSON without a field {field!r}')
    except (ValueError, RecursionError):  # Its first line may be longer.
      if re.match(rb'{\s*"', line) and (
          len(line) == len(head) and json.dumps(field).encode() in line):
        return _Known(READERS['.jsonl'])
  if ending_of(path) == '.json':
    return _Known(None, why='JSON, but not an object a line')
  if not head:
    return _Known(None, why='empty')
  try:  # The last character may be cut.
    codecs.getincrementaldecoder('utf-8')().decode(head)
  except UnicodeDecodeError:
    return _Known(READERS['.txt'], False, 'not UTF-8')
  return _Known(READERS['.txt'], False)


def _known(path: str, field: str) -> _Known:
  """Says what a file of a folder or a glob is."""
  reader = reader_of(path)
  if reader and not (ending_of(path) in _DOUBTFUL
                     # To open thousands in a bucket takes minutes.
                     and not (files.is_remote(path)
                              and path.lower().endswith(PACKINGS))):
    return _Known(reader)
  return _by_content(path, field)


def named_reader(path: str, field: str) -> Reader:
  """Returns the reader of a file that a person names; InputError if binary."""
  if reader := reader_of(path):
    return reader
  found = _by_content(path, field)
  if found.why.startswith('JSON'):
    return READERS['.jsonl']  # Its reader says what is wrong.
  if found.reader is None and found.why != 'empty':
    raise InputError(f'data.corpora: {path}: it is {found.why}. A text file '
                     f'ends in {endings()}, or holds UTF-8 text.')
  _say_raw([path])
  return found.reader or READERS['.txt']


def _say_raw(paths: list[str]) -> None:
  """Says that the signs of tables and pages become text."""
  raw = [path for path in paths if ending_of(path) in _RAW]
  if raw:
    say_once(f'{raw[0]}{f" and {len(raw) - 1:,} more" * (len(raw) > 1)}: read '
             'as plain text, with all its commas or tags. JSON lines or '
             'Parquet would give its text alone.')


def endings() -> str:
  packed = [ending for ending, reader in READERS.items() if reader.packed]
  plain = [ending for ending in READERS if ending not in packed]
  return (f'{", ".join(packed)} (each also {", ".join(PACKINGS)}), '
          f'{", ".join(plain)}')


class _Passed:
  """What is passed over, by reason."""

  def __init__(self):
    self._names: dict[str, list[str]] = {}

  def add(self, why: str, name: str) -> None:
    self._names.setdefault(why, []).append(name)

  def __str__(self) -> str:
    return '; '.join(
        f'{len(names):,} {why} ({", ".join(names[:_NAMED])}'
        f'{", ..." if len(names) > _NAMED else ""})'
        for why, names in sorted(self._names.items()))

  def say(self, where: str, taken: list[str]) -> None:
    """Prints it, with the endings of what is read."""
    if self._names:
      kinds = Counter(_said_ending(path) for path in taken)
      say_once(f'{where}: reads {len(taken):,} files ('
               + ', '.join(f'{n:,} {kind}' for kind, n in kinds.most_common())
               + f') and passes over {self}. A file that data.corpora names '
               'itself is read.')


def _walk(root: str, passed: _Passed) -> Iterator[tuple[str, list[str]]]:
  """Yields each folder from a root on, and its files; links are followed."""
  remote, entered = files.is_remote(root), set()
  top = root if remote else os.path.realpath(root)
  for folder, folders, names in files.walk(root, onerror=_unreadable):
    inside = os.path.relpath(folder, root) if not remote else (
        folder.removeprefix(root).strip('/'))
    if any(part.startswith('.') and part != '.' for part in inside.split('/')):
      continue  # Only of a bucket: others are not entered.
    folders.sort()  # Of links to one folder, always the same is followed.
    for name in list(folders):
      path = os.path.join(folder, name)
      why = ('hidden folders' if name.startswith('.') else
             '' if remote else _entered(path, top, entered))
      if why:
        folders.remove(name)
        passed.add(why, os.path.relpath(path, root))
    yield folder, names


def _below(root: str, passed: _Passed) -> list[str]:
  """Returns the files below a folder, links followed, sorted by path."""
  found = []
  for folder, names in _walk(root, passed):
    for name in names:
      if name.startswith('.'):
        passed.add('hidden files', name)
      else:
        found.append(os.path.join(folder, name))
  return sorted(found)


def _entered(path: str, top: str, entered: set[str]) -> str:
  """Says why a linked folder is not entered; '' if it is."""
  if not os.path.islink(path):
    return ''
  real = os.path.realpath(path)
  inside = os.path.relpath(real, top).split('/')
  if f'{top}/'.startswith(f'{real}/'):
    return 'links in a loop'
  if inside[0] != '..' and not any(part.startswith('.') for part in inside) or (
      any(f'{real}/'.startswith(f'{other}/') for other in entered)):
    return 'links to folders that are read anyway'
  entered.add(real)
  return ''


def _unreadable(error: OSError):
  raise InputError(f'data.corpora: cannot read the folder {error.filename}: '
                   f'{error.strerror}.') from error


def _chosen(paths: list[str], field: str, passed: _Passed, root: str
            ) -> list[tuple[str, Reader]]:
  """Returns the files that are text to learn from, with their readers."""
  data, other, sizes = [], [], Counter()
  remote = files.is_remote(root)
  own: dict[str, str] = {}  # Of the paths of one file, that which is no link.
  for path in () if remote else paths:
    real = os.path.realpath(path)
    if real not in own or real == os.path.abspath(path):
      own[real] = path
  for path in paths:
    name = path.removeprefix(root).lstrip('/')
    if not remote and not os.path.isfile(path):
      passed.add('links to nothing' if os.path.islink(path) else 'no files',
                 name)
    elif not remote and own[os.path.realpath(path)] != path:
      passed.add('links to files that are read anyway', name)
    elif ABOUT.fullmatch(os.path.basename(path)):
      passed.add('about the other files', name)
    else:
      if not remote and not os.access(path, os.R_OK):
        raise InputError(f'data.corpora: no permission to read {path}.')
      known = _known(path, field)
      if known.reader is None or known.why:
        passed.add(known.why, name)
      else:
        (data if known.data else other).append((path, known.reader))
        sizes[known.data] += files.stat(path).size
  if data and sizes[True] >= DATA_SHARE * (sizes[True] + sizes[False]):
    for path, _ in other:
      passed.add('beside the text data',
                 path.removeprefix(root).lstrip('/'))
    return data
  return sorted(data + other, key=lambda known: known[0])


def split_of(path: str) -> str:
  """Returns the split that a path names: 'train', 'validation', 'test' or ''.

  >>> split_of('books/valid-00001.jsonl'), split_of('trains.txt')
  ('validation', '')
  """
  for split, words in _SPLITS.items():
    if re.search(rf'(^|[^a-z])({words})([^a-z]|$)', path.lower()):
      return split
  return ''


def _of_split(where: str, paths: list[str], wanted: str) -> list[str]:
  """Returns the files of a wanted split, or all; says that there are splits."""
  splits = [split_of(path.removeprefix(where)) for path in paths]
  found = Counter(filter(None, splits))
  if wanted:
    name = split_of(wanted) or wanted
    if name not in found:
      raise InputError(
          f'data.corpora: {where}@{wanted}: no file there is named like that '
          f'split; there are {", ".join(found) or "none"}.')
    return [path for path, split in zip(paths, splits) if split == name]
  if 'train' in found and len(found) > 1:
    other = 'validation' if 'validation' in found else 'test'
    say_once(
        f'{where}: its files are named like splits '
        f'({", ".join(f"{n:,} {split}" for split, n in found.items())}), and '
        f'all of them are read as one. data.corpora={where}@train with '
        f'data.eval_corpora={where}@{other} keeps them apart.')
  return paths


def _of_folder(path: str, split: str, wanted: str, field: str) -> Files | str:
  """Returns the corpus of a folder, or why it is none."""
  path = path.rstrip('/') or '/'
  if (saved := saved_files(path, wanted or split)) is not None:
    found = [(file, reader_of(file)) for file in saved]
  else:
    passed = _Passed()
    paths = _of_split(path, _below(path, passed), wanted)
    found = _chosen(paths, field, passed, path)
    if not found:
      return (f'the folder {path} holds no text: no file ends in {endings()}, '
              'or is UTF-8 text' + (f'; {passed}' if str(passed) else ''))
    passed.say(path, [file for file, _ in found])
    _say_raw([file for file, _ in found])
  return Files(corpus_name(files.absolute(path)), *map(list, zip(*found)))


def find(item: str, split: str = 'train', field: str = 'text') -> list[Files]:
  """Returns the corpora that an item of data.corpora names.

  Args:
    item: a file, a folder, or a glob, whose files and folders are corpora;
      behind an @, the split of a folder.
    split, field: data.split and data.text_field.

  Raises:
    InputError: there is none, or one that cannot be read.
  """
  path = item if files.is_remote(item) else os.path.expanduser(item)
  wanted = ''
  head, _, last = path.rpartition('@')
  if head and '/' not in last and not (
      glob.has_magic(last) or files.exists(path)):
    path, wanted = head, last
  if files.isdir(path):
    found = _of_folder(path, split, wanted, field)
    if isinstance(found, str):
      raise InputError(f'data.corpora: {found}.')
    return [found]
  if files.exists(path):
    if wanted:
      raise InputError(f'data.corpora: {item}: a split is of a folder, and '
                       f'{path} is a file: name it without @{wanted}.')
    if not files.is_remote(path) and not os.path.isfile(path):
      raise InputError(f'data.corpora: {path} is no file but a pipe or a '
                       'device, and text is read more than once: write it to '
                       'a file first.')
    if not files.is_remote(path) and not os.access(path, os.R_OK):
      raise InputError(f'data.corpora: no permission to read {path}.')
    return [Files(corpus_name(path), [path], [named_reader(path, field)])]
  if glob.has_magic(path):
    return _of_glob(path, split, wanted, field)
  raise InputError(f'data.corpora: {path} does not exist{files.similar(path)}.')


def _matches(pattern: str, passed: _Passed) -> list[str]:
  """Returns what matches, sorted; unlike in glob, ** enters no folder twice.

  With two links in a loop the library's ** comes to no end.
  """
  parts = pattern.split('/')
  if files.is_remote(pattern) or '**' not in parts:
    return files.glob(pattern)
  place, found = parts.index('**'), set()
  for root in files.glob(os.path.join('/'.join(parts[:place]), '')) if (
      any(parts[:place])) else ['/' if place else '']:
    for folder, names in _walk(root or '.', passed):
      folder = os.path.join(root, os.path.relpath(folder, root or '.'), '')
      folder = folder.removesuffix('./')
      if rest := parts[place + 1:]:
        found.update(_matches(glob.escape(folder) + '/'.join(rest), passed))
      else:
        found.update([folder, *(folder + name for name in names
                                if not name.startswith('.'))])
  return sorted(found - {''})


def _of_glob(pattern: str, split: str, wanted: str, field: str) -> list[Files]:
  """Returns a corpus for each file and folder that matches."""
  passed, above = _Passed(), set()
  matches = _matches(pattern, passed)
  for path in matches:
    while (path := os.path.dirname(path.rstrip('/'))) and path not in above:
      above.add(path)
  root = os.path.dirname(pattern[:re.search(r'[*?[]', pattern).start()] + 'x')
  folders = {path for path in matches if files.isdir(path)}
  paths = [path for path in matches if path not in folders]
  if paths:
    paths = _of_split(root, paths, wanted)
  found = [Files(corpus_name(path), [path], [reader])
           for path, reader in _chosen(paths, field, passed, root)]
  # With ** a folder matches as well as what it holds.
  for path in sorted(path for path in folders if path.rstrip('/') not in above):
    corpus = _of_folder(path, split, wanted, field)
    if isinstance(corpus, str):
      passed.add('folders without text', path)
    else:
      found.append(corpus)
  if not found:
    raise InputError(f'data.corpora: no file matches {pattern}'
                     + (f': {passed}' if str(passed) else '') + '.')
  _say_raw([path for corpus in found for path in corpus.paths])
  passed.say(pattern, [path for corpus in found for path in corpus.paths])
  return sorted(found, key=lambda corpus: corpus.paths[0])


def corpus_name(path: str) -> str:
  """Returns a file's or folder's name up to the first dot."""
  name = os.path.basename(path).split('.')[0]
  if not name:
    raise InputError(f'data.corpora: {path}: the part before the first dot '
                     'names a corpus, and here it is empty: rename it.')
  return name
