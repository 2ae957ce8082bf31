"""Readers: they turn a file of text into its documents, one at a time.

A reader is a function from a `Reading` to the documents of one file, in the
file's order; it keeps one document, or a bounded batch, in memory. This chapter
has the readers of .txt (blank lines between documents), .jsonl (a document a
line), .parquet and .arrow; archives.py has those of web archives and
Wikipedia's dumps, and `folders.READERS` lists all. Text is UTF-8; Windows
line ends and a byte-order mark are allowed. Anything unexpected is either an
error with its file and line, or counted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
import contextlib
import dataclasses
import importlib.metadata
import itertools
import json
import os
import re
from typing import Any, NamedTuple
import zlib

from robertax import errors, files
from robertax.errors import InputError, first_line

CHUNK_BYTES = 1 << 16
PACKINGS = ('.gz', '.zst', '.bz2')  # Endings of compressed files,
_MAGIC = {'.gz': rb'\x1f\x8b', '.zst': rb'\x28\xb5\x2f\xfd',
          '.bz2': rb'BZh[1-9](1AY&SY|\x17rE8P\x90)'}  # and how they begin.
PART = 1 << 20  # Characters of lines that are joined while a document grows.
MAX_REJOINED = 1000  # The most lines that are joined to one.
ARROW_ROWS = 64  # Rows of Parquet that are read at once; each may be a book.
STATE, DICT = 'state.json', 'dataset_dict.json'
_BOM = b'\xef\xbb\xbf'
_ARROW_FILE = b'ARROW1'
_FEATHER_1 = b'FEA1'
# Before Arrow 0.15 a message had no continuation marker.
_ARROW_ENDS = (b'\xff\xff\xff\xff\0\0\0\0', b'\0\0\0\0')
_SURROGATE = re.compile('[\ud800-\udfff]')


@dataclasses.dataclass(frozen=True)
class Reading:
  """One file, while it is read."""
  path: str
  field: str  # The field, or column, that has the text.
  replace: bool  # Whether invalid UTF-8 becomes U+FFFD, or is an error.
  counts: Counter  # Counts what is skipped or replaced.
  advance: Callable[[int], None]  # Is called with the number of bytes read.
  size: int  # Bytes of the file.
  documents: str = 'blank_lines'  # One of config.DOCUMENTS.
  most: int = 0  # Characters at which a document is cut; 0: nowhere.

  def decode(self, raw: bytes, unit: str, number: int) -> str:
    """Decodes UTF-8; errors name the `unit`, such as a line, and its number."""
    try:
      return raw.decode()
    except UnicodeDecodeError as e:
      if not self.replace:
        hint = (' It looks like UTF-16.' if number == 1 and
                raw[:2] in (b'\xff\xfe', b'\xfe\xff') else '')
        raise InputError(
            f'{self.path}: {unit} {number}, byte {e.start + 1} of the {unit}: '
            f'0x{raw[e.start]:02x} is not valid UTF-8.{hint} Mend the file, '
            'or set data.invalid_utf8=replace to put U+FFFD there.') from e
    # Each bad byte becomes a U+FFFD; errors='replace' would merge some.
    text, bad = _SURROGATE.subn('\ufffd', raw.decode(errors='surrogateescape'))
    self.counts['replaced_bytes'] += bad
    return text

  def without_surrogates(self, text: str, number: int) -> str:
    """Replaces or refuses lone surrogates, which JSON allows."""
    text, bad = _SURROGATE.subn('\ufffd', text)
    if bad and not self.replace:
      raise InputError(
          f'{self.path}: line {number}: has half a character (a lone '
          'surrogate, such as \\ud800). Mend the line, or set '
          'data.invalid_utf8=replace to put U+FFFD there.')
    self.counts['replaced_surrogates'] += bad
    return text


class Reader(NamedTuple):
  """A row of the table of readers."""
  read: Callable[[Reading], Iterator[str]]  # Yields the documents of a file.
  # pip's names of the packages that it needs. Their versions, which may change
  # the text, are part of a corpus's fingerprint.
  packages: tuple[str, ...] = ()
  extra: str = ''  # The extra of robertax that installs them.
  packed: bool = True  # Whether the file may be compressed (`PACKINGS`).
  revision: int = 1  # Is raised when it gives other text for the same file.

  def versions(self, path: str) -> list[tuple[str, str]]:
    """Returns each package with its version; InputError if one is missing.

    A reader's own revision is added from its second one on.
    """
    found, missing = [], []
    if self.revision > 1:
      found.append((f'robertax.{self.read.__name__}', str(self.revision)))
    for package in self.packages:
      try:
        found.append((package, importlib.metadata.version(package)))
      except importlib.metadata.PackageNotFoundError:
        missing.append(package)
    if missing:
      raise InputError(
          f'{path}: to read it, {" and ".join(missing)} must be installed: '
          f'pip install {" ".join(self.packages)}'
          + (f" (or '.[{self.extra}]' in robertax's folder)."
             if self.extra else '.'))
    return found


def unix_lines(text: str) -> str:
  """Changes all line ends to '\\n'."""
  return text.replace('\r\n', '\n').replace('\r', '\n')


def unpacked_chunks(path: str, advance: Callable[[int], None]
                    ) -> Iterator[bytes]:
  """Yields the decompressed bytes of a file, a piece at a time.

  Args:
    path: its first bytes, or else its ending, show how it is compressed.
    advance: is called with the number of bytes read from the file itself.

  Raises:
    InputError: the file is truncated, damaged or unreadable.
  """
  with errors.reading(path), files.open(path, 'rb') as f:
    chunks = _advancing(f, advance)
    first = next(chunks, b'')
    packing, chunks = _packing(path, first), itertools.chain([first], chunks)
    yield from _decompressed(chunks, path, packing) if packing else chunks


def first_bytes(path: str) -> tuple[bytes | None, str]:
  """Returns the first bytes, unpacked, and how the file is compressed.

  None: they cannot be unpacked. InputError if the system does not let it read.
  """
  with errors.reading(path), files.open(path, 'rb') as f:
    first = f.read(CHUNK_BYTES)
  if packing := _packing(path, first):
    try:
      first = next(_decompressed(iter([first]), path, packing), b'')
    except InputError:
      first = None
  return first, packing


def _packing(path: str, first: bytes) -> str:
  """Returns how a file is compressed, one of PACKINGS, or ''."""
  ending = os.path.splitext(path)[1].lower()
  return next((name for name, magic in _MAGIC.items()
               if re.match(magic, first)), ending if ending in PACKINGS else '')


def unpacked_lines(path: str, advance: Callable[[int], None]
                   ) -> Iterator[tuple[int, bytes]]:
  """Yields numbers from 1 and lines without newline; see `unpacked_chunks`."""
  number, pending = 0, []
  for chunk in unpacked_chunks(path, advance):
    first, *rest = chunk.split(b'\n')
    pending.append(first)
    for line in rest:
      number += 1
      yield number, b''.join(pending)
      pending = [line]
  if last := b''.join(pending):
    yield number + 1, last


def _advancing(file, advance) -> Iterator[bytes]:
  while chunk := file.read(CHUNK_BYTES):
    advance(len(chunk))
    yield chunk


def _decompressor(path: str, packing: str):
  """Returns what makes a file's decompressors, and the errors they raise."""
  if packing == '.gz':
    return lambda: zlib.decompressobj(wbits=31), zlib.error
  if packing == '.bz2':
    import bz2  # Some builds of Python lack it.
    return bz2.BZ2Decompressor, (OSError, ValueError)
  try:
    import zstandard
  except ImportError as e:
    raise InputError(f'{path}: reading .zst needs the package zstandard: pip '
                     'install zstandard, or unpack the file.') from e
  # `zstd --long` files may need a window of 2 GiB.
  return (zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj,
          zstandard.ZstdError)


