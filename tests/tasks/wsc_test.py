"""WSC from rows to predictions: a tiny model learns its rows by heart."""

import json

import numpy as np
import pytest

import robertax
from robertax.errors import InputError
from robertax.tasks.wsc import Wsc
from tests.tasks import tuning_run

NAMES = ('Ann', 'Bob', 'Eve', 'Tom')
VERBS = ('ran', 'sang', 'fell', 'won')


def row(number, first, second, verb, query, label):
  return {'text': f'{first} saw {second} and he {verb} .', 'idx': number,
          'label': label, 'target': {
              'span1_text': query, 'span1_index': 0 if query == first else 2,
              'span2_text': 'he', 'span2_index': 4}}


def rows():
  """The verb says who: the first ran or sang, the second fell or won."""
  for number, (a, b, v) in enumerate([
      (0, 1, 0), (1, 2, 1), (2, 3, 2), (3, 0, 3), (0, 2, 2), (1, 3, 0)]):
    first, second = NAMES[a], NAMES[b]
    right = first if v < 2 else second
    for query in (first, second):
      yield row(2 * number + (query == second), first, second, VERBS[v], query,
                query == right)


def write(path, rows):
  path.write_text(''.join(json.dumps(r) + '\n' for r in rows))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('wsc')
  write(folder / 'train.jsonl', rows())
  write(folder / 'val.jsonl', rows())
  write(folder / 'test.jsonl', ({k: v for k, v in r.items() if k != 'label'}
                                for r in rows()))
  return folder


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  return tuning_run.tokenizer(tmp_path_factory.mktemp('tok'),
                              [*NAMES, *VERBS, 'saw', 'and', 'he'])


@pytest.fixture(scope='module')
def done(folder, tokenizer, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run') / 'w'
  return workdir, tuning_run.run(tuning_run.config(
      'wsc', folder, tokenizer, steps=120, learning_rate=5e-3,
      finetune=dict(predict_test=True)), workdir)


def test_learns_by_heart(done):
  workdir, found = done
  assert found['scores'] == {'val': {'accuracy': 100.0}}
  assert (found['rows'], found['train_rows']) == (12, 6)
  assert '6 positive of 12 rows' in found['train_data']
  labels = [r['label'] for r in rows()]
  assert tuning_run.lines(workdir / 'WSC.jsonl') == [
      {'idx': i, 'label': str(label)} for i, label in enumerate(labels)]
  for line, label in zip(tuning_run.lines(
      workdir / 'predictions.val.jsonl'), labels):
    assert line['prediction'] is line['label'] is label
    assert (line['score'] >= line['best_candidate']) == label
  last = tuning_run.lines(workdir / 'metrics.jsonl')[-1]
  assert last['train/accuracy'] == 1.0


def test_a_loaded_model_resolves_as_the_run_did(done):
  workdir, _ = done
  model = robertax.load(workdir)
  texts = []
  for one in rows():
    query = one['target']['span1_text']
    texts.append(one['text'].replace(' he ', ' [he] ').replace(
        query, f'_{query}_'))
  lines = tuning_run.lines(workdir / 'predictions.val.jsonl')
  for line, found in zip(lines, model.resolve_pronoun(texts), strict=True):
    assert found.fits is line['prediction']
    assert next(iter(found.scores)) == line['query']
    assert list(found.scores.values()) == pytest.approx(
        [line['score'], line['best_candidate']], abs=1e-4)
    assert (found.phrase == line['query']) is found.fits
  # Without a phrase, the one that the pronoun stands for.
  free = model.resolve_pronoun(texts[0].replace('_', ''))
  assert (free.phrase, free.fits) == (NAMES[0], None)
  assert set(free.scores) == set(NAMES[:2])
  for text, says in (('Ann saw Bob.', '0 pronouns in brackets'),
                     ('_Ann_ saw _Bob_ and [he] ran.', '2 phrases'),
                     ('and [he] ran', 'no phrase that')):
    with pytest.raises(InputError, match=says):
      model.resolve_pronoun(text)
  assert model.fill_mask('Ann saw <mask>.') and model.resolve_pronoun([]) == []
  with pytest.raises(InputError, match='for wsc: use model.resolve_pronoun'):
    model.classify('A text.')


@pytest.fixture(scope='module')
def task(folder, tokenizer):
  return Wsc(tuning_run.config('wsc', folder, tokenizer, steps=1), 1)


def test_the_query_wins_ties(task, capsys):
  firsts = task.splits['val'].examples.firsts
  assert np.diff(firsts).tolist() == [2] * 12
  assert task.splits['train'].examples.num_groups == 6
  task.encode(task.splits['val'].rows, 'val')
  assert 'wsc val: 1.0 candidates a sentence' in capsys.readouterr().err
  scores = np.zeros(24)
  assert task.predictions('val', {'scores': scores}).all()
  assert task.degenerate('val', {'scores': scores}) == (
      'all answers on val are yes.')
  scores[1] = 1e-3
  assert task.predictions('val', {'scores': scores}).tolist() == [
      False] + [True] * 11
  assert task.score('val', {'scores': scores})['accuracy'] == pytest.approx(
      100 * 5 / 12)
  assert 'not above 50.00' in task.degenerate('val', {'scores': scores})


def test_wrong_keys(folder, tokenizer):
  with pytest.raises(InputError, match="ranking_loss 'hinge'.*'?margin'?"):
    tuning_run.config('wsc', folder, tokenizer, steps=1,
                      finetune=dict(ranking_loss='hinge'))
  with pytest.raises(InputError, match="finetune.chunker 'none'"):
    Wsc(tuning_run.config('wsc', folder, tokenizer, steps=1,
                          finetune=dict(chunker='none')), 1)


def test_val_has_labels(folder, tokenizer, tmp_path):
  write(tmp_path / 'train.jsonl', rows())
  write(tmp_path / 'val.jsonl', [next(rows()) | {'label': None}])
  with pytest.raises(InputError, match=r'val\.jsonl: row 0 has no label'):
    Wsc(tuning_run.config('wsc', tmp_path, tokenizer, steps=1), 1)


def test_predicted_tokens_of_a_sequence(task, tokenizer):
  """A training row's sequences end in each of its two names."""
  lengths = [len(task.tokenizer.encode(f' {one[name]}'))
             for one in (dict(zip('ab', r['text'].split()[::2]))
                         for r in rows() if r['label']) for name in 'ab']
  assert task.masked_per_sequence == pytest.approx(np.mean(lengths))
