import dataclasses
import json

import numpy as np
import pytest

from robertax.errors import InputError
from robertax.tasks import scoring
from robertax.tasks.scoring import Request, score


@pytest.fixture
def request_(tmp_path):
  def make(references, predictions, **more):
    for name, content in (('r', references), ('p', predictions)):
      (tmp_path / f'{name}.json').write_text(json.dumps(content))
    return Request('squad', f'{tmp_path}/r.json', f'{tmp_path}/p.json', **more)
  return make


def references(**golds):
  return {'version': '1.1', 'data': [{'paragraphs': [{'qas': [
      {'id': key, 'answers': [{'text': gold} for gold in texts]}
      for key, texts in golds.items()]}]}]}


def test_squad_one(request_):
  asked = request_(references(a=['the cat'], b=['x', 'y z'], c=['w']),
                   {'a': 'Cat', 'b': 'y', 'd': 'w'}, version='1.1')
  assert score(asked) == {
      'exact': pytest.approx(100 / 3), 'f1': pytest.approx(100 * (5 / 3) / 3),
      'total': 3, 'missing': 1, 'unknown': 1}
  with pytest.raises(InputError, match='missing, such as c and 1 are for .* d'):
    score(asked, strict=True)


def test_strict_is_content_with_all_and_no_more(request_):
  asked = request_(references(a=['x']), {'a': 'x'}, version='v1.1')
  assert score(asked, strict=True)['exact'] == 100.0
  asked = request_(references(a=['x']), {'a': 'x', 'b': ''}, version='1.1')
  with pytest.raises(InputError, match='p.json: 1 are for unknown ids, such'):
    score(asked, strict=True)


@pytest.mark.parametrize('change, says', [
    (dict(task='squat'), "Did you mean 'squad'"),
    (dict(version=''), 'needs 1.1 or 2.0'), (dict(version='2'), 'needs 1.1 or'),
    (dict(no_answer_threshold=.5), 'goes with no_answer_scores'),
    (dict(no_answer_scores='n.json'), 'go with version 2.0 only'),
    (dict(version='2.0', no_answer_scores='p.json'), 'a: expected a number'),
    (dict(references='none.json'), 'cannot read none.json'),
    (dict(references='p.json'), '"data" is missing')])
def test_wrong_requests(request_, tmp_path, monkeypatch, change, says):
  asked = request_(references(a=['x']), {'a': 'x'}, version='1.1')
  (tmp_path / 'n.json').write_text('{"a": 0.5}')
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match=says):
    score(dataclasses.replace(asked, **change))


@pytest.fixture
def race(tmp_path):
  """A test split as JSON lines: answers A, B of middle, C of high."""
  for part, answers in (('middle', 'AB'), ('high', 'C')):
    (tmp_path / f'test-{part}.jsonl').write_text(json.dumps({
        'id': f'{part}1.txt', 'article': 'x', 'answers': list(answers),
        'questions': ['q'] * len(answers),
        'options': [list('wxyz')] * len(answers)}))

  def asked(references, **predictions):
    (tmp_path / 'p.json').write_text(json.dumps(
        {f'{key[:-1]}1.txt/{key[-1]}': letter
         for key, letter in predictions.items()}))
    return Request('race', f'{tmp_path}/{references}', f'{tmp_path}/p.json')
  return asked


def test_race(race):
  found = score(race('test', middle1='A', high1='C', high2='D'))
  assert found == {
      'accuracy': pytest.approx(200 / 3), 'middle': 50.0, 'high': 100.0,
      'total': 3, 'missing': 1, 'unknown': 1}
  one = race('test-middle.jsonl', middle1='A', middle2='A')
  assert score(one, strict=True) == {
      'accuracy': 50.0, 'total': 2, 'missing': 0, 'unknown': 0}


@pytest.mark.parametrize('references, predictions, says', [
    ('test', dict(middle1='E'), "middle1.txt/1: 'E' is none of A, B, C, D"),
    ('test', dict(middle1='AB'), "'AB' is none of"),
    ('test.jsonl.zst/x', {}, 'RACE needs a split'),
    ('dev', {}, 'no middle part of dev')])
def test_wrong_race(race, references, predictions, says):
  with pytest.raises(InputError, match=says):
    score(race(references, **predictions))


def test_race_has_no_version(race):
  with pytest.raises(InputError, match='version goes with task=squad only'):
    score(dataclasses.replace(race('test'), version='1.1'))


