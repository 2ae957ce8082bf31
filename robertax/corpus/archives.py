"""Archives of the web: WARC and WET files, and dumps of MediaWiki.

In WARC files, each `response` record with HTML and status 200 is a document:
its main content according to Resiliparse (Bevendorff et al. 2018), without
menus and the like. A `conversion` record of text, as in Common Crawl's WET
files, is a document as it is. Other records are counted by their type.

In dumps, `*-pages-articles*.xml[.bz2]`, each article is a document. expat
parses the XML piece by piece, so only one page is in memory, and a document
type, without which XML defines no entities, is refused. mwparserfromhell
removes the markup, and what Hugging Face's and TFDS's builders of Wikipedia
drop: references, tables, templates, links to files and categories.
"""

import codecs
from collections import Counter
from collections.abc import Iterator
import contextlib
import io
import re
from xml.parsers import expat

from robertax import errors
from robertax.corpus import readers
from robertax.corpus.readers import Reader, Reading, unix_lines
from robertax.errors import InputError, no_panic

MAX_PAGE = 32 << 20  # Bytes of a page; its tree takes several times as much.
HTML = ('text/html', 'application/xhtml+xml')
# Brotli is not among them: a few bytes of it can become gigabytes at once.
WARC_PACKINGS = ('', 'identity', 'gzip', 'x-gzip', 'deflate')
_CHARSET = re.compile(r'charset\s*=\s*["\']?([\w.:-]+)', re.I)
MAX_PAGE_CHARS = 32 << 20  # MediaWiki's own limit is 2 MiB.
_PAGE_TAG = ('mediawiki', 'page')
_PAGE_FIELDS = {(*_PAGE_TAG, *path): path[-1] for path in (
    ('title',), ('ns',), ('redirect',), ('revision', 'model'),
    ('revision', 'text'))}
_NOT_TEXT = re.compile(r'\s*:?\s*(file|image|media|category)\s*:', re.I)
_TAGS = ('ref', 'table', 'gallery', 'timeline', 'math', 'score', 'imagemap')
_WORDS = re.compile(r'__[A-Z]+__')  # For example __NOTOC__.
_BLANK = re.compile(r'\n\s*\n+')


def warc(reading: Reading) -> Iterator[str]:
  """Reads WARC and WET files.

  It counts `skipped_<type>_records` (request, metadata, warcinfo, ...),
  `pages_not_html`, `pages_not_found` (the status is not 200), `pages_too_long`,
  `pages_packed_otherwise` (not gzip or deflate), `pages_not_parsed`, and
  `pages_with_bad_bytes`, which became U+FFFD.
  """
  from warcio.archiveiterator import ArchiveIterator
  stream = io.BufferedReader(
      _Stream(readers.unpacked_chunks(reading.path, reading.advance)))
  number = 0
  try:
    for record in ArchiveIterator(stream):
      number += 1
      text = {'response': _response, 'conversion': _conversion}.get(
          record.rec_type, _other_record)(reading, record, number)
      while record.raw_stream.read(readers.CHUNK_BYTES):
        pass  # What was not needed of it.
      left = getattr(record.raw_stream, 'limit', 0)
      if left or record.length is None:
        raise InputError(
            f'{reading.path}: record {number}: truncated: {left or "some"} '
            'bytes of it are missing. Fetch the file again.')
      if text is not None:
        yield unix_lines(text)
  except InputError:
    raise
  except Exception as e:  # warcio raises many kinds for bad records.
    errors.raise_unless_damage(e, reading.path)
    raise InputError(
        f'{reading.path}: record {number + 1}: damaged or truncated '
        f'({type(e).__name__}: {e}). Fetch the file again.') from e


def _response(reading: Reading, record, number: int) -> str | None:
  """Returns the text of a response; None if it is skipped and counted."""
  counts, headers = reading.counts, record.http_headers
  if headers is None or headers.get_statuscode() != '200':
    counts['pages_not_found'] += 1
    return None
  kind, _, rest = headers.get_header('Content-Type', '').partition(';')
  if kind.strip().lower() not in HTML:
    counts['pages_not_html'] += 1
    return None
  packing = headers.get_header('Content-Encoding', '').strip().lower()
  if packing not in WARC_PACKINGS:
    counts['pages_packed_otherwise'] += 1
    return None
  page = _read_payload(record.content_stream(), counts)
  if page is None:
    return None
  found = _CHARSET.search(rest)
  text = _main_content(page, found.group(1) if found else '')
  if text is None:
    counts['pages_not_parsed'] += 1
    return None
  counts['pages_with_bad_bytes'] += '\ufffd' in text
  return '\n'.join(filter(None, map(str.strip, text.split('\n'))))


def _main_content(page: bytes, encoding: str) -> str | None:
  """Extracts the main content of a page of HTML; None if the library fails."""
  from resiliparse.extract.html2text import extract_plain_text
  from resiliparse.parse.encoding import bytes_to_str, detect_encoding
  try:
    codecs.lookup(encoding)
  except LookupError:  # The header names no encoding, or an unknown one.
    encoding = detect_encoding(page, from_html_meta=True)
  try:
    with no_panic():
      return extract_plain_text(
          bytes_to_str(page, encoding, errors='replace'),
          preserve_formatting=True, main_content=True, list_bullets=False,
          alt_texts=False)
  except Exception:
    return None


def _conversion(reading: Reading, record, number: int) -> str | None:
  kind = record.rec_headers.get_header('Content-Type', 'text/plain')
  if kind.partition(';')[0].strip().lower() != 'text/plain':
    return _other_record(reading, record, number)
  text = _read_payload(record.raw_stream, reading.counts)
  return text if text is None else reading.decode(text, 'record', number)


