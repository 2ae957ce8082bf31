"""GLUE's files: official quirks, JSON lines, TFDS, and what is damaged."""

import csv
import importlib.resources
import json
import os
import pathlib
import sys

import pytest

from robertax.data import finetuning
from robertax.errors import InputError
from robertax.tasks import glue_files
from robertax.tasks.glue_files import GLUE, GlueFiles, GlueRow

REAL = os.environ.get('ROBERTAX_TEST_DATA')
HEADERS = {
    'sst2': ('sentence\tlabel', 'index\tsentence'),
    'mrpc': ('\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String',
             '\ufeffindex\t#1 ID\t#2 ID\t#1 String\t#2 String'),
    'stsb': ('index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\t'
             'sentence1\tsentence2\tscore',
             'index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\t'
             'sentence1\tsentence2'),
    'qqp': ('id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate',
            'id\tquestion1\tquestion2'),
    'mnli': ('index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\t'
             'sentence2_binary_parse\tsentence1_parse\tsentence2_parse\t'
             'sentence1\tsentence2\tlabel1\tgold_label',
             'index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\t'
             'sentence2_binary_parse\tsentence1_parse\tsentence2_parse\t'
             'sentence1\tsentence2'),
    'qnli': ('index\tquestion\tsentence\tlabel', 'index\tquestion\tsentence'),
    'rte': ('index\tsentence1\tsentence2\tlabel',
            'index\tsentence1\tsentence2'),
    'wnli': ('index\tsentence1\tsentence2\tlabel',
             'index\tsentence1\tsentence2')}


def folder_of(name, tmp_path, files):
  place = tmp_path / GLUE[name].folder
  place.mkdir(exist_ok=True)
  for file, lines in files.items():
    (place / file).write_text('\n'.join(lines) + '\n', newline='')
  return tmp_path


@pytest.mark.parametrize('name', sorted(HEADERS))
def test_each_task_reads_its_official_form(name, tmp_path):
  task = GLUE[name]
  label = task.labels[0] if task.labels else '3.250'
  texts = ('A "quoted\' text.', 'Another, with \x85 and \u2028 in it.')
  values = dict(zip(task.columns, texts)) | {
      task.label: label, 'index': '0', 'id': '0'}
  train, test = HEADERS[name]
  lines = ['\t'.join(values.get(c.removeprefix('\ufeff'), 'x')
                     for c in header.split('\t')) for header in HEADERS[name]]
  source = GlueFiles(task, str(folder_of(name, tmp_path, {
      f'{task.dev[0]}.tsv': [train, lines[0]],
      f'{task.tests[0][0]}.tsv': [test, lines[1]]})))
  wanted = texts[:len(task.columns)]
  (row,) = source.split(task.dev[0], True).rows
  assert row == GlueRow('0', wanted, label)
  (row,) = source.split(task.tests[0][0], False).rows
  assert row == GlueRow('0', wanted, '')
  assert source.split('train', True) is None


def test_cola_has_no_header_but_in_test(tmp_path):
  source = GlueFiles(GLUE['cola'], str(folder_of('cola', tmp_path, {
      'train.tsv': ['gj04\t1\t\tGood.', 'cj99\t0\t*\tThe more.'],
      'test.tsv': ['index\tsentence', '0\tBill.', '1\tBob.']})))
  assert source.split('train', True).rows == [
      GlueRow('0', ('Good.',), '1'), GlueRow('1', ('The more.',), '0')]
  assert source.split('test', False).rows == [
      GlueRow('0', ('Bill.',), ''), GlueRow('1', ('Bob.',), '')]


def test_qqp_leaves_out_lines_of_another_length(tmp_path, capsys):
  """fairseq preprocess_GLUE_tasks.sh: NF == 6, in train and dev alone."""
  head, test = HEADERS['qqp']
  source = GlueFiles(GLUE['qqp'], str(folder_of('qqp', tmp_path, {
      'train.tsv': [head, '1\t2\t3\ta\tb\t1', '4\t5\t6\ta b\t0',
                    '7\t8\t9\tc\td\t0'],
      'test.tsv': [test, '0\ta']})))
  rows = source.split('train', True).rows
  assert [r.texts for r in rows] == [('a', 'b'), ('c', 'd')]
  assert '1 lines without 6 columns' in capsys.readouterr().err
  with pytest.raises(InputError, match=r'test.tsv, line 2: 2 columns, 3'):
    source.split('test', False)


