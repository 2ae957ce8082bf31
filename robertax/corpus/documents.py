"""Corpora of one's own text: files become documents.

A `.txt` file holds documents with blank lines between, a `.jsonl` file one
document a line, in a field of the line's object; each plain, `.gz` or `.zst`.
Text is UTF-8, lines may end as Windows has them, a byte-order mark is skipped.
Whatever is not as it should be is an error with its file and line, or counted.
"""

from collections import Counter
from collections.abc import Iterator
import glob
import hashlib
import json
import os
import re

from robertax.corpus import compression
from robertax.corpus.python_docs import PythonDocs
from robertax.errors import InputError
from robertax.sections import unknown

SUFFIXES = ('.txt', '.jsonl')
ENDINGS = tuple(s + c for s in SUFFIXES for c in ('', '.gz', '.zst'))
MAX_REJOINED = 1000  # Lines; one after another is read, so it must end.
INVALID_UTF8 = ('error', 'replace')
_SURROGATE = re.compile('[\ud800-\udfff]')
_BOM = b'\xef\xbb\xbf'


class Corpus:
  """The documents of one file, or of the files of one folder.

  Attributes:
    name: what metrics and folders call it.
    files: paths, in reading order.
    counts: filled by `documents`: `empty_documents` (nothing but space) and
      `blank_lines` (of .jsonl) were skipped, `replaced_bytes` and
      `replaced_surrogates` became U+FFFD, `rejoined_lines` (of .jsonl) belonged
      to the object of the line before.
    size, position: bytes of the files, and how many of them were read.
  """

  def __init__(self, name: str, files: list[str], text_field: str = 'text',
               invalid_utf8: str = 'error'):
    if invalid_utf8 not in INVALID_UTF8:
      raise unknown('value of data.invalid_utf8', invalid_utf8, INVALID_UTF8)
    self.name = name
    self.files = files
    self.counts = Counter()
    self.size = sum(os.stat(path).st_size for path in files)
    self.position = 0
    self._text_field = text_field
    self._replace = invalid_utf8 == 'replace'

  def fingerprint(self) -> str:
    """A hash of where the files are, their sizes and modification times."""
    facts = [(os.path.abspath(path), os.stat(path).st_size,
              os.stat(path).st_mtime_ns) for path in self.files]
    return hashlib.sha256(
        json.dumps([facts, self._text_field, self._replace]).encode()
    ).hexdigest()

  def documents(self) -> Iterator[str]:
    """Reads the documents from the start, one in memory at a time.

    Lines of a document end with '\\n'.

    Raises:
      InputError: with the file and the line.
    """
    self.counts.clear()
    self.position = 0
    for path in self.files:
      before = self.position
      lines = compression.lines(path, self._advance)
      read = self._jsonl if '.jsonl' in path[-len('.jsonl.zst'):] else self._txt
      for text in read(path, lines):
        if text and not text.isspace():
          yield text
        else:
          self.counts['empty_documents'] += 1
      self.position = before + os.stat(path).st_size

  def _advance(self, num_bytes: int) -> None:
    self.position += num_bytes

  def _txt(self, path: str, lines) -> Iterator[str]:
    document = []
    for number, line in lines:
      text = self._decode(path, number, line)
      if text and not text.isspace():
        document.append(text)
      elif document:
        yield '\n'.join(document)
        document = []
    if document:
      yield '\n'.join(document)

  def _jsonl(self, path: str, lines) -> Iterator[str]:
    field = self._text_field
    for number, line in lines:
      text = self._decode(path, number, line)
      if not text or text.isspace():
        self.counts['blank_lines'] += 1
        continue
      try:
        value = self._json(path, text, lines)
      except (ValueError, RecursionError) as e:
        if isinstance(e, InputError):
          raise
        # A JSON error's own words have a line 1 of their own: misleading.
        why = (f'{e.msg} (character {e.pos + 1})'
               if isinstance(e, json.JSONDecodeError) else e)
        raise InputError(f'{path}: line {number}: not JSON: {why}. Each line '
                         'should be an object such as {"text": "..."}.') from e
      found = value.get(field) if isinstance(value, dict) else None
      if not isinstance(found, str):
        raise InputError(f'{path}: line {number}: '
                         + _why_no_text(value, field))
      if not found.isascii():
        found = self._without_surrogates(path, number, found)
      if '\r' in found:
        found = found.replace('\r\n', '\n').replace('\r', '\n')
      yield found

  def _json(self, path: str, text: str, lines):
    """A line's value; a line that ends inside a string takes the next ones.

    Writers that break lines at every character Unicode calls a line end leave
    such files, and nothing of the document need be lost. A line that is cut
    off does not pass: the quotes of the next one do not fit.
    """
    whole, rejoined = text, 0
    while True:
      try:
        value = json.loads(whole, strict=not rejoined)
        self.counts['rejoined_lines'] += rejoined
        return value
      except json.JSONDecodeError as e:
        if not e.msg.startswith('Unterminated string'):
          raise
        number, line = next(lines, (0, None))
        if line is None or rejoined == MAX_REJOINED:
          raise
        rejoined += 1
        whole += '\n' + self._decode(path, number, line)

  def _decode(self, path: str, number: int, line: bytes) -> str:
    """One line's text, without its end."""
    if number == 1 and line.startswith(_BOM):
      line = line[len(_BOM):]
    line = line.removesuffix(b'\r')
    try:
      return line.decode()
    except UnicodeDecodeError as e:
      if not self._replace:
        hint = (' It looks like UTF-16.' if number == 1 and
                line[:2] in (b'\xff\xfe', b'\xfe\xff') else '')
        raise InputError(
            f'{path}: line {number}, byte {e.start + 1} of the line: '
            f'0x{line[e.start]:02x} is not valid UTF-8.{hint} Mend the file, '
            'or set data.invalid_utf8=replace to put U+FFFD there.') from e
    # Exactly one U+FFFD a bad byte; errors='replace' merges some.
    text, bad = _SURROGATE.subn(
        '\ufffd', line.decode(errors='surrogateescape'))
    self.counts['replaced_bytes'] += bad
    return text

  def _without_surrogates(self, path: str, number: int, text: str) -> str:
    """JSON can write half a character, as \\ud800, and UTF-8 cannot."""
    text, bad = _SURROGATE.subn('\ufffd', text)
    if bad and not self._replace:
      raise InputError(
          f'{path}: line {number}: holds half a character (a lone surrogate, '
          'such as \\ud800). Mend the line, or set data.invalid_utf8=replace '
          'to put U+FFFD there.')
    self.counts['replaced_surrogates'] += bad
    return text