def _other_record(reading: Reading, record, number: int) -> None:
  reading.counts[f'skipped_{record.rec_type}_records'] += 1


def _read_payload(stream, counts: Counter) -> bytes | None:
  """Reads all bytes; None, and counted, if they are more than `MAX_PAGE`."""
  parts, size = [], 0
  while part := stream.read(readers.CHUNK_BYTES):
    parts.append(part)
    size += len(part)
    if size > MAX_PAGE:
      counts['pages_too_long'] += 1
      return None
  return b''.join(parts)


class _Stream(io.RawIOBase):
  """A file whose content is an iterator of chunks of bytes."""

  def __init__(self, chunks: Iterator[bytes]):
    self._chunks, self._left = chunks, memoryview(b'')

  def readable(self) -> bool:
    return True

  def readinto(self, buffer) -> int:
    while not self._left:
      if (chunk := next(self._chunks, None)) is None:
        return 0
      self._left = memoryview(chunk)
    size = min(len(buffer), len(self._left))
    buffer[:size] = self._left[:size]
    self._left = self._left[size:]
    return size


def wiki(reading: Reading) -> Iterator[str]:
  """Reads dumps of MediaWiki; of several revisions it takes the last.

  It counts `redirects`, `pages_of_other_namespaces` (talk, users, ...),
  `pages_of_other_models` (not wikitext), `pages_without_text`,
  `pages_not_parsed` and `older_revisions`.
  """
  pages = _Pages(reading)
  for chunk in readers.unpacked_chunks(reading.path, reading.advance):
    pages.feed(chunk)
    yield from pages.texts()
  pages.feed(b'', True)  # This may end the last page.
  yield from pages.texts()


class _Pages:
  """Parses a dump into pages: {'ns': '0', 'title': ..., 'text': ...}."""

  def __init__(self, reading: Reading):
    self._reading, self._done = reading, []
    self._path, self._page, self._field = [], {}, None
    self._parts, self._size = [], 0
    parser = self._parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = self._start
    parser.EndElementHandler = self._end
    parser.CharacterDataHandler = self._text
    parser.StartDoctypeDeclHandler = self._doctype

  def feed(self, chunk: bytes, last: bool = False) -> None:
    try:
      self._parser.Parse(chunk, last)
    except expat.ExpatError as e:
      raise InputError(
          f'{self._reading.path}: line {e.lineno}: damaged or truncated: '
          f'{expat.errors.messages[e.code]}. Fetch it again.') from e

  def texts(self) -> Iterator[str]:
    """Yields the texts of articles that have ended since the last call."""
    while self._done:
      text = _article_text(self._reading, self._done.pop(0))
      if text is not None:
        yield text

  def _doctype(self, name, *_) -> None:
    raise InputError(f'{self._reading.path}: has a document type ({name}), '
                     'which a dump of MediaWiki has not.')

  def _start(self, name: str, attributes) -> None:
    self._path.append(name)
    if len(self._path) == 1 and name != 'mediawiki':
      raise InputError(f'{self._reading.path}: not a dump of MediaWiki: it '
                       f'begins with <{name}>, not with <mediawiki>.')
    here = tuple(self._path[:5])
    if here == _PAGE_TAG:
      self._page = {'number_of_revisions': 0}
    elif here == (*_PAGE_TAG, 'revision'):
      self._page['number_of_revisions'] += 1
      self._page.pop('text', None)
    self._field = _PAGE_FIELDS.get(here)
    self._parts, self._size = [], 0

  def _text(self, text: str) -> None:
    if self._field:
      self._size += len(text)
      if self._size > MAX_PAGE_CHARS:
        raise InputError(
            f'{self._reading.path}: line {self._parser.CurrentLineNumber}: '
            f'damaged? A {self._field} has over {MAX_PAGE_CHARS:,} characters.')
      self._parts.append(text)

  def _end(self, name: str) -> None:
    if self._field:
      self._page[self._field] = ''.join(self._parts)
      self._field = None
    elif tuple(self._path) == _PAGE_TAG:
      self._done.append(self._page)
    self._path.pop()


def _article_text(reading: Reading, page: dict) -> str | None:
  """Returns the text of a page; None if it is skipped and counted."""
  counts = reading.counts
  counts['older_revisions'] += max(0, page['number_of_revisions'] - 1)
  if page.get('ns', '0').strip() != '0':
    counts['pages_of_other_namespaces'] += 1
  elif 'redirect' in page:
    counts['redirects'] += 1
  elif page.get('model', 'wikitext').strip() != 'wikitext':
    counts['pages_of_other_models'] += 1
  elif not page.get('text'):
    counts['pages_without_text'] += 1
  else:
    from mwparserfromhell.parser import ParserError
    try:
      return plain_wikitext(page['text'])
    except (ParserError, RecursionError):
      counts['pages_not_parsed'] += 1
  return None


def plain_wikitext(wikitext: str) -> str:
  """Removes markup from wikitext; each line is a paragraph or a heading."""
  import mwparserfromhell
  code = mwparserfromhell.parse(wikitext, skip_style_tags=False)
  for find, skipped in (
      (code.filter_wikilinks, lambda link: _NOT_TEXT.match(str(link.title))),
      (code.filter_tags, lambda tag: str(tag.tag).strip().lower() in _TAGS)):
    for node in find(matches=skipped):
      with contextlib.suppress(ValueError):  # Removed already, with its parent.
        code.remove(node)
  text = _WORDS.sub('', code.strip_code(normalize=True, collapse=True))
  return _BLANK.sub('\n', '\n'.join(map(str.strip, text.split('\n')))).strip()


WARC = Reader(warc, ('warcio', 'resiliparse'), 'warc')
WIKI = Reader(wiki, ('mwparserfromhell',), 'wiki')
