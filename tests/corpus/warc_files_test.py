"""Records by hand, as ISO 28500 has them; and files of warcio and of wget."""

import bz2
import codecs
import functools
import gzip
import http.server
import io
import shutil
import subprocess
import threading
import zlib

import brotli
import pytest
import zstandard

from robertax.corpus import archives
from robertax.corpus.documents import resolve
from robertax.errors import InputError

HTML = ('<html><head><title>t</title><script>bad()</script></head><body>'
        '<nav><a href="/">Home</a></nav><main><h1>Cats &amp; dogs</h1>'
        '<p>A caf\xe9\nis <b>open</b>.</p><p>Second.</p></main></body></html>')
TEXT = 'Cats & dogs\nA caf\xe9 is open.\nSecond.'


def record(kind, body, content_type='application/http; msgtype=response'):
  body = body if isinstance(body, bytes) else body.encode()
  head = (f'WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:1>\r\n'
          'WARC-Date: 2026-01-01T00:00:00Z\r\n'
          f'WARC-Target-URI: http://a.b/\r\nContent-Type: {content_type}\r\n'
          f'Content-Length: {len(body)}\r\n\r\n')
  return head.encode() + body + b'\r\n\r\n'


def http_page(body, kind='text/html; charset=utf-8', status='200 OK', more=''):
  body = body if isinstance(body, bytes) else body.encode()
  return (f'HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}\r\n'.encode()
          + body)


RECORDS = [
    record('warcinfo', 'software: x\r\n', 'application/warc-fields'),
    record('request', 'GET / HTTP/1.1\r\n\r\n'),
    record('response', http_page(HTML)),
    record('response', http_page(HTML.encode('latin-1'), 'text/html',
                                 more='X: y\r\n').replace(
        b'<head>', b'<head><meta charset="iso-8859-1">')),
    record('response', http_page(gzip.compress(HTML.encode()),
                                 more='Content-Encoding: gzip\r\n')),
    record('response', http_page('%PDF', 'application/pdf')),
    record('response', http_page(HTML, status='404 Not Found')),
    record('response', http_page('<p>\xe9 \xff</p>'.encode('latin-1'))),
    record('metadata', 'x: y', 'application/warc-fields'),
    record('conversion', 'From WET:\r\nplain \xe9', 'text/plain'),
    record('conversion', '{}', 'application/json'),
    record('revisit', http_page('')),
]


def read(path, **options):
  (corpus,) = resolve(str(path), **options)
  return list(corpus.documents()), corpus


def packings(records):
  """{ending: bytes}; each record a member, as Common Crawl packs them."""
  return {
      '.warc': b''.join(records),
      '.warc.gz': b''.join(map(gzip.compress, records)),
      '.warc.zst': b''.join(map(zstandard.compress, records)),
      '.warc.wet.bz2': bz2.compress(b''.join(records))}


@pytest.mark.parametrize('ending', packings([]))
def test_pages_become_text_and_the_rest_is_counted(tmp_path, ending):
  path = tmp_path / f'crawl{ending}'
  path.write_bytes(packings(RECORDS)[ending])
  documents, corpus = read(path)
  assert documents[:3] == [TEXT] * 3
  assert documents[-1] == 'From WET:\nplain \xe9'
  counts = {k: n for k, n in corpus.counts.items() if n}
  assert counts == {
      'skipped_warcinfo_records': 1, 'skipped_request_records': 1,
      'skipped_metadata_records': 1, 'skipped_revisit_records': 1,
      'skipped_conversion_records': 1, 'pages_not_html': 1,
      'pages_not_found': 1} | {
          k: n for k, n in counts.items() if k == 'pages_with_bad_bytes'}
  assert corpus.name == 'crawl'
  assert corpus.position == corpus.size == path.stat().st_size
  assert list(corpus.documents()) == documents


