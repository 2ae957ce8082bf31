"""A dump as MediaWiki's dumpBackup.php writes it (export-0.11)."""

import bz2
import gzip
import tracemalloc
from xml.sax.saxutils import escape

import pytest

from robertax.corpus.archives import plain_wikitext
from robertax.corpus.documents import resolve
from robertax.errors import InputError

HEAD = '''<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" version="0.11" \
xml:lang="en">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Talk</namespace>
    </namespaces>
  </siteinfo>
'''


def page(text, ns=0, title='A', redirect='', model='wikitext'):
  texts = text if isinstance(text, list) else [text]
  revisions = ''.join(f'''    <revision>
      <id>1</id>
      <contributor><username>Bo</username><id>2</id></contributor>
      <comment>text of a comment</comment>
      <model>{model}</model>
      <format>text/x-wiki</format>
      <text bytes="9" xml:space="preserve">{escape(text)}</text>
    </revision>
''' for text in texts)
  return f'''  <page>
    <title>{title}</title>
    <ns>{ns}</ns>
    <id>7</id>
{redirect}{revisions}  </page>
'''


PAGES = [
    page("'''Bo''' is a [[dog|good dog]]<ref>No.</ref> & 2 < 3.\n\nOld."),
    page('#REDIRECT [[Bo]]', redirect='    <redirect title="Bo" />\n'),
    page('A talk.', ns=1),
    page('{"a": 1}', model='json'),
    page(''),
    page(['First words.', 'Last words.']),
    page('{{only|a template}}'),
    page('Café \U0001f642.'),
]
TEXTS = ['Bo is a good dog & 2 < 3.\nOld.', 'Last words.', 'Café \U0001f642.']
COUNTS = dict(redirects=1, pages_of_other_namespaces=1, pages_of_other_models=1,
              pages_without_text=1, older_revisions=1, empty_documents=1)


def read(path, content, pack=bytes):
  path.write_bytes(pack((HEAD + content + '</mediawiki>\n').encode()))
  (corpus,) = resolve(str(path))
  return list(corpus.documents()), corpus


@pytest.mark.parametrize('ending, pack', [
    ('.xml', bytes), ('.xml.bz2', bz2.compress), ('.xml.gz', gzip.compress),
    ('1.xml-p1p41242.bz2', bz2.compress)])
def test_articles_become_text_and_the_rest_is_counted(tmp_path, ending, pack):
  path = tmp_path / f'enwiki-pages-articles{ending}'
  documents, corpus = read(path, ''.join(PAGES), pack)
  assert documents == TEXTS
  assert {k: n for k, n in corpus.counts.items() if n} == COUNTS
  assert corpus.position == corpus.size == path.stat().st_size
  assert list(corpus.documents()) == documents


def test_multistream_dumps(tmp_path):
  """Wikipedia's are bz2 streams of 100 pages, one behind another."""
  path = tmp_path / 'a.xml.bz2'
  documents, _ = read(path, ''.join(PAGES), lambda whole: b''.join(
      bz2.compress(whole[i:i + 500]) for i in range(0, len(whole), 500)))
  assert documents == TEXTS


@pytest.mark.parametrize('wikitext, text', [
    ('== Head ==\n* one\n* two', 'Head\none\ntwo'),
    ('a[[File:x|thumb|A [[cat]]]]b [[:Category:X]]c [[Category:Y]]', 'ab c'),
    ('x {{cite|a=[[b]]}} y', 'x y'),
    ('before\n{| class="a"\n| cell\n|}\nafter', 'before\nafter'),
    ("''it'' <!-- no --> <nowiki>''as is''</nowiki>", "it ''as is''"),
    ('<ref name="a" />A<ref>b {{c}}</ref> &nbsp;&amp; B__NOTOC__', 'A \xa0& B'),
    ('[http://a.b label] and http://c.d', 'label and http://c.d'),
    ('unclosed {{template and [[link', 'unclosed {{template and [[link'),
])
def test_markup_is_taken_away(wikitext, text):
  assert ' '.join(plain_wikitext(wikitext).split(' ')).replace('  ',
                                                               ' ') == text


@pytest.mark.parametrize('wikitext, text', [
    ('Stadt.<br>Sie liegt<BR clear="all" />am Ort', 'Stadt.|Sie liegt|am Ort'),
    ('x<ul><li>a</li><li>b</ul>y<div class="c">d</div>e', 'x|a|b|y|d|e'),
    ('<table><tr><td>a</table>x<td>c</td><td>d</td>', 'x|c|d'),
    (';term:what it is\n:more', 'term|what it is|more'),
    ('a<nowiki><br></nowiki>b <!--<br>-->c &lt;br&gt; <nowiki/>d<br>e',
     'a<br>b c <br> d|e'),
    ('<blockquote>Said.</blockquote>He', 'Said.|He'),
    ('[[:Category:X|the list]] [[:File:x.png|it]] [[Media:x.ogg|hear]]',
     'the list it hear'),
    ('Old: [[Bild:Ort.JPG|mini|links|Blick auf [[Ort]]]].', 'Old: .'),
    ('Text.\n[[de:Ort]]\n[[fr:Ort]] [[zh-yue:Ort]]\n', 'Text.'),
    ('See [[wikt:word|a word]] and [[re:Zero]].', 'See a word and re:Zero.'),
    ('[[commons:File:x.jpg|a]] [[s:x.ogg|b]] [[Help:x.pdf|c]] [[2:1.png|d]]',
     'a b c'),
    ('__KEIN_INHALTSVERZEICHNIS__\n__\u7121\u76ee\u9304__a __init__ b',
     'a __init__ b'),
])
def test_tags_separate_words_and_labels_stay(wikitext, text):
  assert plain_wikitext(wikitext) == text.replace('|', '\n')


