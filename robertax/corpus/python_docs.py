"""The embedded corpus `python`: English text that every installation has.

It consists of the topics of `pydoc_data`, and of the docstrings of the standard
library and of `PACKAGES`, which requirements.txt installs. Each module and each
topic is a document. Sources are parsed with `ast`, and nothing is imported.
10 MB of documentation are enough to see a model learn.
"""

import ast
from collections import Counter
from collections.abc import Iterator
import hashlib
import importlib.util
import inspect
import os
import re
import sysconfig
import warnings

from robertax.errors import reading

PACKAGES = (
    'absl', 'etils', 'flax', 'jax', 'jaxlib', 'matplotlib', 'ml_collections',
    'ml_dtypes', 'mpl_toolkits', 'numpy', 'optax', 'orbax', 'scipy',
    'tensorboardX', 'tensorflow_datasets', 'tokenizers', 'tqdm', 'treescope')
# These contain tests, vendored code and generated code.
SKIPPED_FOLDERS = frozenset(
    ('site-packages', 'dist-packages', 'test', 'tests', 'testing', 'idlelib',
     'idle_test', 'lib2to3', 'turtledemo', 'third_party', '_vendor', 'vendor',
     'vendored', 'externals', 'extern', 'examples', 'lib-dynload',
     '__pycache__'))
MAX_CHARS = 10_000_000
MIN_DOCUMENT_CHARS = 200
LAYOUT = 1  # Raised whenever the same files would give other text.
_ITEM = re.compile(r'([-*•+]|\d+[.)]|:\w[^:]*:|@\w+)\s')
_CODE = ('>>>', '...', '$ ', 'In [')


class PythonDocs:
  """The embedded corpus; used as a `documents.Corpus`.

  Modules are ordered by a hash of their names, so the last documents, which are
  held out, are a sample of all packages. In alphabetical order a model would be
  trained on some libraries and evaluated on another.

  Attributes:
    files: paths of all sources, in order.
    counts: what was left out, by reason.
    size, position: bytes of the sources, and how many of them have been read.
    missing: names of `packages` that are not installed.
  """
  name = 'python'

  def __init__(self, packages: tuple[str, ...] = PACKAGES,
               max_chars: int = MAX_CHARS):
    roots, self.missing = {'': sysconfig.get_path('stdlib')}, []
    for package in packages:
      try:
        spec = importlib.util.find_spec(package)  # This imports nothing.
      except ValueError:  # The package is in sys.modules without a spec.
        spec = None
      folders = spec.submodule_search_locations if spec else None
      if folders:
        roots[package] = list(folders)[0]
      else:
        self.missing.append(package)
    sources = [(f'{package}/{name}', os.path.join(root, name))
               for package, root in roots.items() for name in _sources(root)]
    sources.sort(key=lambda source: _hash(source[0]))
    self._sources, self._max_chars = sources, max_chars
    self.files = [path for _, path in sources]
    self.size = sum(os.stat(path).st_size for path in self.files)
    self.position, self.counts = 0, Counter()
    self._documents, self._fingerprint = None, ''

  def fingerprint(self) -> str:
    """Hashes the names and bytes of the sources, wherever they are."""
    if not self._fingerprint:
      total = hashlib.sha256(f'{LAYOUT} {self._max_chars}'.encode())
      for name, path in self._sources:
        total.update(f'{name}\n'.encode())
        total.update(hashlib.sha256(_bytes(path)).digest())
      self._fingerprint = total.hexdigest()
    return self._fingerprint

  def documents(self) -> Iterator[str]:
    """Yields the documents, a paragraph a line; parses the sources once."""
    if self._documents is not None:
      yield from self._documents
      return
    documents, chars = [], 0
    self.counts.clear()
    for text in self._read():
      documents.append(text)
      chars += len(text)
      yield text
      if chars >= self._max_chars:
        self.counts['sources_beyond_the_cap'] = (
            len(self._sources) - self.counts.pop('sources'))
        break
    self.counts.pop('sources', None)
    self.position = self.size
    self._documents = documents

  def _read(self) -> Iterator[str]:
    seen = set()
    for name, path in self._sources:
      source = _bytes(path)
      self.position += len(source)
      self.counts['sources'] += 1
      try:
        with warnings.catch_warnings():
          # Users need no warnings about invalid escapes in libraries.
          warnings.simplefilter('ignore')
          tree = ast.parse(source)
      except (SyntaxError, ValueError, RecursionError):
        self.counts['unparsable_sources'] += 1
        continue
      for docstrings in ([[topic] for topic in _topics(tree)]
                         if name == '/pydoc_data/topics.py' else
                         [_docstrings(tree)]):
        text = self._document(docstrings, seen)
        if len(text) >= MIN_DOCUMENT_CHARS:
          yield text
        elif text:
          self.counts['short_documents'] += 1

  def _document(self, docstrings, seen: set[bytes]) -> str:
    lines = []
    for docstring in docstrings:
      key = _hash(docstring)
      if key in seen:
        self.counts['duplicate_docstrings'] += 1
        continue
      seen.add(key)
      lines += paragraphs(docstring)
    return '\n'.join(lines)


