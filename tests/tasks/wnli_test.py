"""WNLI by a model of WSC's spans, and by its own rows."""

import json
import zipfile

import numpy as np
import pytest

from robertax.tasks.wnli import Wnli
from tests.tasks import tuning_run, wsc_test

HEADER = 'index\tsentence1\tsentence2\tlabel'


def wnli_rows():
  """wsc_test's rows in WNLI's form, and two that nothing can be said of."""
  for source in wsc_test.rows():
    text = source['text'].replace(' .', '.')
    claim = f'{source["target"]["span1_text"]} {text.split()[-1]}'
    yield text, claim, int(source['label'])
  yield 'Ann saw Bob and he ran.', 'Nobody was there.', 0
  yield 'Ann saw Bob and he ran.', 'Eve ran.', 1


def write(path, rows, labels=True):
  lines = [HEADER if labels else HEADER.removesuffix('\tlabel')]
  lines += ['\t'.join([str(i), *map(str, r if labels else r[:2])])
            for i, r in enumerate(rows)]
  path.write_text('\n'.join(lines) + '\n')


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  wsc = tmp_path_factory.mktemp('wsc')
  wsc_test.write(wsc / 'train.jsonl', wsc_test.rows())
  wnli = tmp_path_factory.mktemp('glue') / 'WNLI'
  wnli.mkdir()
  for split in ('train', 'dev', 'test'):
    write(wnli / f'{split}.tsv', list(wnli_rows()), labels=split != 'test')
  return wsc, wnli


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  return tuning_run.tokenizer(
      tmp_path_factory.mktemp('tok'),
      [*wsc_test.NAMES, *wsc_test.VERBS, 'saw', 'and', 'he'])


def test_a_submission_from_wscs_spans(folders, tokenizer, tmp_path, capsys):
  wsc, wnli = folders
  found = tuning_run.run(tuning_run.config(
      'wnli_spans', wnli.parent, tokenizer, steps=120, learning_rate=5e-3,
      finetune=dict(predict_test=True, wsc_dir=str(wsc),
                    ranking_loss='cross_entropy')), tmp_path / 'w')
  # Of the two unaligned rows, answered 0, one is right.
  assert found['value'] == pytest.approx(100 * 13 / 14)
  assert found['rows'] == 14 and found['train_rows'] == 6
  assert found['unaligned']['dev'] == {
      'rows': 2, 'answered': 0, 'index': ['12', '13']}
  assert '2 of 14 rows name no phrase' in capsys.readouterr().err
  with zipfile.ZipFile(tmp_path / 'w' / 'predictions.zip') as archive:
    table = archive.read('WNLI.tsv').decode().splitlines()
  wanted = [label for _, _, label in wnli_rows()][:12] + [0, 0]
  assert table == ['index\tprediction'] + [
      f'{i}\t{label}' for i, label in enumerate(wanted)]
  lines = tuning_run.lines(tmp_path / 'w' / 'predictions.dev.jsonl')
  assert [line['aligned'] for line in lines] == [True] * 12 + [False] * 2
  assert [line['prediction'] for line in lines] == wanted


def test_its_own_rows_where_there_are_no_spans(folders, tokenizer):
  task = Wnli(tuning_run.config('wnli_spans', folders[1], tokenizer, steps=1),
              1)
  assert task.splits['train'].source.endswith(
      '(6 positive of 12 aligned of 14 rows)')
  assert [row.query for row in task.splits['train'].rows] == [
      r['target']['span1_text'] for r in wsc_test.rows() if r['label']]
  scores = np.zeros(24)
  scores[1] = 1
  assert task.predictions('dev', {'scores': scores}).tolist() == (
      [0] + [1] * 11 + [0, 0])
  assert json.dumps(task.facts())
