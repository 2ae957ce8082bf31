
import dataclasses
import random
import sys
import textwrap

import pytest

from robertax.config import DataConfig, check_data
from robertax.corpus import records
from robertax.corpus.documents import Cleaning, Seen, corpora_of
from robertax.errors import InputError

TEXTS = ['a b c', 'x', 'a b c', ' a b c', 'Ein Satz.', 'a b c', 'x', 'y y']


@pytest.fixture
def path(tmp_path):
  path = tmp_path / 'mine.txt'
  path.write_text('\n\n'.join(TEXTS))
  return path


def read(path, **options):
  (corpus,) = corpora_of(DataConfig(corpora=str(path), **options))
  return list(corpus.documents()), corpus


@pytest.fixture
def module(tmp_path, monkeypatch):
  """Writes filters.py and gives its name anew each time."""
  monkeypatch.syspath_prepend(tmp_path)
  names = []

  def write(source):
    names.append(f'filters_{random.getrandbits(40)}')
    (tmp_path / f'{names[-1]}.py').write_text(textwrap.dedent(source))
    return names[-1]

  yield write
  for name in names:
    sys.modules.pop(name, None)


def test_all_off_it_is_the_corpus_itself(path):
  documents, corpus = read(path)
  assert documents == TEXTS
  assert type(corpus).__name__ == 'Corpus'
  assert Cleaning().of(corpus) is corpus


def test_duplicates_but_the_first_are_left_out(path):
  documents, corpus = read(path, drop_duplicates=True)
  assert documents == list(dict.fromkeys(TEXTS))
  assert corpus.counts['duplicate_documents'] == 3
  assert list(corpus.documents()) == documents  # As often as it is asked.
  assert corpus.counts['duplicate_documents'] == 3


def test_short_documents_are_left_out(path):
  documents, corpus = read(path, min_document_chars=4)
  assert documents == [t for t in TEXTS if len(t) >= 4]
  assert corpus.counts['too_short_documents'] == 3
  with pytest.raises(InputError, match='min_document_chars=-1'):
    check_data(DataConfig(min_document_chars=-1))


def test_a_filter_of_ones_own(path, module):
  name = module('''
      import numpy as np
      def english(text): return np.array(text) != 'Ein Satz.'
      def edit(text):
        return None if text == 'x' else text.replace('y', 'x')
      ''')
  documents, corpus = read(path, document_filter=f'{name}:english')
  assert documents == [t for t in TEXTS if t != 'Ein Satz.']
  assert corpus.counts['filtered_documents'] == 1
  # The filter is first: what it makes equal is a duplicate, and its lengths
  # count.
  documents, corpus = read(path, document_filter=f'{name}:edit',
                           drop_duplicates=True, min_document_chars=4)
  assert documents == ['a b c', ' a b c', 'Ein Satz.']
  assert {k: n for k, n in corpus.counts.items() if n} == dict(
      filtered_documents=2, edited_documents=1, too_short_documents=1,
      duplicate_documents=2)
  assert sum(corpus.counts[k] for k in (
      'filtered_documents', 'too_short_documents', 'duplicate_documents')
      ) + len(documents) == len(TEXTS)


def test_a_filter_of_some_corpora_alone(path, module, tmp_path):
  name = module("""
      def short(text): return len(text) < 4
      def spaced(text): return ' ' in text
      """)
  for other in ('news', 'web'):
    (tmp_path / f'{other}.txt').write_text('\n\n'.join(TEXTS))
  data = DataConfig(
      corpora=','.join(f'{tmp_path}/{n}.txt' for n in ('mine', 'news', 'web')),
      document_filter=f'web={name}:spaced, news={name}:short')
  mine, news, web = corpora_of(data)
  assert list(mine.documents()) == TEXTS and type(mine).__name__ == 'Corpus'
  assert list(news.documents()) == [t for t in TEXTS if len(t) < 4]
  assert list(web.documents()) == [t for t in TEXTS if ' ' in t]
  # Its records are those of a config whose filter is of all.
  (alone,) = corpora_of(DataConfig(corpora=f'{tmp_path}/web.txt',
                                   document_filter=f'{name}:spaced'))
  assert alone.fingerprint() == web.fingerprint()
  for wrong in ('blogs=a:b', 'web=', 'web=a:b,web=c:d', 'web=a:b,c:d'):
    with pytest.raises(InputError, match='they are mine, news, web'):
      corpora_of(dataclasses.replace(data, document_filter=wrong))