def test_every_record_is_a_document_or_counted(tmp_path):
  path = tmp_path / 'a.warc'
  path.write_bytes(b''.join(RECORDS))
  documents, corpus = read(path)
  told = sum(n for k, n in corpus.counts.items() if k != 'pages_with_bad_bytes')
  assert len(documents) + told == len(RECORDS)


def test_a_page_that_is_too_long_is_counted(tmp_path, monkeypatch):
  monkeypatch.setattr(archives, 'MAX_PAGE', 2000)
  path = tmp_path / 'a.warc'
  path.write_bytes(
      record('response', http_page('<p>' + 'long ' * 1000))
      + b''.join(record('response', http_page(
          pack(b'<p>' + b'x' * 100_000), more=f'Content-Encoding: {name}\r\n'))
                 for name, pack in (('gzip', gzip.compress),
                                    ('br', brotli.compress),
                                    ('zstd', zstandard.compress)))
      + record('conversion', 'y' * 3000, 'text/plain')
      + record('response', http_page(HTML)))
  documents, corpus = read(path)
  assert documents == [TEXT] and corpus.counts['pages_too_long'] == 5


def read_page(tmp_path, body, **options):
  """The text of a page, or None; and what was counted."""
  path = tmp_path / 'a.warc'
  path.write_bytes(record('response', http_page(body, **options)))
  documents, corpus = read(path)
  assert len(documents) < 2
  return (documents or [None])[0], {k: n for k, n in corpus.counts.items() if n}


def in_chunks(body, size=70, end=b'0\r\n\r\n'):
  parts = (body[i:i + size] for i in range(0, len(body), size))
  return b''.join(b'%X\r\n%s\r\n' % (len(part), part) for part in parts) + end


def raw_deflate(body):
  packer = zlib.compressobj(wbits=-15)
  return packer.compress(body) + packer.flush()


PAGE = HTML.encode()


def short(value):
  """The id of a value: what gzip packs has the time in it."""
  return f'{len(value)} bytes' if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize('body, more', [
    (in_chunks(PAGE), 'Transfer-Encoding: Chunked'),
    (in_chunks(PAGE, end=b'000;x=y\r\nA: b\r\n\r\n'),
     'transfer-encoding: chunked'),
    (in_chunks(brotli.compress(PAGE)),
     'Content-Encoding: BR\r\nTransfer-Encoding: CHUNKED'),
    (in_chunks(gzip.compress(PAGE)), 'Transfer-Encoding: gzip, chunked'),
    (gzip.compress(brotli.compress(PAGE)), 'Content-Encoding: br, gzip'),
    (gzip.compress(zlib.compress(PAGE)),
     'Content-Encoding: deflate\r\nContent-Encoding: gzip'),
    (gzip.compress(PAGE[:99]) + gzip.compress(PAGE[99:]) + b'\0' * 9,
     'Content-Encoding: X-GZip'),
    (raw_deflate(PAGE), 'Content-Encoding: deflate'),
    (zstandard.compress(PAGE[:99]) + zstandard.compress(PAGE[99:]),
     'Content-Encoding: zstd')] + [
         (PAGE, f'Content-Encoding: {name}') for name in (
             'gzip', 'br', 'deflate', 'zstd', 'UTF-8', 'identity')] + [
                 (PAGE, 'Transfer-Encoding: chunked')], ids=short)
def test_packings_are_undone_unless_they_were(tmp_path, body, more):
  assert read_page(tmp_path, body, more=more + '\r\n') == (TEXT, {})


@pytest.mark.parametrize('body, name', [
    (gzip.compress(PAGE)[:10] + b'\xff' * 40, 'gzip'),
    (b'\x1f\x9dabc', 'compress'),
    (b'\x81\xff' * 40, 'br'), (b'\x81\xff' * 40, 'zstd')], ids=short)
def test_what_cannot_be_unpacked_is_counted(tmp_path, body, name):
  assert read_page(tmp_path, body, more=f'Content-Encoding: {name}\r\n') == (
      None, {'pages_packed_otherwise': 1})


@pytest.mark.parametrize('pack', [gzip.compress, brotli.compress],
                         ids=['gzip', 'br'])
