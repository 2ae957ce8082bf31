import json

import pyarrow as pa
from pyarrow import feather
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from robertax.corpus.documents import resolve
from robertax.errors import InputError

TEXTS = ['one\r\ntwo', 'é🙂\rx', ' \n', None, '', 'last\x00'] * 30
EXPECTED = ['one\ntwo', 'é🙂\nx', 'last\x00'] * 30


def table(texts=TEXTS, field='text', kind=None):
  return pa.table({'id': range(len(texts)),
                   field: pa.array(texts, kind or pa.string())})


def write_arrow(data, path, stream=True, rows=25):
  make = pa.ipc.new_stream if stream else pa.ipc.new_file
  with make(str(path), data.schema) as writer:
    writer.write_table(data, max_chunksize=rows)


def write(data, path):
  if path.suffix == '.parquet':
    pq.write_table(data, path, row_group_size=40)
  else:
    write_arrow(data, path)


def read(path, **options):
  (corpus,) = resolve(str(path), **options)
  return list(corpus.documents()), corpus


KINDS = [pa.string(), pa.large_string(), pa.string_view(),
         pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize('name', ['a.parquet', 'a.arrow'])
@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_a_column_is_documents(tmp_path, name, kind):
  data = table(field='body')
  if pa.types.is_string_view(kind) and name.endswith('parquet'):
    kind = pa.string()  # Not written by every pyarrow.
  data = data.set_column(
      1, 'body', data['body'].dictionary_encode()
      if pa.types.is_dictionary(kind) else data['body'].cast(kind))
  write(data, tmp_path / name)
  documents, corpus = read(tmp_path / name, text_field='body')
  assert documents == EXPECTED
  assert corpus.counts['null_documents'] == 30
  assert corpus.counts['empty_documents'] == 60
  assert corpus.position == corpus.size > 0
  assert list(corpus.documents()) == documents


def test_arrows_file_format(tmp_path):
  write_arrow(table(), tmp_path / 'a.arrow', stream=False)
  assert read(tmp_path / 'a.arrow')[0] == EXPECTED


def with_text(values):
  return pa.table({'text': values})


WORDS = ['one', 'caf\xe9', None, 'one']
BYTES = pa.array([w and w.encode() for w in WORDS], pa.large_binary())


def coded(words):
  """As Polars' categoricals: the words are of another type than strings."""
  return pa.DictionaryArray.from_arrays(
      pa.array([0, 1, None, 0], pa.uint32()), pa.array(WORDS[:2]).cast(words))


COLUMNS = {
    'binary': lambda: BYTES.cast(pa.binary()), 'large_binary': lambda: BYTES,
    'binary_view': lambda: BYTES.cast(pa.binary_view()),
    'categorical_of_views': lambda: coded(pa.string_view()),
    'categorical_of_large': lambda: coded(pa.large_string()),
    'runs': lambda: pc.run_end_encode(pa.array(WORDS)),
    'extension': lambda: pa.ExtensionArray.from_storage(
        pa.json_(), pa.array(WORDS))}


@pytest.mark.parametrize('name', COLUMNS)
@pytest.mark.parametrize('stream', [False, True])
def test_columns_of_other_writers(tmp_path, name, stream):
  write_arrow(with_text(COLUMNS[name]()), tmp_path / 'a.arrow', stream)
  documents, corpus = read(tmp_path / 'a.arrow')
  assert documents == ['one', 'caf\xe9', 'one']
  assert corpus.counts['null_documents'] == 1


@pytest.mark.parametrize('name', ['a.arrow', 'a.parquet'])
def test_a_column_of_nulls_only(tmp_path, name):
  write(with_text(pa.nulls(7)), tmp_path / name)
  documents, corpus = read(tmp_path / name)
  assert not documents and corpus.counts['null_documents'] == 7


@pytest.mark.parametrize('options', [
    dict(use_legacy_format=True), dict(compression='zstd'),
    dict(compression='lz4'), dict(emit_dictionary_deltas=True),
    dict(metadata_version=pa.ipc.MetadataVersion.V4)], ids=str)
@pytest.mark.parametrize('stream', [False, True])
def test_options_of_writers(tmp_path, options, stream):
  """Before Arrow 0.15 a stream had neither continuation nor end markers."""
  words = ['one', 'two'] * 20 + ['new', None] * 20
  data = pa.chunked_array([pa.array(words[i:i + 30]).dictionary_encode()
                           for i in range(0, 80, 30)])
  if not stream:
    data = data.cast(pa.string())  # Files cannot replace a dictionary.
  path = tmp_path / 'a.arrow'
  make = pa.ipc.new_stream if stream else pa.ipc.new_file
  with make(str(path), with_text(data).schema,
            options=pa.ipc.IpcWriteOptions(**options)) as writer:
    writer.write_table(with_text(data))
  documents, corpus = read(path)
  assert documents == [w for w in words if w]
  assert corpus.counts['null_documents'] == 20
  assert corpus.position == corpus.size
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(InputError, match='truncated'):
    read(path)


def test_streams_one_behind_another(tmp_path):
  parts = []
  for text, legacy in (('a', False), ('b', True), ('c', False)):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema({'text': pa.string()}),
                           options=pa.ipc.IpcWriteOptions(
                               use_legacy_format=legacy)) as writer:
      writer.write_table(with_text([text]))
    parts.append(sink.getvalue().to_pybytes())
  (tmp_path / 'a.arrows').write_bytes(b''.join(parts))
  assert read(tmp_path / 'a.arrows')[0] == ['a', 'b', 'c']


