"""QNLI as ranking: pairs in, the highest of each question out."""

import dataclasses
import zipfile

import numpy as np
import pytest

from robertax.tasks.qnli import QnliRanking
from tests.tasks import tuning_run

NAMES = ('Ann', 'Bob', 'Eve', 'Tom')
THINGS = ('cat', 'dog', 'hen', 'fox', 'cow')


def rows():
  """Three questions with two sentences, two with one."""
  for q, (who, what) in enumerate([(0, 0), (1, 1), (2, 2), (3, 3), (0, 4)]):
    question = f'Who has the {THINGS[what]}?' + ' ' * (q % 2)
    right = f'{NAMES[who]} has the {THINGS[what]}.'
    wrong = f'{NAMES[who]} has the {THINGS[(what + 1) % 5]}.'
    if q != 3:
      yield question, right, 'entailment'
    if q < 4:
      yield question, wrong, 'not_entailment'


def write(path, labels=True):
  lines = ['index\tquestion\tsentence' + '\tlabel' * labels]
  lines += ['\t'.join([str(i), *(r if labels else r[:2])])
            for i, r in enumerate(rows())]
  path.write_text('\n'.join(lines) + '\n')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('qnli')
  for split in ('train', 'dev', 'test'):
    write(folder / f'{split}.tsv', split != 'test')
  return folder


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  return tuning_run.tokenizer(tmp_path_factory.mktemp('tok'),
                              [*NAMES, *THINGS, 'has', 'the', 'Who'])


def test_learns_by_heart(folder, tokenizer, tmp_path, capsys):
  found = tuning_run.run(tuning_run.config(
      'qnli_ranking', folder, tokenizer, steps=100, learning_rate=3e-3,
      finetune=dict(predict_test=True)), tmp_path / 'w')
  assert found['scores']['dev'] == {
      'accuracy': 100.0, 'ranked': 100.0, 'alone': 100.0}
  assert (found['rows'], found['train_rows']) == (8, 5)
  assert ('8 rows of' in (said := capsys.readouterr().err)
          and '3 pairs of one question; 2 rows have no partner' in said)
  assert found['threshold_from'].startswith('dev')
  with zipfile.ZipFile(tmp_path / 'w' / 'predictions.zip') as archive:
    table = archive.read('QNLI.tsv').decode().splitlines()
  assert table == ['index\tprediction'] + [
      f'{i}\t{label}' for i, (_, _, label) in enumerate(rows())]


def test_scores(folder, tokenizer):
  task = QnliRanking(tuning_run.config(
      'qnli_ranking', folder, tokenizer, steps=1), 1)
  examples = task.splits['train'].examples
  assert examples.group_values['group_targets'].tolist() == [0, 0, 0, 1, 0]
  sizes = np.diff(examples.firsts)
  assert sizes.tolist() == [2, 2, 2, 1, 1]
  # The first pair the wrong way round; those alone apart by a threshold of -2.
  answers = {'scores': np.array([0., 1, 5, 4, 1, 0, -3, -1])}
  assert task.threshold(answers) == -2
  assert task.score('dev', answers) == {
      'accuracy': 75.0, 'ranked': pytest.approx(100 * 2 / 3), 'alone': 100.0}
  assert 'constant' not in task.degenerate('dev', answers)
  answers = {'scores': np.array([0., 1, 0, 1, 0, 1, 3, 3])}
  assert 'accuracy 12.50 on dev is not above 50.00' in task.degenerate(
      'dev', answers)


def test_rows_that_are_all_alone_are_trained_too(folder, tokenizer, tmp_path):
  lines = (folder / 'train.tsv').read_text().splitlines(True)
  (tmp_path / 'train.tsv').write_text(''.join(lines[:1] + lines[1::2]))
  (tmp_path / 'dev.tsv').write_text(''.join(lines))
  task = QnliRanking(tuning_run.config(
      'qnli_ranking', tmp_path, tokenizer, steps=1), 1)
  batch = task.batches('train').make_batch(0)
  assert sorted(batch['group_targets'][batch['group_weights'] > 0]) == [
      0, 0, 0, 1]
  assert 'group_targets' not in task.batches('dev').make_batch(0)
  # A checkpoint has it; the zeros of earlier versions are in it.
  assert not task.splits['dev'].examples.group_values['group_targets'].any()


@pytest.mark.parametrize('types, ends', [(0, 3), (1, 3), (2, 2)])
def test_one_type_is_a_roberta(folder, tokenizer, types, ends):
  """`</s></s>` between question and sentence; one `</s>` in a BERT."""
  config = tuning_run.config('qnli_ranking', folder, tokenizer, steps=1)
  task = QnliRanking(dataclasses.replace(config, model=dataclasses.replace(
      config.model, num_types=types)), 1)
  ids = task.splits['dev'].examples.sequence(0)
  assert (ids == task.tokenizer.eos_id).sum() == ends
