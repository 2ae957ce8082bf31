"""Dumps of MediaWiki: `*-pages-articles*.xml[.bz2]`, an article a document.

The XML goes through expat piece by piece, so a page is all that is held, and a
document type, which alone could define entities, is refused. Markup is taken
away by mwparserfromhell, what is dropped with it as in Hugging Face's and
TFDS's builders of Wikipedia: references, tables, templates, and links to files
and categories.
"""

from collections.abc import Iterator
import re
from xml.parsers import expat

from robertax.corpus import compression
from robertax.corpus.reading import Reading
from robertax.errors import InputError

MAX_CHARS = 32 << 20  # Of a page; MediaWiki's own limit is 2 MiB.
_PAGE = ('mediawiki', 'page')
_FIELDS = {
    (*_PAGE, 'title'): 'title', (*_PAGE, 'ns'): 'ns',
    (*_PAGE, 'redirect'): 'redirect',
    (*_PAGE, 'revision', 'model'): 'model',
    (*_PAGE, 'revision', 'text'): 'text'}
_NOT_TEXT = re.compile(r'\s*:?\s*(file|image|media|category)\s*:', re.I)
_TAGS = ('ref', 'table', 'gallery', 'timeline', 'math', 'score', 'imagemap')
_WORDS = re.compile(r'__[A-Z]+__')  # __NOTOC__ and its like.
_BLANK = re.compile(r'\n\s*\n+')


def wiki(reading: Reading) -> Iterator[str]:
  """Counts `redirects`, `pages_of_other_namespaces` (talk, users, ...),
  `pages_of_other_models` (no wikitext), `pages_without_text`,
  `pages_not_parsed` and `older_revisions` (the last one is read)."""
  pages = _Pages(reading)
  for chunk in compression.chunks(reading.path, reading.advance):
    pages.feed(chunk)
    while pages.done:
      text = _article(reading, pages.done.pop(0))
      if text is not None:
        yield text
  pages.feed(b'', True)
  # The last chunk may hold the last page's end.
  for page in pages.done:
    text = _article(reading, page)
    if text is not None:
      yield text


class _Pages:
  """Pages of a dump: {'ns': '0', 'title': ..., 'text': ...}, in `done`."""

  def __init__(self, reading: Reading):
    self.done = []
    self._reading = reading
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

  def _doctype(self, name, *_) -> None:
    raise InputError(f'{self._reading.path}: has a document type ({name}), '
                     'and a dump of MediaWiki has none: not read.')

  def _start(self, name: str, attributes) -> None:
    self._path.append(name)
    if len(self._path) == 1 and name != 'mediawiki':
      raise InputError(f'{self._reading.path}: no dump of MediaWiki: it begins '
                       f'with <{name}>, not with <mediawiki>.')
    here = tuple(self._path[:5])
    if here == _PAGE:
      self._page = {'number_of_revisions': 0}
    elif here == (*_PAGE, 'revision'):
      self._page['number_of_revisions'] += 1
      self._page.pop('text', None)
    self._field = _FIELDS.get(here)
    self._parts, self._size = [], 0

  def _text(self, text: str) -> None:
    if self._field:
      self._size += len(text)
      if self._size > MAX_CHARS:
        raise InputError(
            f'{self._reading.path}: line {self._parser.CurrentLineNumber}: a '
            f'{self._field} of more than {MAX_CHARS:,} characters: damaged?')
      self._parts.append(text)

  def _end(self, name: str) -> None:
    if self._field:
      self._page[self._field] = ''.join(self._parts)
      self._field = None
    elif tuple(self._path) == _PAGE:
      self.done.append(self._page)
    self._path.pop()


def _article(reading: Reading, page: dict) -> str | None:
  """A page's text, or None: it is counted."""
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
      return plain(page['text'])
    except (ParserError, RecursionError):
      counts['pages_not_parsed'] += 1
  return None


def plain(wikitext: str) -> str:
  """Wikitext without its markup: a paragraph or a heading a line."""
  import mwparserfromhell

  code = mwparserfromhell.parse(wikitext, skip_style_tags=False)
  for link in code.filter_wikilinks(
      matches=lambda link: _NOT_TEXT.match(str(link.title))):
    _remove(code, link)
  for tag in code.filter_tags(
      matches=lambda tag: str(tag.tag).strip().lower() in _TAGS):
    _remove(code, tag)
  text = _WORDS.sub('', code.strip_code(normalize=True, collapse=True))
  return _BLANK.sub('\n', '\n'.join(map(str.strip, text.split('\n')))).strip()


def _remove(code, node) -> None:
  try:
    code.remove(node)
  except ValueError:
    pass  # It stood in one that is removed already.