def test_a_filters_errors_name_document_and_place(path, module):
  name = module('''
      def inner(text): return 1 / (text != 'Ein Satz.')
      def bad(text): return inner(text) > 0
      def number(text): return 3
      def half(text): return '\\ud800'
      ''')
  with pytest.raises(InputError, match=(
      rf"mine: document 5 \('Ein Satz.'...\): data.document_filter={name}:bad: "
      rf'ZeroDivisionError: .* at .*{name}.py:2')):
    read(path, document_filter=f'{name}:bad')
  with pytest.raises(InputError, match='document 1 .* gave int: True or a tex'):
    read(path, document_filter=f'{name}:number')
  with pytest.raises(InputError, match='is not UTF-8'):
    read(path, document_filter=f'{name}:half')


@pytest.mark.parametrize('value, says', [
    ('no_such_module:f', 'cannot import no_such_module'),
    ('json:no_such', 'json has no such function; it has .*dumps'),
    ('json', 'module:function'), (':f', 'module:function'),
    ('json:__name__', 'not a function, but str'),
    ('builtins:len', 'no Python source file')])
def test_what_is_no_filter_is_named(path, value, says):
  with pytest.raises(InputError, match=says):
    read(path, document_filter=value)


def test_the_fingerprint_knows_the_switches_and_the_filters_source(
    path, module, tmp_path):
  name = module('def f(text): return True')
  options = [{}, dict(drop_duplicates=True), dict(min_document_chars=3),
             dict(min_document_chars=4), dict(document_filter=f'{name}:f')]
  found = [read(path, **o)[1].fingerprint() for o in options]
  assert len(set(found)) == len(found)
  assert found == [read(path, **o)[1].fingerprint() for o in options]
  (tmp_path / f'{name}.py').write_text('def f(text): return False')
  del sys.modules[name]
  assert read(path, **options[-1])[1].fingerprint() != found[-1]


def test_a_set_of_texts_is_small_and_right():
  rng = random.Random(0)
  texts = [str(rng.randrange(30_000)) for _ in range(40_000)]
  seen, known = Seen(), set()
  for text in texts:
    assert seen.add(text) == (text in known)
    known.add(text)

  def memory(number):
    for i in range(len(known), number):
      seen.add(f'{i} more')
      known.add(i)
    return sum(map(sys.getsizeof, filter(None, seen._buckets)))

  # All buckets are there at 300,000: then it is the documents alone.
  assert (-memory(300_000) + memory(500_000)) / 200_000 < 20


def test_hashes_that_overlap_are_told_apart():
  seen = Seen()
  seen._buckets = [bytearray(bytes(14) + b'\1' * 14)] * (1 << 16)

  class Half(bytes):
    def digest(self):
      return b'\0\0' + bytes(7) + b'\1' * 7

  import hashlib
  real = hashlib.blake2b
  hashlib.blake2b = lambda *_, **__: Half()
  try:
    assert not seen.add('x') and seen.add('x')
  finally:
    hashlib.blake2b = real


def test_records_hold_what_remains(prepare, tmp_path, documents, tokenizer):
  """Both passes agree, and the last 1 % of what remains is held out."""
  texts = documents(150)
  path = tmp_path / 'twice.txt'
  path.write_text('\n\n'.join(texts + texts))
  (once,) = prepare(path, drop_duplicates=True, min_document_chars=30).manifests
  unique = [t for t in dict.fromkeys(texts) if len(t) >= 30]
  assert once.splits['eval'].num_documents == 1
  assert sum(once.splits[s].num_documents
             for s in records.SPLITS) == len(unique)
  short = sum(len(t) < 30 for t in texts)
  assert once.counts['too_short_documents'] == 2 * short > 0
  assert once.counts['duplicate_documents'] == (
      2 * (len(texts) - short) - len(unique))
  assert once.counts['utf8_bytes'] == sum(map(len, unique))
  clean = tmp_path / 'clean.txt'
  clean.write_text('\n\n'.join(unique))
  (other,) = prepare(clean).manifests
  for split in records.SPLITS:
    rows = [[r.ids.tolist() for r in records.read_rows(m, split)]
            for m in (once, other)]
    assert rows[0] == rows[1]


def test_nothing_left_is_said(prepare, txt):
  with pytest.raises(InputError, match='holds no text'):
    prepare(txt, min_document_chars=10**9)
