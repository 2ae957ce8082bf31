"""Archives of the web: WARC and WET files, and dumps of MediaWiki.

In WARC files, each `response` record with HTML and status 200 is a document:
its main content according to Resiliparse (Bevendorff et al. 2018), without
menus and the like. A `conversion` record of text, as in Common Crawl's WET
files, is a document as it is. Other records are counted by their type.

In dumps, `*-pages-articles*.xml[.bz2]`, each article is a document. expat
parses the XML piece by piece, so only one page is in memory, and a document
type, without which XML defines no entities, is refused. mwparserfromhell
removes the markup, and what Hugging Face's and TFDS's builders of Wikipedia
drop: references, tables, templates, links to files and categories. How those
are called in the dump's language is in its head, `<siteinfo>`.
"""

import codecs
from collections import Counter
from collections.abc import Iterator
import contextlib
import html
import io
import re
from xml.parsers import expat
import zlib

from robertax import errors
from robertax.corpus import readers
from robertax.corpus.readers import Reader, Reading, unix_lines
from robertax.errors import InputError, no_panic

MAX_PAGE = 32 << 20  # Bytes of a page; its tree takes several times as much.
HTML = ('text/html', 'application/xhtml+xml', 'application/vnd.wap.xhtml+xml')
_CHARSET = re.compile(r'charset\s*=\s*["\']?\s*([^\s"\';,]+)', re.I)
_XML_CHARSET = re.compile(r'<\?xml[^>]*?\sencoding\s*=\s*["\']([^"\']+)')
_CHUNK = re.compile(rb'[0-9A-Fa-f]+[ \t]*(?:;[^\r\n]*)?\r\n')
_BEGINS_LIKE_HTML = re.compile(rb'(?:\xef\xbb\xbf)?\s*<')
_BOMS = ((codecs.BOM_UTF8, 'utf-8'), (codecs.BOM_UTF16_LE, 'utf-16-le'),
         (codecs.BOM_UTF16_BE, 'utf-16-be'))
DECLARED_WITHIN = 1024  # Browsers look for <meta> in so many bytes.
# Resiliparse has the labels of https://encoding.spec.whatwg.org, but of these
# encodings Python's codec of the same name knows only a part.
_WHOLE_CODECS = {
    'gbk': 'gb18030', 'big5': 'big5hkscs', 'shift_jis': 'cp932',
    'euc_kr': 'cp949', 'iso8859-11': 'cp874', 'x-mac-cyrillic': 'mac_cyrillic',
    'x-mac-ukrainian': 'mac_cyrillic', 'x-user-defined': 'x-user-defined'}
# Browsers show a single U+FFFD, because these can hide markup.
_REFUSED_CHARSETS = frozenset((
    'replacement', 'csiso2022kr', 'hz-gb-2312', 'iso-2022-cn',
    'iso-2022-cn-ext', 'iso-2022-kr'))
# What browsers read as other characters than Python's codecs do.
_OTHERWISE = {'euc_jp': str.maketrans('\u301c\u2016\u2212\xa2\xa3\xac',
                                      '\uff5e\u2225\uff0d\uffe0\uffe1\uffe2'),
              'koi8-u': str.maketrans('\u255d\u256c', '\u045e\u040e')}
_USER_DEFINED = {byte: 0xf700 + byte for byte in range(0x80, 0x100)}
# Between two tags: one character, as it is or as an entity.
_LONE = re.compile(
    r'>([ \t\n\f\r]*(?:[\u0800-\uffff]|&#?\w+;?)[ \t\n\f\r]*)(?=<|\Z)')
MAX_LINKED = .5  # A list is a menu if links have more of its characters.
# No person writes more; what is beyond stays as Resiliparse has it, since the
# time for each element grows with its depth.
MAX_RENAMED, MAX_LIST_DEPTH = 5000, 20
MAX_PAGE_CHARS = 32 << 20  # MediaWiki's own limit is 2 MiB.
_PAGE_TAG = ('mediawiki', 'page')
_FIELDS = {(*_PAGE_TAG, *path): path[-1] for path in (
    ('title',), ('ns',), ('redirect',), ('revision', 'model'),
    ('revision', 'text'))}