def _decompressed(chunks: Iterator[bytes], path: str, packing: str
                  ) -> Iterator[bytes]:
  """Decompresses members (gzip), frames (zstd) or streams (bz2) in a row.

  Zeros behind a member of gzip or bzip2 are padding, as their own tools and
  Python's modules take them.
  """
  # The libraries' own file objects are not used, because zstandard's takes a
  # truncated file for a complete one.
  decompressobj, error = _decompressor(path, packing)
  member, padded = None, False
  for chunk in chunks:
    while chunk:
      if padded and member is None and not (chunk := chunk.lstrip(b'\0')):
        break
      member = member or decompressobj()
      try:
        unpacked = member.decompress(chunk)
      except error as e:
        raise InputError(
            f'{path}: damaged: {e}. Fetch or pack it again.') from e
      yield unpacked
      chunk = b''
      if member.eof:
        chunk, member = member.unused_data, None
        padded = packing != '.zst'
  if member is not None:
    raise InputError(f'{path}: truncated: it ends in the middle. Fetch or pack '
                     'it again.')


def cut(texts: Iterable[str], most: int, counts: Counter) -> Iterator[str]:
  """Cuts texts of more than `most` characters, if that is not 0.

  A part ends behind its last line end, or else its last space, if there is one
  in it, and counts as `cuts_in_long_documents`.

  >>> list(cut(['one two\\nthree', 'four'], 9, Counter()))
  ['one two\\n', 'three', 'four']
  """
  for text in texts:
    start = 0
    while most and len(text) - start > most:
      stop = 1 + max(text.rfind('\n', start, start + most),
                     -1 if '\n' in text[start:start + most] else
                     text.rfind(' ', start, start + most))
      stop = stop if stop > start else start + most
      counts['cuts_in_long_documents'] += 1
      yield text[start:stop]
      start = stop
    yield text[start:] if start else text


