"""Labels as people's files have them: several a row, numbers, quoted fields."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from robertax.errors import InputError
from robertax.model.heads import multi_label_loss
from robertax.tasks.glue import METRICS, TextClassification, glue_scores
from tests.tasks import tuning_run

MANY = 'multi_label_classification'


@pytest.fixture(scope='module', name='tokenizer')
def _tokenizer(tmp_path_factory):
  return tuning_run.tokenizer(tmp_path_factory.mktemp('tokenizer'), ['a', 'b'])


@pytest.fixture(name='task')
def _task(tmp_path, tokenizer):
  def task(rows, ending='jsonl', **finetune):
    """A task whose train and dev are these: contents, or [(text, label)]."""
    if not isinstance(rows, str):
      rows = ''.join(json.dumps({'text': t, 'label': x}) + '\n'
                     for t, x in rows)
    for split in ('train', 'dev'):
      (tmp_path / f'{split}.{ending}').write_text(rows)
    return TextClassification(tuning_run.config(
        'text_classification', tmp_path, tokenizer, steps=1,
        finetune=finetune), 1)
  return task


def targets(task):
  return task.splits['train'].examples.values['class_targets'].tolist()


@pytest.mark.parametrize('label', ['["joy", "anger"]', "['joy', 'anger']",
                                   'joy,anger', ' joy , anger '])
def test_several_labels_in_any_form(task, label):
  cells = [label, 'joy', '[]', '']
  made = task(''.join(json.dumps({'text': 'a', 'label': x}) + '\n'
                      for x in [['joy', 'anger'], *cells]), problem_type=MANY)
  assert made.labels == ('joy', 'anger')
  assert targets(made) == [[1, 1], [1, 1], [1, 0], [0, 0], [0, 0]]
  assert made.model.num_classes == 2 and made.objective.multi_label


def test_several_labels_by_number(task):
  made = task([('a', [2, 27]), ('b', [27])], problem_type=MANY)
  assert made.labels == ('27', '2') and targets(made) == [[1, 1], [1, 0]]


@pytest.mark.parametrize('label, says', [
    ([0, 1, 0], 'each label of the row is needed once'),
    ([0.0, 1.0], 'the names of its labels are needed'),
    ([True, False], 'the names of its labels'), (['a,b'], 'with a comma'),
    ("['joy' 'anger']", 'a list needs commas'), ({'joy': 1}, 'one label is')])
def test_lists_that_say_something_else(task, label, says):
  with pytest.raises(InputError, match=f'line 2: .*{says}'):
    task([('a', ['x']), ('b', label)], problem_type=MANY)


@pytest.mark.parametrize('label', [['anger'], "['anger']", '["a", "b"]', []])
def test_a_list_is_no_class(task, label):
  with pytest.raises(InputError, match=f"line 2: .*problem_type='{MANY}'"):
    task([('a', 'x'), ('b', label)])


def test_fractions_are_scores(task):
  rows = [(f'row {i}', x) for i, x in enumerate((.2, 3.75, 4.0, 1.1) * 2)]
  with pytest.raises(InputError, match="such as .*problem_type='regression'"):
    task(rows)
  made = task(rows, problem_type='regression')
  assert made.labels == () and made.model.num_classes == 1
  np.testing.assert_allclose(targets(made), [x for _, x in rows])
  assert made.metric == 'pearson'
  answers = {'logits': np.array([[x * 2] for _, x in rows], np.float32)}
  assert made.predictions(answers)[1] == 7.5  # GLUE's would be 37.5.
  assert made.score('dev', answers)['pearson'] == pytest.approx(100)
  # They are classes where a person says so; whole numbers are, too.
  assert len(task(rows, labels='0.2,3.75,4.0,1.1').labels) == 4
  assert task([('a', 1.0), ('b', 0.0)]).labels == ('0.0', '1.0')
  with pytest.raises(InputError, match='known are: a number'):
    task([('a', 1.5), ('b', 'nan')], problem_type='regression')
  with pytest.raises(InputError, match='a score has none'):
    task(rows, problem_type='regression', labels='x,y')


TEXTS = ['He said "no", twice.', '"Quoted."', 'a\ttab', 'two\nlines', 'plain',
         '""']


def test_a_tsv_as_pandas_writes_it(task, tmp_path, capsys):
  """pandas' to_csv is Python's csv with QUOTE_MINIMAL."""
  path = tmp_path / 'rows'
  with open(path, 'w', newline='') as f:
    csv.writer(f, delimiter='\t', lineterminator='\n').writerows(
        [('text', 'label'), *((text, 'yn'[i % 2])
                              for i, text in enumerate(TEXTS))])
  made = task(path.read_text(), 'tsv')
  assert [row.texts[0] for row in made.splits['train'].rows] == TEXTS
  assert 'read as CSV writes them' in ''.join(capsys.readouterr())


def test_a_tsv_that_quotes_nothing_stays_as_it_is(task, capsys):
  texts = ['He said "no", twice.', '"Quoted."', '"Go," she said.']
  made = task('text\tlabel\n' + ''.join(
      f'{text}\t{"yn"[i % 2]}\n' for i, text in enumerate(texts)), 'tsv')
  assert [row.texts[0] for row in made.splits['train'].rows] == texts
  assert 'as they stand: not all of them are those of CSV (line 2)' in ''.join(
      capsys.readouterr())


def test_several_labels_are_scored_as_scikit_learn_does(task, tmp_path):
  rows = [('a', ['x', 'y']), ('b', ['y']), ('c', []), ('d', ['z'])]
  made = task(rows, problem_type=MANY, labels='x,y,z')
  logits = np.array([[3, 1, -1], [2, 1, -3], [-1, -2, -1], [-1, -1, -9.]])
  answers = {'logits': logits}
  wanted = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]])
  assert made.score('dev', answers) == {
      'f1_micro': 100 * metrics.f1_score(wanted, logits > 0, average='micro'),
      'f1_macro': 100 * metrics.f1_score(wanted, logits > 0, average='macro'),
      'accuracy': 50.0}
  lines = list(made.lines('dev', answers))
  assert lines[0]['prediction'] == ['x', 'y'] == lines[0]['label']
  assert lines[2]['prediction'] == [] == lines[2]['label']
  found = made.conclude('', {'dev': answers}, {'seed': 0, 'best_epoch': 1})
  assert found['problem_type'] == MANY and not found['degenerate']
  same = {'logits': np.full((4, 3), -1.)}
  assert made.degenerate('dev', same)


def test_the_loss_of_several_labels_is_the_mean_cross_entropy():
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 3, (2, 3, 4))
  targets = rng.integers(0, 2, (2, 3, 4))
  found = multi_label_loss(jnp.array(logits), jnp.array(targets, jnp.float32),
                           jnp.array([[1, 1, 0], [1, 0, 0.]]))
  kept = [(0, 0), (0, 1), (1, 0)]
  wanted = sum(metrics.log_loss(targets[at], 1 / (1 + np.exp(-logits[at])),
                                labels=[0, 1]) for at in kept)
  np.testing.assert_allclose(found['loss_sum'], wanted, rtol=1e-5)
  assert found['weight_sum'] == 3
  assert found['correct_sum'] == sum(
      ((logits[at] > 0) == targets[at]).all() for at in kept)


def test_one_row_has_no_correlation():
  assert glue_scores(['pearson', 'spearman'], ['2.5'], [2.5]) == {
      'pearson': 0.0, 'spearman': 0.0}
  assert METRICS['pearson']([], []) == 0.0
