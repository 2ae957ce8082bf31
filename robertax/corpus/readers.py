"""Columns of Parquet and Arrow files, as Hugging Face's `datasets` keeps them.

Read by pyarrow alone, batch by batch. A folder that `save_to_disk` made is the
.arrow files that its state.json lists, in that order; of a `DatasetDict` there
is such a folder for each split.
"""

from collections.abc import Iterator
import contextlib
import json
import os

from robertax import paths
from robertax.corpus.reading import Reading, unix_lines
from robertax.errors import InputError

ROWS = 64  # Of Parquet, at once: a row may be a book.
STATE, DICT = 'state.json', 'dataset_dict.json'
_FILE_FORMAT = b'ARROW1'
_END_OF_STREAM = b'\xff\xff\xff\xff\0\0\0\0'


def parquet(reading: Reading) -> Iterator[str]:
  """Counts `null_documents`: rows that hold nothing."""
  import pyarrow.parquet as pq

  with _named(reading.path), paths.open(reading.path, 'rb') as f:
    # A buffer: else all of a row group's column is read at once.
    file = pq.ParquetFile(f, buffer_size=1 << 20)
    _check(reading, file.schema_arrow)
    yield from _texts(
        reading, file.iter_batches(ROWS, columns=[reading.field],
                                   use_threads=False),
        file.metadata.num_rows)


def arrow(reading: Reading) -> Iterator[str]:
  """Arrow's stream format or its file format; counts as `parquet`."""
  import pyarrow as pa

  with _named(reading.path), paths.open(reading.path, 'rb') as f:
    if f.read(len(_FILE_FORMAT)) == _FILE_FORMAT:
      file = pa.ipc.open_file(f)
      batches = map(file.get_batch, range(file.num_record_batches))
    else:
      f.seek(max(0, reading.size - len(_END_OF_STREAM)))
      if f.read() != _END_OF_STREAM:
        raise InputError(f'{reading.path}: truncated: the mark of its end is '
                         'missing. Fetch or save it again.')
      f.seek(0)
      file = batches = pa.ipc.open_stream(f)
    _check(reading, file.schema)
    yield from _texts(reading, batches, f=f)


def saved_files(folder: str, split: str) -> list[str] | None:
  """The files of a folder made by `save_to_disk`; None: it is no such.

  Raises:
    InputError: it has no such split, or a file is missing.
  """
  if paths.exists(os.path.join(folder, DICT)):
    known = _listed(folder, DICT, 'splits')
    if split not in known:
      raise InputError(f'data.corpora: {folder} has the splits '
                       f'{", ".join(known)}, and data.split={split!r}.')
    folder = os.path.join(folder, split)
  elif not paths.exists(os.path.join(folder, STATE)):
    return None
  listed = [os.path.join(folder, file['filename'])
           for file in _listed(folder, STATE, '_data_files')]
  for file in listed:
    if os.path.basename(file) != os.path.relpath(file, folder):
      raise InputError(f'{folder}/{STATE}: {file} does not lie beside it.')
    if not paths.exists(file):
      raise InputError(f'data.corpora: {folder}: {os.path.basename(file)}, '
                       f'which {STATE} lists, is missing.')
  return listed


def _listed(folder: str, name: str, key: str) -> list:
  path = os.path.join(folder, name)
  try:
    with paths.open(path) as f:
      return list(json.load(f)[key])
  except (OSError, ValueError, TypeError, KeyError) as e:
    raise InputError(f'data.corpora: {path}: not as datasets writes it: '
                     f'{e!r}.') from e


def _check(reading: Reading, schema) -> None:
  """Raises an InputError unless the column is there and holds text."""
  import pyarrow as pa

  if reading.field not in schema.names:
    raise InputError(
        f'{reading.path}: no column {reading.field!r}; its columns are '
        f'{", ".join(map(repr, schema.names[:8])) or "none"}. data.text_field '
        'says which one holds the text.')
  kind = schema.field(reading.field).type
  if pa.types.is_dictionary(kind):
    kind = kind.value_type
  if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)
          or pa.types.is_string_view(kind)):
    raise InputError(f'{reading.path}: the column {reading.field!r} should '
                     f'hold strings, found {kind}.')


def _as_bytes(column):
  """Strings as bytes: pyarrow does not look whether a string is UTF-8.

  Nor where its offsets point: in a damaged file behind the data, and reading
  from there would end the process. So they are looked at first.
  """
  import pyarrow as pa

  column.validate()
  kinds = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(),
           pa.string_view(): pa.binary_view()}
  if pa.types.is_dictionary(column.type):
    words = column.dictionary
    words.validate()
    words = words.view(kinds[words.type])
    words.validate(full=True)
    column = pa.DictionaryArray.from_arrays(
        column.indices, words, safe=True).dictionary_decode()
  else:
    column = column.view(kinds[column.type])
    column.validate(full=True)
  return column.cast(pa.large_binary())


def _texts(reading: Reading, batches, num_rows: int = 0, f=None
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
def _named(path: str):
  """Names the file in what pyarrow says of it."""
  import pyarrow as pa

  try:
    yield
  except (pa.ArrowException, OSError, EOFError, MemoryError,
          UnicodeDecodeError) as e:
    # One of pyarrow's is a ValueError, as InputError is; of memory a damaged
    # length asks for more than there is.
    why = (str(e).strip().splitlines() or [repr(e)])[0]
    raise InputError(f'{path}: damaged or truncated: {why}. Fetch or save it '
                     'again.') from e