def txt(reading: Reading) -> Iterator[str]:
  """Reads .txt; counts `carriage_returns` that end no line, and keeps them."""
  document, size = _Lines(), 0
  whole = reading.documents == 'file'
  for number, line in unpacked_lines(reading.path, reading.advance):
    text = _decode(reading, number, line)
    blank = not text or text.isspace()
    if '\r' in text and not blank:
      reading.counts['carriage_returns'] += text.count('\r')
    if size and reading.most and size + len(text) > reading.most and (
        whole or not blank):
      reading.counts['cuts_in_long_documents'] += 1
      yield document.take()
      size = 0
    if whole or not blank:
      document.add(text)
      size += len(text) + 1
    if size and not whole and (blank or reading.documents == 'lines'):
      yield document.take()
      size = 0
  if size:
    yield document.take()


class _Lines:
  """The lines of a document, which take little more memory than its text."""

  def __init__(self):
    self._parts, self._lines, self._size = [], [], 0

  def add(self, line: str) -> None:
    self._lines.append(line)
    self._size += len(line)
    if self._size >= PART:
      self._parts.append('\n'.join(self._lines))
      self._lines, self._size = [], 0

  def take(self) -> str:
    """Returns the document, and begins another."""
    if self._lines:
      self._parts.append('\n'.join(self._lines))
    document = '\n'.join(self._parts)
    self._parts, self._lines, self._size = [], [], 0
    return document


def jsonl(reading: Reading) -> Iterator[str]:
  """Reads .jsonl; null and what is blank, replaced or rejoined is counted."""
  path, field = reading.path, reading.field
  parse = _fast_parser()
  lines = unpacked_lines(path, reading.advance)
  for number, line in lines:
    found = None
    with contextlib.suppress(ValueError, AttributeError):
      found = parse(line).get(field)
    if type(found) is str:
      yield unix_lines(found)
      continue
    # It is no such line, or one that only `json` reads.
    text = _decode(reading, number, line)
    if not text or text.isspace():
      reading.counts['blank_lines'] += 1
      continue
    try:
      value = _parse_json(reading, text, lines)
    except (ValueError, RecursionError) as e:
      if isinstance(e, InputError):
        raise
      # The text of a JSON error would mention a misleading line 1.
      why = (f'{e.msg} (character {e.pos + 1})'
             if isinstance(e, json.JSONDecodeError) else e)
      raise InputError(f'{path}: line {number}: not JSON: {why}. Each line '
                       'should be an object such as {"text": "..."}.') from e
    has = isinstance(value, dict) and field in value
    found = value[field] if has else None
    if has and found is None:
      reading.counts['null_documents'] += 1
      continue
    if not isinstance(found, str):
      raise InputError(f'{path}: line {number}: ' + _why_no_text(value, field))
    if not found.isascii():
      found = reading.without_surrogates(found, number)
    yield unix_lines(found)