def _why_no_text(value, field: str) -> str:
  if not isinstance(value, dict):
    return (f'expected an object with a field {field!r}, found '
            f'{type(value).__name__}.')
  if field not in value:
    keys = ', '.join(map(repr, list(value)[:8])) or 'none'
    return (f'no field {field!r}; its fields are {keys}. data.text_field says '
            'which one holds the text.')
  return (f'the field {field!r} should be a string, found '
          f'{type(value[field]).__name__}.')


def resolve(corpora: str, text_field: str = 'text',
            invalid_utf8: str = 'error') -> list:
  """Finds the corpora that `data.corpora` names.

  Args:
    corpora: with commas between: a file; a folder (all its files together are
      one corpus); a glob (each file a corpus); `python`, the embedded text.
    text_field: the field of a .jsonl line that holds the text.
    invalid_utf8: 'error' or 'replace'.

  Returns:
    `Corpus` or `PythonDocs` objects, in the order given. A file's corpus is
    called as the file up to its first dot.

  Raises:
    InputError: nothing there, nothing readable, or two of one name.
  """
  found = []
  for item in filter(None, (part.strip() for part in corpora.split(','))):
    if item == 'python':
      found.append(PythonDocs())
      continue
    found += [Corpus(name, files, text_field, invalid_utf8)
              for name, files in _files_of(item)]
  if not found:
    raise InputError('data.corpora is empty: name a .txt or .jsonl file, a '
                     'folder, a glob, or python, the embedded text.')
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


def _files_of(item: str) -> list[tuple[str, list[str]]]:
  """(name, files) of each corpus that one item of data.corpora means."""
  if '://' in item or item.startswith('tfds:'):
    raise InputError(f'data.corpora: {item}: only local paths are read yet: '
                     'copy the files here.')
  path = os.path.expanduser(item)
  if os.path.isdir(path):
    files = sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(path, onerror=_unreadable)
        for name in names
        if name.endswith(ENDINGS) and not name.startswith('.'))
    if not files:
      raise InputError(f'data.corpora: the folder {path} holds no file ending '
                       f'in {", ".join(ENDINGS)}.')
    return [(_name(os.path.basename(os.path.abspath(path)), path),
             _readable(files))]
  if os.path.exists(path):
    files = [path]
  elif glob.has_magic(path):
    files = sorted(f for f in glob.glob(path, recursive=True)
                   if os.path.isfile(f))
    if not files:
      raise InputError(f'data.corpora: no file matches {path}.')
  else:
    raise InputError(f'data.corpora: {path} does not exist.')
  for file in files:
    if not file.endswith(ENDINGS):
      raise InputError(f'data.corpora: {file}: a text file ends in '
                       f'{", ".join(ENDINGS)}.')
  return [(_name(os.path.basename(file), file), [file])
          for file in _readable(files)]


def _name(base: str, path: str) -> str:
  name = base.split('.')[0]
  if not name:
    raise InputError(f'data.corpora: {path}: a corpus is named by what stands '
                     'before the first dot, and here nothing does: rename it.')
  return name


def _readable(files: list[str]) -> list[str]:
  for file in files:
    if not os.access(file, os.R_OK):
      raise InputError(f'data.corpora: no permission to read {file}.')
  return files


def _unreadable(error: OSError):
  raise InputError(f'data.corpora: cannot read the folder {error.filename}: '
                   f'{error.strerror}.') from error
