"""Web archives: the pages of a WARC file as text, and the text of a WET file.

A `response` record with HTML and status 200 is a document: its main content by
Resiliparse (Bevendorff et al. 2018), which leaves out menus and the like. A
`conversion` record of text, as Common Crawl's WET files hold, is one as it is.
The rest is counted by its kind.
"""

from collections.abc import Iterator
import contextlib
import io

from robertax.corpus import compression
from robertax.corpus.reading import Reading, unix_lines
from robertax.errors import InputError

# Bytes of a page. Its tree takes several times as much.
MAX_PAGE = 32 << 20
HTML = ('text/html', 'application/xhtml+xml')


def warc(reading: Reading) -> Iterator[str]:
  """Counts `skipped_<kind>_records` (request, metadata, warcinfo, ...),
  `pages_not_html`, `pages_not_found` (another status than 200),
  `pages_too_long` and `pages_with_bad_bytes` (which hold U+FFFD then)."""
  from fastwarc.warc import ArchiveIterator, WarcRecordType

  stream = _Stream(compression.chunks(reading.path, reading.advance))
  records = ArchiveIterator(
      io.BufferedReader(stream, compression.CHUNK), parse_http=False,
      stream_detect=False, auto_decode='all')
  number = 0
  with _named(reading):
    for record in records:
      number += 1
      if record.record_type == WarcRecordType.response:
        text = _page(reading, record, number)
      elif record.record_type == WarcRecordType.conversion:
        text = _conversion(reading, record, number)
      else:
        reading.counts[f'skipped_{record.record_type.name}_records'] += 1
        text = None
      if text is not None:
        yield unix_lines(text)
  if not number and reading.size:
    raise InputError(f'{reading.path}: holds no record of a web archive.')


def _page(reading: Reading, record, number: int) -> str | None:
  """The text of a response, or None: it is counted."""
  from resiliparse.extract.html2text import extract_plain_text
  from resiliparse.parse.encoding import bytes_to_str, detect_encoding

  if record.content_length > MAX_PAGE:
    reading.counts['pages_too_long'] += 1
    return None
  body = _body(reading, record, number)
  record.set_bytes_content(body)
  record.parse_http()
  headers = record.http_headers
  if headers is None or headers.status_code != 200:
    reading.counts['pages_not_found'] += 1
    return None
  if record.http_content_type not in HTML:
    reading.counts['pages_not_html'] += 1
    return None
  page = record.reader.read(MAX_PAGE + 1)
  if len(page) > MAX_PAGE:  # A few bytes can be unpacked to very many.
    reading.counts['pages_too_long'] += 1
    return None
  encoding = record.http_charset or detect_encoding(page, from_html_meta=True)
  html = bytes_to_str(page, encoding, errors='replace')
  text = extract_plain_text(html, preserve_formatting=True, main_content=True,
                            list_bullets=False, alt_texts=False)
  reading.counts['pages_with_bad_bytes'] += '\ufffd' in text
  return '\n'.join(filter(None, map(str.strip, text.split('\n'))))


def _conversion(reading: Reading, record, number: int) -> str | None:
  kind = record.headers.get('Content-Type', 'text/plain').partition(';')[0]
  if kind.strip().lower() != 'text/plain':
    reading.counts['skipped_conversion_records'] += 1
    return None
  if record.content_length > MAX_PAGE:
    reading.counts['pages_too_long'] += 1
    return None
  return reading.decode(_body(reading, record, number), 'record', number)


def _body(reading: Reading, record, number: int) -> bytes:
  body = record.reader.read()
  if len(body) != record.content_length:
    raise InputError(
        f'{reading.path}: record {number}: truncated: {len(body):,} of '
        f'{record.content_length:,} bytes are there. Fetch it again.')
  return body


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


@contextlib.contextmanager
def _named(reading: Reading):
  """Names the file in what the library says of it."""
  try:
    yield
  except InputError:
    raise
  except (OSError, ValueError, EOFError) as e:
    raise InputError(f'{reading.path}: damaged: {e}. Fetch it again.') from e