def _fast_parser() -> Callable[[bytes], Any]:
  """Returns orjson's parser if it is installed, else one that parses nothing.

  What it reads it reads as `json` does. It refuses lone surrogates, bytes that
  are not UTF-8, and NaN.
  """
  try:
    import orjson
  except ImportError:
    return lambda line: None
  return orjson.loads


def _parse_json(reading: Reading, text: str, lines):
  """Parses a line, joined with the next ones if it ends inside a string."""
  # Such files come from writers that break lines at every line end of Unicode.
  # A truncated line is still an error: the next one's quotes do not match.
  whole, rejoined = text, 0
  while True:
    try:
      value = json.loads(whole, strict=not rejoined)
      reading.counts['rejoined_lines'] += rejoined
      return value
    except json.JSONDecodeError as e:
      if not e.msg.startswith('Unterminated string'):
        raise
      number, line = next(lines, (0, None))
      if line is None or rejoined == MAX_REJOINED:
        raise
      rejoined += 1
      whole += '\n' + _decode(reading, number, line)


def _decode(reading: Reading, number: int, line: bytes) -> str:
  if number == 1:
    line = line.removeprefix(_BOM)
  return reading.decode(line.removesuffix(b'\r'), 'line', number)


def _why_no_text(value, field: str) -> str:
  if not isinstance(value, dict):
    return (f'expected an object with a field {field!r}, found '
            f'{type(value).__name__}.')
  if field not in value:
    keys = ', '.join(map(repr, list(value)[:8])) or 'none'
    return (f'no field {field!r}; its fields are {keys}. data.text_field '
            'names the one with the text.')
  return (f'the field {field!r} should be a string, found '
          f'{type(value[field]).__name__}.')


def parquet(reading: Reading) -> Iterator[str]:
  """Reads a column of .parquet; counts rows without text, `null_documents`."""
  import pyarrow.parquet as pq
  with _named_column(reading.path), files.open(reading.path, 'rb') as f:
    # Without a buffer the column of a whole row group is read at once.
    file = pq.ParquetFile(f, buffer_size=1 << 20)
    _check_column(reading, file.schema_arrow)
    yield from _column_texts(
        reading, file.iter_batches(ARROW_ROWS, columns=[reading.field],
                                   use_threads=False), file.metadata.num_rows)


def arrow(reading: Reading) -> Iterator[str]:
  """Reads Arrow's streams, its file format and Feather; counts as `parquet`."""
  with _named_column(reading.path), files.open(reading.path, 'rb') as f:
    yield from _column_texts(reading, _arrow_batches(reading, f), f=f)


def _arrow_batches(reading: Reading, f) -> Iterator:
  import pyarrow as pa
  magic = f.read(len(_ARROW_FILE))
  f.seek(0)
  if magic == _ARROW_FILE:
    file = pa.ipc.open_file(f)
    _check_column(reading, file.schema)
    yield from map(file.get_batch, range(file.num_record_batches))
  elif magic.startswith(_FEATHER_1):  # Has no batches.
    from pyarrow import feather
    table = feather.read_table(f)
    _check_column(reading, table.schema)
    yield from table.to_batches(ARROW_ROWS)
  else:
    yield from _stream_batches(reading, f)


def _stream_batches(reading: Reading, f) -> Iterator:
  """Yields the batches of streams, which may be one behind another."""
  import pyarrow as pa
  while True:
    stream = pa.ipc.open_stream(f)
    _check_column(reading, stream.schema)
    end = f.tell()
    for batch in stream:
      yield batch
      end = f.tell()
    f.seek(end)
    marker = f.read(len(_ARROW_ENDS[0]))
    found = next(filter(marker.startswith, _ARROW_ENDS), b'')
    if not found:
      raise InputError(f'{reading.path}: truncated: its end marker is missing. '
                       'Fetch or save it again.')
    f.seek(end + len(found))
    if end + len(found) >= reading.size:
      return


