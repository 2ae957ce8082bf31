"""Folders, globs and files as people have them: all text is read, once, and
what is passed over is said."""

import bz2
import glob
import gzip
import json
import os

import pytest

from robertax import progress
from robertax.config import DataConfig
from robertax.corpus import blocks, folders, preparation, tokens
from robertax.corpus.documents import all_corpora, resolve
from robertax.corpus.sentences import SPLITTERS
from robertax.errors import InputError

DOCS = [f'Document {i} talks about gears. It ends here.' for i in range(100)]
TEXT = '\n\n'.join(DOCS)
LINES = ''.join(json.dumps({'text': d}) + '\n' for d in DOCS)


@pytest.fixture
def put(tmp_path):
  def write(name, data=TEXT):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path
  return write


def documents(path, **options):
  (corpus,) = resolve(str(path), **options)
  return list(corpus.documents())


def names(path):
  return [corpus.name for corpus in resolve(str(path))]


def test_known_by_content_and_in_any_case(put, tmp_path, capsys):
  put('mixed/README.txt', 'Two lines. Of a readme.')
  put('mixed/c4-train.00000-of-01024.json.gz', gzip.compress(LINES.encode()))
  put('mixed/notes.TXT')
  put('mixed/.DS_Store', b'\0\1')
  put('mixed/logo.png', b'\x89PNG\r\n\x1a\n\0')
  put('mixed/config.json', '{\n  "text": 3\n}')
  put('mixed/part', bz2.compress(f'{{"text": null}}\n{LINES}'.encode()))
  assert documents(tmp_path / 'mixed') == 3 * DOCS
  said = capsys.readouterr().err
  assert 'reads 3 files' in said and '1 .json.gz' in said and '1 .txt' in said
  for words in ('about the other files (README.txt)', 'binary (logo.png)',
                'hidden files (.DS_Store)', 'JSON, but not'):
    assert words in said
  assert documents(tmp_path / 'mixed/README.txt') == ['Two lines. Of a readme.']


@pytest.mark.parametrize('files, taken', [
    ({'a.py': 900, 'b/c.py': 900, 'requirements.txt': 20, 'LICENSE': 99},
     ['a.py', 'b/c.py', 'requirements.txt']),
    ({'a.md': 5, 'b.log': 5, 'c': 5}, ['a.md', 'b.log', 'c']),
    ({'a.txt': 100, 'fetch.py': 300, 'SOURCES.md': 10}, ['a.txt']),
    ({'_SUCCESS': 0, 'part-0': 5}, ['part-0']),
])
def test_which_files_of_a_folder_are_text(put, tmp_path, files, taken):
  for name, size in files.items():
    put(f'f/{name}', 'x' * size)
  (corpus,) = resolve(str(tmp_path / 'f'))
  assert [os.path.relpath(f, tmp_path / 'f') for f in corpus.files] == taken


def test_tables_pages_and_packed_columns(put, capsys):
  documents(put('a.csv', 'id,text\n1,"One"\n'))
  assert 'a.csv: read as plain text' in capsys.readouterr().err
  with pytest.raises(InputError, match='is .parquet inside .gz: unpack it'):
    documents(put('a.parquet.gz', gzip.compress(b'PAR1')))


def test_hidden_folders_links_and_loops(put, tmp_path, capsys):
  put('f/a.txt', 'a')
  put('f/.ipynb_checkpoints/a.txt', 'a')
  put('elsewhere/b.txt', 'b')
  put('f/z/c.txt', 'c')
  put('elsewhere/in/e.txt', 'e')
  os.symlink('../elsewhere/in', tmp_path / 'f' / 'a_part_of_it')
  for link, target in (('part2', '../elsewhere'), ('loop', '.'), ('up', '../f'),
                       ('again', 'z'), ('twice', '../elsewhere'),
                       ('d.txt', 'a.txt'), ('gone.txt', 'nowhere')):
    os.symlink(target, tmp_path / 'f' / link)
  os.symlink('../f', tmp_path / 'elsewhere' / 'back')
  assert sorted(documents(tmp_path / 'f')) == ['a', 'b', 'c', 'e']
  said = capsys.readouterr().err
  for words in ('1 hidden folders', '3 links in a loop', 'links to nothing',
                '2 links to folders', '2 links to files'):
    assert words in said


def test_a_folder_in_a_glob_is_a_corpus(put, tmp_path):
  put('g/news.txt')
  put('g/books/b.txt')
  assert names(f'{tmp_path}/g/*') == ['books', 'news']
  assert names(f'{tmp_path}/g/**') == ['b', 'news']
  assert names(f'{tmp_path}/g/news.txt,{tmp_path}/g/books') == ['news', 'books']