_NAMESPACE_TAG = ('mediawiki', 'siteinfo', 'namespaces', 'namespace')
_FIELDS[_NAMESPACE_TAG] = 'name'
_MEDIA, _FILE, _CATEGORY = '-2', '6', '14'  # Keys of namespaces.
# MediaWiki knows these in every language.
ENGLISH_NAMES = {
    'media': _MEDIA, 'special': '-1', 'talk': '1', 'user': '2', 'project': '4',
    'file': _FILE, 'image': _FILE, 'mediawiki': '8', 'template': '10',
    'help': '12', 'category': _CATEGORY}
# A dump does not list other names of namespaces, such as Bild for Datei.
_FILE_NAME = re.compile(
    r'\.(?:jpe?g|png|svg|gif|webp|tiff?|xcf|pdf|djvu|og[agv]|opus|webm|mp[34]|'
    r'mpe?g|flac|wav|midi?)\s*$', re.I)
# A line of links to the article in other languages, which is not shown.
_LANGUAGES = re.compile(
    r'^[ \t]*(?:\[\[[ \t]*(?:simple|[a-z]{2,3}(?:-[a-z]+)*):[^\[\]|\n]*\]\]'
    r'[ \t]*)+$', re.M)
_REDIRECT = re.compile(r'\s*#[^\s\[\]:#*]+\s*:?\s*\[\[[^\[\]\n]*\]\]')
_TAGS = ('ref', 'table', 'gallery', 'timeline', 'math', 'score', 'imagemap')
_SWITCHES = re.compile(  # Such as __NOTOC__, in any language.
    r'__[^\W\d_]+__|^[ \t]*__[^\W\d_]+(?:_[^\W\d_]+)+__[ \t]*$', re.M)
_BREAK = '\x1d'  # Stands for a line end; XML allows no such character.
# Tags that begin a line, and those between which tags are none.
_LINE_TAGS = re.compile(
    r'(?P<comment><!--|-->)|<(?P<end>/?)'
    r'(?P<raw>nowiki|pre|source|syntaxhighlight|math)\b[^<>]*?(?P<empty>/?)>|'
    r'</?(?:br|p|div|li|ul|ol|dl|dd|dt|tr|td|th|caption|h[1-6]|hr|center|'
    r'blockquote)(?:\s[^<>]*)?/?>', re.I)
_BLANK = re.compile(r'\n\s*\n+')


def warc(reading: Reading) -> Iterator[str]:
  """Reads WARC and WET files.

  It counts `skipped_<type>_records` (request, metadata, warcinfo, ...),
  `pages_not_html`, `pages_not_found` (the status is not 200), `pages_too_long`,
  `pages_packed_otherwise` (not by `_PACKINGS`, or damaged),
  `pages_in_refused_charsets`, `pages_not_parsed`, and `pages_with_bad_bytes`,
  which became U+FFFD.
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
  kind = headers.get_header('Content-Type', '')
  if re.split(r'[\s;,]', kind.strip().lower())[0] not in HTML:
    counts['pages_not_html'] += 1
    return None
  page = _unpacked(_read_payload(record.raw_stream, counts), headers, counts)
  if page is None:
    return None
  label = _CHARSET.search(kind)
  text = _decoded(page, label.group(1) if label else '')
  if text is None:
    counts['pages_in_refused_charsets'] += 1
    return None
  text = _main_content(text)
  if text is None:
    counts['pages_not_parsed'] += 1
    return None
  counts['pages_with_bad_bytes'] += '\ufffd' in text
  return '\n'.join(filter(None, map(str.strip, text.split('\n'))))


def _unpacked(page: bytes | None, headers, counts: Counter) -> bytes | None:
  """Undoes what HTTP's headers say of a page; None if it cannot be had."""
  steps = ','.join(
      value for field in ('content-encoding', 'transfer-encoding')
      for name, value in headers.headers if name.lower() == field)
  for step in reversed(steps.lower().split(',')):
    if page is None:
      break
    try:
      page = _PACKINGS[step.strip()](page)
    except Exception:  # Each library has its own.
      # Some crawlers unpack a page and keep its headers.
      if not _BEGINS_LIKE_HTML.match(page):
        counts['pages_packed_otherwise'] += 1
        return None
    page = _not_too_long(page, counts)
  return page


def _dechunked(page: bytes) -> bytes:
  from resiliparse.parse.http import iterate_http_chunks
  if not _CHUNK.match(page):  # Some crawlers, and Common Crawl, have joined it.
    return page
  return b''.join(iterate_http_chunks(io.BytesIO(page)))


