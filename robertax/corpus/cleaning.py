"""Cleaning: documents that are left out on purpose, each counted.

All of it is off by default: the paper says nothing of it. A `Cleaned` corpus
stands for the one it wraps, so every pass reads the same documents, and the
last 1 % of those that remain is held out.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import hashlib
import importlib
import inspect
import json
import sys

from robertax.errors import InputError

VERSION = 1  # Raised whenever other documents would remain.
_HASH = 16  # Bytes: two of 10^12 documents agree by chance once in 10^14.
_BUCKET = 2  # Bytes of the hash that say where the others are kept.


@dataclasses.dataclass(frozen=True)
class Cleaning:
  """What is left out of a corpus; attributes as in DataConfig, but that
  document_filter is that of this corpus: `module:function`, or nothing.
  """
  drop_duplicates: bool = False
  min_document_chars: int = 0
  document_filter: str = ''

  def of(self, corpus):
    """The corpus, cleaned; itself where all is off.

    Raises:
      InputError: `document_filter` names no function.
    """
    return corpus if self == Cleaning() else Cleaned(corpus, self)


class Cleaned:
  """A corpus without what a `Cleaning` leaves out; used as a `Corpus`.

  First the filter, which may change a document, then the length, then the
  duplicates, of which the first one stays: so a document is compared as it
  would be learned from.

  Attributes:
    counts: besides the corpus's own `filtered_documents`, `edited_documents`
      (the filter gave another text), `too_short_documents` and
      `duplicate_documents`.
  """

  def __init__(self, corpus, cleaning: Cleaning):
    self._corpus = corpus
    self._cleaning = cleaning
    self._filter = None
    self._facts = [VERSION, cleaning.drop_duplicates,
                   cleaning.min_document_chars]
    if cleaning.document_filter:
      self._filter = load_filter(cleaning.document_filter)
      self._facts += [cleaning.document_filter, source_hash(self._filter)]

  mark = None  # Reading cannot begin in the middle: all before must be seen.

  def __getattr__(self, name: str):
    return getattr(self._corpus, name)  # Name, files, counts, position, ...

  def fingerprint(self) -> str:
    """Of the corpus, the switches, and the filter's source file."""
    return hashlib.sha256(json.dumps(
        [self._corpus.fingerprint(), self._facts]).encode()).hexdigest()

  def documents(self) -> Iterator[str]:
    """Those that remain, in order; counts are complete at the end.

    Raises:
      InputError: what the corpus raises, and any error of the filter.
    """
    seen = Seen() if self._cleaning.drop_duplicates else None
    least = self._cleaning.min_document_chars
    for number, text in enumerate(self._corpus.documents(), 1):
      if self._filter and (text := self._filtered(text, number)) is None:
        continue
      if len(text) < least:
        self.counts['too_short_documents'] += 1
      elif seen is not None and seen.add(text):
        self.counts['duplicate_documents'] += 1
      else:
        yield text

  def _filtered(self, text: str, number: int) -> str | None:
    name = self._cleaning.document_filter
    where = f'{self.name}: document {number} ({text[:40]!r}...)'
    try:
      answer = self._filter(text)
    except Exception as e:
      place = ''
      if e.__traceback__.tb_next:
        last = e.__traceback__
        while last.tb_next:
          last = last.tb_next
        place = f' at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}'
      raise InputError(f'{where}: data.document_filter={name}: '
                       f'{type(e).__name__}: {e}{place}') from e
    if isinstance(answer, str) and answer.strip():
      try:
        answer.encode()
      except UnicodeEncodeError as e:
        raise InputError(f'{where}: data.document_filter={name} gave text that '
                         f'is no UTF-8: {e}') from e
      self.counts['edited_documents'] += answer != text
      return answer
    if answer is None or isinstance(answer, str):
      answer = False  # A text that is empty, or nothing but space.
    if type(answer).__name__ not in ('bool', 'bool_'):  # NumPy's too.
      raise InputError(
          f'{where}: data.document_filter={name} gave '
          f'{type(answer).__name__}: True or a text keeps the document, False '
          'or None leaves it out.')
    if answer:
      return text
    self.counts['filtered_documents'] += 1
    return None