def saved_files(folder: str, split: str) -> list[str] | None:
  """Returns the files of a folder of `save_to_disk`; None for other folders.

  They are in the order of its state.json; a `DatasetDict` has such a folder for
  each split. If the split or a file is missing, it raises an InputError.
  """
  if files.exists(os.path.join(folder, DICT)):
    known = _listed_files(folder, DICT, 'splits')
    if split not in known:
      raise InputError(f'data.corpora: {folder} has the splits '
                       f'{", ".join(known)}, and data.split={split!r}.')
    folder = os.path.join(folder, split)
  elif not files.exists(os.path.join(folder, STATE)):
    return None
  listed = [os.path.join(folder, file['filename'])
           for file in _listed_files(folder, STATE, '_data_files')]
  for file in listed:
    if os.path.basename(file) != os.path.relpath(file, folder):
      raise InputError(f'{folder}/{STATE}: {file} is not in its folder.')
    if not files.exists(file):
      raise InputError(f'data.corpora: {folder}: {os.path.basename(file)}, '
                       f'which {STATE} lists, is missing.')
  return listed


def _listed_files(folder: str, name: str, key: str) -> list:
  path = os.path.join(folder, name)
  with errors.reading(f'data.corpora: {path}',
                      'the library datasets does not write such a file'):
    return list(files.read_json(path)[key])


def _check_column(reading: Reading, schema) -> None:
  """Raises an InputError unless there is such a column, with text."""
  if reading.field not in schema.names:
    raise InputError(
        f'{reading.path}: no column {reading.field!r}; its columns are '
        f'{", ".join(map(repr, schema.names[:8])) or "none"}. data.text_field '
        'names the one with the text.')
  kind = found = schema.field(reading.field).type
  while wrapped := _wrapped_type(kind):
    kind = wrapped
  if kind not in _bytes_types():
    raise InputError(f'{reading.path}: the column {reading.field!r} should '
                     f'hold strings, found {found}.')


def _bytes_types() -> dict:
  """Returns the types of text, each with the type of its bytes."""
  import pyarrow as pa
  return {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(),
          pa.string_view(): pa.binary_view(), pa.binary(): pa.binary(),
          pa.large_binary(): pa.large_binary(),
          pa.binary_view(): pa.binary_view(), pa.null(): pa.null()}


def _wrapped_type(kind):
  import pyarrow as pa
  if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
    return kind.value_type
  return getattr(kind, 'storage_type', None)  # Of an extension.


def _as_bytes(column):
  """Casts text to large_binary, since pyarrow does not check its UTF-8."""
  import pyarrow as pa
  # Offsets of a damaged file may point beyond the data, and reading there would
  # crash the process.
  column.validate()
  if isinstance(column, pa.ExtensionArray):
    return _as_bytes(column.storage)
  if isinstance(column, pa.DictionaryArray):  # Polars' categoricals have views.
    return pa.DictionaryArray.from_arrays(
        column.indices, _as_bytes(column.dictionary), safe=True
        ).dictionary_decode()
  if isinstance(column, pa.RunEndEncodedArray):
    import pyarrow.compute as pc
    column.validate(full=True)
    return pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(
        column.run_ends, _as_bytes(column.values))).slice(
            column.offset, len(column))
  column = column.view(_bytes_types()[column.type])
  column.validate(full=True)
  return column.cast(pa.large_binary())


def _column_texts(reading: Reading, batches, num_rows: int = 0, f=None
                  ) -> Iterator[str]:
  number = told = 0
  for batch in batches:
    for value in _as_bytes(batch.column(reading.field)):
      number += 1
      if not value.is_valid:
        reading.counts['null_documents'] += 1
        continue
      yield unix_lines(reading.decode(value.as_py(), 'row', number))
    now = f.tell() if f else reading.size * number // num_rows
    reading.advance(max(0, now - told))
    told = max(told, now)


@contextlib.contextmanager
def _named_column(path: str):
  """Turns errors of pyarrow into an InputError that names the file."""
  import pyarrow as pa
  try:
    yield
  except (pa.ArrowException, OSError, EOFError, MemoryError,
          UnicodeDecodeError) as e:  # A damaged length causes a MemoryError.
    errors.raise_unless_damage(e, path)
    raise InputError(f'{path}: damaged or truncated: {first_line(e)}. Fetch or '
                     'save it again.') from e


TXT = Reader(txt)
JSONL = Reader(jsonl)
PARQUET = Reader(parquet, ('pyarrow',), packed=False)
ARROW = Reader(arrow, ('pyarrow',), packed=False)
