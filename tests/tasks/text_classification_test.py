"""Labels of one's own: any form of file, any classes, and back by load()."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from sklearn import metrics

import robertax
from robertax.errors import InputError
from robertax.tasks.glue import TextClassification
from tests.tasks import tuning_run

# Which word is in it says the class; names that are numbers are names too.
CLASSES = {'up, and': 'rise', '"down"': 'fall', 'level': '0'}
LENGTH = 32  # Of 64 positions.
FILLER = 'it was a day in may and the price'.split()


def rows(count, seed):
  """[(text, label)], half of them of the first class."""
  rng = np.random.default_rng(seed)
  found = []
  for _ in range(count):
    word = list(CLASSES)[max(0, rng.integers(-1, 3))]
    words = list(rng.choice(FILLER, rng.integers(2, 9)))
    words.insert(rng.integers(len(words)), word)
    found.append(('\n'.join(words) if len(words) % 5 == 0 else
                  ' '.join(words), CLASSES[word]))
  return found


def write_csv(path, header, lines):
  with open(path, 'w', newline='') as f:
    csv.writer(f).writerows([header, *lines])


@pytest.fixture(scope='module', name='folder')
def _folder(tmp_path_factory):
  """train.csv, dev.jsonl and test.tsv: forms may differ."""
  folder = tmp_path_factory.mktemp('own')
  write_csv(folder / 'train.csv', ['id', 'said', 'what'],
            [(n, *row) for n, row in enumerate(rows(240, 0))])
  (folder / 'dev.jsonl').write_text(''.join(
      json.dumps({'said': said, 'what': what if what != '0' else 0}) + '\n'
      for said, what in rows(60, 1)))
  (folder / 'test.tsv').write_text(
      'index\tsaid\n7\tit was level in may\n9\tit was up, and\n')
  return folder


def config(folder, tokenizer, **finetune):
  steps = finetune.pop('steps', 90)
  made = tuning_run.config(
      'text_classification', folder, tokenizer, steps=steps, batch_size=16,
      learning_rate=5e-3, finetune={
          'text_columns': 'said', 'label_column': 'what'} | finetune)
  return dataclasses.replace(made, data=dataclasses.replace(
      made.data, sequence_length=LENGTH))


@pytest.fixture(scope='module', name='tokenizer')
def _tokenizer(tmp_path_factory):
  return tuning_run.tokenizer(tmp_path_factory.mktemp('tokenizer'),
                              [*FILLER, *CLASSES])


@pytest.fixture(scope='module', name='run')
def _run(folder, tokenizer, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run') / 'w'
  return workdir, tuning_run.run(
      config(folder, tokenizer, predict_test=True), workdir)


def test_it_learns_and_is_scored_as_scikit_learn_does(run, folder):
  workdir, results = run
  # Of 240 rows half are of 'rise'; the others go by number, then by name.
  assert results['labels'][0] == 'rise'
  assert set(results['labels']) == set(CLASSES.values())
  found = tuning_run.lines(workdir / 'predictions.dev.jsonl')
  targets = [str(json.loads(line)['what']) for line in
             (folder / 'dev.jsonl').read_text().splitlines()]
  assert [line['label'] for line in found] == targets
  said = [line['prediction'] for line in found]
  assert results['value'] == pytest.approx(
      100 * metrics.accuracy_score(targets, said)) and results['value'] > 95
  assert results['scores']['dev']['f1_macro'] == pytest.approx(
      100 * metrics.f1_score(targets, said, average='macro'))
  assert not results['degenerate']
  test = tuning_run.lines(workdir / 'predictions.test.jsonl')
  assert [(line['index'], line['prediction']) for line in test] == [
      ('7', '0'), ('9', 'rise')]
  assert not (workdir / 'predictions.zip').exists()


def test_load_answers_as_the_run_did(run, folder):
  """Alone or in a list: the run's logits, whatever else is in the batch."""
  workdir, results = run
  model = robertax.load(workdir)
  found = tuning_run.lines(workdir / 'predictions.dev.jsonl')
  texts = [json.loads(line)['said'] for line in
           (folder / 'dev.jsonl').read_text().splitlines()]
  answers = model.classify(texts)
  for line, answer in zip(found, answers, strict=True):
    logits = np.array(line['logits'])
    odds = np.exp(logits - logits.max())
    assert answer.label == line['prediction']
    assert answer.probability == max(answer.probabilities.values())
    assert [answer.probabilities[name] for name in results['labels']] == (
        pytest.approx(odds / odds.sum(), abs=1e-5))
  alone = model.classify(texts[0])
  assert alone.label == answers[0].label
  assert alone.probabilities == pytest.approx(answers[0].probabilities,
                                              abs=1e-5)
  assert list(alone.probabilities.values()) == sorted(
      alone.probabilities.values(), reverse=True)
  # Too long is cut, not refused, and where fine-tuning cuts it.
  long, tok = texts[0] + ' it was' * 200, model.tokenizer
  cut = tok.decode(tok.encode(long)[:LENGTH - 2])
  assert len(tok.encode(cut)) == LENGTH - 2
  assert model.classify(long).probabilities == pytest.approx(
      model.classify(cut).probabilities, abs=1e-6)
  assert model.classify([]) == []
  with pytest.raises(InputError, match=r'takes \(text\), not'):
    model.classify(['one', ('a', 'pair')])
  with pytest.raises(InputError, match=r'takes \(text\), not'):
    model.classify(('one', 'two', 'three'))


