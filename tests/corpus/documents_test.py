import bz2
import gzip
import importlib.metadata
import json
import os
import pathlib
import re
import tomllib

import pytest
import zstandard

from robertax.corpus.documents import resolve
from robertax.corpus.folders import READERS, reader_of
from robertax.errors import InputError


def read(path, **options):
  (corpus,) = resolve(str(path), **options)
  return list(corpus.documents()), corpus


def jsonl(*values):
  return ''.join(json.dumps(v) + '\n' for v in values)


@pytest.mark.parametrize('content, expected', [
    ('one\ntwo\n\nthree', ['one\ntwo', 'three']),
    ('\n\n one\n \t\n\n\ntwo\n\n', [' one', 'two']),
    ('\ufeffone\r\ntwo\r\n\r\nthree\r\n', ['one\ntwo', 'three']),
    ('é\x00\x85\u2028x\n\n🙂', ['é\x00\x85\u2028x', '🙂']),
    ('\n \n', []),
])
@pytest.mark.parametrize('ending', ['.txt', '.txt.gz', '.txt.zst', '.txt.bz2'])
def test_txt(tmp_path, content, expected, ending):
  pack = {'.txt': bytes, '.txt.gz': gzip.compress, '.txt.bz2': bz2.compress,
          '.txt.zst': zstandard.compress}[ending]
  path = tmp_path / f'a.b{ending}'
  path.write_bytes(pack(content.encode()))
  documents, corpus = read(path)
  assert documents == expected
  assert corpus.name == 'a'
  assert corpus.position == corpus.size == path.stat().st_size
  assert list(corpus.documents()) == expected


def test_jsonl(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('\ufeff' + jsonl(
      {'text': 'one\r\ntwo', 'id': 3}, {'text': ' \n'}, {'text': 'é\rb'})
      + '\r\n\n' + '{"text": "last"}')
  documents, corpus = read(path)
  assert documents == ['one\ntwo', 'é\nb', 'last']
  assert corpus.counts['empty_documents'] == 1
  assert corpus.counts['blank_lines'] == 2
  path.write_text(jsonl({'text': 1, 'body': 'yes'}))
  assert read(path, text_field='body')[0] == ['yes']


@pytest.mark.parametrize('line, says', [
    ('not json', 'not JSON'),
    ('{"text": "cut off', 'not JSON'),
    ('{"text": "a", }', r'not JSON: .* \(character 15\)'),
    ('[' * 100_000, 'not JSON'),
    ('["text"]', 'expected an object .* found list'),
    ('{"body": "a"}', "no field 'text'; its fields are 'body'"),
    ('{}', 'its fields are none'),
    ('{"text": 3}', 'should be a string, found int'),
    ('{"text": ["a"]}', 'should be a string, found list'),
    (r'{"text": "half \ud83d"}', 'lone surrogate'),
])
@pytest.mark.parametrize('last', [False, True])
def test_wrong_lines_are_named(tmp_path, line, says, last):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"text": "fine"}\n\n' + line + '\n'
                  + ('' if last else '{"text": "fine"}\n'))
  with pytest.raises(InputError, match=says) as e:
    read(path)
  assert f'{path}: line 3: ' in str(e.value)


def test_a_string_broken_over_lines_is_whole_again(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"text": "one\ntwo\r\n\nthree", "id": 1}\n{"text": "b"}\n')
  documents, corpus = read(path)
  assert documents == ['one\ntwo\n\nthree', 'b']
  assert corpus.counts['rejoined_lines'] == 3


