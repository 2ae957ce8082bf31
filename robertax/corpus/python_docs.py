"""The embedded corpus `python`: English that every installation carries.

It is the topics of `pydoc_data` and the docstrings of the standard library and
of the packages in `PACKAGES`, which requirements.txt installs; a module is a
document, and so is a topic. Sources are read with `ast`, and nothing is
imported. 10 MB of documentation are enough to see a model learn.
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

from robertax.errors import InputError

PACKAGES = (
    'absl', 'etils', 'flax', 'jax', 'jaxlib', 'matplotlib', 'ml_collections',
    'ml_dtypes', 'mpl_toolkits', 'numpy', 'optax', 'orbax', 'scipy',
    'tensorboardX', 'tensorflow_datasets', 'tokenizers', 'tqdm', 'treescope')
# Tests, other people's code, generated code.
SKIPPED_FOLDERS = frozenset(
    ('site-packages', 'dist-packages', 'test', 'tests', 'testing', 'idlelib',
     'idle_test', 'lib2to3', 'turtledemo', 'third_party', '_vendor', 'vendor',
     'vendored', 'externals', 'extern', 'examples', 'lib-dynload',
     '__pycache__'))
MAX_CHARS = 10_000_000
MIN_DOCUMENT_CHARS = 200
LAYOUT = 1  # Raised whenever the text made of the same files would change.

_ITEM = re.compile(r'([-*•+]|\d+[.)]|:\w[^:]*:|@\w+)\s')
_CODE = ('>>>', '...', '$ ', 'In [')


class PythonDocs:
  """The embedded corpus; used as a `documents.Corpus`.

  The order is that of a hash of the modules' names, so the last documents,
  which are held out, are a sample of all packages. In alphabetical order a
  model would be trained on one library and evaluated on another.

  Attributes:
    name: 'python'.
    files: paths of all sources, in order.
    counts: what was left out, by reason.
    size, position: bytes of the sources, and how many of them were read.
    missing: packages of the list that are not installed.
  """

  name = 'python'

  def __init__(self, packages: tuple[str, ...] = PACKAGES,
               max_chars: int = MAX_CHARS):
    roots, self.missing = {'': sysconfig.get_path('stdlib')}, []
    for package in packages:
      # Finding a top-level package imports nothing.
      try:
        spec = importlib.util.find_spec(package)
      except ValueError:  # In sys.modules without a spec.
        spec = None
      folders = spec.submodule_search_locations if spec else None
      if folders:
        roots[package] = list(folders)[0]
      else:
        self.missing.append(package)
    sources = [(f'{package}/{name}', os.path.join(root, name))
               for package, root in roots.items() for name in _sources(root)]
    sources.sort(key=lambda source: _hash(source[0]))
    self._sources = sources
    self.files = [path for _, path in sources]
    self.size = sum(os.stat(path).st_size for path in self.files)
    self.position = 0
    self.counts = Counter()
    self._max_chars = max_chars
    self._documents = None
    self._fingerprint = ''

  def fingerprint(self) -> str:
    """A hash of the sources' names and bytes, wherever they are installed."""
    if not self._fingerprint:
      total = hashlib.sha256(f'{LAYOUT} {self._max_chars}'.encode())
      for name, path in self._sources:
        total.update(f'{name}\n'.encode())
        total.update(hashlib.sha256(_bytes(path)).digest())
      self._fingerprint = total.hexdigest()
    return self._fingerprint

  def documents(self) -> Iterator[str]:
    """The documents, a paragraph a line; kept, since parsing is slow."""
    if self._documents is None:
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
    else:
      yield from self._documents

  def _read(self) -> Iterator[str]:
    seen = set()
    for name, path in self._sources:
      source = _bytes(path)
      self.position += len(source)
      self.counts['sources'] += 1
      try:
        with warnings.catch_warnings():
          # Other people's invalid escapes are not our user's concern.
          warnings.simplefilter('ignore')
          tree = ast.parse(source)
      except (SyntaxError, ValueError, RecursionError):
        self.counts['unparsable_sources'] += 1
        continue
      if name == '/pydoc_data/topics.py':
        groups = [[topic] for topic in _topics(tree)]
      else:
        groups = [_docstrings(tree)]
      for docstrings in groups:
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
  """The prose of a docstring, each paragraph or list item in one line.

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
  last_depth = 0
  code_depth = None
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
      continue  # A doctest's output goes on to the next blank line.
    elif code_depth is not None and depth > code_depth:
      continue  # The block after a '::'.
    elif sum(map(str.isalpha, text)) < .5 * (len(text) - text.count(' ')):
      flush()  # Tables, rulers, formulas: prose has more letters.
    else:
      code_depth = depth if text.endswith('::') else None
      # What is indented more belongs to the line above, less to none of them.
      if depth < last_depth or _ITEM.match(text):
        flush()
      words.extend(text.split())
      last_depth = depth
      if text.endswith(':'):
        flush()
  flush()
  return found


def _docstrings(tree: ast.Module) -> Iterator[str]:
  """Docstrings of the module, its classes and functions, in source order."""
  stack = [tree]
  while stack:
    node = stack.pop()
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef,
                         ast.AsyncFunctionDef)):
      text = ast.get_docstring(node, clean=False)
      if text:
        yield text
    # Expressions hold no definitions; statements in ifs and tries do.
    stack += [child for field in ('finalbody', 'orelse', 'handlers', 'body')
              for child in reversed(getattr(node, field, None) or ())
              if isinstance(child, (ast.stmt, ast.excepthandler))]


def _topics(tree: ast.Module) -> Iterator[str]:
  """The values of `topics = {...}` in pydoc_data/topics.py."""
  for node in tree.body:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
      for value in node.value.values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
          yield value.value


def _sources(root: str) -> Iterator[str]:
  """Relative paths of the Python sources under a folder, with '/'."""
  for folder, folders, files in os.walk(root):
    folders[:] = sorted(f for f in folders if f not in SKIPPED_FOLDERS
                        and not f.startswith('config-'))
    for file in files:
      if file.endswith('.py') and not file.startswith('test_') and (
          not file.endswith('_test.py')):
        yield os.path.relpath(
            os.path.join(folder, file), root).replace(os.sep, '/')


def _bytes(path: str) -> bytes:
  try:
    with open(path, 'rb') as f:
      return f.read()
  except OSError as e:
    raise InputError(f'cannot read {path}, a source of the embedded corpus '
                     f'"python": {e.strerror}.') from e


def _hash(text: str) -> bytes:
  return hashlib.sha256(text.encode(errors='surrogatepass')).digest()