def test_a_packed_page_may_end_early(tmp_path, pack):
  name = {gzip.compress: 'gzip', brotli.compress: 'br'}[pack]
  text, counts = read_page(
      tmp_path, pack(PAGE * 50)[:-20], more=f'Content-Encoding: {name}\r\n')
  assert text.startswith('Cats & dogs\nA caf\xe9 is') and not counts


def test_a_page_cut_inside_a_letter_has_one_bad_character(tmp_path):
  text = 'Die Gemeinde liegt s\xfcdlich von M\xfcnchen. ' * 3 + 'Ende '
  page = f'<html><body><p>{text}\xfc'.encode()[:-1]
  assert read_page(tmp_path, page) == (
      text + '\ufffd', {'pages_with_bad_bytes': 1})


# Source: https://encoding.spec.whatwg.org
LABELS = {
    'gb2312': ('\u9555', 'gbk'), 'GBK': ('\u20ac', 'gb18030'),
    'ISO-8859-1': ('\u201cyes\u201d \u2013', 'cp1252'),
    'latin-1': ('\u2019', 'cp1252'), 'us-ascii': ('\u2019', 'cp1252'),
    'ks_c_5601-1987': ('\ub620\ubc29\uac01\ud558', 'cp949'),
    'Shift_JIS': ('\u2460\u2252', 'cp932'),
    'tis-620': ('\u2026\u0e01', 'cp874'),
    'iso-8859-9': ('\u20ac\u015f', 'cp1254'),
    'big5': ('\u55ba', 'big5hkscs'),
    'utf-16': ('\xe9', 'utf-16-le'), 'unicodefffe': ('\xe9', 'utf-16-be'),
    'x-mac-cyrillic': ('\u0416', 'mac_cyrillic'), 'unicode-1-1-utf-8': (
        '\xe9', 'utf-8'), 'iso-8859-8-i': ('\u05d0', 'iso8859-8')}


@pytest.mark.parametrize('label', LABELS)
def test_charsets_are_read_as_browsers_do(tmp_path, label):
  text, codec = LABELS[label]
  page = f'<p>Words {text} and words.</p>'.encode(codec)
  expected = (f'Words {text} and words.', {})
  kind = f'text/html; charset="{label}"'
  assert read_page(tmp_path, page, kind=kind) == expected
  if not codec.startswith('utf-16'):
    meta = f'<meta http-equiv=content-type content="a; charset={label}">'
    page = meta.encode() + page
    assert read_page(tmp_path, page, kind='text/html') == expected


@pytest.mark.parametrize('kind, body, text', [
    # A mark of byte order, then HTTP's header, then what the page declares.
    ('; charset=utf-8', codecs.BOM_UTF16_LE + '<p>\xe9'.encode('utf-16-le'),
     '\xe9'),
    ('; charset=koi8-r', b'<meta charset=utf-8><p>\xd6', '\u0436'),
    ('; charset=none-such', b'<meta charset=koi8-r><p>\xd6', '\u0436'),
    ('', b'<!-- <meta charset=gbk> --><meta charset=koi8-r><p>\xd6', '\u0436'),
    ('', b'<meta name=a content="charset=gbk"><p>\xc3\xa9', '\xe9'),
    ('', b'<meta charset=utf-16><p>\xc3\xa9', '\xe9'),
    ('', b'<meta charset=x-user-defined><p>\x93', '\u201c'),
    ('; charset=x-user-defined', b'<p>a\x93b', 'a\uf793b'),
    ('', b'<?xml version="1.0" encoding="koi8-r"?><p>\xd6', '\u0436'),
    ('', ('<p>' + '\uc548\ub155\ud558\uc138\uc694 ' * 9).encode('euc-kr'),
     ('\uc548\ub155\ud558\uc138\uc694 ' * 9).strip())], ids=short)
def test_what_decides_the_charset(tmp_path, kind, body, text):
  assert read_page(tmp_path, body, kind='text/html' + kind) == (text, {})