def test_pairs_of_surrogates_are_characters(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text(r'{"text": "\ud83d\ude42 \u00e9"}')
  assert read(path)[0] == ['🙂 é']


def test_invalid_utf8_is_named(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_bytes(b'fine\nb\xc3d \xff\n')
  with pytest.raises(InputError, match='line 2, byte 2 of the line: 0xc3') as e:
    read(path)
  assert str(path) in str(e.value) and 'invalid_utf8=replace' in str(e.value)
  path.write_bytes('text'.encode('utf-16'))
  with pytest.raises(InputError, match='UTF-16'):
    read(path)


def test_invalid_utf8_is_replaced_and_counted(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_bytes(b'\xe2\x82 \xff\xef\xbf\xbd \xed\xa0\x80')
  documents, corpus = read(path, invalid_utf8='replace')
  assert documents == ['��' + ' �� ' + '���']
  assert corpus.counts['replaced_bytes'] == 6  # One was there before.
  path = tmp_path / 'b.jsonl'
  path.write_bytes(b'{"text": "a\xff\\ud800"}')
  documents, corpus = read(path, invalid_utf8='replace')
  assert documents == ['a��']
  assert (corpus.counts['replaced_bytes'],
          corpus.counts['replaced_surrogates']) == (1, 1)
  with pytest.raises(InputError, match='Known are: error, replace'):
    read(path, invalid_utf8='ignore')


@pytest.fixture
def tree(tmp_path):
  for name in ('b.txt', 'a.jsonl', 'deep/c.txt.gz', '.hidden.txt', 'x.pdf'):
    path = tmp_path / 'tree' / name
    path.parent.mkdir(exist_ok=True)
    name += '\0' * name.endswith('pdf')
    text = jsonl({'text': name}) if 'jsonl' in name else name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith('gz')
                     else text.encode())
  return tmp_path / 'tree'


def names(corpora):
  return [corpus.name for corpus in resolve(str(corpora))]


def test_a_folder_is_one_corpus(tree):
  documents, corpus = read(tree)
  assert documents == ['a.jsonl', 'b.txt', 'deep/c.txt.gz']
  assert corpus.name == 'tree'
  assert names(f'{tree}/') == ['tree']


def test_a_glob_is_a_corpus_a_file(tree):
  assert names(f'{tree}/*.*l') == ['a']
  assert names(f'{tree}/**/*.txt*') == ['b', 'c']
  assert names(f'{tree}/b.txt, {tree}/a.jsonl,') == ['b', 'a']
  assert names('python') == ['python']


def test_a_file_whose_name_is_a_glob(tmp_path):
  (tmp_path / 'a[1].txt').write_text('x')
  assert names(tmp_path / 'a[1].txt') == ['a[1]']


@pytest.mark.parametrize('corpora, says', [
    ('', 'data.corpora is empty'),
    (' , ', 'data.corpora is empty'),
    ('{tree}/absent.txt', 'absent.txt does not exist'),
    ('{tree}/*.csv', 'no file matches'),
    ('{tree}/x.pdf', 'x.pdf: it is binary. A text file ends in .txt'),
    ('{tree}/*.pdf', r'no file matches .*: 1 binary \(x.pdf\)'),
    ('{tree}/b.txt,{tree}/b.txt', "two corpora are called 'b'"),
    ('{tree}/.hidden.txt', 'rename it'),
    ('{tree}/empty', 'holds no text: no file ends in .txt'),
])
def test_wrong_corpora_are_named(tree, corpora, says):
  (tree / 'empty').mkdir()
  with pytest.raises(InputError, match=says):
    resolve(corpora.format(tree=tree))


def test_the_fingerprint_follows_the_files(tree):
  def fingerprint(**options):
    return read(tree, **options)[1].fingerprint()

  first = fingerprint()
  assert fingerprint() == first
  assert fingerprint(invalid_utf8='replace') != first
  os.utime(tree / 'b.txt', ns=(1, 1))
  second = fingerprint()
  assert second != first
  (tree / 'b.txt').write_text('longer than before')
  os.utime(tree / 'b.txt', ns=(1, 1))
  assert fingerprint() not in (first, second)


@pytest.mark.parametrize('name, packages, extra', [
    ('a.warc.gz', 'warcio resiliparse', 'warc'),
    ('CC-1.warc.wet.gz', 'warcio resiliparse', 'warc'),
    ('wiki.xml.bz2', 'mwparserfromhell', 'wiki'),
    ('a.parquet', 'pyarrow', ''), ('a.arrow', 'pyarrow', '')])
def test_a_missing_package_is_named_before_anything_is_read(
    tmp_path, monkeypatch, name, packages, extra):
  def version(package):
    raise importlib.metadata.PackageNotFoundError(package)

  (tmp_path / name).write_bytes(b'')
  assert names(tmp_path / name) == [name.split('.')[0]]
  monkeypatch.setattr(importlib.metadata, 'version', version)
  with pytest.raises(InputError, match=f'pip install {packages}') as e:
    resolve(str(tmp_path / name))
  assert str(tmp_path / name) in str(e.value)
  assert (f"'.[{extra}]'" in str(e.value)) == bool(extra)


def test_the_extras_bring_what_the_readers_need():
  extras = tomllib.loads((pathlib.Path(__file__).resolve().parents[2]
                          / 'pyproject.toml').read_text())['project']
  for reader in READERS.values():
    brought = (extras['optional-dependencies'][reader.extra] if reader.extra
               else extras['dependencies'])
    assert set(reader.packages) <= {
        re.split('[=<>]', line)[0] for line in brought}


def test_what_is_read_is_known_by_its_name():
  known = {name: reader_of(name) and reader_of(name).read.__name__ for name in (
      'a.txt', 'a.b.jsonl.zst', 'enwiki-pages-articles1.xml-p1p4.bz2',
      'a.xml', 'a.warc.wet.gz', 'a.parquet', 'a.parquet.gz', 'txt', 'a.gz',
      'a.xml-p1.bz2', 'a.txt.xz')}
  assert list(known.values()) == [
      'txt', 'jsonl', 'wiki', 'wiki', 'warc', 'parquet', None, None, None,
      None, None]


def test_versions_of_packages_are_part_of_the_fingerprint(
    tmp_path, monkeypatch):
  (tmp_path / 'a.xml').write_bytes(b'')
  first = resolve(f'{tmp_path}/a.xml')[0].fingerprint()
  monkeypatch.setattr(importlib.metadata, 'version', lambda _: '99')
  assert resolve(f'{tmp_path}/a.xml')[0].fingerprint() != first