def _inflated(page: bytes, *window_bits: int) -> bytes:
  """Unpacks gzip or deflate, also if its end is missing."""
  for number, bits in enumerate(window_bits, 1):
    parts, room = [], MAX_PAGE + 1
    try:
      while page and room > 0:
        member = zlib.decompressobj(bits)
        parts.append(member.decompress(page, room))
        page, room = member.unused_data, room - len(parts[-1])
    except zlib.error:
      if not parts and number == len(window_bits):
        raise
    if parts:  # What may follow the last member is not part of the page.
      break
  return b''.join(parts)


def _debrotlied(page: bytes) -> bytes:
  import brotli
  return brotli.Decompressor().process(page, output_buffer_limit=MAX_PAGE + 1)


def _dezstded(page: bytes) -> bytes:
  import zstandard
  unpacker = zstandard.ZstdDecompressor(max_window_size=8 << 20)  # RFC 9659.
  return unpacker.stream_reader(page, read_across_frames=True).read(
      MAX_PAGE + 1)


_PACKINGS = {
    '': bytes, 'identity': bytes, 'none': bytes, 'chunked': _dechunked,
    'gzip': lambda page: _inflated(page, 31),
    'x-gzip': lambda page: _inflated(page, 31),
    # zlib's format by its RFC, without zlib's head by custom.
    'deflate': lambda page: _inflated(page, 15, -15),
    'br': _debrotlied, 'zstd': _dezstded}


def codec_of(label: str) -> str | None:
  """Returns Python's codec for what browsers read under a label of a charset.

  It is '' for those that they refuse, and None for unknown labels. Source: the
  table of https://encoding.spec.whatwg.org/#names-and-labels. Labels that only
  Python knows, such as latin-1, are read as the table's for that encoding.
  """
  from resiliparse.parse.encoding import map_encoding_to_html5
  label = label.strip().lower()
  if label in _REFUSED_CHARSETS:
    return ''
  named = map_encoding_to_html5(label, fallback_utf8=False)
  if named is None:
    with contextlib.suppress(LookupError, ValueError):
      named = map_encoding_to_html5(codecs.lookup(label).name,
                                    fallback_utf8=False)
  return _WHOLE_CODECS.get(named or label, named)


def _decoded(page: bytes, label: str) -> str | None:
  """Decodes a page as browsers do; bytes without a character give U+FFFD.

  What counts is a byte-order mark, else the `label` of HTTP's header, else what
  the page declares, else what its bytes look like. It is None for charsets that
  browsers refuse.
  """
  from resiliparse.parse.encoding import detect_encoding
  for mark, codec in _BOMS:
    if page.startswith(mark):
      return page[len(mark):].decode(codec, 'replace')
  codec = codec_of(label)
  if codec is None:
    codec = _declared_codec(page[:DECLARED_WITHIN].decode('latin-1'))
  if codec is None and not page.isascii():
    with contextlib.suppress(UnicodeDecodeError):
      return page.decode()
  if codec is None:
    # Its own mapping makes UTF-8 of all that the table lacks, as of cp949.
    found = detect_encoding(page, html5_compatible=False) or ''
    codec = codec_of(found) or 'utf-8'
    with contextlib.suppress(LookupError):
      codec = codec_of(found) or codecs.lookup(found).name
  if codec == 'x-user-defined':
    return page.decode('latin-1').translate(_USER_DEFINED)
  if not codec:
    return None
  codecs.register_error('robertax.browsers', _as_browsers)
  text = page.decode(codec, 'robertax.browsers')
  return text.translate(_OTHERWISE.get(codecs.lookup(codec).name, {}))


def _as_browsers(error: UnicodeDecodeError) -> tuple[str, int]:
  """Reads bytes that browsers know and Python's codec does not, else U+FFFD.

  EUC-JP has the rows of NEC and IBM that Shift_JIS has in cp932; 0x80 is the
  euro sign in GBK.
  """
  found, start = error.object, error.start
  if error.encoding == 'gb18030' and found[start] == 0x80:
    return '\u20ac', start + 1
  pair = found[start:start + 2]
  if error.encoding == 'euc_jp' and len(pair) == 2 and min(pair) > 0xa0 and (
      max(pair) < 0xff):
    row, cell = pair[0] - 0xa1, pair[1] - 0xa1
    shifted = bytes([row // 2 + (0x81 if row < 62 else 0xc1), cell + (
        0x9f if row % 2 else 0x40 + (cell > 62))])
    with contextlib.suppress(UnicodeDecodeError):
      return shifted.decode('cp932'), start + 2
  return '\ufffd', error.end