@pytest.mark.filterwarnings('ignore:Feather V1')
@pytest.mark.parametrize('version', [1, 2])
def test_feather(tmp_path, version):
  feather.write_feather(table(), str(tmp_path / 'a.feather'), version=version)
  assert read(tmp_path / 'a.feather')[0] == EXPECTED


def test_the_position_follows_the_reading(tmp_path):
  for name in ('a.parquet', 'b.arrow'):
    write(table([f'{i} ' + 'word ' * 300 for i in range(500)]), tmp_path / name)
    (corpus,) = resolve(str(tmp_path / name))
    found = [corpus.position / corpus.size for _ in corpus.documents()]
    assert found == sorted(found) and .3 < found[300] < .8


@pytest.mark.parametrize('name', ['a.parquet', 'a.arrow'])
def test_what_is_wrong_is_named(tmp_path, name):
  path = tmp_path / name
  write(table(field='body'), path)
  with pytest.raises(InputError, match="no column 'text'.*'id', 'body'"):
    read(path)
  with pytest.raises(InputError, match="'id' should hold strings, found int64"):
    read(path, text_field='id')
  whole = path.read_bytes()
  for keep in (0, 3, 100, len(whole) // 2, len(whole) - 1):
    path.write_bytes(whole[:keep])
    with pytest.raises(InputError, match='truncated') as e:
      read(path, text_field='body')
    assert str(path) in str(e.value)
  path.write_bytes(b'no such thing ' * 100)
  with pytest.raises(InputError, match='truncated|damaged'):
    read(path, text_field='body')


def test_what_is_no_utf8_is_named_or_replaced(tmp_path):
  raw = pa.array([b'fine', b'b\xff'], pa.binary())
  bad = pa.StringArray.from_buffers(2, *raw.buffers()[1:])
  write(pa.table({'text': bad}), tmp_path / 'a.arrow')
  with pytest.raises(InputError, match='row 2, byte 2 of the row: 0xff'):
    read(tmp_path / 'a.arrow')
  documents, corpus = read(tmp_path / 'a.arrow', invalid_utf8='replace')
  assert documents == ['fine', 'b\ufffd']
  assert corpus.counts['replaced_bytes'] == 1


def save(folder, texts):
  """A folder in the form of `datasets.Dataset.save_to_disk`."""
  folder.mkdir(parents=True)
  half = len(texts) // 2
  names = ['data-00001-of-00002.arrow', 'data-00000-of-00002.arrow']
  for name, part in zip(names, (texts[:half], texts[half:])):
    write_arrow(table(part), folder / name)
  write_arrow(table(['cached']), folder / 'cache-1.arrow')
  (folder / 'state.json').write_text(json.dumps(
      {'_split': None, '_data_files': [{'filename': n} for n in names]}))


def test_a_saved_data_set_is_the_files_that_it_lists(tmp_path):
  save(tmp_path / 'mine', TEXTS)
  documents, corpus = read(tmp_path / 'mine')
  assert documents == EXPECTED and corpus.name == 'mine'
  (tmp_path / 'mine' / 'data-00000-of-00002.arrow').unlink()
  with pytest.raises(InputError, match='which state.json lists, is missing'):
    read(tmp_path / 'mine')
  (tmp_path / 'mine' / 'state.json').write_text(
      '{"_data_files": [{"filename": "../x.arrow"}]}')
  with pytest.raises(InputError, match='is not in its folder'):
    read(tmp_path / 'mine')
  (tmp_path / 'mine' / 'state.json').write_text('{}')
  with pytest.raises(InputError, match='does not write such a file'):
    read(tmp_path / 'mine')


def test_splits_of_a_saved_data_set(tmp_path):
  save(tmp_path / 'mine/train', ['a', 'b'])
  save(tmp_path / 'mine/test', ['c', 'd'])
  (tmp_path / 'mine' / 'dataset_dict.json').write_text(
      '{"splits": ["train", "test"]}')
  assert read(tmp_path / 'mine')[0] == ['a', 'b']
  documents, corpus = read(tmp_path / 'mine', split='test')
  assert documents == ['c', 'd'] and corpus.name == 'mine'
  with pytest.raises(InputError, match="splits train, test, and .*'dev'"):
    read(tmp_path / 'mine', split='dev')


@pytest.mark.oracle
def test_folders_of_datasets(tmp_path):
  import datasets

  texts = [f'text {i}\r\nof é' for i in range(2500)]
  whole = datasets.Dataset.from_dict({'id': range(2500), 'text': texts})
  # A selection, so that its indices must be laid out anew.
  whole.select(range(2499, -1, -1)).save_to_disk(tmp_path / 'one', num_shards=3)
  expected = [t.replace('\r', '') for t in texts]
  assert read(tmp_path / 'one')[0] == expected[::-1]
  datasets.DatasetDict(train=whole, test=whole.select([7])).save_to_disk(
      tmp_path / 'two')
  assert read(tmp_path / 'two')[0] == expected
  assert read(tmp_path / 'two', split='test')[0] == [expected[7]]
  whole.to_parquet(tmp_path / 'three.parquet')
  assert read(tmp_path / 'three.parquet')[0] == expected
