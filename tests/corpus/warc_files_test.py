"""Records by hand, as ISO 28500 has them; and files of warcio and of wget."""

import bz2
import functools
import gzip
import http.server
import io
import shutil
import subprocess
import threading

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
  bomb = gzip.compress(b'<p>' + b'x' * 100_000)
  path = tmp_path / 'a.warc'
  path.write_bytes(
      record('response', http_page('<p>' + 'long ' * 1000))
      + record('response', http_page(bomb, more='Content-Encoding: gzip\r\n'))
      + record('conversion', 'y' * 3000, 'text/plain')
      + record('response', http_page(HTML)))
  documents, corpus = read(path)
  assert documents == [TEXT] and corpus.counts['pages_too_long'] == 3


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