def test_splits_are_said_and_can_be_named(put, tmp_path, capsys):
  folder = tmp_path / 'set'
  for name in ('train', 'validation', 'test'):
    put(f'set/{name}.jsonl', json.dumps({'text': f'{name}. Of it.'}))
  assert len(documents(folder)) == 3
  said = capsys.readouterr().err
  assert f'{folder}@train with data.eval_corpora={folder}@validation' in said
  assert documents(f'{folder}@valid') == ['validation. Of it.']
  with pytest.raises(InputError, match='there are test, train, validation'):
    resolve(f'{folder}@nonsense')
  data = dict(corpora=f'{folder}@train', eval_corpora=f'{folder}@validation')
  (train,), (held,) = all_corpora(DataConfig(**data))
  assert (train.name, train.split) == ('set', 'train')
  assert (held.name, held.split) == ('set', 'eval')
  with pytest.raises(InputError, match='test.jsonl .* is also in data.corpora'):
    all_corpora(DataConfig(corpora=str(folder),
                           eval_corpora=f'{folder}/test.jsonl'))


def test_nothing_is_held_out_of_what_has_an_evaluation_set(
    put, tmp_path, prepare):
  for name in ('a/news', 'b/news', 'b/web'):
    put(f'{name}.txt', f'{name} is told. It ends.\n\n' * 30 + 'Last. Words.')
  kept = prepare(f'{tmp_path}/a/news.txt', eval_corpora=f'{tmp_path}/b/*.txt')
  (train,), held = kept.manifests, kept.eval_manifests
  assert [m.corpus for m in held] == ['news', 'web']
  assert {*train.splits} == {'train'} and train.splits['train'].num_documents
  assert {name: m.splits[name].num_documents for m in (train, *held)
          for name in m.splits} == {'train': 31, 'eval': 31}
  (both,) = prepare(f'{tmp_path}/a/news.txt').manifests
  assert both.splits['eval'].num_documents == 1
  pairs = prepare(
      f'{tmp_path}/a/news.txt', eval_corpora=f'{tmp_path}/b/web.txt',
      format='segment_pair', pair_duplicates=2, memmap=True)
  assert list(pairs.manifests[0].splits) == ['train', 'train_1']


def test_corpora_without_enough_text_are_left_out(
    put, tmp_path, prepare, capsys):
  put('c/long.txt')
  put('c/empty.txt', '')
  put('c/one.txt', 'One sentence.')
  for _ in range(2):  # The second time nothing is made.
    progress._said.clear()
    made = prepare(f'{tmp_path}/c/*.txt')
    assert [m.corpus for m in made.manifests] == ['long']
    said = capsys.readouterr().err
    assert 'empty holds no text' in said and 'one: its text is too' in said
  with pytest.raises(InputError, match='too short'):
    prepare(f'{tmp_path}/c/one.txt,{tmp_path}/c/empty.txt')


def test_nulls_are_counted(put):
  (corpus,) = resolve(str(put('n.jsonl', LINES + '{"text": null}\n')))
  assert list(corpus.documents()) == DOCS
  assert corpus.counts['null_documents'] == 1


@pytest.mark.parametrize('pack, unpack', [
    (gzip.compress, gzip.decompress), (bz2.compress, bz2.decompress)])
@pytest.mark.parametrize('zeros', [1, 70_000])
def test_padding_behind_a_member_is_read_over(put, pack, unpack, zeros):
  padded = pack(b'one') + b'\0' * zeros
  if unpack is gzip.decompress:
    padded += pack(b'\n\ntwo') + b'\0' * 9
    assert gzip.decompress(padded) == b'one\n\ntwo'
  assert documents(put('a.txt.any', padded)) == unpack(padded).decode().split(
      '\n\n')
  with pytest.raises(InputError, match='damaged'):
    documents(put('b.txt.gz', gzip.compress(b'one') + b'\0garbage' * 3))


def test_documents_of_plain_text(put):
  path = put('a.py', '\ndef f():\n  return 1\n\n\ndef g():\n  pass\n')
  assert documents(path) == ['def f():\n  return 1', 'def g():\n  pass']
  assert documents(path, documents='lines')[1:3] == ['  return 1', 'def g():']
  (whole,) = documents(path, documents='file')
  assert whole + '\n' == path.read_text()
  assert SPLITTERS['none'](whole) == [whole]


def test_long_documents_are_cut(put, capsys, prepare):
  path = put('log.txt', '\n'.join(f'Line {i} of it.' for i in range(3000)))
  (corpus,) = resolve(str(path), max_document_chars=1000)
  parts = list(corpus.documents())
  assert max(map(len, parts)) <= 1000 and min(map(len, parts[:-1])) > 980
  assert '\n'.join(parts) == path.read_text()
  assert corpus.counts['cuts_in_long_documents'] == len(parts) - 1
  long = put('line.txt', 'word ' * 900)
  assert ''.join(documents(long, max_document_chars=999)) == 'word ' * 900
  surveys = blocks.Surveys(str(path.parent / 'cache'), progress=True)
  surveys(resolve(str(path))[0])
  assert '3,000 lines' in capsys.readouterr().err


@pytest.mark.parametrize('sentences', ['lines', 'none'])
def test_a_sample_cuts_inside_documents(put, tmp_path, sentences):
  path = put('one.txt', '\n'.join(f'Line {i} of it.' for i in range(9000)))
  surveys = blocks.Surveys(str(tmp_path / 'cache'), progress=False)
  found = list(preparation._training_texts(
      resolve(str(path)), surveys, SPLITTERS[sentences], 90_000, False))
  assert 80_000 < sum(len(s) for some in found for s in some) < 95_000
  assert max(int(line.split()[1]) for some in found for s in some
             for line in s.split('\n') if line.endswith(' of it.')) > 8000