@pytest.mark.parametrize('lines, message', [
    (['0\tA.\tB.'], r'train.tsv, line 2: 3 columns, 4 are needed'),
    (['0\tA.\tB.\tx\ty'], r'line 2: 5 columns'),
    (['0\tA.\tB.\tentailment', '1\tA.\tB.\tmaybe'],
     r"line 3: label 'maybe'; known are: 'entailment', 'not_entailment'"),
    (['0\tA.\tB.\t'], r"line 2: label ''")])
def test_damage_is_named_with_file_and_line(tmp_path, lines, message):
  source = GlueFiles(GLUE['rte'], str(folder_of('rte', tmp_path, {
      'train.tsv': [HEADERS['rte'][0], *lines]})))
  with pytest.raises(InputError, match=message):
    source.split('train', True)


def test_other_damage(tmp_path):
  with pytest.raises(InputError, match="data.dir=''"):
    GlueFiles(GLUE['rte'], '')
  place = folder_of('rte', tmp_path, {'dev.tsv': ['index\ta\tb', '0\tx\ty']})
  with pytest.raises(InputError, match='line 1: no column sentence1'):
    GlueFiles(GLUE['rte'], str(place)).split('dev', True)
  (tmp_path / 'RTE' / 'train.tsv').write_bytes(b'index\tsentence1\xff\n')
  with pytest.raises(InputError, match='near line 1: not UTF-8'):
    GlueFiles(GLUE['rte'], str(place)).split('train', True)
  for score in ('5.5', '-1', 'nan', 'high'):
    head = HEADERS['stsb'][0]
    place = folder_of('stsb', tmp_path, {
        'train.tsv': [head, '\t'.join(['0'] * 9 + [score])]})
    with pytest.raises(InputError, match='a number from 0 to 5'):
      GlueFiles(GLUE['stsb'], str(place)).split('train', True)


def test_csv_with_quotes_and_lines_in_fields(tmp_path):
  """As Python's csv writes it and as a spreadsheet does, with CR LF."""
  place = folder_of('sst2', tmp_path, {'train.csv': [
      '\ufeff"sentence","label"\r', '"a ""quoted"", one\r', '',
      'of three lines",1\r', 'plain\ttab,0\r']})
  assert GlueFiles(GLUE['sst2'], str(place)).split('train', True).rows == [
      GlueRow('0', ('a "quoted", one\r\n\nof three lines',), '1'),
      GlueRow('1', ('plain\ttab',), '0')]


@pytest.mark.parametrize('lines, message', [
    (['"two', 'lines",1', 'a,b,1'], 'train.csv, line 4: 3 columns, 2 are'),
    (['"two', 'lines",7'], "train.csv, line 2: label '7'"),
    (['"open,1', 'b,0'], 'train.csv, near line .: not CSV'),
    (['"a" b,1'], 'train.csv, near line 2: not CSV')])
def test_damaged_csv_is_named_with_its_line(tmp_path, lines, message):
  place = folder_of('sst2', tmp_path, {'train.csv': ['sentence,label', *lines]})
  with pytest.raises(InputError, match=message):
    GlueFiles(GLUE['sst2'], str(place)).split('train', True)


def test_a_long_field_is_read_and_the_limit_of_others_stays():
  limit = csv.field_size_limit()
  lines = ['a,b', f'c,{"d" * (limit + 1)}', 'e,f']
  for fields in glue_files._long_fields(csv.reader(lines)):
    assert len(fields) == 2 and csv.field_size_limit() == limit


def test_json_lines_by_either_names(tmp_path):
  place = folder_of('mnli', tmp_path, {
      'train.jsonl': [json.dumps({
          'premise': 'A.', 'hypothesis': 'B.', 'label': 'neutral'}), '',
                      json.dumps({'sentence1': 'C.', 'sentence2': 'D.',
                                  'gold_label': 'entailment', 'index': 7})],
      'dev_matched.jsonl': ['{"premise": "A."}']})
  source = GlueFiles(GLUE['mnli'], str(place))
  assert source.split('train', True).rows == [
      GlueRow('0', ('A.', 'B.'), 'neutral'),
      GlueRow('7', ('C.', 'D.'), 'entailment')]
  with pytest.raises(InputError, match='dev_matched.jsonl, line 1: an object'):
    source.split('dev_matched', True)