def paragraphs(docstring: str) -> list[str]:
  """Extracts the prose of a docstring, one line per paragraph or list item.

  Doctests, code blocks, tables and rulers are left out.

  >>> paragraphs('''Add two
  ... numbers.
  ...
  ...     >>> add(1, 2)
  ...     3
  ...
  ... Parameters
  ... ----------
  ... - a: one
  ...   of them''')
  ['Add two numbers.', 'Parameters', '- a: one of them']
  """
  found, words = [], []
  last_depth, code_depth = 0, None
  in_doctest = fenced = False

  def flush():
    if words:
      found.append(' '.join(words))
      words.clear()
  for line in inspect.cleandoc(docstring).split('\n'):
    text = line.strip()
    depth = len(line) - len(line.lstrip())
    if text.startswith(('```', '~~~')):
      fenced = not fenced
      flush()
    elif not text:
      flush()
      in_doctest = False
    elif text.startswith(_CODE):
      flush()
      in_doctest = True
    elif in_doctest or fenced:
      continue  # The output of a doctest ends at the next blank line.
    elif code_depth is not None and depth > code_depth:
      continue  # This is the block after a '::'.
    elif sum(map(str.isalpha, text)) < .5 * (len(text) - text.count(' ')):
      flush()  # Tables, rulers and formulas have fewer letters than prose.
    else:
      code_depth = depth if text.endswith('::') else None
      # A line that is indented less does not continue the paragraph above.
      if depth < last_depth or _ITEM.match(text):
        flush()
      words.extend(text.split())
      last_depth = depth
      if text.endswith(':'):
        flush()
  flush()
  return found


def _docstrings(tree: ast.Module) -> Iterator[str]:
  """Yields the docstrings of module, classes and functions, in source order."""
  stack = [tree]
  while stack:
    node = stack.pop()
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef,
                         ast.AsyncFunctionDef)):
      text = ast.get_docstring(node, clean=False)
      if text:
        yield text
    # Statements inside ifs and tries can be definitions; expressions cannot.
    stack += [child for field in ('finalbody', 'orelse', 'handlers', 'body')
              for child in reversed(getattr(node, field, None) or ())
              if isinstance(child, (ast.stmt, ast.excepthandler))]


def _topics(tree: ast.Module) -> Iterator[str]:
  """Yields the values of `topics = {...}` in pydoc_data/topics.py."""
  for node in tree.body:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
      for value in node.value.values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
          yield value.value


def _sources(root: str) -> Iterator[str]:
  """Yields the relative paths of Python sources under a folder, with '/'."""
  for folder, folders, files in os.walk(root):
    folders[:] = sorted(f for f in folders if f not in SKIPPED_FOLDERS
                        and not f.startswith('config-'))
    for file in files:
      if file.endswith('.py') and not file.startswith('test_') and (
          not file.endswith('_test.py')):
        yield os.path.relpath(
            os.path.join(folder, file), root).replace(os.sep, '/')


def _bytes(path: str) -> bytes:
  with reading(f'{path}, a source of the embedded corpus "python"'), open(
      path, 'rb') as f:
    return f.read()


def _hash(text: str) -> bytes:
  return hashlib.sha256(text.encode(errors='surrogatepass')).digest()