def _declared_codec(head: str) -> str | None:
  """Returns the codec that a page declares in its beginning, if any."""
  from resiliparse.parse.html import HTMLTree
  labels = []
  with contextlib.suppress(Exception), no_panic():
    for meta in HTMLTree.parse(head).document.query_selector_all(
        'meta').values():
      labels.append(meta.getattr('charset'))
      if (meta.getattr('http-equiv') or '').lower() == 'content-type':
        labels += _CHARSET.findall(meta.getattr('content') or '')
  labels += _XML_CHARSET.findall(head)
  for codec in map(codec_of, filter(None, labels)):
    if codec is not None:
      # The declaration could not be read in UTF-16.
      return {'utf-16-le': 'utf-8', 'utf-16-be': 'utf-8',
              'x-user-defined': 'cp1252'}.get(codec, codec)
  return None


def _main_content(page: str) -> str | None:
  """Extracts the main content of a page of HTML; None if the library fails."""
  from resiliparse.extract.html2text import extract_plain_text
  from resiliparse.parse.html import HTMLTree
  # Resiliparse 2.0.1 takes every text of one character of three bytes for an
  # icon and drops it: a dash between two links, Japanese particles, a full
  # stop. So such a text gets a second character, which is not in the page.
  mark = next((c for c in map(chr, range(0xfdd0, 0xfdf0)) if c not in page), '')
  try:
    with no_panic():
      tree = HTMLTree.parse(_LONE.sub(
          lambda found: found[0] + mark * _is_lone(found[1]), page))
      if tree.body is not None:
        _rename_elements(tree)
      return extract_plain_text(
          tree, preserve_formatting=True, main_content=True,
          list_bullets=False, alt_texts=False).replace(mark, '')
  except Exception:
    return None


def _is_lone(text: str) -> bool:
  text = html.unescape(text).strip(' \t\n\f\r')
  # Private characters are icons.
  return len(text) == 1 and '\u0800' <= text and not (
      '\ue000' <= text <= '\uf8ff')


def _rename_elements(tree) -> None:
  """Renames what Resiliparse's main content drops, although it is text.

  It takes lists near the body, or with links, for menus unless they are <ol>;
  it drops the dates of sentences, and joins a <summary> to what follows.
  """
  def find(selector: str) -> list:
    # Iterating over what is found takes quadratic time.
    return tree.body.query_selector_all(selector).values()[:MAX_RENAMED]

  outer = None
  deep = tree.body.query_selector(' '.join(['ul'] * MAX_LIST_DEPTH))
  for each in [] if deep else find('ul, menu, dir'):
    if outer is None or not outer.contains(each):
      outer, is_text = each, _is_list_of_text(each)
    if is_text:
      renamed = _rename(tree, each, 'ol')
      outer = renamed if outer is each else outer
  for each in find('p time, li time, dd time, td time, blockquote time'):
    _rename(tree, each, 'span')
  for each in find('summary, legend'):
    _rename(tree, each, 'section')


def _is_list_of_text(each) -> bool:
  sizes = [sum(len(''.join((node.text or '').split())) for node in nodes)
           for nodes in ([each], each.query_selector_all('a').values())]
  return sizes[1] <= MAX_LINKED * sizes[0]


def _rename(tree, node, name: str):
  new = tree.create_element(name)
  for attribute in node.attribute_names:
    new.setattr(attribute, node.getattr(attribute))
  while (child := node.first_child) is not None:
    new.append_child(child)
  node.replace_with(new)
  return new


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
  while size <= MAX_PAGE and (part := stream.read(readers.CHUNK_BYTES)):
    parts.append(part)
    size += len(part)
  return _not_too_long(b''.join(parts), counts)