def test_pairs_and_labels_in_an_order_of_ones_own(tmp_path, tokenizer, capsys):
  for split in ('train', 'dev'):
    (tmp_path / f'{split}.tsv').write_text(
        'q\ta\tok\n' + 'was it up\tit was\tyes\n' * 3 + 'may\tit was\tno\n')
  task = TextClassification(dataclasses.replace(config(
      tmp_path, tokenizer, text_columns='q,a', label_column='ok',
      labels='no,yes')), 1)
  assert task.labels == ('no', 'yes')
  assert '2 labels: no (1), yes (3)' in capsys.readouterr().err
  split = task.splits['train']
  assert split.rows[0].texts == ('was it up', 'it was')
  assert task.targets(split.rows).tolist() == [1, 1, 1, 0]
  assert task.model.num_classes == 2


@pytest.mark.parametrize('train, dev, finetune, message', [
    ('text\tlabel\na\tx\nb\ty\n', 'text\tlabel\na\tx\nb\tz\n', {},
     r"dev.tsv, line 3: label 'z'; known are: 'x', 'y'"),
    ('text\tlabel\na\tx\nb\tx\n', 'text\tlabel\na\tx\n', {},
     "label is 'x' in all rows: there must be two labels"),
    ('text\tlabel\na\tx, y\nb\tz\n', 'text\tlabel\na\tz\n', {},
     "label 'x, y': one with a comma"),
    ('text\tlabel\na\tx\nb\t \n', 'text\tlabel\na\tx\n', {},
     "train.tsv, line 3: label ' '; known are: all but an empty one"),
    ('text\tlabel\na\tx\nb\ty\n', None, {},
     r'dev.tsv: missing \(no dev.csv or dev.jsonl is there either\)\.$'),
    ('text\tlabel\na\tx\nb\ty\n', 'text\tlabel\na\tx\n',
     {'text_columns': 'title,text'}, 'line 1: no column title among'),
    ('text\tlabel\na\tx\nb\ty\n', 'text\tlabel\na\tx\n',
     {'text_columns': 'a,b,c'}, 'names of one or two columns'),
    ('text\tlabel\na\tx\nb\ty\n', 'text\tlabel\na\tx\n',
     {'labels': 'x,z'}, r"train.tsv, line 3: label 'y'; known are: 'x', 'z'")])
def test_what_is_wrong_is_named(tmp_path, tokenizer, train, dev, finetune,
                                message):
  for split, content in (('train', train), ('dev', dev)):
    if content is not None:
      (tmp_path / f'{split}.tsv').write_text(content)
  with pytest.raises(InputError, match=message):
    TextClassification(config(tmp_path, tokenizer, **{
        'text_columns': 'text', 'label_column': 'label'} | finetune), 1)


def test_where_there_is_no_folder(tokenizer):
  with pytest.raises(InputError, match='a folder with train and dev'):
    TextClassification(config('/nowhere', tokenizer), 1)
  with pytest.raises(InputError, match='TFDS is for glue'):
    TextClassification(config('tfds:', tokenizer), 1)