@pytest.mark.parametrize('label, page, text', [
    ('gb2312', b'a \x80 b', 'a \u20ac b'), ('koi8-u', b'a\xae', 'a\u045e'),
    ('euc-jp', b'\xad\xa1', '\u2460'),
    ('euc-jp', b'\xa1\xc1 \x8f\xa2\xb7', '\uff5e ~')])
def test_what_browsers_know_and_python_does_not(tmp_path, label, page, text):
  assert read_page(
      tmp_path, b'<p>Words ' + page + b' and words.</p>',
      kind=f'text/html; charset={label}') == (f'Words {text} and words.', {})


def test_euc_jp_has_the_table_of_shift_jis():
  # In the Encoding Standard both are decoded by one table, jis0208.
  for row in range(94):
    for cell in range(94):
      shifted = bytes([row // 2 + (0x81 if row < 62 else 0xc1), cell + (
          0x9f if row % 2 else 0x40 + (cell > 62))])
      try:
        right = shifted.decode('cp932')
      except UnicodeDecodeError:
        right = ''
      page = bytes([0xa1 + row, 0xa1 + cell])
      assert archives._decoded(page, 'euc-jp').strip('\ufffd') == right, page


def test_refused_charsets_are_counted(tmp_path):
  assert read_page(tmp_path, '<p>x', kind='text/html; charset=iso-2022-kr') == (
      None, {'pages_in_refused_charsets': 1})


def test_every_label_of_the_standard():
  webencodings = pytest.importorskip(
      'webencodings', reason='webencodings has the table of the standard')
  for label, name in webencodings.LABELS.items():
    codec = archives.codec_of(f' {label.upper()}\n')
    if name in ('replacement', 'x-user-defined'):
      assert codec == name.replace('replacement', '')
    else:  # The standard's GBK is decoded as gb18030.
      right = (codecs.lookup('gb18030') if name == 'gbk' else
               webencodings.lookup(label).codec_info)
      assert codecs.lookup(codec).name == right.name, label


ARTICLE = 'There are several rules here to know. ' * 3


@pytest.mark.parametrize('more, text', [
    ('<p>The line <a href=a>Paris</a>\u2013<a href=b>Lyon</a> ran in '
     '<b>1990</b>&ndash;<b>1999</b>.</p>',
     'The line Paris\u2013Lyon ran in 1990\u20131999.'),
    ('<p><a href=a>\u65e5\u672c</a>\u306e<a href=b>\u6771\u4eac</a>\u3068<b>'
     '\u5927</b>\u3002</p>',
     '\u65e5\u672c\u306e\u6771\u4eac\u3068\u5927\u3002'),
    ('<p>a<i>\u3000</i>b<i>&#x2026;</i>c<i>\ue001</i></p>', 'a\u3000b\u2026c'),
    ('<table><tr><td>1</td><td>\u2014</td></tr></table>', '1\t\t\u2014'),
    ('<ul><li>Never leave the house.</li><li>Come back<ul><li>before <a href=a>'
     'midnight</a>.</li></ul></li></ul>',
     'Never leave the house.\nCome back\nbefore midnight.'),
    ('<menu><li>Save</li></menu><ol><li>One</li></ol>', 'Save\nOne'),
    ('<p>On <time>5 May</time> it ended.</p>', 'On 5 May it ended.'),
    ('<details><summary>Why</summary>Because.</details>', 'Why\nBecause.'),
    # Menus stay away.
    ('<ul><li><a href=a>Home</a></li><li><a href=b>About us</a></li></ul>', ''),
    ('<nav><ul><li>Home</li></ul></nav><ul class=menu><li>Home</li></ul>', '')])
def test_characters_and_lists_are_kept(tmp_path, more, text):
  page = f'<html><body><div><p>{ARTICLE}</p>{more}</div></body></html>'
  assert read_page(tmp_path, page)[0] == f'{ARTICLE}\n{text}'.replace(
      ' \n', '\n').strip()