def _not_too_long(page: bytes, counts: Counter) -> bytes | None:
  if len(page) <= MAX_PAGE:
    return page
  counts['pages_too_long'] += 1
  return None


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
    self._names = dict(ENGLISH_NAMES)  # Keys of namespaces by their names.
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
      text = _article_text(self._reading, self._done.pop(0), self._names)
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
    elif here == _NAMESPACE_TAG:
      self._page = {'key': attributes.get('key', '')}
    self._field = _FIELDS.get(here)
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
      if tuple(self._path) == _NAMESPACE_TAG:
        self._names[_folded(self._page['name'])] = self._page['key']
    elif tuple(self._path) == _PAGE_TAG:
      self._done.append(self._page)
    self._path.pop()


def _folded(name: str) -> str:
  """A namespace's name, as MediaWiki compares it."""
  return ' '.join(name.strip(' _\u200e\u200f').replace('_', ' ').casefold(
      ).split())


def _article_text(reading: Reading, page: dict, names: dict[str, str]
                  ) -> str | None:
  """Returns the text of a page; None if it is skipped and counted."""
  counts = reading.counts
  counts['older_revisions'] += max(0, page['number_of_revisions'] - 1)
  # Dumps of before 2012 have no <ns>.
  name, colon, _ = page.get('title', '').partition(':')
  space = page.get('ns') or colon and names.get(_folded(name)) or '0'
  if space.strip() != '0':
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
      text = plain_wikitext(page['text'], names)
      # Old dumps have no <redirect>, whose word is another in each language.
      link = _REDIRECT.match(page['text'])
      if link and not plain_wikitext(page['text'][link.end():], names):
        counts['redirects'] += 1
        return None
      return text
    except (ParserError, RecursionError):
      counts['pages_not_parsed'] += 1
  return None


def plain_wikitext(wikitext: str, names: dict[str, str] = ENGLISH_NAMES) -> str:
  """Removes markup from wikitext; each line is a paragraph or a heading.

  Args:
    names: the key of each namespace, by its folded name.
  """
  import mwparserfromhell
  wikitext = _LANGUAGES.sub('', _break_lines(wikitext))
  code = mwparserfromhell.parse(wikitext, skip_style_tags=False)
  for find, skipped in (
      (code.filter_wikilinks, lambda link: _is_not_text(link, names)),
      (code.filter_tags, lambda tag: str(tag.tag).strip().lower() in _TAGS)):
    for node in find(matches=skipped):
      with contextlib.suppress(ValueError):  # Removed already, with its parent.
        code.remove(node)
  if '\n;' in f'\n{wikitext}':
    for tag in code.filter_tags(matches=lambda tag: tag.wiki_markup == ':'):
      tag.contents = _BREAK  # A definition, in the line of its term.
  text = code.strip_code(normalize=True, collapse=True).replace(_BREAK, '\n')
  text = _SWITCHES.sub(
      lambda found: '' if found[0] == found[0].upper() else found[0], text)
  return _BLANK.sub('\n', '\n'.join(map(str.strip, text.split('\n')))).strip()


def _break_lines(wikitext: str) -> str:
  """Puts `_BREAK` for tags that begin a line: Stadt.<br>Sie are two words."""
  inside = ''  # What must end before a tag is one.

  def broken(found) -> str:
    nonlocal inside
    comment, raw = found['comment'], (found['raw'] or '').lower()
    if inside:
      if comment == inside or found['end'] and raw == inside:
        inside = ''
    elif comment or raw:
      opens = comment == '<!--' or raw and not (found['end'] or found['empty'])
      inside = ('-->' if comment else raw) if opens else ''
    else:
      return _BREAK
    return found[0]
  return _LINE_TAGS.sub(broken, wikitext)


def _is_not_text(link, names: dict[str, str]) -> bool:
  """Says whether a link shows a file, or sorts the article; or has no label."""
  title = str(link.title).strip()
  name, colon, rest = title.lstrip(': ').partition(':')
  space = names.get(_folded(name)) if colon else None
  if title.startswith(':') or space == _MEDIA:  # A link to its page.
    return space in (_FILE, _CATEGORY, _MEDIA) and not (
        link.text and str(link.text).strip())
  if space is None and ':' not in rest and not name.islower():  # As wikt: is.
    return bool(colon and _FILE_NAME.search(rest))
  return space in (_FILE, _CATEGORY)


WARC = Reader(warc, ('warcio', 'resiliparse'), 'warc', revision=2)
WET = Reader(warc, ('warcio', 'resiliparse'), 'warc')
WIKI = Reader(wiki, ('mwparserfromhell',), 'wiki', revision=2)
