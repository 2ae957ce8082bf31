
import ast
import doctest
import sys

import pytest

from robertax.corpus import python_docs
from robertax.corpus.python_docs import PythonDocs, paragraphs

MODULE = '''
"""The module adds numbers.

It adds
them well."""
import os
if os.name:
  def first(x):
    "First of all."
    def inner():
      """Within the first."""
    return "no docstring"
class A:
  """A class of its own.
  """
  def method(self):
    """The method, last but one."""
async def last():
  """The last."""
  "not this"
def same():
  """The last."""
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
  """A package `toy_docs` on the path, and an empty standard library."""
  def write(**files):
    for name, content in files.items():
      path = tmp_path / 'toy_docs' / f'{name}.py'
      path.parent.mkdir(exist_ok=True)
      path.write_bytes(content if isinstance(content, bytes)
                       else content.encode())
  (tmp_path / 'stdlib').mkdir()
  monkeypatch.setattr(python_docs.sysconfig, 'get_path',
                      lambda _: str(tmp_path / 'stdlib'))
  monkeypatch.setattr(python_docs, 'MIN_DOCUMENT_CHARS', 20)
  monkeypatch.syspath_prepend(tmp_path)
  return write


def test_worked_example():
  assert doctest.testmod(python_docs).failed == 0


def test_a_module_is_a_document(installed):
  installed(__init__='', a=MODULE, b='"""The last."""', c='x = (', d=b'\xff',
            e='"""Another module of more than twenty characters."""',
            test_x='"""A test, which is not read whatever it says."""')
  corpus = PythonDocs(('toy_docs', 'not_there'))
  documents = list(corpus.documents())
  assert sorted(documents) == [
      'Another module of more than twenty characters.',
      'The module adds numbers.\nIt adds them well.\nFirst of all.\n'
      'Within the first.\nA class of its own.\nThe method, last but one.'
      + ('\nThe last.' if corpus.files.index(
          next(f for f in corpus.files if f.endswith('a.py')))
         < corpus.files.index(
             next(f for f in corpus.files if f.endswith('b.py'))) else '')]
  assert corpus.missing == ['not_there']
  assert corpus.counts['unparsable_sources'] == 2
  assert corpus.counts['duplicate_docstrings'] >= 1
  assert corpus.position == corpus.size
  assert list(corpus.documents()) == documents
  assert 'toy_docs' not in sys.modules


def test_the_fingerprint_is_of_names_and_bytes(installed):
  def fingerprint():
    return PythonDocs(('toy_docs',)).fingerprint()

  installed(__init__='', a=MODULE)
  first = fingerprint()
  assert fingerprint() == first
  installed(a=MODULE + '#')
  second = fingerprint()
  installed(a=MODULE, b='')
  assert len({first, second, fingerprint()}) == 3


def test_the_cap_is_said(installed):
  installed(**{f'm{i}': f'"""Module {i}, {"word " * 20}"""' for i in range(9)})
  corpus = PythonDocs(('toy_docs',), max_chars=300)
  assert len(list(corpus.documents())) == 3
  assert corpus.counts['sources_beyond_the_cap'] == 6


def test_topics_are_documents():
  tree = ast.parse("topics = {'a': 'A text.', 'b': 'B ' 'text.'}")
  assert list(python_docs._topics(tree)) == ['A text.', 'B text.']


@pytest.mark.parametrize('docstring, expected', [
    ('One\n  two\n  three.\n\nFour.', ['One two three.', 'Four.']),
    ('Args:\n  x: the\n    first.\n  y: next.', [
        'Args:', 'x: the first.', 'y: next.']),
    ('See::\n\n    code(1)\n    more\n\nProse.', ['See::', 'Prose.']),
    ('```\ncode\n```\nProse.', ['Prose.']),
    ('A title\n=======\n\n| a | b |\n| 1 | 2 |\n', ['A title']),
    ('>>> f(1)\nresult here\n\nProse.', ['Prose.']),
    ('', []),
])
def test_paragraphs(docstring, expected):
  assert paragraphs(docstring) == expected


def test_the_installed_one_is_english_and_deterministic():
  corpus = PythonDocs(('optax', 'absl'), max_chars=500_000)
  documents = list(corpus.documents())
  assert len(documents) > 50
  assert sum(map(len, documents)) >= 500_000
  words = ' '.join(documents).lower().split()
  assert words.count('the') > .03 * len(words)
  again = PythonDocs(('absl', 'optax'), max_chars=500_000)
  assert list(again.documents()) == documents
  assert again.fingerprint() == corpus.fingerprint()
  assert all(len(d) >= 200 for d in documents)