def test_deep_lists_take_no_time(tmp_path):
  text, _ = read_page(tmp_path, f'<p>{ARTICLE}</p>' + '<ul><li>' * 3000)
  assert text == ARTICLE.strip()


@pytest.mark.parametrize('kind, found', [
    ('Application/XHTML+xml', TEXT), ('text/html charset=utf-8', TEXT),
    ('text/html, text/html', TEXT), ('text/plain', None), ('', None)])
def test_types_of_pages(tmp_path, kind, found):
  assert read_page(tmp_path, HTML, kind=kind) == (
      found, {} if found else {'pages_not_html': 1})


def test_other_text_is_another_corpus_but_not_wet(tmp_path):
  """Only readers whose text changed have a revision in the fingerprint."""
  from robertax.corpus.folders import reader_of
  revisions = {end: [v for name, v in reader_of(f'a{end}').versions('a')
                     if name.startswith('robertax.')]
               for end in ('.warc', '.xml', '.wet', '.txt', '.arrow')}
  assert revisions == {'.warc': ['2'], '.xml': ['2'], '.wet': [], '.txt': [],
                       '.arrow': []}


@pytest.mark.parametrize('keep', [5, 300, -3000, -200, -10])
def test_a_truncated_archive_is_named(tmp_path, keep):
  whole = b''.join(RECORDS[:2]) + record('response', http_page(HTML * 50))
  path = tmp_path / 'a.warc'
  path.write_bytes(whole[:keep])
  with pytest.raises(InputError, match='a.warc'):
    read(path)
  path = tmp_path / 'b.warc.gz'
  path.write_bytes(gzip.compress(whole)[:-20])
  with pytest.raises(InputError, match='b.warc.gz: truncated'):
    read(path)


def test_what_is_no_archive_is_named(tmp_path):
  path = tmp_path / 'a.warc'
  path.write_bytes(b'hello\n' * 100)
  with pytest.raises(InputError, match='a.warc'):
    read(path)


@pytest.mark.oracle
@pytest.mark.parametrize('packed', [False, True])
def test_files_of_warcio(tmp_path, packed):
  from warcio.statusandheaders import StatusAndHeaders
  from warcio.warcwriter import WARCWriter

  path = tmp_path / ('a.warc.gz' if packed else 'a.warc')
  with open(path, 'wb') as f:
    writer = WARCWriter(f, gzip=packed)
    writer.write_record(writer.create_warcinfo_record('a.warc', {'a': 'b'}))
    for number in range(3):
      headers = StatusAndHeaders(
          '200 OK', [('Content-Type', 'text/html; charset=utf-8')],
          protocol='HTTP/1.1')
      writer.write_record(writer.create_warc_record(
          f'http://a.b/{number}', 'response',
          payload=io.BytesIO(HTML.encode()), http_headers=headers))
    writer.write_record(writer.create_warc_record(
        'http://a.b/', 'conversion', payload=io.BytesIO(b'wet text'),
        warc_content_type='text/plain'))
  documents, corpus = read(path)
  assert documents == [TEXT] * 3 + ['wet text']
  assert corpus.counts['skipped_warcinfo_records'] == 1


@pytest.mark.oracle
def test_files_of_wget(tmp_path):
  wget = shutil.which('wget')
  if not wget:
    pytest.skip('no wget here: it makes the file')
  site = tmp_path / 'site'
  site.mkdir()
  (site / 'a.html').write_text('<meta charset="utf-8">' + HTML)
  handler = functools.partial(http.server.SimpleHTTPRequestHandler,
                              directory=str(site))
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    subprocess.run(
        [wget, '-q', '--no-proxy', '--warc-file=crawl', '-O', '/dev/null',
         f'http://127.0.0.1:{server.server_port}/a.html'],
        cwd=tmp_path, check=True, timeout=60)
    server.shutdown()
  documents, corpus = read(tmp_path / 'crawl.warc.gz')
  assert documents == [TEXT]
  assert corpus.counts['skipped_request_records'] == 1