def test_ax_lies_in_a_folder_of_its_own(tmp_path):
  place = folder_of('mnli', tmp_path, {})
  (tmp_path / 'AX').mkdir()
  (tmp_path / 'AX' / 'diagnostic.tsv').write_text(
      'index\tsentence1\tsentence2\n0\tA.\tB.\n')
  rows = GlueFiles(GLUE['mnli'], str(place)).split('diagnostic', False)
  assert rows.rows == [GlueRow('0', ('A.', 'B.'), '')]


def test_tfds_integers_become_the_official_labels(monkeypatch):
  asked = []

  def fake(name, split, data_dir):
    asked.append((name, split, data_dir))
    return [{'premise': 'C', 'hypothesis': 'D', 'label': 2, 'idx': 1},
            {'premise': 'A', 'hypothesis': 'B', 'label': 0, 'idx': 0}]
  monkeypatch.setattr(glue_files, 'read_tfds_rows', fake)
  source = GlueFiles(GLUE['mnli'], 'tfds:/prepared')
  assert source.split('dev_matched', True).rows == [
      GlueRow('0', ('A', 'B'), 'entailment'),
      GlueRow('1', ('C', 'D'), 'contradiction')]
  source.split('diagnostic', False)
  assert asked == [('glue/mnli', 'validation_matched', '/prepared'),
                   ('glue/ax', 'test', '/prepared')]


def test_tfds_that_is_not_there(tmp_path):
  pytest.importorskip('tensorflow_datasets')
  with pytest.raises(InputError, match='TFDS glue/none'):
    finetuning.read_tfds_rows('glue/none', 'train', str(tmp_path))


def real(name):
  return pathlib.Path(REAL) / 'glue' / GLUE[name].folder


@pytest.mark.skipif(not REAL, reason='ROBERTAX_TEST_DATA is not set')
@pytest.mark.parametrize('name, train, dev, test', [
    ('cola', 8551, 1043, 1063), ('sst2', 67349, 872, 0),
    ('stsb', 5749, 1500, 1379), ('rte', 2490, 277, 3000),
    ('wnli', 635, 71, 146), ('qnli', 0, 5463, 5463), ('mnli', 0, 9815, 0)])
def test_real_files_have_the_official_sizes(name, train, dev, test):
  task = GLUE[name]
  source = GlueFiles(task, str(real(name)))
  for split, labelled, count in (('train', True, train),
                                 (task.dev[0], True, dev),
                                 (task.tests[0][0], False, test)):
    found = source.split(split, labelled)
    assert (0 if found is None else len(found.rows)) == count
    if split == 'train' and found and task.labels:
      # The order of the classes is fairseq's: the most frequent first.
      labels = [r.label for r in found.rows]
      assert list(task.labels) == sorted(task.labels, key=lambda x: (
          -labels.count(x), x))
  if train:
    assert task.rows == (train, dev)


def test_prepared_tfds_data_is_read(tmp_path, monkeypatch):
  """TFDS writes a few rows as its own builder would."""
  # Only preparing needs this backport of what Python has.
  monkeypatch.setitem(sys.modules, 'importlib_resources', importlib.resources)
  tfds = pytest.importorskip('tensorflow_datasets')
  builder = tfds.builder('glue/rte', data_dir=str(tmp_path))
  builder._split_generators = lambda manager: {'validation': iter(
      (n, {'sentence1': f'A {n}.', 'sentence2': 'B é.', 'label': n % 2,
           'idx': n}) for n in range(6))}
  builder.download_and_prepare()
  source = GlueFiles(GLUE['rte'], f'tfds:{tmp_path}')
  rows = source.split('dev', True)
  assert rows.rows == [
      GlueRow(str(n), (f'A {n}.', 'B é.'),
              ('entailment', 'not_entailment')[n % 2]) for n in range(6)]
  assert 'glue/rte' in rows.source
  assert source.split('train', True) is None