def test_held_out_text_is_bounded_by_its_size(put, prepare):
  lines = [f'line {i} of a log' for i in range(2000)]
  lines.insert(200, '')
  (log,) = prepare(put('log.txt', '\n'.join(lines)),
                   sentences='lines').manifests
  counts = {name: split.num_sentences for name, split in log.splits.items()}
  assert counts == {'train': 200 + 1710, 'eval': 90}
  assert blocks.num_held_out(1000, 100_000, [100] * 10) == 10
  assert blocks.num_held_out(1000, 100_000, [2000] * 10) == 2


def test_source_code_keeps_lines_and_indentation(put, prepare, tokenizer):
  from robertax.corpus.records import read_rows
  source = ''.join(f'def f{i}(x):\n\n    return x\n' for i in range(200))
  put('src/a.py', source)
  (made,) = prepare(put('src/b.py', source).parent, documents='file',
                    sentences='none').manifests
  text = tokenizer.decode([i for row in read_rows(made, 'train')
                           for i in row.ids.tolist()])
  assert source[:5000] in text.replace('<s>', '').replace('</s>', '')
  with pytest.raises(InputError, match='a pair needs two sentences'):
    prepare(put('src/b.py'), sentences='none', format='segment_pair')


def test_long_documents_have_the_sentences_of_short_ones(monkeypatch):
  monkeypatch.setattr(tokens, 'CHARS_AT_ONCE', 50)
  text = '\n'.join(f'One is {i}. Two is it.\n\n' for i in range(40))
  for name in ('lines', 'prose', 'none'):
    split = SPLITTERS[name]
    for part in ('all', *blocks.PARTS):
      found = [s for some in tokens.sentences_of(text, split, part)
               for s in some]
      assert found == blocks.part_of(split(text), part)


def test_sentences_without_ids_are_dropped(put, prepare, tmp_path):
  from robertax.config import TokenizerConfig
  from robertax.corpus.records import read_rows
  vocab = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', 'gears', 'talk']
  put('vocab.txt', '\n'.join(vocab + list('abcdefghi')))
  path = put('z.txt', '\n\n'.join(['gears talk .\n\u200b\n\u200b'] * 50))
  (made,) = prepare(path, tokenizer_config=TokenizerConfig(
      path=str(tmp_path / 'vocab.txt')), sentences='lines').manifests
  assert made.counts['sentences_without_ids'] == 100
  assert made.splits['train'].num_sentences == 49
  separator = vocab.index('[SEP]')
  for row in read_rows(made, 'train'):
    ids = row.ids.tolist()
    assert not any(ids[i:i + 3] == [separator] * 3 for i in range(len(ids)))


def test_two_stars_enter_no_folder_twice(put, tmp_path, capsys, monkeypatch):
  for name in ('1', 'a/2', 'a/b/3', 'a/b/[x]/4', 'c/.h/5', 'c/.6', 'c/b'):
    put(f'tree/{name}.txt', 'Some text.')
  monkeypatch.chdir(tmp_path)
  for pattern in ('tree/**', 'tree/**/', 'tree/**/*.txt', 'tree/**/b/**',
                  'tree/**/**/*.txt', 'tree/*/**/*.txt', '**/4.txt', '**',
                  'tree/**/[[]x]/*', 'tree/a**/*', f'{tmp_path}/**/*.txt',
                  'tree//**/*.txt', './tree/**/b', 'none/**/b'):
    # The library's glob says what matches, where no links are.
    right = glob.glob(pattern, recursive=True)
    assert [path.rstrip('/') for path in folders._matches(
        pattern, folders._Passed())] == sorted({
            path.rstrip('/') for path in right} - {''}), pattern
  for number in range(3):  # glob would try 3^40 paths.
    (tmp_path / f'tree/a/loop{number}').symlink_to(tmp_path / 'tree')
  found = resolve('tree/**/*.txt')
  assert [corpus.name for corpus in found] == ['1', '2', '3', '4', 'b']
  assert '3 links in a loop (a/loop0, a/loop1, a/loop2)' in (
      capsys.readouterr().err)


def test_an_at_sign_in_a_glob_is_no_split(put, tmp_path):
  for number in range(2):
    put(f'log@{number}.txt', 'Some text.')
  assert [corpus.name for corpus in resolve(f'{tmp_path}/log@*.txt')] == [
      'log@0', 'log@1']


def test_a_file_has_no_splits(put):
  with pytest.raises(InputError, match='a split is of a folder'):
    resolve(f'{put("some.txt")}@train')


def test_a_pipe_is_refused(tmp_path):
  os.mkfifo(tmp_path / 'pipe')  # A first reading would leave nothing.
  with pytest.raises(InputError, match='text is read more than once'):
    resolve(str(tmp_path / 'pipe'))