@pytest.mark.parametrize('path, wanted', [
    ('RACE/test', ('RACE', 'test', ('middle', 'high'))),
    ('RACE/test/middle/', ('RACE', 'test', ('middle',))),
    ('a/dev-high.jsonl.zst', ('a', 'dev', ('high',))),
    ('train', ('.', 'train', ('middle', 'high')))])
def test_paths_of_race(path, wanted):
  assert scoring._race_split(path) == wanted


def glue(tmp_path, task, predictions, name='p.tsv'):
  (tmp_path / name).write_text(predictions)
  return Request(task, f'{tmp_path}/dev.tsv', f'{tmp_path}/{name}')


@pytest.fixture
def rte(tmp_path):
  (tmp_path / 'dev.tsv').write_text(
      'index\tsentence1\tsentence2\tlabel\n' + ''.join(
          f'{i}\ta\tb\t{label}\n' for i, label in enumerate(
              ['entailment', 'not_entailment', 'entailment', 'entailment'])))
  return tmp_path


def test_glue(rte):
  table = ('index\tprediction\n3\tentailment\n0\tentailment\n'
           '1\tentailment\n9\tentailment\n')
  for name in ('glue/rte', 'glue/RTE'):
    asked = glue(rte, name, table)
    assert score(asked) == {'accuracy': 50.0, 'total': 4, 'missing': 1,
                            'unknown': 1}
  with pytest.raises(InputError, match='missing, such as 2 and 1 are for .* 9'):
    score(asked, strict=True)
  lines = '{"index": "0", "prediction": "entailment", "logits": [1, 2]}\n'
  assert score(glue(rte, 'glue/rte', lines, 'p.jsonl'))['accuracy'] == 25.0


def test_glue_metrics_are_those_of_scipy_and_sklearn(tmp_path):
  from scipy import stats
  from sklearn import metrics
  rng = np.random.default_rng(0)
  gold, found = rng.uniform(0, 5, (2, 50)).round(3)
  header = 'index\tsentence1\tsentence2\tscore\n'
  (tmp_path / 'dev.tsv').write_text(header + ''.join(
      f'{i}\ta\tb\t{x}\n' for i, x in enumerate(gold)))
  table = 'index\tprediction\n' + ''.join(
      f'{i}\t{x}\n' for i, x in enumerate(found) if i)
  found[0] = 0.0  # The one that is missing.
  assert score(glue(tmp_path, 'glue/stsb', table)) == {
      'pearson': pytest.approx(100 * stats.pearsonr(gold, found)[0]),
      'spearman': pytest.approx(100 * stats.spearmanr(gold, found)[0]),
      'total': 50, 'missing': 1, 'unknown': 0}
  gold, found = rng.integers(0, 2, (2, 50))
  (tmp_path / 'dev.tsv').write_text(''.join(
      f'x\t{x}\t\ta\n' for x in gold))
  table = 'index\tprediction\n' + ''.join(
      f'{i}\t{x}\n' for i, x in enumerate(found) if i)
  found[0] = 1 - gold[0]
  assert score(glue(tmp_path, 'glue/cola', table))['matthews'] == (
      pytest.approx(100 * metrics.matthews_corrcoef(gold, found)))


@pytest.mark.parametrize('table, says', [
    ('id\tlabel\n', 'line 1: expected the header'),
    ('index\tprediction\n0\tentailment\tx\n', 'line 2: 3 columns, 2 are'),
    ('index\tprediction\n0\tyes\n', "line 2: 'yes' is no label of RTE"),
    ('index\tprediction\n0\tentailment\n0\tentailment\n',
     'line 3: index 0 is there twice')])
def test_wrong_glue(rte, table, says):
  with pytest.raises(InputError, match=says):
    score(glue(rte, 'glue/rte', table))


def test_unknown_and_missing_of_glue(rte):
  with pytest.raises(InputError, match='Did you mean .glue/mrpc'):
    score(Request('glue/mrcp', f'{rte}/dev.tsv', 'p'))
  with pytest.raises(InputError, match='cannot read none.tsv'):
    score(Request('glue/rte', 'none.tsv', 'p'))
  with pytest.raises(InputError, match='cannot read none.tsv: No such file'):
    score(Request('glue/rte', f'{rte}/dev.tsv', 'none.tsv'))
  with pytest.raises(InputError, match='expected a JSON object with index'):
    score(glue(rte, 'glue/rte', '{"index": 3}', 'p.jsonl'))