class Seen:
  """Texts that were there before, by a hash of 16 bytes.

  About 16 bytes a document and 4 MB: hashes lie one behind another, in 65,536
  buckets, and are looked for by `bytearray.find`. A set would take 100 bytes.
  """

  def __init__(self):
    self._buckets = [None] * (1 << 8 * _BUCKET)

  def add(self, text: str) -> bool:
    """Takes note of a text, and says whether it was there before."""
    key = hashlib.blake2b(text.encode(), digest_size=_HASH).digest()
    number, rest = int.from_bytes(key[:_BUCKET], 'big'), key[_BUCKET:]
    bucket = self._buckets[number]
    if bucket is None:
      self._buckets[number] = bytearray(rest)
      return False
    place = bucket.find(rest)
    while place % len(rest) and place >= 0:  # Across two hashes: none.
      place = bucket.find(rest, place + 1)
    if place >= 0:
      return True
    bucket += rest
    return False


def filters_of(document_filter: str, corpora: Sequence[str]) -> list[str]:
  """The filter of each corpus.

  >>> filters_of('f:english', ['books', 'news'])
  ['f:english', 'f:english']
  >>> filters_of('news=f:english,stories=f:told', ['books', 'news', 'stories'])
  ['', 'f:english', 'f:told']

  Args:
    document_filter: as in DataConfig.
    corpora: their names.

  Raises:
    InputError: a name that no corpus has, or has twice.
  """
  if '=' not in document_filter:
    return [document_filter] * len(corpora)
  found: dict[str, str] = {}
  for part in document_filter.split(','):
    name, _, one = (word.strip() for word in part.partition('='))
    if name not in corpora or name in found or not one:
      raise InputError(
          f'data.document_filter={document_filter!r}: {part!r} is none of '
          'CORPUS=module:function, each corpus once; they are '
          f'{", ".join(corpora)}.')
    found[name] = one
  return [found.get(name, '') for name in corpora]


def load_filter(name: str) -> Callable:
  """The function that `module:function` names.

  Raises:
    InputError: no such module, or no such function in it.
  """
  module, colon, function = name.partition(':')
  if not (module and colon and function):
    raise InputError(f'data.document_filter={name!r}: module:function, such as '
                     'my_filters:is_english, a function of a text that gives '
                     'True or False.')
  try:
    found = importlib.import_module(module)
  except ImportError as e:
    raise InputError(
        f'data.document_filter={name!r}: cannot import {module}: {e}. It is '
        f'looked for in {sys.path[0] or "the current folder"} and where '
        'packages are installed.') from e
  try:
    for part in function.split('.'):
      found = getattr(found, part)
  except AttributeError as e:
    known = [key for key, value in vars(found).items()
             if inspect.isfunction(value) and not key.startswith('_')]
    raise InputError(f'data.document_filter={name!r}: {module} has no such '
                     f'function; it has {", ".join(known[:8]) or "none"}.'
                     ) from e
  if not callable(found):
    raise InputError(f'data.document_filter={name!r}: not a function, but '
                     f'{type(found).__name__}.')
  return found


def source_hash(function: Callable) -> str:
  """A hash of the file that a function is written in.

  Raises:
    InputError: it is written in none (a builtin, C).
  """
  try:
    path = inspect.getsourcefile(inspect.unwrap(function))
    with open(path, 'rb') as f:
      return hashlib.sha256(f.read()).hexdigest()
  except (TypeError, OSError) as e:
    raise InputError(
        f'data.document_filter: {function!r} has no Python source file, and '
        'records are told apart by it: wrap it in a function of your own.'
        ) from e