DE = '''<mediawiki xml:lang="de"><siteinfo><namespaces>
<namespace key="-2" case="first-letter">Medium</namespace>
<namespace key="0" case="first-letter" />
<namespace key="1" case="first-letter">Diskussion</namespace>
<namespace key="6" case="first-letter">Datei</namespace>
<namespace key="14" case="first-letter">Kategorie</namespace>
<namespace key="100" case="first-letter">Über uns</namespace>
</namespaces></siteinfo>'''


def read_german(path, pages):
  path.write_text(DE + pages + '</mediawiki>', encoding='utf-8')
  (corpus,) = resolve(str(path))
  return list(corpus.documents()), {k: n for k, n in corpus.counts.items() if n}


def test_namespaces_are_those_of_the_dump(tmp_path):
  text = (
      "[[Datei:Ort.jpg|mini|links|Blick auf Ort]]\n'''Ort''' ist eine "
      '[[Stadt]].<br>Sie liegt am Fluss. Siehe [[:Category:Foo|die Liste]] und '
      '[[:Kategorie:Foo|diese]].\n\n[[Kategorie:Stadt in Deutschland]]'
      '[[ datei : a.svg |20px]][[File:b.svg]][[KATEGORIE:_X]]')
  documents, counts = read_german(tmp_path / 'dewiki.xml', page(text))
  assert documents == ['Ort ist eine Stadt.\n'
                       'Sie liegt am Fluss. Siehe die Liste und diese.']
  assert not counts


def test_dumps_without_ns_and_redirect(tmp_path):
  """Those of before 2012: the name of the namespace begins the title."""
  def old(title, text):
    return page(text, title=title).replace('<ns>0</ns>', '')

  documents, counts = read_german(tmp_path / 'a.xml', ''.join([
      old('Ort', 'Ein Ort.'), old('Diskussion:Ort', 'Nein.'),
      old('über_uns:X', 'Nein.'), old('2001: A Film', 'Ein Film.'),
      old('Datei', 'Ein Wort.'),
      old('B', '#WEITERLEITUNG [[Ort]]\n[[Kategorie:B]]'),
      old('C', '#\u91cd\u5b9a\u5411[[Ort]]'),
      old('D', '#Eins [[Ort]]\n#Zwei')]))
  assert documents == ['Ein Ort.', 'Ein Film.', 'Ein Wort.', 'Eins Ort\nZwei']
  assert counts == {'pages_of_other_namespaces': 2, 'redirects': 2}


@pytest.mark.parametrize('nested', ['{{' * 3000, '[[a|' * 3000, '<b>' * 3000,
                                    '{|\n|' * 500])
def test_deep_nesting_is_no_crash(tmp_path, nested):
  documents, corpus = read(tmp_path / 'a.xml', page(nested) + page('fine'))
  assert documents[-1] == 'fine'
  assert len(documents) + corpus.counts['pages_not_parsed'] + (
      corpus.counts['empty_documents']) == 2


@pytest.mark.parametrize('attack', [
    '<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;&x;&x;">]>',
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE a SYSTEM "http://localhost/a.dtd">'])
def test_entities_are_refused(tmp_path, attack):
  path = tmp_path / 'a.xml'
  path.write_text(attack + HEAD + page('&x;').replace('&amp;', '&')
                  + '</mediawiki>')
  (corpus,) = resolve(str(path))
  with pytest.raises(InputError, match='document type'):
    list(corpus.documents())


@pytest.mark.parametrize('content, says', [
    (HEAD + PAGES[0], 'line 2[0-9]: damaged or truncated'),
    (HEAD + PAGES[0][:-30], 'damaged or truncated'),
    ('<rss></rss>', 'begins with <rss>'), ('', 'no element found'),
    ('text', 'damaged')])
def test_what_is_no_dump_is_named(tmp_path, content, says):
  path = tmp_path / 'a.xml'
  path.write_text(content)
  (corpus,) = resolve(str(path))
  with pytest.raises(InputError, match=says) as e:
    list(corpus.documents())
  assert str(path) in str(e.value)


def test_memory_is_that_of_a_page(tmp_path):
  def peak(pages):
    path = tmp_path / f'a{pages}.xml'
    path.write_text(HEAD + page('some words of text. ' * 200) * pages
                    + '</mediawiki>')
    (corpus,) = resolve(str(path))
    tracemalloc.start()
    assert sum(1 for _ in corpus.documents()) == pages
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found

  peak(5)  # Imports.
  assert peak(400) < 1.2 * peak(100)
