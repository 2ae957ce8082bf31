"""Web archives: the pages of a WARC file as text, and the text of a WET file.

A `response` record with HTML and status 200 is a document: its main content by
Resiliparse (Bevendorff et al. 2018), which leaves out menus and the like. A
`conversion` record of text, as Common Crawl's WET files hold, is one as it is.
The rest is counted by its kind.
"""

import codecs
from collections.abc import Iterator
import io
import re

from robertax.corpus import compression
from robertax.corpus.reading import Reading, unix_lines
from robertax.errors import InputError

# Bytes of a page. Its tree takes several times as much.
MAX_PAGE = 32 << 20
HTML = ('text/html', 'application/xhtml+xml')
# A little of what Brotli packs can become gigabytes at once.
PACKINGS = ('', 'identity', 'gzip', 'x-gzip', 'deflate')
_CHARSET = re.compile(r'charset\s*=\s*["\']?([\w.:-]+)', re.I)


def warc(reading: Reading) -> Iterator[str]:
  """Counts `skipped_<kind>_records` (request, metadata, warcinfo, ...),
  `pages_not_html`, `pages_not_found` (another status than 200),
  `pages_too_long`, `pages_packed_otherwise` (than by gzip or deflate),
  `pages_not_parsed`, and `pages_with_bad_bytes` (which hold U+FFFD then)."""
  from warcio.archiveiterator import ArchiveIterator

  stream = io.BufferedReader(
      _Stream(compression.chunks(reading.path, reading.advance)))
  number = 0
  try:
    for record in ArchiveIterator(stream):
      number += 1
      text = {'response': _page, 'conversion': _conversion}.get(
          record.rec_type, _other)(reading, record, number)
      left = _drain(record)
      if left or record.length is None:
        raise InputError(
            f'{reading.path}: record {number}: truncated: {left or "some"} '
            'bytes of it are missing. Fetch the file again.')
      if text is not None:
        yield unix_lines(text)
  except InputError:
    raise
  except Exception as e:  # warcio has many for what is no record.
    raise InputError(
        f'{reading.path}: record {number + 1}: damaged or truncated '
        f'({type(e).__name__}: {e}). Fetch the file again.') from e


def _page(reading: Reading, record, number: int) -> str | None:
  """The text of a response, or None: it is counted."""
  counts, headers = reading.counts, record.http_headers
  if headers is None or headers.get_statuscode() != '200':
    counts['pages_not_found'] += 1
    return None
  kind, _, rest = headers.get_header('Content-Type', '').partition(';')
  if kind.strip().lower() not in HTML:
    counts['pages_not_html'] += 1
    return None
  packing = headers.get_header('Content-Encoding', '').strip().lower()
  if packing not in PACKINGS:
    counts['pages_packed_otherwise'] += 1
    return None
  page = _read(record.content_stream())
  if page is None:
    counts['pages_too_long'] += 1
    return None
  found = _CHARSET.search(rest)
  text = _text_of(page, found.group(1) if found else '')
  if text is None:
    counts['pages_not_parsed'] += 1
    return None
  counts['pages_with_bad_bytes'] += '\ufffd' in text
  return '\n'.join(filter(None, map(str.strip, text.split('\n'))))


def _text_of(page: bytes, encoding: str) -> str | None:
  """The main content of a page of HTML; None: the library failed at it."""
  from resiliparse.extract.html2text import extract_plain_text
  from resiliparse.parse.encoding import bytes_to_str, detect_encoding

  try:
    codecs.lookup(encoding)
  except LookupError:  # None is named, or none that there is.
    encoding = detect_encoding(page, from_html_meta=True)
  try:
    return extract_plain_text(
        bytes_to_str(page, encoding, errors='replace'),
        preserve_formatting=True, main_content=True, list_bullets=False,
        alt_texts=False)
  except BaseException as e:
    # A panic of a library in Rust is no Exception.
    if isinstance(e, Exception) or type(e).__name__ == 'PanicException':
      return None
    raise


def _conversion(reading: Reading, record, number: int) -> str | None:
  kind = record.rec_headers.get_header('Content-Type', 'text/plain')
  if kind.partition(';')[0].strip().lower() != 'text/plain':
    return _other(reading, record, number)
  text = _read(record.raw_stream)
  if text is None:
    reading.counts['pages_too_long'] += 1
    return None
  return reading.decode(text, 'record', number)


def _other(reading: Reading, record, number: int) -> None:
  reading.counts[f'skipped_{record.rec_type}_records'] += 1


def _read(stream) -> bytes | None:
  """All of it; None: more than `MAX_PAGE` (a few bytes unpack to many)."""
  parts, size = [], 0
  while part := stream.read(compression.CHUNK):
    parts.append(part)
    size += len(part)
    if size > MAX_PAGE:
      return None
  return b''.join(parts)


def _drain(record) -> int:
  """Reads the rest of a record, and says how many bytes are missing of it."""
  while record.raw_stream.read(compression.CHUNK):
    pass
  return getattr(record.raw_stream, 'limit', 0)


class _Stream(io.RawIOBase):
  """Pieces of bytes as a file that is read from beginning to end."""

  def __init__(self, chunks: Iterator[bytes]):
    self._chunks = chunks
    self._left = memoryview(b'')

  def readable(self) -> bool:
    return True

  def readinto(self, buffer) -> int:
    while not self._left:
      chunk = next(self._chunks, None)
      if chunk is None:
        return 0
      self._left = memoryview(chunk)
    size = min(len(buffer), len(self._left))
    buffer[:size] = self._left[:size]
    self._left = self._left[size:]
    return size
